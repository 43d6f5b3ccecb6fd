/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/private_key.h"

#include "base/alloc.h"
#include "base/reader.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX     (64 * 1024) /* RSA of 8,192 bits is 6 KiB */
#define NUMBER_MAX   (16384 / 8)
#define RSA_BITS_MAX 8192 /* signing, on the loop, takes 0.03 s; with 16,384 bits 0.2 s */
#define ED25519_LEN  32

#define MISMATCH "the private key's parts do not belong together"

struct private_key {
    struct public_key *public_key;
    EVP_PKEY *pkey;
};

/* Wiped when freed, and on the way through OpenSSL's parameters. */
static BIGNUM *secret_number(struct bytes number)
{
    BIGNUM *big = BN_secure_new();

    if (big != NULL && BN_bin2bn(number.data, (int)number.len, big) == NULL) {
        BN_clear_free(big);
        big = NULL;
    }
    if (big != NULL)
        BN_set_flags(big, BN_FLG_CONSTTIME);
    return big;
}

/* ---- Ed25519 */

static EVP_PKEY *make_ed25519(const struct private_numbers *numbers, struct buf *blob)
{
    uint8_t point[ED25519_LEN];
    size_t len = sizeof(point);
    EVP_PKEY *pkey;

    if (numbers->scalar.len != ED25519_LEN)
        return NULL;
    pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, numbers->scalar.data,
                                        numbers->scalar.len);
    if (pkey == NULL || EVP_PKEY_get_raw_public_key(pkey, point, &len) != 1) {
        EVP_PKEY_free(pkey);
        return NULL;
    }
    buf_put_string(blob, bytes_of(point, len));
    return pkey;
}

/* ---- ECDSA */

/* The public point, uncompressed; 0: the scalar is not one of this group. */
static size_t point_of(const char *group_name, const BIGNUM *scalar, uint8_t *out, size_t max)
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name(EC_curve_nist2nid(group_name));
    EC_POINT *point = group ? EC_POINT_new(group) : NULL;
    size_t len = 0;

    if (point != NULL && !BN_is_zero(scalar) && BN_cmp(scalar, EC_GROUP_get0_order(group)) < 0 &&
        EC_POINT_mul(group, point, scalar, NULL, NULL, NULL) == 1)
        len = EC_POINT_point2oct(group, point, POINT_CONVERSION_UNCOMPRESSED, out, max, NULL);
    EC_POINT_free(point);
    EC_GROUP_free(group);
    return len;
}

static EVP_PKEY *make_ecdsa(const struct private_numbers *numbers, struct buf *blob)
{
    const struct key_kind *kind = numbers->kind;
    uint8_t point[160];
    BIGNUM *scalar = secret_number(numbers->scalar);
    size_t len = scalar ? point_of(kind->group, scalar, point, sizeof(point)) : 0;
    OSSL_PARAM_BLD *build = len > 0 ? OSSL_PARAM_BLD_new() : NULL;
    EVP_PKEY *pkey = NULL;

    if (build != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, kind->group, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, len) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, scalar) == 1)
        pkey = key_from_params("EC", build, EVP_PKEY_KEYPAIR);
    OSSL_PARAM_BLD_free(build);
    BN_clear_free(scalar);
    buf_put_cstring(blob, kind->curve);
    buf_put_string(blob, bytes_of(point, len));
    return pkey;
}

/* ---- RSA */

enum { RSA_N, RSA_E, RSA_D, RSA_P, RSA_Q, RSA_INVERSE, RSA_DP, RSA_DQ, RSA_NUMBERS };

static bool read_rsa(const struct private_numbers *numbers, BIGNUM **big)
{
    const struct bytes given[] = {numbers->n, numbers->e, numbers->d,
                                  numbers->p, numbers->q, numbers->p_inverse};

    for (size_t i = 0; i <= RSA_INVERSE; i++) {
        if (given[i].len == 0 || given[i].len > NUMBER_MAX)
            return false;
        big[i] = secret_number(given[i]);
        if (big[i] == NULL)
            return false;
    }
    return true;
}

/* d modulo a prime less one. */
static bool exponent_of(BIGNUM *out, const BIGNUM *d, const BIGNUM *prime, BN_CTX *context)
{
    BIGNUM *less = BN_dup(prime);
    bool ok = less != NULL && BN_sub_word(less, 1) == 1;

    if (ok) {
        BN_set_flags(less, BN_FLG_CONSTTIME);
        ok = BN_mod(out, d, less, context) == 1;
    }
    BN_clear_free(less);
    return ok;
}

