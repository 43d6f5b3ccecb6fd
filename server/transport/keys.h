/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * A user's public key: what keys.c parses and verify.c checks signatures with. Straight on OpenSSL:
 * libssh's way needs a session, does not compare algorithm names and hides a security key's flags.
 */
#ifndef PARLEY_TRANSPORT_KEYS_H
#define PARLEY_TRANSPORT_KEYS_H

#include "transport/transport.h"

#include <openssl/evp.h>
#include <openssl/param_build.h>

enum key_scheme { KEY_ED25519, KEY_ECDSA, KEY_RSA };

struct key_kind {
    const char *type; /* the name in the blob */
    enum key_scheme scheme;
    bool security_key;  /* OpenSSH PROTOCOL.u2f */
    const char *curve;  /* RFC 5656's name */
    const char *group;  /* OpenSSL's */
    size_t point_len;   /* uncompressed */
    const char *digest; /* ECDSA's; RSA's comes with the algorithm */
    uint32_t bits;
};

struct public_key {
    const struct key_kind *kind;
    struct buf blob;
    struct bytes application; /* of a security key; within blob */
    uint32_t bits;
    EVP_PKEY *pkey;
};

/* NULL: none of ours. */
const struct key_kind *key_kind_named(struct bytes type);
/* EVP_PKEY_PUBLIC_KEY or EVP_PKEY_KEYPAIR. NULL: they make no key. */
EVP_PKEY *key_from_params(const char *algorithm, OSSL_PARAM_BLD *build, int selection);
/* A positive mpint of RFC 4251 section 5 in its one valid form; false otherwise. */
bool mpint_is_positive(struct bytes mpint);

#endif
