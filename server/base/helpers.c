#include "base/helpers.h"

#include "base/alloc.h"

#include <assert.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <time.h>

#define FREE_WAIT_S 1

enum job_state {
    JOB_WAITING,   /* in the queue */
    JOB_RUNNING,   /* a helper is at it */
    JOB_POSTED,    /* worked; its letter is on the way */
    JOB_ABANDONED, /* nobody waits any more; whoever holds it frees it */
    JOB_REFUSED,   /* never taken on */
};

/* `state` and the queue are the pool's, under its lock; the rest is the loop's. */
struct helper_job {
    struct letter letter;
    TAILQ_ENTRY(helper_job) link;
    struct helpers *helpers;
    enum job_state state;
    struct loop *loop;
    struct event *timer;
    struct helper_task *task;
    helper_fn *done; /* NULL: nobody waits any more */
    void *owner;
};

struct helpers {
    pthread_mutex_t lock;
    pthread_cond_t work; /* the queue has a job, or the pool ends */
    pthread_cond_t gone; /* a thread has ended */
    TAILQ_HEAD(job_list, helper_job) waiting;
    size_t waiting_count, max_waiting;
    size_t threads, idle, max_threads;
    bool ending;
    bool left_behind; /* the last thread frees the pool */
};

/* ---- threads */

static void job_free(struct helper_job *job)
{
    job->task->free(job->task);
    free(job);
}

static void pool_free(struct helpers *helpers)
{
    pthread_cond_destroy(&helpers->gone);
    pthread_cond_destroy(&helpers->work);
    pthread_mutex_destroy(&helpers->lock);
    free(helpers);
}

static struct helper_job *next_job(struct helpers *helpers)
{
    struct helper_job *job;

    helpers->idle++;
    while ((job = TAILQ_FIRST(&helpers->waiting)) == NULL && !helpers->ending)
        pthread_cond_wait(&helpers->work, &helpers->lock);
    helpers->idle--;
    if (job == NULL)
        return NULL;
    TAILQ_REMOVE(&helpers->waiting, job, link);
    helpers->waiting_count--;
    job->state = JOB_RUNNING;
    return job;
}

/* With the lock held: once it is given up nobody of the loop's side can be asked about it. */
static void finish(struct helpers *helpers, struct helper_job *job)
{
    if (job->state != JOB_ABANDONED) {
        job->state = JOB_POSTED;
        loop_post(job->loop, &job->letter);
        return;
    }
    pthread_mutex_unlock(&helpers->lock);
    job_free(job);
    pthread_mutex_lock(&helpers->lock);
}

static void *helper_main(void *arg)
{
    struct helpers *helpers = arg;
    struct helper_job *job;
    bool last;

    pthread_mutex_lock(&helpers->lock);
    while ((job = next_job(helpers)) != NULL) {
        pthread_mutex_unlock(&helpers->lock);
        job->task->work(job->task);
        pthread_mutex_lock(&helpers->lock);
        finish(helpers, job);
    }
    last = --helpers->threads == 0 && helpers->left_behind;
    pthread_cond_signal(&helpers->gone);
    pthread_mutex_unlock(&helpers->lock);
    if (last)
        pool_free(helpers);
    return NULL;
}

/* Detached: one that is stuck in a library at the end must not be waited for. */
static void start_thread(struct helpers *helpers)
{
    pthread_attr_t detached;
    pthread_t thread;

    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &detached, helper_main, helpers) == 0) {
        pthread_setname_np(thread, "helper");
        helpers->threads++;
    }
    pthread_attr_destroy(&detached);
}

/* ---- the loop's side */

static void drop_timer(struct helper_job *job)
{
    if (job->timer != NULL)
        event_free(job->timer);
    job->timer = NULL;
}

static void on_letter(struct letter *letter)
{
    struct helper_job *job =
        (struct helper_job *)((char *)letter - offsetof(struct helper_job, letter));

    drop_timer(job);
    if (job->done != NULL)
        job->done(job->owner, HELPER_DONE, job->task);
    job_free(job);
}

/* Nobody waits for the job any more; says how far it was. One that is being worked on is its
 * helper's to free, one whose letter is on the way its letter's. */
