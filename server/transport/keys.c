/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/keys.h"

#include "base/alloc.h"
#include "base/reader.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#define RSA_BITS_MIN     2048
#define RSA_BITS_MAX     16384
#define EXPONENT_LEN_MAX 8
#define ED25519_LEN      32

static const struct key_kind kinds[] = {
    {.type = "ssh-ed25519", .scheme = KEY_ED25519, .bits = 256},
    {.type = "sk-ssh-ed25519@openssh.com",
     .scheme = KEY_ED25519,
     .security_key = true,
     .bits = 256},
    {"ecdsa-sha2-nistp256", KEY_ECDSA, false, "nistp256", "P-256", 65, "SHA256", 256},
    {"ecdsa-sha2-nistp384", KEY_ECDSA, false, "nistp384", "P-384", 97, "SHA384", 384},
    {"ecdsa-sha2-nistp521", KEY_ECDSA, false, "nistp521", "P-521", 133, "SHA512", 521},
    {"sk-ecdsa-sha2-nistp256@openssh.com", KEY_ECDSA, true, "nistp256", "P-256", 65, "SHA256", 256},
    {.type = "ssh-rsa", .scheme = KEY_RSA},
};

const char *public_key_algorithms(void)
{
    return "ssh-ed25519,sk-ssh-ed25519@openssh.com,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,"
           "ecdsa-sha2-nistp521,sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256";
}

bool public_key_allows(const struct public_key *key, struct bytes algorithm)
{
    if (key->kind->scheme == KEY_RSA) /* RFC 8332; "ssh-rsa" as an algorithm is SHA-1 */
        return bytes_are(algorithm, "rsa-sha2-512") || bytes_are(algorithm, "rsa-sha2-256");
    return bytes_are(algorithm, key->kind->type);
}

const struct key_kind *key_kind_named(struct bytes type)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (bytes_are(type, kinds[i].type))
            return &kinds[i];
    return NULL;
}

bool mpint_is_positive(struct bytes mpint)
{
    if (mpint.len == 0 || (mpint.data[0] & 0x80) != 0)
        return false;
    return mpint.data[0] != 0 || (mpint.len > 1 && (mpint.data[1] & 0x80) != 0);
}

EVP_PKEY *key_from_params(const char *algorithm, OSSL_PARAM_BLD *build, int selection)
{
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, algorithm, NULL);
    EVP_PKEY *pkey = NULL;

    if (params == NULL || context == NULL || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &pkey, selection, params) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(params);
    return pkey;
}

static EVP_PKEY *parse_ed25519(struct reader *r)
{
    struct bytes point = reader_string(r);

    if (point.len != ED25519_LEN)
        return NULL;
    return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, point.data, point.len);
}

/* RFC 5656 section 3.1 allows compressed points; nobody sends them. */
static bool ecdsa_is_sane(const struct key_kind *kind, struct bytes curve, struct bytes point)
{
    return bytes_are(curve, kind->curve) && point.len == kind->point_len && point.data[0] == 4;
}

static EVP_PKEY *parse_ecdsa(struct reader *r, const struct key_kind *kind)
{
    struct bytes curve = reader_string(r);
    struct bytes point = reader_string(r);
    OSSL_PARAM_BLD *build;
    EVP_PKEY *pkey = NULL;

    if (!ecdsa_is_sane(kind, curve, point))
        return NULL;
    build = OSSL_PARAM_BLD_new();
    if (build != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, kind->group, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point.data, point.len) ==
            1)
        pkey = key_from_params("EC", build,
                               EVP_PKEY_PUBLIC_KEY); /* refuses a point that is not on the curve */
    OSSL_PARAM_BLD_free(build);
    return pkey;
}

static bool rsa_is_sane(struct bytes e, struct bytes n)
{
    if (!mpint_is_positive(e) || !mpint_is_positive(n))
        return false;
    /* Bounds before any arithmetic: a huge modulus is a way to burn our CPU. */
    return e.len <= EXPONENT_LEN_MAX + 1 && (e.data[e.len - 1] & 1) != 0 &&
           !(e.len == 1 && e.data[0] == 1) && n.len <= RSA_BITS_MAX / 8 + 1 &&
           (n.data[n.len - 1] & 1) != 0;
}