/* The primes make the modulus, and what follows from them does. Signatures are checked by OpenSSL,
 * so a wrong exponent is found when the first one is made. */
static bool complete_rsa(BIGNUM **big)
{
    BN_CTX *context = BN_CTX_secure_new();
    BIGNUM *product = BN_secure_new();
    bool ok = context != NULL && product != NULL;

    big[RSA_DP] = BN_secure_new();
    big[RSA_DQ] = BN_secure_new();
    ok = ok && big[RSA_DP] != NULL && big[RSA_DQ] != NULL && BN_is_odd(big[RSA_P]) &&
         BN_is_odd(big[RSA_Q]) && !BN_is_one(big[RSA_P]) && !BN_is_one(big[RSA_Q]) &&
         BN_cmp(big[RSA_D], big[RSA_N]) < 0 &&
         BN_mul(product, big[RSA_P], big[RSA_Q], context) == 1 &&
         BN_cmp(product, big[RSA_N]) == 0 &&
         BN_mod_mul(product, big[RSA_INVERSE], big[RSA_Q], big[RSA_P], context) == 1 &&
         BN_is_one(product) && exponent_of(big[RSA_DP], big[RSA_D], big[RSA_P], context) &&
         exponent_of(big[RSA_DQ], big[RSA_D], big[RSA_Q], context);
    BN_clear_free(product);
    BN_CTX_free(context);
    return ok;
}

static EVP_PKEY *rsa_from(BIGNUM **big)
{
    static const char *const names[] = {
        [RSA_N] = OSSL_PKEY_PARAM_RSA_N,          [RSA_E] = OSSL_PKEY_PARAM_RSA_E,
        [RSA_D] = OSSL_PKEY_PARAM_RSA_D,          [RSA_P] = OSSL_PKEY_PARAM_RSA_FACTOR1,
        [RSA_Q] = OSSL_PKEY_PARAM_RSA_FACTOR2,    [RSA_INVERSE] = OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
        [RSA_DP] = OSSL_PKEY_PARAM_RSA_EXPONENT1, [RSA_DQ] = OSSL_PKEY_PARAM_RSA_EXPONENT2,
    };
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *pkey = NULL;
    bool ok = build != NULL;

    for (size_t i = 0; ok && i < RSA_NUMBERS; i++)
        ok = OSSL_PARAM_BLD_push_BN(build, names[i], big[i]) == 1;
    if (ok)
        pkey = key_from_params("RSA", build, EVP_PKEY_KEYPAIR);
    OSSL_PARAM_BLD_free(build);
    return pkey;
}

static void put_mpint(struct buf *out, struct bytes number)
{
    bool sign = number.len > 0 && (number.data[0] & 0x80) != 0;

    buf_put_u32(out, (uint32_t)(number.len + sign));
    if (sign)
        buf_put_u8(out, 0);
    buf_put(out, number);
}

static EVP_PKEY *make_rsa(const struct private_numbers *numbers, struct buf *blob)
{
    BIGNUM *big[RSA_NUMBERS] = {0};
    EVP_PKEY *pkey = NULL;

    if (read_rsa(numbers, big) && complete_rsa(big))
        pkey = rsa_from(big);
    for (size_t i = 0; i < RSA_NUMBERS; i++)
        BN_clear_free(big[i]);
    put_mpint(blob, numbers->e);
    put_mpint(blob, numbers->n);
    return pkey;
}

/* ---- all */

static bool point_fits(const struct private_numbers *numbers, struct bytes blob)
{
    struct bytes said = numbers->point;

    return said.len == 0 || (said.len < blob.len &&
                             memcmp(blob.data + blob.len - said.len, said.data, said.len) == 0);
}

static struct private_key *make_key(const struct private_numbers *numbers, const char **why)
{
    struct private_key *key = xcalloc(1, sizeof(*key));
    struct buf blob = {0};

