/* Starts a plan through our own image, without fork(): the daemon has threads. */
#ifndef PARLEY_ENDPOINTS_SPAWN_H
#define PARLEY_ENDPOINTS_SPAWN_H

#include "endpoints/plan.h"

#include <sys/types.h>

struct spawned {
    pid_t pid;  /* leads a session and a process group of its own */
    int pidfd;  /* readable when it has ended */
    int status; /* at its end when the program runs; else why it does not. Does not block */
};

/* stdio: its descriptors 0 to 2, borrowed. All that is made is close-on-exec. 0, or errno. */
int spawn_plan(const struct plan *plan, const int stdio[3], struct spawned *out);

#endif