static EVP_PKEY *parse_rsa(struct reader *r, uint32_t *bits)
{
    struct bytes e = reader_string(r);
    struct bytes n = reader_string(r);
    OSSL_PARAM_BLD *build = NULL;
    BIGNUM *big_e, *big_n;
    EVP_PKEY *pkey = NULL;

    if (!rsa_is_sane(e, n))
        return NULL;
    big_e = BN_bin2bn(e.data, (int)e.len, NULL);
    big_n = BN_bin2bn(n.data, (int)n.len, NULL);
    if (big_e != NULL && big_n != NULL) {
        *bits = (uint32_t)BN_num_bits(big_n);
        build = OSSL_PARAM_BLD_new();
    }
    if (build != NULL && *bits >= RSA_BITS_MIN && *bits <= RSA_BITS_MAX &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, big_n) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, big_e) == 1)
        pkey = key_from_params("RSA", build, EVP_PKEY_PUBLIC_KEY);
    OSSL_PARAM_BLD_free(build);
    BN_free(big_e);
    BN_free(big_n);
    return pkey;
}

/* The fields of the kind, and their shape. */
static bool skim_fields(const struct key_kind *kind, struct reader *r)
{
    struct bytes first = reader_string(r);
    struct bytes second;

    if (kind->scheme == KEY_ED25519)
        return first.len == ED25519_LEN;
    second = reader_string(r);
    return kind->scheme == KEY_RSA ? rsa_is_sane(first, second)
                                   : ecdsa_is_sane(kind, first, second);
}

const char *public_key_type_of(struct bytes blob)
{
    struct reader r = reader_of(blob);
    const struct key_kind *kind = key_kind_named(reader_string(&r));

    if (kind == NULL || !skim_fields(kind, &r))
        return NULL;
    if (kind->security_key)
        reader_string(&r); /* application */
    return reader_end(&r) ? kind->type : NULL;
}

static void parse_fields(struct public_key *key, struct reader *r)
{
    key->bits = key->kind->bits;
    switch (key->kind->scheme) {
    case KEY_ED25519:
        key->pkey = parse_ed25519(r);
        break;
    case KEY_ECDSA:
        key->pkey = parse_ecdsa(r, key->kind);
        break;
    case KEY_RSA:
        key->pkey = parse_rsa(r, &key->bits);
        break;
    }
    if (key->kind->security_key)
        key->application = reader_string(r);
}

struct public_key *public_key_parse(struct bytes blob)
{
    struct public_key *key = xcalloc(1, sizeof(*key));
    struct reader r;

    if (blob.len > 8192) /* far above RSA of 16,384 bits */
        blob = bytes_of(NULL, 0);
    buf_put(&key->blob, blob);
    r = reader_of(buf_bytes(&key->blob));
    key->kind = key_kind_named(reader_string(&r));
    if (key->kind != NULL)
        parse_fields(key, &r);
    if (key->pkey == NULL || !reader_end(&r))
        public_key_free(&key);
    return key;
}

void public_key_free(struct public_key **where)
{
    struct public_key *key = *where;

    *where = NULL;
    if (key == NULL)
        return;
    EVP_PKEY_free(key->pkey);
    buf_clear(&key->blob);
    free(key);
}

const char *public_key_type(const struct public_key *key)
{
    return key->kind->type;
}

uint32_t public_key_bits(const struct public_key *key)
{
    return key->bits;
}

struct bytes public_key_blob(const struct public_key *key)
{
    return buf_bytes(&key->blob);
}

static char *base64(struct bytes data)
{
    char *text = xcalloc(1, (data.len + 2) / 3 * 4 + 1);

    EVP_EncodeBlock((unsigned char *)text, data.data, (int)data.len);
    return text;
}

char *public_key_fingerprint(const struct public_key *key)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char *encoded, *text;

    SHA256(key->blob.data, key->blob.len, digest);
    encoded = base64(bytes_of(digest, sizeof(digest)));
    encoded[strcspn(encoded, "=")] = '\0';
    text = xasprintf("SHA256:%s", encoded);
    free(encoded);
    return text;
}

char *public_key_openssh(const struct public_key *key)
{
    char *encoded = base64(buf_bytes(&key->blob));
    char *text = xasprintf("%s %s", key->kind->type, encoded);

    free(encoded);
    return text;
}
