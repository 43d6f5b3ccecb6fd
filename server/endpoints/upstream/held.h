/* Output that waits for its reader: two streams, each in its order, and the two in the order they
 * came in as long as that costs no more than a few numbers. Pure. */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_HELD_H
#define PARLEY_ENDPOINTS_UPSTREAM_HELD_H

#include "base/bytes.h"

#define HELD_RUNS_MAX 16

struct held_run {
    uint32_t extended_type; /* 0 or 1 */
    size_t len;
};

/* Zero-initialised is valid and empty. */
struct held {
    struct {
        struct buf bytes;
        size_t done; /* of them, taken */
    } streams[2];
    struct held_run runs[HELD_RUNS_MAX]; /* what comes next, the oldest first */
    size_t runs_count;
};

size_t held_len(const struct held *held);
void held_put(struct held *held, uint32_t extended_type, struct bytes data);
/* What comes first, of one stream; borrowed until the next call. len 0: nothing is held. */
struct bytes held_first(const struct held *held, uint32_t *extended_type);
void held_take(struct held *held, size_t len); /* so much of held_first() */
void held_clear(struct held *held);            /* zeroes, then frees */

#endif
