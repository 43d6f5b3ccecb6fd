/*
 * A lane: messages handled strictly in order, where the handling of the head may wait for a
 * decision. RFC 4252 section 5.1 and RFC 4254 section 4 want replies in the order of the requests;
 * lanes are how we keep it.
 */
#ifndef PARLEY_BASE_LANE_H
#define PARLEY_BASE_LANE_H

#include "base/bytes.h"

#include <sys/queue.h>

enum lane_step {
    LANE_DONE, /* handled; the next one may run */
    LANE_WAIT, /* a decision is pending; lane_resume() follows */
};

/* The message is borrowed until this returns. */
typedef enum lane_step lane_fn(void *owner, uint8_t type, struct bytes message);
/* The lane has become full (stop reading from the peer now) or has room again. */
typedef void lane_pressure_fn(void *owner, bool full);

struct lane {
    lane_fn *run;
    lane_pressure_fn *pressure;
    void *owner;
    bool busy; /* the head waits, or runs right now */
    size_t max_messages, max_bytes;
    size_t messages, bytes; /* waiting behind the head */
    STAILQ_HEAD(, lane_message) waiting;
};

void lane_init(struct lane *lane, lane_fn *run, lane_pressure_fn *pressure, void *owner,
               size_t max_messages, size_t max_bytes);
/* Runs the message now if nothing is before it (without copying it), else keeps a copy. */
void lane_push(struct lane *lane, uint8_t type, struct bytes message);
/* The head's decision is in: goes on with what waits. Never from inside run(). */
void lane_resume(struct lane *lane);
bool lane_is_full(const struct lane *lane);
bool lane_is_idle(const struct lane *lane);
/* Forgets what waits; what has been copied is zeroed, since it may hold a password. Also legal
 * inside run(). */
void lane_clear(struct lane *lane);

#endif
