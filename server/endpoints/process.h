/* Shared by the files of ProcessEndpoint. */
#ifndef PARLEY_ENDPOINTS_PROCESS_H
#define PARLEY_ENDPOINTS_PROCESS_H

#include "endpoints/endpoint.h"
#include "endpoints/plan.h"

/* `answer` has passed endpoint_process_check(). */
void process_plan(struct plan *plan, const Policy__ProcessEndpoint *answer,
                  const Policy__SessionStart *session, Policy__EnvVar *const *provided,
                  size_t provided_count);

/* ---- reaper.c: a child until it has been reaped, also after its channel */

struct child;

/* The program has ended: `status` as waitid(2) says it (si_code, si_status). On the loop. */
typedef void child_exit_fn(void *owner, int code, int status);

/* Takes `pidfd`. */
struct child *child_watch(struct loop *loop, pid_t pid, int pidfd, child_exit_fn *ended,
                          void *owner);
bool child_has_ended(const struct child *child);
void child_signal(const struct child *child, int number); /* its process group */
/* Lets go of it, silently; nulls the handle. It has ended, and all that it wrote was read: what is
 * left of its process group gets HUP. Else the group (and `foreground`, another one of its session;
 * 0: none) gets HUP, and KILL if that did not end it soon. */
void child_let_go(struct child **child, bool is_done, pid_t foreground);

#endif
