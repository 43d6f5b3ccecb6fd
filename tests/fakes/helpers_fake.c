#include "fakes/helpers_fake.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/queue.h>

struct helper_job {
    TAILQ_ENTRY(helper_job) link;
    struct helpers *helpers;
    struct helper_task *task;
    helper_fn *done;
    void *owner;
};

struct helpers {
    TAILQ_HEAD(, helper_job) waiting;
    size_t count;
};

struct helpers *helpers_new(size_t max_threads, size_t max_waiting)
{
    struct helpers *helpers = xcalloc(1, sizeof(*helpers));

    (void)max_threads;
    (void)max_waiting;
    TAILQ_INIT(&helpers->waiting);
    return helpers;
}

void helpers_free(struct helpers **where)
{
    assert((*where)->count == 0); /* ended or cancelled, all of them */
    free(*where);
    *where = NULL;
}

struct helper_job *helpers_run(struct helpers *helpers, struct loop *loop, uint32_t deadline_ms,
                               struct helper_task *task, helper_fn *done, void *owner)
{
    struct helper_job *job = xcalloc(1, sizeof(*job));

    assert(loop != NULL && deadline_ms > 0 && task->work != NULL && task->free != NULL);
    *job = (struct helper_job){
        .helpers = helpers,
        .task = task,
        .done = done,
        .owner = owner,
    };
    TAILQ_INSERT_TAIL(&helpers->waiting, job, link);
    helpers->count++;
    return job;
}

static void unlink_job(struct helper_job *job)
{
    TAILQ_REMOVE(&job->helpers->waiting, job, link);
    job->helpers->count--;
}

static void free_job(struct helper_job *job)
{
    job->task->free(job->task);
    free(job);
}

void helper_cancel(struct helper_job **where)
{
    struct helper_job *job = *where;

    *where = NULL;
    if (job == NULL)
        return;
    unlink_job(job);
    free_job(job);
}

size_t fake_jobs(const struct helpers *helpers)
{
    return helpers->count;
}

void fake_help(struct helpers *helpers, enum helper_outcome outcome)
{
    struct helper_job *job = TAILQ_FIRST(&helpers->waiting);

    assert(job != NULL);
    unlink_job(job);
    if (outcome == HELPER_DONE)
        job->task->work(job->task);
    job->done(job->owner, outcome, outcome == HELPER_DONE ? job->task : NULL);
    free_job(job);
}

const char *helper_outcome_name(enum helper_outcome outcome)
{
    return outcome == HELPER_DONE ? "done" : outcome == HELPER_EXPIRED ? "expired" : "refused";
}
