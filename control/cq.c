/*
 * The completion queue and the one thread that is always parked in it. gRPC's poller lives on
 * whoever waits there, so this thread also drives the connections. No policy meaning here.
 */
#include "control/internal.h"

#include "base/log.h"

#include <assert.h>
#include <signal.h>
#include <string.h>

#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif

#ifdef TSAN
/* gRPC is not instrumented: the sanitizer cannot see that a batch happens before its tag. */
void __tsan_release(void *address);
void __tsan_acquire(void *address);
#define tsan_release __tsan_release
#define tsan_acquire __tsan_acquire
#else
#define tsan_release(address) ((void)(address))
#define tsan_acquire(address) ((void)(address))
#endif

/* ---- letters of the gRPC thread that may wait until it has nothing else to do */

#define LATER_MAX 8 /* letters, and completions handled before they go out */

struct later {
    size_t count;
    unsigned handled;
    struct {
        struct loop *loop;
        struct letter *letter;
    } items[LATER_MAX];
};

static _Thread_local struct later *later; /* of the gRPC thread; NULL on others */

static void post_all(struct later *all)
{
    for (size_t i = 0; i < all->count; i++)
        loop_post(all->items[i].loop, all->items[i].letter);
    all->count = 0;
    all->handled = 0;
}

void cq_post_later(struct loop *loop, struct letter *letter)
{
    if (later == NULL) {
        loop_post(loop, letter);
        return;
    }
    if (later->count == LATER_MAX)
        post_all(later);
    later->items[later->count].loop = loop;
    later->items[later->count++].letter = letter;
}

static void *run(void *arg)
{
    struct cq *cq = arg;
    struct later mine = {0};

    later = &mine;
    for (;;) {
        gpr_timespec until = mine.count > 0 ? gpr_inf_past(GPR_CLOCK_MONOTONIC)
                                            : gpr_inf_future(GPR_CLOCK_MONOTONIC);
        grpc_event event = grpc_completion_queue_next(cq->queue, until, NULL);
        struct tag *tag = event.tag;

        if (event.type == GRPC_OP_COMPLETE) {
            tsan_acquire(tag);
            tag->done(tag, event.success != 0);
            if (mine.count > 0 && ++mine.handled >= LATER_MAX)
                post_all(&mine);
            continue;
        }
        post_all(&mine);
        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
    }
}

bool cq_start(struct cq *cq)
{
    sigset_t all, before;
    int error;

    LIST_INIT(&cq->calls);
    pthread_mutex_init(&cq->lock, NULL);
    pthread_cond_init(&cq->idle, NULL);
    cq->queue = grpc_completion_queue_create_for_next(NULL);
    /* Signals are the main loop's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&cq->thread, NULL, run, cq);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        return true;
    grpc_completion_queue_shutdown(cq->queue);
    grpc_completion_queue_destroy(cq->queue);
    return false;
}

void cq_cancel_all(struct cq *cq)
{
    struct live *live;

    pthread_mutex_lock(&cq->lock);
    LIST_FOREACH (live, &cq->calls, entry)
        grpc_call_cancel(live->call, NULL);
    while (cq->count > 0)
        pthread_cond_wait(&cq->idle, &cq->lock);
    pthread_mutex_unlock(&cq->lock);
}

void cq_stop(struct cq *cq)
{
    assert(cq_live(cq) == 0);
    grpc_completion_queue_shutdown(cq->queue);
    pthread_join(cq->thread, NULL);
    grpc_completion_queue_destroy(cq->queue);
    pthread_cond_destroy(&cq->idle);
    pthread_mutex_destroy(&cq->lock);
}

bool cq_batch(grpc_call *call, const grpc_op *ops, size_t count, struct tag *tag)
{
    tsan_release(tag);
    return grpc_call_start_batch(call, ops, count, tag, NULL) == GRPC_CALL_OK;
}

void cq_watch(struct cq *cq, grpc_channel *channel, grpc_connectivity_state last, struct tag *tag)
{
    tsan_release(tag);
    grpc_channel_watch_connectivity_state(channel, last, gpr_inf_future(GPR_CLOCK_MONOTONIC),
                                          cq->queue, tag);
}

void cq_add(struct cq *cq, struct live *live)
{
    pthread_mutex_lock(&cq->lock);
    LIST_INSERT_HEAD(&cq->calls, live, entry);
    cq->count++;
    pthread_mutex_unlock(&cq->lock);
}

void cq_remove(struct cq *cq, struct live *live)
{
    pthread_mutex_lock(&cq->lock);
    LIST_REMOVE(live, entry);
    if (--cq->count == 0)
        pthread_cond_broadcast(&cq->idle);
    pthread_mutex_unlock(&cq->lock);
}

size_t cq_live(struct cq *cq)
{
    size_t count;

    pthread_mutex_lock(&cq->lock);
    count = cq->count;
    pthread_mutex_unlock(&cq->lock);
    return count;
}

/* gRPC calls it an error when a connection attempt fails; for us it is news about the link. */
static void on_grpc_log(gpr_log_func_args *args)
{
    const char *file = strrchr(args->file, '/');

    if (args->severity == GPR_LOG_SEVERITY_ERROR)
        log_warn(NULL, "grpc", log_str("text", args->message),
                 log_str("file", file ? file + 1 : args->file),
                 log_u64("line", (uint64_t)args->line));
    else
        log_debug(NULL, "grpc", log_str("text", args->message),
                  log_str("file", file ? file + 1 : args->file),
                  log_u64("line", (uint64_t)args->line));
}

void cq_log_setup(void)
{
    gpr_set_log_function(on_grpc_log);
}
