/*
 * One connection to one upstream server: dialled (or through the hop before it), its host key
 * checked, logged in, kept alive; then its channels are mux.h's. Shared by all that name the same
 * hops and credentials; it goes with the last of them.
 */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_LINK_H
#define PARLEY_ENDPOINTS_UPSTREAM_LINK_H

#include "endpoints/upstream.h"
#include "endpoints/upstream/mux.h"

#define HOPS_MAX 8

struct link_use; /* one who wants it */

struct link_events {
    /* Once, never from inside link_use(): logged in. Borrowed as long as the use. */
    void (*ready)(void *owner, struct mux *mux);
    /* Once, instead of ready(): the server could not be reached, is not who it should be, or does
     * not let us in. In words for the user, with the hop's name in front. The use is over with it.
     * What fails after ready() is told by the channels of the mux. */
    void (*failed)(void *owner, const char *why);
};

/* The last hop of `answer`, which endpoint_upstream_check() has passed. Copies what it needs. */
struct link_use *link_use(struct upstreams *upstreams, const Policy__UpstreamEndpoint *answer,
                          const struct link_events *events, void *owner);
/* Silent; nulls the handle; NULL inside is fine. Also from inside mux_free() and upstreams_free():
 * a channel that was stopped keeps its use until the upstream has closed it as well. */
void link_release(struct link_use **use);
/* Why it has gone, as failed() has it; NULL: it has not. */
const char *link_lost(const struct link_use *use);

#endif
