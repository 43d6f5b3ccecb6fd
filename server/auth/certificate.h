/*
 * What a user's certificate must be before anybody logs in with it (OpenSSH PROTOCOL.certkeys),
 * once its authority is trusted.
 */
#ifndef PARLEY_AUTH_CERTIFICATE_H
#define PARLEY_AUTH_CERTIFICATE_H

#include "auth/grant.h"
#include "transport/transport.h"

struct certificate_use {
    const char *user; /* who wants to log in */
    /* Names of which one must be a principal, in place of the user's; NULL: the user's must be. */
    const Policy__Patterns *principals;
    const char *peer_ip;
    uint64_t now_s; /* since 1970 */
};

/* NULL: good for this use, and what its options restrict is added to `credential`. Else why not:
 * static text. Its authority's signature is the caller's to verify. */
const char *certificate_accept(const struct certificate *certificate,
                               const struct certificate_use *use, struct grant *credential);

#endif
