#include "unit/transport/keypair.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

static void put_big(struct buf *out, const BIGNUM *big)
{
    uint8_t raw[2050] = {0};
    size_t len = (size_t)BN_bn2bin(big, raw + 1);
    size_t skip = len > 0 && (raw[1] & 0x80) != 0 ? 0 : 1;

    buf_put_string(out, bytes_of(raw + skip, len + 1 - skip));
}

struct keypair keypair_ed25519(const char *type, const char *application)
{
    struct keypair p = {EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), {0}, application};
    uint8_t point[32];
    size_t len = sizeof(point);

    EVP_PKEY_get_raw_public_key(p.secret, point, &len);
    buf_put_cstring(&p.blob, type);
    buf_put_string(&p.blob, bytes_of(point, len));
    if (application != NULL)
        buf_put_cstring(&p.blob, application);
    return p;
}

struct keypair keypair_ecdsa(const char *type, const char *curve, const char *group,
                             const char *application)
{
    struct keypair p = {EVP_EC_gen(group), {0}, application};
    uint8_t point[200];
    size_t len;

    EVP_PKEY_get_octet_string_param(p.secret, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point), &len);
    buf_put_cstring(&p.blob, type);
    buf_put_cstring(&p.blob, curve);
    buf_put_string(&p.blob, bytes_of(point, len));
    if (application != NULL)
        buf_put_cstring(&p.blob, application);
    return p;
}

struct keypair keypair_rsa(unsigned bits)
{
    struct keypair p = {EVP_RSA_gen(bits), {0}, NULL};
    BIGNUM *n = NULL, *e = NULL;

    EVP_PKEY_get_bn_param(p.secret, OSSL_PKEY_PARAM_RSA_N, &n);
    EVP_PKEY_get_bn_param(p.secret, OSSL_PKEY_PARAM_RSA_E, &e);
    buf_put_cstring(&p.blob, "ssh-rsa");
    put_big(&p.blob, e);
    put_big(&p.blob, n);
    BN_free(n);
    BN_free(e);
    return p;
}

void keypair_clear(struct keypair *p)
{
    EVP_PKEY_free(p->secret);
    buf_clear(&p->blob);
}

static struct buf raw_sign(EVP_PKEY *secret, const char *digest, struct bytes data)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    uint8_t raw[2048];
    size_t len = sizeof(raw);
    struct buf out = {0};

    if (EVP_DigestSignInit_ex(context, NULL, digest, NULL, NULL, secret, NULL) != 1 ||
        EVP_DigestSign(context, raw, &len, data.data, data.len) != 1)
        abort();
    EVP_MD_CTX_free(context);
    if (EVP_PKEY_get_base_id(secret) == EVP_PKEY_EC) {
        const unsigned char *der = raw;
        ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)len);

        put_big(&out, ECDSA_SIG_get0_r(sig));
        put_big(&out, ECDSA_SIG_get0_s(sig));
        ECDSA_SIG_free(sig);
    } else {
        buf_put(&out, bytes_of(raw, len));
    }
    return out;
}

struct buf keypair_sign(const struct keypair *p, const char *algorithm, const char *digest,
                        struct bytes data, uint8_t flags)
{
    struct buf message = {0}, value, out = {0};
    uint8_t hash[32];

    if (p->application != NULL) {
        SHA256((const uint8_t *)p->application, strlen(p->application), hash);
        buf_put(&message, bytes_of(hash, sizeof(hash)));
        buf_put_u8(&message, flags);
        buf_put_u32(&message, 7);
        SHA256(data.data, data.len, hash);
        buf_put(&message, bytes_of(hash, sizeof(hash)));
    } else {
        buf_put(&message, data);
    }
    value = raw_sign(p->secret, digest, buf_bytes(&message));
    buf_put_cstring(&out, algorithm);
    buf_put_string(&out, buf_bytes(&value));
    if (p->application != NULL) {
        buf_put_u8(&out, flags);
        buf_put_u32(&out, 7);
    }
    buf_clear(&message);
    buf_clear(&value);
    return out;
}
