/* A server's host key, held against the answer's known_hosts. */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_TRUST_H
#define PARLEY_ENDPOINTS_UPSTREAM_TRUST_H

#include "endpoints/upstream/hop.h"

/* What the server is to prove: the known keys first, then what it has instead, so that a key that
 * is not known can be named. Owned; NULL: no key is known. */
char *trust_algorithms(const struct hop *hop);

struct trust {
    char *key; /* "ssh-ed25519 SHA256:..." */
    char *why; /* NULL: it is the host's */
};

struct trust trust_check(const struct hop *hop, struct bytes blob);
void trust_clear(struct trust *trust);

#endif
