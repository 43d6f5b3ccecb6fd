/*
 * Helpers: a few threads for library calls that block, which no loop may do: name resolution,
 * GSSAPI. A loop hands a job in with a deadline; the outcome comes back to that loop as a letter.
 *
 * One pool serves the process. Threads start when there is work for them.
 */
#ifndef PARLEY_BASE_HELPERS_H
#define PARLEY_BASE_HELPERS_H

#include "base/loop.h"

#include <stddef.h>

struct helpers;
struct helper_job;

/* What a job does. The task embeds this head, and is the job's from helpers_run() on. */
struct helper_task {
    /* On a helper's thread, where it may block. It touches the task and nothing of any loop. */
    void (*work)(struct helper_task *task);
    /* Frees the task. On the loop's thread; on the helper's if the job was given up meanwhile. */
    void (*free)(struct helper_task *task);
};

enum helper_outcome {
    HELPER_DONE,    /* work() has returned */
    HELPER_EXPIRED, /* not in time; a late result is dropped */
    HELPER_REFUSED, /* too much waits already, or there is no thread to be had */
};

/* Once a job unless cancelled, on the loop's thread, never from inside helpers_run(). The handle
 * ends with it. `task` is borrowed: what is to be kept is taken out of it. NULL unless DONE. */
typedef void helper_fn(void *owner, enum helper_outcome outcome, struct helper_task *task);

const char *helper_outcome_name(enum helper_outcome outcome); /* for the log */

struct helpers *helpers_new(size_t max_threads, size_t max_waiting);

/* Never NULL. From the loop's own thread; so is the cancel. */
struct helper_job *helpers_run(struct helpers *helpers, struct loop *loop, uint32_t deadline_ms,
                               struct helper_task *task, helper_fn *done, void *owner);
/* Silence from here on; legal at any time while the handle is held, NULL is fine. */
void helper_cancel(struct helper_job **job);

/* When every job has ended or is cancelled; before their loops are freed or after. Waits a moment
 * for threads that are inside a library still, then leaves them behind: the end of the process does
 * not hang on a name server. */
void helpers_free(struct helpers **helpers);

#endif
