#include "decision.h"

#include "control/control.h"

#include <event2/event.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

struct asker_side {
    struct control *control;
    struct loop *loop; /* runs in `thread`, as a worker's does */
    struct asker *asker;
    pthread_t thread;
    struct letter go;
    sem_t over;         /* the link works, or all of a round are answered */
    struct event *poll; /* until the link works */
    double *us, started;
    size_t done, count;
};

static void next(struct asker_side *side);

static void on_answer(void *owner, enum outcome outcome, const ProtobufCMessage *answer)
{
    struct asker_side *side = owner;
    const Policy__ConnectionMadeAnswer *made = (const void *)answer;

    if (outcome != ANSWERED ||
        made->outcome_case != POLICY__CONNECTION_MADE_ANSWER__OUTCOME_ALLOW) {
        fprintf(stderr, "bench decision: %s\n", outcome_name(outcome));
        exit(1);
    }
    side->us[side->done++] = now_us() - side->started;
    if (side->done < side->count)
        next(side);
    else
        sem_post(&side->over);
}

static void next(struct asker_side *side)
{
    Policy__ConnectionMadeRequest request = POLICY__CONNECTION_MADE_REQUEST__INIT;

    side->started = now_us();
    asker_ask(side->asker, RPC_CONNECTION_MADE, &request.base, 0, on_answer, side);
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
    struct asker_side *side = arg;

    (void)fd;
    (void)what;
    if (!control_is_connected(side->control))
        return;
    event_del(side->poll);
    sem_post(&side->over);
}

static void *run(void *arg)
{
    struct asker_side *side = arg;
    const struct timeval interval = {0, 10000};

    event_add(side->poll, &interval);
    loop_run(side->loop);
    return NULL;
}

static void on_ready(void *owner, const char *error)
{
    (void)owner;
    if (error != NULL)
        fprintf(stderr, "bench decision: %s\n", error);
}

static void *asker_open(const char *policy)
{
    struct control_settings settings = {.policy = policy, .daemon_name = "bench"};
    static const struct asker_events events = {NULL, NULL};
    struct asker_side *side = calloc(1, sizeof(*side));
    const struct address peer = {"127.0.0.1", 50000}, local = {"127.0.0.1", 2222};
    char *error = NULL;

    side->loop = loop_new();
    side->control = control_new(&settings, &error);
    if (side->control == NULL) {
        fprintf(stderr, "bench decision: %s\n", error);
        exit(1);
    }
    control_start(side->control, side->loop, on_ready, side);
    side->asker = asker_new(side->control, side->loop, &events, side);
    asker_set_addresses(side->asker, &peer, &local);
    asker_set_client_version(side->asker, "SSH-2.0-bench");
    side->poll = event_new(loop_events(side->loop), -1, EV_PERSIST, on_poll, side);
    sem_init(&side->over, 0, 0);
    pthread_create(&side->thread, NULL, run, side);
    sem_wait(&side->over);
    return side;
}

static void on_go(struct letter *letter)
{
    next((struct asker_side *)((char *)letter - offsetof(struct asker_side, go)));
}

static void asker_ask_all(void *opened, double *us, size_t count)
{
    struct asker_side *side = opened;

    side->us = us;
    side->done = 0;
    side->count = count;
    side->go.deliver = on_go;
    loop_post(side->loop, &side->go);
    sem_wait(&side->over);
}

static void asker_close(void *opened)
{
    struct asker_side *side = opened;

    loop_stop(side->loop);
    pthread_join(side->thread, NULL);
    event_free(side->poll);
    asker_free(&side->asker);
    control_free(&side->control);
    loop_free(&side->loop);
    sem_destroy(&side->over);
    free(side);
}

const struct side side_asker = {asker_open, asker_ask_all, asker_close};
