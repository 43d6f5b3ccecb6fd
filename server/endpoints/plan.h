/* What is to be run, on its way from the daemon to the child that becomes it. Pure. */
#ifndef PARLEY_ENDPOINTS_PLAN_H
#define PARLEY_ENDPOINTS_PLAN_H

#include "base/bytes.h"

#define PLAN_MAX_BYTES (1024 * 1024) /* an answer and an environment are smaller by far */

struct plan {
    char **argv;        /* NULL-terminated */
    char **environment; /* likewise, NAME=VALUE */
    char *directory;    /* "": the user's home */
    char *user;         /* "": the daemon's own */
    char **groups;      /* NULL-terminated; none: the user's own */
    uint32_t max_processes;
    uint64_t max_memory_bytes;
    bool has_terminal; /* standard input is one, to be the controlling one */
    uint32_t parent;   /* pid of the daemon */
};

void plan_encode(const struct plan *plan, struct buf *out);
/* False: malformed; clear it all the same. */
bool plan_decode(struct plan *plan, struct bytes encoded);
void plan_clear(struct plan *plan);

#endif
