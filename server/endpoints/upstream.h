/*
 * UpstreamEndpoint: a channel that goes on at another SSH server, which the daemon reaches as a
 * client, perhaps through others.
 */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_H
#define PARLEY_ENDPOINTS_UPSTREAM_H

#include "endpoints/dial.h"
#include "endpoints/endpoint.h"
#include "transport/transport.h"

/* The upstream connections of one client connection: channels whose answers name the same hops and
 * credentials share one. It lives as long as a channel needs it. */
struct upstreams;

struct upstream_settings {
    struct transport_server *server;  /* the worker's */
    const struct dial_settings *dial; /* to the first hop; borrowed for good */
    uint32_t keepalive_ms;            /* silence before a question; three without an answer end the
                                         connection; 0: none is asked */
};

/* A connection to the client's forwarded agent: non-blocking, the callee's. -1: the client offers
 * none, or it is not granted. */
typedef int upstream_agent_fn(void *owner);

struct upstreams *upstreams_new(struct asker *asker, const struct upstream_settings *settings,
                                upstream_agent_fn *agent, void *owner);
/* Its endpoints have been stopped and its openings cancelled before; uses of a link that are left
 * are of channels that the upstream has not closed yet, and end now (mux_free()). */
void upstreams_free(struct upstreams **upstreams);

/* What can be known before anybody is called: hops, hosts, ports, users, keys that parse. False
 * with *why (static, in words for the user). */
bool endpoint_upstream_check(const Policy__UpstreamEndpoint *answer, const char **why);

/* A session: takes what the client sends once the upstream's session stands; what goes wrong before
 * is told on stderr, with exit status 255 as ssh(1) has it. NULL sets *why. */
struct endpoint *endpoint_upstream_new(const struct endpoint_start *start,
                                       struct upstreams *upstreams,
                                       const Policy__UpstreamEndpoint *answer, const char **why);

/* ---- direct channels: confirmed or refused as the upstream confirms or refuses */

struct upstream_target {
    const char *path; /* of a Unix socket there; NULL: host and port */
    const char *host;
    uint32_t port;
    const char *origin_host; /* as the client said, for the upstream's eyes */
    uint32_t origin_port;
};

struct upstream_opening;

/* Once unless cancelled, never from inside upstream_open(); the handle ends with it. `endpoint`
 * begins in the callee's hands, with the events and owner given before. NULL: refused with the
 * upstream's code and words (RFC 4254 section 5.1), or with code 2 and ours if it cannot be
 * reached. */
typedef void upstream_opened_fn(void *owner, struct endpoint *endpoint, uint32_t code,
                                const char *reason);

struct upstream_opening *upstream_open(struct upstreams *upstreams,
                                       const Policy__UpstreamEndpoint *answer,
                                       const struct upstream_target *target,
                                       const struct endpoint_events *events, void *events_owner,
                                       upstream_opened_fn *opened, void *owner);
/* Silent; nulls the handle; NULL inside is fine. */
void upstream_cancel(struct upstream_opening **opening);

#endif