    *why = MISMATCH;
    buf_put_cstring(&blob, numbers->kind->type);
    switch (numbers->kind->scheme) {
    case KEY_ED25519:
        key->pkey = make_ed25519(numbers, &blob);
        break;
    case KEY_ECDSA:
        key->pkey = make_ecdsa(numbers, &blob);
        break;
    case KEY_RSA:
        key->pkey = make_rsa(numbers, &blob);
        break;
    }
    if (key->pkey != NULL && point_fits(numbers, buf_bytes(&blob))) {
        *why = "the private key is weak";
        key->public_key = public_key_parse(buf_bytes(&blob));
    }
    buf_clear(&blob);
    if (key->public_key != NULL && public_key_bits(key->public_key) > RSA_BITS_MAX) {
        *why = "the private key is too large: RSA may have 8,192 bits";
        public_key_free(&key->public_key);
    }
    if (key->public_key == NULL) {
        ERR_clear_error();
        private_key_free(&key);
    }
    return key;
}

struct private_key *private_key_parse(struct bytes text, const char **why)
{
    struct private_numbers numbers = {0};
    struct private_key *key = NULL;
    struct bytes label;
    struct buf data = {0};

    if (text.len > TEXT_MAX)
        *why = "the private key is too long";
    else
        *why = pem_decode(text, &label, &data);
    if (*why == NULL)
        *why = pem_numbers(label, buf_bytes(&data), &numbers);
    if (*why == NULL)
        key = make_key(&numbers, why);
    buf_clear_secret(&data);
    if (key != NULL)
        *why = NULL;
    return key;
}

void private_key_free(struct private_key **where)
{
    struct private_key *key = *where;

    *where = NULL;
    if (key == NULL)
        return;
    public_key_free(&key->public_key);
    EVP_PKEY_free(key->pkey);
    free(key);
}

const struct public_key *private_key_public(const struct private_key *key)
{
    return key->public_key;
}

/* ---- signatures */

static const char *digest_of(const struct key_kind *kind, const char *algorithm)
{
    if (kind->scheme == KEY_RSA)
        return strcmp(algorithm, "rsa-sha2-512") == 0 ? "SHA512" : "SHA256";
    return kind->digest;
}

static bool sign(EVP_PKEY *pkey, const char *digest, struct bytes data, struct buf *out)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t len = 0;
    bool ok = context != NULL &&
              EVP_DigestSignInit_ex(context, NULL, digest, NULL, NULL, pkey, NULL) == 1 &&
              EVP_DigestSign(context, NULL, &len, data.data, data.len) == 1;

    if (ok) {
        *out = (struct buf){xmalloc(len), 0, len};
        ok = EVP_DigestSign(context, out->data, &len, data.data, data.len) == 1;
        out->len = ok ? len : 0;
    }
    EVP_MD_CTX_free(context);
    if (!ok)
        ERR_clear_error();
    return ok;
}

static void put_number(struct buf *out, const BIGNUM *number)
{
    uint8_t data[80]; /* above the order of any curve */

    put_mpint(out, bytes_of(data, (size_t)BN_bn2bin(number, data)));
}

/* RFC 5656 section 3.1.2 instead of DER. */
static bool put_ecdsa(struct buf *out, struct bytes der)
{
    const unsigned char *at = der.data;
    ECDSA_SIG *made = d2i_ECDSA_SIG(NULL, &at, (long)der.len);
    struct buf numbers = {0};

    if (made == NULL)
        return false;
    put_number(&numbers, ECDSA_SIG_get0_r(made));
    put_number(&numbers, ECDSA_SIG_get0_s(made));
    buf_put_string(out, buf_bytes(&numbers));
    buf_clear(&numbers);
    ECDSA_SIG_free(made);
    return true;
}

bool private_key_sign(const struct private_key *key, const char *algorithm, struct bytes data,
                      struct buf *signature)
{
    const struct key_kind *kind = key->public_key->kind;
    struct buf made = {0}, whole = {0};
    bool ok = public_key_allows(key->public_key, bytes_of_string(algorithm)) &&
              sign(key->pkey, digest_of(kind, algorithm), data, &made);

    if (ok) {
        buf_put_cstring(&whole, algorithm);
        if (kind->scheme == KEY_ECDSA)
            ok = put_ecdsa(&whole, buf_bytes(&made));
        else
            buf_put_string(&whole, buf_bytes(&made));
    }
    if (ok)
        buf_put(signature, buf_bytes(&whole));
    buf_clear(&made);
    buf_clear(&whole);
    return ok;
}
