/* Users' keys made with OpenSSL when a test runs, and what they sign. */
#ifndef PARLEY_TESTS_UNIT_TRANSPORT_KEYPAIR_H
#define PARLEY_TESTS_UNIT_TRANSPORT_KEYPAIR_H

#include "base/bytes.h"

#include <openssl/evp.h>

struct keypair {
    EVP_PKEY *secret;
    struct buf blob;
    const char *application; /* security keys */
};

struct keypair keypair_ed25519(const char *type, const char *application);
struct keypair keypair_ecdsa(const char *type, const char *curve, const char *group,
                             const char *application);
struct keypair keypair_rsa(unsigned bits);
void keypair_clear(struct keypair *p);
/* A signature as it stands on the wire; flags of a security key. */
struct buf keypair_sign(const struct keypair *p, const char *algorithm, const char *digest,
                        struct bytes data, uint8_t flags);

#endif