static enum job_state give_up(struct helper_job *job)
{
    struct helpers *helpers = job->helpers;
    enum job_state was;

    drop_timer(job);
    job->done = NULL;
    pthread_mutex_lock(&helpers->lock);
    was = job->state;
    if (was == JOB_WAITING) {
        TAILQ_REMOVE(&helpers->waiting, job, link);
        helpers->waiting_count--;
    } else if (was == JOB_RUNNING) {
        job->state = JOB_ABANDONED;
    }
    pthread_mutex_unlock(&helpers->lock);
    if (was == JOB_WAITING || was == JOB_REFUSED)
        job_free(job);
    return was;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct helper_job *job = arg;
    helper_fn *done = job->done;
    void *owner = job->owner;
    bool refused;

    (void)fd;
    (void)what;
    refused = give_up(job) == JOB_REFUSED;
    done(owner, refused ? HELPER_REFUSED : HELPER_EXPIRED, NULL);
}

/* With the lock held. False: the queue is full, or nobody will ever look at it. */
static bool enqueue(struct helpers *helpers, struct helper_job *job)
{
    if (helpers->waiting_count >= helpers->max_waiting)
        return false;
    if (helpers->waiting_count >= helpers->idle && helpers->threads < helpers->max_threads)
        start_thread(helpers);
    if (helpers->threads == 0)
        return false;
    TAILQ_INSERT_TAIL(&helpers->waiting, job, link);
    helpers->waiting_count++;
    pthread_cond_signal(&helpers->work);
    return true;
}

struct helper_job *helpers_run(struct helpers *helpers, struct loop *loop, uint32_t deadline_ms,
                               struct helper_task *task, helper_fn *done, void *owner)
{
    struct helper_job *job = xcalloc(1, sizeof(*job));
    struct timeval wait = {deadline_ms / 1000, (deadline_ms % 1000) * 1000};
    bool refused;

    job->letter.deliver = on_letter;
    job->helpers = helpers;
    job->loop = loop;
    job->task = task;
    job->done = done;
    job->owner = owner;
    job->timer = event_new(loop_events(loop), -1, 0, on_timer, job);
    pthread_mutex_lock(&helpers->lock);
    refused = !enqueue(helpers, job);
    if (refused)
        job->state = JOB_REFUSED;
    pthread_mutex_unlock(&helpers->lock);
    if (refused)
        wait = (struct timeval){0, 0}; /* the timer tells the caller, who is still in here */
    event_add(job->timer, &wait);
    return job;
}

void helper_cancel(struct helper_job **where)
{
    struct helper_job *job = *where;

    *where = NULL;
    if (job != NULL)
        give_up(job);
}

/* ---- the pool */

struct helpers *helpers_new(size_t max_threads, size_t max_waiting)
{
    struct helpers *helpers = xcalloc(1, sizeof(*helpers));
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&helpers->lock, NULL);
    pthread_cond_init(&helpers->work, &monotonic);
    pthread_cond_init(&helpers->gone, &monotonic);
    pthread_condattr_destroy(&monotonic);
    TAILQ_INIT(&helpers->waiting);
    helpers->max_threads = max_threads;
    helpers->max_waiting = max_waiting;
    return helpers;
}

void helpers_free(struct helpers **where)
{
    struct helpers *helpers = *where;
    struct timespec until;
    bool all_gone;

    *where = NULL;
    if (helpers == NULL)
        return;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += FREE_WAIT_S;
    pthread_mutex_lock(&helpers->lock);
    assert(TAILQ_EMPTY(&helpers->waiting));
    helpers->ending = true;
    pthread_cond_broadcast(&helpers->work);
    while (helpers->threads > 0 &&
           pthread_cond_timedwait(&helpers->gone, &helpers->lock, &until) == 0)
        ;
    all_gone = helpers->threads == 0;
    helpers->left_behind = !all_gone;
    pthread_mutex_unlock(&helpers->lock);
    if (all_gone)
        pool_free(helpers);
}

const char *helper_outcome_name(enum helper_outcome outcome)
{
    static const char *const names[] = {"done", "expired", "refused"};

    return names[outcome];
}
