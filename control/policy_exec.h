/* The policy program that the daemon starts and supervises itself (--policy-exec). */
#ifndef PARLEY_CONTROL_POLICY_EXEC_H
#define PARLEY_CONTROL_POLICY_EXEC_H

#include "base/loop.h"

struct policy_exec;

/* Makes the private directory of the socket; NULL sets *error (owned by the caller). */
struct policy_exec *policy_exec_new(const char *command, char **error);
const char *policy_exec_target(const struct policy_exec *exec); /* unix:/... */
/* Starts the program on `loop`; ready() comes once, later. */
void policy_exec_start(struct policy_exec *exec, struct loop *loop,
                       void (*ready)(void *owner, const char *error), void *owner);
/* Stops it (TERM, KILL after 5 s; blocks so long) and removes the directory. NULL inside is fine.
 */
void policy_exec_free(struct policy_exec **exec);

#endif
