/*
 * The completion queue and the one thread that is always parked in it. gRPC's poller lives on
 * whoever waits there, so this thread also drives the connections. No policy meaning here.
 */
#include "control/internal.h"

#include "base/log.h"
#include "control/tsan.h"

#include <assert.h>
#include <signal.h>
#include <string.h>

static void *run(void *arg)
{
    struct cq *cq = arg;

    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(cq->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        struct tag *tag = event.tag;

        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        assert(event.type == GRPC_OP_COMPLETE);
        tsan_acquire(tag); /* the batch */
        tag->done(tag, event.success != 0);
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
