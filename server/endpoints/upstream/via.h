/* The way to a server through the hop before it: a descriptor, as if it had been dialled, spliced
 * with a channel of that hop's connection. */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_VIA_H
#define PARLEY_ENDPOINTS_UPSTREAM_VIA_H

#include "endpoints/upstream/hop.h"
#include "endpoints/upstream/link.h"

#include <sys/queue.h>

struct via;
LIST_HEAD(vias, via);

/* Once unless released before, never from inside via_new(). fd: non-blocking, the callee's; -1:
 * `why` says what went wrong. */
typedef void via_fn(void *owner, int fd, const char *why);

/* Takes over the use of the hop before, whose mux this is, for as long as its channel is there:
 * perhaps beyond via_release(). It is on the list until it has gone. */
struct via *via_new(struct vias *list, struct loop *loop, struct link_use **before, struct mux *mux,
                    const struct hop *to, via_fn *done, void *owner);
/* The descriptor is closed, or was not wanted: what was written to it may still pass, for a moment.
 * Nulls the handle; NULL inside is fine. */
void via_release(struct via **via);
/* Why the hop before has gone; NULL: it has not. */
const char *via_lost(const struct via *via);
/* All on the list: stops what they carry at once. They go when their mux tells them that their
 * channels are closed. */
void vias_stop(struct vias *list);

#endif
