/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * A private key between its text and OpenSSL: the numbers it is made of, where they lie in the
 * decoded text. No copy is made but OpenSSL's own, which it wipes.
 */
#ifndef PARLEY_TRANSPORT_PRIVATE_KEY_H
#define PARLEY_TRANSPORT_PRIVATE_KEY_H

#include "transport/keys.h"

/* Borrowed. Integers are big-endian, without sign and leading zeros. */
struct private_numbers {
    const struct key_kind *kind;
    struct bytes scalar;                   /* ECDSA; Ed25519: the seed */
    struct bytes point;                    /* public, of both; empty: not said */
    struct bytes n, e, d, p, q, p_inverse; /* RSA; the inverse of q modulo p */
};

/* ---- private_key_pem.c */

/* The first block's label and what its base64 means. NULL, or what is wrong. */
const char *pem_decode(struct bytes text, struct bytes *label, struct buf *data);
/* PKCS#1, SEC1 and PKCS#8 (RFC 8017, RFC 5915, RFC 5958), as the label says. */
const char *pem_numbers(struct bytes label, struct bytes data, struct private_numbers *numbers);

/* ---- private_key_openssh.c: OpenSSH PROTOCOL.key */

const char *openssh_numbers(struct bytes data, struct private_numbers *numbers);

#endif
