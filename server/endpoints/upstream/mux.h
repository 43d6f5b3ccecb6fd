/*
 * RFC 4254 from the client's side: the channels of one upstream connection. Each is an endpoint
 * once the upstream has confirmed it.
 */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_MUX_H
#define PARLEY_ENDPOINTS_UPSTREAM_MUX_H

#include "endpoints/upstream.h"

struct mux;
struct mux_channel;

struct mux_events {
    /* The upstream broke the protocol; may come from inside the functions below. The owner does not
     * free us in it. */
    void (*fault)(void *owner, const char *why);
    /* The upstream answered mux_send_keepalive(). */
    void (*alive)(void *owner);
};

/* What the upstreams of one client connection may send before somebody takes it, all together: one
 * for all its muxes. Starts as zero. */
struct mux_windows {
    uint32_t given;
};

/* `transport` is logged in and outlives the mux, as do the windows. */
struct mux *mux_new(struct loop *loop, struct transport *transport, struct mux_windows *windows,
                    const struct mux_events *events, void *owner);
/* Messages 80 to 100. False: not understood. */
bool mux_message(struct mux *mux, uint8_t type, struct bytes message);
void mux_writable(struct mux *mux); /* the transport has room again */
void mux_send_keepalive(struct mux *mux);
/* The connection is gone: its channels end with `why`, in words for the user. Called by the link
 * only, which may have users left: they are told by refused() or closed(), and release the link in
 * there. An endpoint that still has something for its channel hands that over first, on its own. */
void mux_free(struct mux **mux, const char *why);

/* ---- what the files of this room open on it */

/* Never from inside mux_open_*() or an operation of the endpoint. */
struct mux_opened_events {
    /* One of the two, once; the handle ends with it. The endpoint is the callee's. */
    void (*opened)(void *owner, struct endpoint *endpoint);
    void (*refused)(void *owner, uint32_t code, const char *reason); /* clean text */
    /* After opened(), last and once: the endpoint has been stopped, and the upstream has closed the
     * channel as well (or took too long, or is gone), so that nothing is under way any more. The
     * mux must not go before it for want of users. */
    void (*closed)(void *owner);
};

struct mux_open;

/* `events` and `events_owner` are the endpoint's, as in endpoint.h. */
struct mux_open *mux_open_direct(struct mux *mux, const struct upstream_target *target,
                                 const struct endpoint_events *events, void *events_owner,
                                 const struct mux_opened_events *opened, void *owner);
/* Terminal, environment, program (RFC 4254 sections 6.2 to 6.5), as mux_open_session() sends them.
 * May hold secrets. */
void mux_encode_session(const Policy__SessionStart *session, struct buf *out);
/* The endpoint begins with them sent. */
struct mux_open *mux_open_session(struct mux *mux, struct bytes encoded_session,
                                  const struct endpoint_events *events, void *events_owner,
                                  const struct mux_opened_events *opened, void *owner);
void mux_open_cancel(struct mux_open **open); /* silent; nulls the handle */

#endif
