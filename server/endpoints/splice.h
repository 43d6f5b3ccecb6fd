/*
 * Two endpoints that end in each other, with no channel between them: the policy and whoever
 * connected to a listener (ForwardAcceptedAnswer.stream), a channel of an upstream and what is
 * tunnelled through it.
 */
#ifndef PARLEY_ENDPOINTS_SPLICE_H
#define PARLEY_ENDPOINTS_SPLICE_H

#include "endpoints/endpoint.h"

struct splice;

/* Takes over the connected, non-blocking socket. ended() once, from the loop, unless it is freed
 * before; the callee frees it. `opened` is borrowed for the call. NULL: the stream target is not
 * configured, and the socket is closed. */
struct splice *splice_new(struct asker *asker, struct control *control,
                          Policy__ChannelOpened *opened, const Policy__StreamEndpoint *stream,
                          int fd, void (*ended)(void *owner), void *owner);
/* Ends what is left, silently. */
void splice_free(struct splice **splice);

/* ---- of any two byte streams: each is made with these events and the side as their owner, then
 * set; both before control returns to the loop once one is there */

enum { SPLICE_SIDES = 2 };

extern const struct endpoint_events splice_events;

struct splice *splice_between(struct loop *loop, void (*ended)(void *owner), void *owner);
void *splice_side(struct splice *splice, size_t side);
void splice_set(struct splice *splice, size_t side, struct endpoint *endpoint);

#endif
