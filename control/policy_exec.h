/* The policy program that the daemon starts and supervises itself (--policy-exec). On the main
 * loop; no gRPC. */
#ifndef PARLEY_CONTROL_POLICY_EXEC_H
#define PARLEY_CONTROL_POLICY_EXEC_H

#include "base/loop.h"

struct policy_exec;

struct policy_exec_events {
    /* Once: it answers on its socket for the first time (NULL), or it will not (why). */
    void (*ready)(void *owner, const char *error);
    /* It answers on its socket, each time; before ready(). */
    void (*up)(void *owner);
};

/* Makes the private directory of the socket; NULL sets *error (owned by the caller). */
struct policy_exec *policy_exec_new(const char *command, char **error);
const char *policy_exec_target(const struct policy_exec *exec); /* unix:/... */
/* Starts the program; events come later, on `loop`. */
void policy_exec_start(struct policy_exec *exec, struct loop *loop,
                       const struct policy_exec_events *events, void *owner);
/* Stops it (TERM, KILL after 5 s; blocks so long) and removes the directory. NULL inside is fine.
 */
void policy_exec_free(struct policy_exec **exec);

#endif
