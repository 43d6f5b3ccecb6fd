/* Users' keys and their signatures. Keys and signatures are made here with OpenSSL, so no private
 * key is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/transport.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

struct pair {
    EVP_PKEY *secret;
    struct buf blob;
    const char *application; /* security keys */
};

static void put_big(struct buf *out, const BIGNUM *big)
{
    uint8_t raw[2050] = {0};
    size_t len = (size_t)BN_bn2bin(big, raw + 1);
    size_t skip = len > 0 && (raw[1] & 0x80) != 0 ? 0 : 1;

    buf_put_string(out, bytes_of(raw + skip, len + 1 - skip));
}

static struct pair ed25519_pair(const char *type, const char *application)
{
    struct pair p = {EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), {0}, application};
    uint8_t point[32];
    size_t len = sizeof(point);

    EVP_PKEY_get_raw_public_key(p.secret, point, &len);
    buf_put_cstring(&p.blob, type);
    buf_put_string(&p.blob, bytes_of(point, len));
    if (application != NULL)
        buf_put_cstring(&p.blob, application);
    return p;
}

static struct pair ecdsa_pair(const char *type, const char *curve, const char *group,
                              const char *application)
{
    struct pair p = {EVP_EC_gen(group), {0}, application};
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

static struct pair rsa_pair(unsigned bits)
{
    struct pair p = {EVP_RSA_gen(bits), {0}, NULL};
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

static void pair_clear(struct pair *p)
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

    assert_int_equal(EVP_DigestSignInit_ex(context, NULL, digest, NULL, NULL, secret, NULL), 1);
    assert_int_equal(EVP_DigestSign(context, raw, &len, data.data, data.len), 1);
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

static struct buf sign(const struct pair *p, const char *algorithm, const char *digest,
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

static const struct bytes DATA = {(const uint8_t *)"session id and request", 22};

/* The good one passes; each flipped bit, each shorter or longer blob, other data, other algorithms
 * do not. */
static void check_pair(struct pair p, const char *type, const char *algorithm, const char *digest,
                       uint32_t bits)
{
    struct public_key *key = public_key_parse(buf_bytes(&p.blob));
    struct buf signature = sign(&p, algorithm, digest, DATA, 1);
    struct bytes name = bytes_of_string(algorithm);

    assert_non_null(key);
    assert_string_equal(public_key_type(key), type);
    assert_int_equal(public_key_bits(key), bits);
    assert_true(bytes_equal(public_key_blob(key), buf_bytes(&p.blob)));
    assert_true(public_key_allows(key, name));
    assert_true(public_key_verify(key, name, buf_bytes(&signature), DATA, NULL));

    assert_false(public_key_verify(key, name, buf_bytes(&signature), BYTES("other data"), NULL));
    assert_false(
        public_key_verify(key, bytes_of_string("ssh-rsa"), buf_bytes(&signature), DATA, NULL));
    assert_false(public_key_verify(key, bytes_of(NULL, 0), buf_bytes(&signature), DATA, NULL));
    for (size_t i = 0; i < signature.len; i++) {
        signature.data[i] ^= 0x20;
        assert_false(public_key_verify(key, name, buf_bytes(&signature), DATA, NULL));
        signature.data[i] ^= 0x20;
        assert_false(public_key_verify(key, name, bytes_of(signature.data, i), DATA, NULL));
    }
    buf_put_u8(&signature, 0);
    assert_false(public_key_verify(key, name, buf_bytes(&signature), DATA, NULL));

    for (size_t i = 0; i < p.blob.len; i++)
        assert_null(public_key_parse(bytes_of(p.blob.data, i)));
    buf_put_u8(&p.blob, 0);
    assert_null(public_key_parse(buf_bytes(&p.blob)));

    buf_clear(&signature);
    public_key_free(&key);
    assert_null(key);
    pair_clear(&p);
}

static void test_each_kind(void **state)
{
    const char *sk_ed25519 = "sk-ssh-ed25519@openssh.com";
    const char *sk_ecdsa = "sk-ecdsa-sha2-nistp256@openssh.com";

    (void)state;
    check_pair(ed25519_pair("ssh-ed25519", NULL), "ssh-ed25519", "ssh-ed25519", NULL, 256);
    check_pair(ed25519_pair(sk_ed25519, "ssh:"), sk_ed25519, sk_ed25519, NULL, 256);
    check_pair(ecdsa_pair("ecdsa-sha2-nistp256", "nistp256", "P-256", NULL), "ecdsa-sha2-nistp256",
               "ecdsa-sha2-nistp256", "SHA256", 256);
    check_pair(ecdsa_pair("ecdsa-sha2-nistp384", "nistp384", "P-384", NULL), "ecdsa-sha2-nistp384",
               "ecdsa-sha2-nistp384", "SHA384", 384);
    check_pair(ecdsa_pair("ecdsa-sha2-nistp521", "nistp521", "P-521", NULL), "ecdsa-sha2-nistp521",
               "ecdsa-sha2-nistp521", "SHA512", 521);
    check_pair(ecdsa_pair(sk_ecdsa, "nistp256", "P-256", "ssh:x"), sk_ecdsa, sk_ecdsa, "SHA256",
               256);
    check_pair(rsa_pair(2048), "ssh-rsa", "rsa-sha2-512", "SHA512", 2048);
    check_pair(rsa_pair(2048), "ssh-rsa", "rsa-sha2-256", "SHA256", 2048);
}

static void test_algorithm_must_be_the_signature_s_own(void **state)
{
    struct pair p = rsa_pair(2048);
    struct public_key *key = public_key_parse(buf_bytes(&p.blob));
    struct buf sha1 = sign(&p, "ssh-rsa", "SHA1", DATA, 0);
    struct buf sha256 = sign(&p, "rsa-sha2-256", "SHA256", DATA, 0);
    struct buf lie = sign(&p, "rsa-sha2-512", "SHA256", DATA, 0);

    (void)state;
    assert_false(public_key_allows(key, BYTES("ssh-rsa")));
    assert_false(public_key_verify(key, BYTES("ssh-rsa"), buf_bytes(&sha1), DATA, NULL));
    assert_false(public_key_verify(key, BYTES("rsa-sha2-512"), buf_bytes(&sha256), DATA, NULL));
    assert_false(public_key_verify(key, BYTES("rsa-sha2-512"), buf_bytes(&lie), DATA, NULL));
    assert_true(public_key_verify(key, BYTES("rsa-sha2-256"), buf_bytes(&sha256), DATA, NULL));
    buf_clear(&sha1);
    buf_clear(&sha256);
    buf_clear(&lie);
    public_key_free(&key);
    pair_clear(&p);
}

static void test_security_key_flags(void **state)
{
    const char *type = "sk-ssh-ed25519@openssh.com";
    struct pair p = ed25519_pair(type, "ssh:");
    struct public_key *key = public_key_parse(buf_bytes(&p.blob));

    (void)state;
    for (uint8_t flags = 0; flags < 8; flags++) {
        struct buf signature = sign(&p, type, NULL, DATA, flags);
        struct signature_facts facts = {true, true};

        assert_true(
            public_key_verify(key, bytes_of_string(type), buf_bytes(&signature), DATA, &facts));
        assert_int_equal(facts.user_present, (flags & 1) != 0);
        assert_int_equal(facts.user_verified, (flags & 4) != 0);
        signature.data[signature.len - 5] ^= 4; /* claims another flag than was signed */
        assert_false(
            public_key_verify(key, bytes_of_string(type), buf_bytes(&signature), DATA, &facts));
        assert_false(facts.user_present || facts.user_verified);
        buf_clear(&signature);
    }
    public_key_free(&key);
    pair_clear(&p);
}

static void test_refused_keys(void **state)
{
    struct pair weak = rsa_pair(1024);
    struct pair good = ecdsa_pair("ecdsa-sha2-nistp256", "nistp256", "P-256", NULL);
    struct pair curve = ecdsa_pair("ecdsa-sha2-nistp256", "nistp384", "P-256", NULL);
    struct pair certificate = ed25519_pair("ssh-ed25519-cert-v01@openssh.com", NULL);
    struct buf huge = {0};

    (void)state;
    assert_null(public_key_parse(buf_bytes(&weak.blob)));
    assert_null(public_key_parse(buf_bytes(&curve.blob)));
    assert_null(public_key_parse(buf_bytes(&certificate.blob)));
    good.blob.data[good.blob.len - 1] ^= 1; /* not on the curve any more */
    assert_null(public_key_parse(buf_bytes(&good.blob)));
    buf_put_cstring(&huge, "ssh-rsa");
    buf_put_string(&huge, BYTES("\x01\x00\x01"));
    buf_put_u32(&huge, 1 << 20);
    for (int i = 0; i < 1 << 20; i++)
        buf_put_u8(&huge, 0x7f);
    assert_null(public_key_parse(buf_bytes(&huge)));
    buf_clear(&huge);
    pair_clear(&weak);
    pair_clear(&good);
    pair_clear(&curve);
    pair_clear(&certificate);
}

/* Made with ssh-keygen. */
static void test_text_forms(void **state)
{
    static const uint8_t blob[] = {0x00, 0x00, 0x00, 0x0b, 0x73, 0x73, 0x68, 0x2d, 0x65, 0x64, 0x32,
                                   0x35, 0x35, 0x31, 0x39, 0x00, 0x00, 0x00, 0x20, 0xcf, 0x0f, 0x80,
                                   0xae, 0xfc, 0x18, 0x79, 0x98, 0x8f, 0x70, 0xfe, 0xb9, 0xa0, 0x68,
                                   0x93, 0x50, 0x6d, 0x18, 0x17, 0x75, 0xb7, 0x01, 0x06, 0x8c, 0xd2,
                                   0xa9, 0x24, 0x9c, 0xbf, 0x10, 0x9a, 0x5e};
    struct public_key *key = public_key_parse(bytes_of(blob, sizeof(blob)));
    char *line = public_key_openssh(key);
    char *fingerprint = public_key_fingerprint(key);

    (void)state;
    assert_string_equal(
        line, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM8PgK78GHmYj3D+uaBok1BtGBd1twEGjNKpJJy/EJpe");
    assert_string_equal(fingerprint, "SHA256:wRGZabER0NxArlbjajLHJkICuSOKgRCG2nR98vrdnH4");
    free(line);
    free(fingerprint);
    public_key_free(&key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_kind),
        cmocka_unit_test(test_algorithm_must_be_the_signature_s_own),
        cmocka_unit_test(test_security_key_flags),
        cmocka_unit_test(test_refused_keys),
        cmocka_unit_test(test_text_forms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
