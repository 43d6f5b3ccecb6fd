/*
 * What BeginAuthAnswer.revoked_keys holds: an OpenSSH key revocation list (PROTOCOL.krl), or plain
 * public keys, one a line, as sshd_config(5) RevokedKeys has them. One that cannot be read whole
 * revokes every key: a KRL with a signature (we know no key to check it with, and OpenSSH refuses
 * those too), a critical extension, an unknown section, a line that is no key.
 *
 * All functions take NULL for "no list": nothing is revoked.
 */
#ifndef PARLEY_AUTH_REVOKED_H
#define PARLEY_AUTH_REVOKED_H

#include "base/bytes.h"

#define REVOKED_MAX_BYTES (1u << 20)

struct revoked;

/* Never NULL. *why is NULL, or static text: why everything is revoked. */
struct revoked *revoked_parse(struct bytes list, const char **why);
void revoked_free(struct revoked **revoked);

/* Is this key revoked, plain or by its fingerprint? */
bool revoked_has_key(const struct revoked *revoked, struct bytes blob);

struct revoked_query {
    uint64_t serial;
    struct bytes key_id;
    struct bytes key_blob; /* the certified key as a plain key */
    struct bytes ca_blob;  /* the authority that signed */
};

/* Is this certificate revoked: by serial number or key id under its authority or any, by its key,
 * or by its authority's key? */
bool revoked_has_certificate(const struct revoked *revoked,
                             const struct revoked_query *certificate);

#endif
