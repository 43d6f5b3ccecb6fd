/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/reader.h"
#include "transport/keys.h"

#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#define ED25519_LEN        64
#define FLAG_USER_PRESENT  0x01 /* OpenSSH PROTOCOL.u2f */
#define FLAG_USER_VERIFIED 0x04

static bool check(EVP_PKEY *pkey, const char *digest, struct bytes signature, struct bytes data)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context != NULL &&
              EVP_DigestVerifyInit_ex(context, NULL, digest, NULL, NULL, pkey, NULL) == 1 &&
              EVP_DigestVerify(context, signature.data, signature.len, data.data, data.len) == 1;

    EVP_MD_CTX_free(context);
    if (!ok)
        ERR_clear_error(); /* whoever looks next should find errors of its own */
    return ok;
}

/* RFC 8332 section 3 wants the modulus' length. Some signers drop leading zeros; sshd takes those,
 * too. */
static bool check_rsa(EVP_PKEY *pkey, struct bytes algorithm, struct bytes signature,
                      struct bytes data)
{
    size_t len = (size_t)EVP_PKEY_get_size(pkey);
    const char *digest = bytes_are(algorithm, "rsa-sha2-512") ? "SHA512" : "SHA256";
    uint8_t *padded;
    bool ok;

    if (signature.len == 0 || signature.len > len)
        return false;
    padded = xcalloc(1, len);
    memcpy(padded + len - signature.len, signature.data, signature.len);
    ok = check(pkey, digest, bytes_of(padded, len), data);
    free(padded);
    return ok;
}

static ECDSA_SIG *parse_ecdsa(struct bytes signature)
{
    struct reader fields = reader_of(signature); /* RFC 5656 section 3.1.2 */
    struct bytes r = reader_string(&fields);
    struct bytes s = reader_string(&fields);
    ECDSA_SIG *sig;
    BIGNUM *big_r, *big_s;

    if (!reader_end(&fields) || !mpint_is_positive(r) || !mpint_is_positive(s) || r.len > 67 ||
        s.len > 67)
        return NULL;
    sig = ECDSA_SIG_new();
    big_r = BN_bin2bn(r.data, (int)r.len, NULL);
    big_s = BN_bin2bn(s.data, (int)s.len, NULL);
    if (sig == NULL || ECDSA_SIG_set0(sig, big_r, big_s) != 1) {
        BN_free(big_r);
        BN_free(big_s);
        ECDSA_SIG_free(sig);
        return NULL;
    }
    return sig;
}

static bool check_ecdsa(const struct public_key *key, struct bytes signature, struct bytes data)
{
    ECDSA_SIG *sig = parse_ecdsa(signature);
    unsigned char *der = NULL;
    int len;
    bool ok;

    if (sig == NULL)
        return false;
    len = i2d_ECDSA_SIG(sig, &der);
    ok = len > 0 && check(key->pkey, key->kind->digest, bytes_of(der, (size_t)len), data);
    OPENSSL_free(der);
    ECDSA_SIG_free(sig);
    return ok;
}

static bool check_scheme(const struct public_key *key, struct bytes algorithm,
                         struct bytes signature, struct bytes data)
{
    switch (key->kind->scheme) {
    case KEY_ED25519:
        return signature.len == ED25519_LEN && check(key->pkey, NULL, signature, data);
    case KEY_ECDSA:
        return check_ecdsa(key, signature, data);
    case KEY_RSA:
        return check_rsa(key->pkey, algorithm, signature, data);
    }
    return false;
}

/* What a security key signs: SHA256(application), flags, counter, SHA256(data). */
static void security_key_message(const struct public_key *key, uint8_t flags, uint32_t counter,
                                 struct bytes data, struct buf *out)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];

    SHA256(key->application.data, key->application.len, digest);
    buf_put(out, bytes_of(digest, sizeof(digest)));
    buf_put_u8(out, flags);
    buf_put_u32(out, counter);
    SHA256(data.data, data.len, digest);
    buf_put(out, bytes_of(digest, sizeof(digest)));
}

static bool verify_security_key(const struct public_key *key, struct bytes algorithm,
                                struct reader *rest, struct bytes signature, struct bytes data,
                                struct signature_facts *facts)
{
    uint8_t flags = reader_u8(rest);
    uint32_t counter = reader_u32(rest);
    struct buf message = {0};
    bool ok;

    if (!reader_end(rest))
        return false;
    security_key_message(key, flags, counter, data, &message);
    ok = check_scheme(key, algorithm, signature, buf_bytes(&message));
    buf_clear(&message);
    if (ok && facts != NULL) {
        facts->user_present = (flags & FLAG_USER_PRESENT) != 0;
        facts->user_verified = (flags & FLAG_USER_VERIFIED) != 0;
    }
    return ok;
}

bool public_key_verify(const struct public_key *key, struct bytes algorithm, struct bytes signature,
                       struct bytes data, struct signature_facts *facts)
{
    struct reader r = reader_of(signature);
    struct bytes type = reader_string(&r);
    struct bytes value = reader_string(&r);

    if (facts != NULL)
        *facts = (struct signature_facts){0};
    if (!reader_ok(&r) || !public_key_allows(key, algorithm) || !bytes_equal(type, algorithm))
        return false;
    if (key->kind->security_key)
        return verify_security_key(key, algorithm, &r, value, data, facts);
    return reader_end(&r) && check_scheme(key, algorithm, value, data);
}
