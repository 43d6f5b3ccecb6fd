/* One side of the decision bench: prepares once, then times questions one after another. */
#ifndef PARLEY_BENCH_DECISION_H
#define PARLEY_BENCH_DECISION_H

#include <stddef.h>

/* `policy` is unix:/path. Each runs in a process of its own, so that neither's threads help or
 * hinder the other's. */
struct side {
    void *(*open)(const char *policy);
    /* Asks `count` questions; the microseconds of each go to `us`. */
    void (*ask)(void *side, double *us, size_t count);
    void (*close)(void *side);
};

extern const struct side side_asker; /* control.h: asked on a loop, answered on that loop */
extern const struct side
    side_bare; /* gRPC C core alone: the same call, on the thread that waits for it */

double now_us(void);

#endif
