/*
 * RFC 4252: who is this? One lane of USERAUTH requests, answered in order; each is bound to its own
 * user name. The policy decides, this room enforces: signatures, limits, required factors,
 * restrictions.
 */
#ifndef PARLEY_AUTH_AUTH_H
#define PARLEY_AUTH_AUTH_H

#include "auth/grant.h"
#include "base/helpers.h"
#include "base/siphash.h"
#include "control/control.h"
#include "transport/transport.h"

struct auth;

/* Where library calls go that block. */
struct auth_help {
    struct loop *loop;
    struct helpers *helpers;
    char *(*host_name)(const char *ip); /* address_host_name(); blocks */
};

struct auth_settings {
    uint32_t max_failures; /* then we disconnect; refused probes and bad signatures count */
    uint32_t max_requests; /* USERAUTH requests of any kind, then we disconnect */
    /* hostbased: the name that the client claims may differ from what its address resolves to. */
    bool hostbased_trust_claimed_host;
    const struct gss_settings *gss; /* borrowed; NULL: GSSAPI is not offered */
    struct auth_help help;
    /* The secret that the delay depends on, borrowed. NULL: failures are answered at once. */
    const struct siphash_key *delay_key;
};

struct auth_events {
    /* USERAUTH_SUCCESS has been sent, and AuthCompleted has been answered with an allow. */
    void (*completed)(void *owner,
                      const Policy__AuthCompletedAnswer *answer); /* NULL: the handler is absent */
    /* The connection cannot go on: disconnect with this (RFC 4253 section 11.1). May come from
     * inside auth_message(), so the owner does not free this room in it. */
    void (*fault)(void *owner, uint32_t code, const char *reason);
};

/* Borrows all; the grant is the connection's, to be filled here. */
struct auth *auth_new(struct transport *transport, struct asker *asker, struct grant *grant,
                      const char *peer_ip, const struct auth_settings *settings,
                      const struct auth_events *events, void *owner);
/* Messages 5 (SERVICE_REQUEST) and 50 to 79. False: not understood. */
bool auth_message(struct auth *auth, uint8_t type, struct bytes message);
/* Text for the user before login (RFC 4252 section 5.4); kept back until authentication begins. */
void auth_banner(struct auth *auth, const char *text, const char *language);
/* What the client is to blame for, if it ends before login. */
bool auth_has_failed(
    const struct auth *auth);                 /* an attempt of its own: not for want of an answer */
bool auth_is_asking(const struct auth *auth); /* it is the policy that is waited for */
bool auth_is_done(const struct auth *auth);   /* USERAUTH_SUCCESS has been sent */
void auth_free(struct auth **auth);

#endif
