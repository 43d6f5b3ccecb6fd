/*
 * The policy and a socket that end in each other, with no channel between them: the policy talks to
 * whoever connected to a listener (ForwardAcceptedAnswer.stream).
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

#endif
