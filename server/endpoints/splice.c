#include "endpoints/splice.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <unistd.h>

struct half {
    struct splice *splice;
    struct endpoint *endpoint; /* NULL: it has ended */
};

struct splice {
    struct half halves[SPLICE_SIDES];
    struct loop *loop;
    bool over;     /* one has ended */
    bool deferred; /* finish() is under way */
    bool freed;
    void (*ended)(void *owner);
    void *owner;
};

static struct endpoint *beyond(const struct half *half)
{
    const struct splice *splice = half->splice;

    return splice->halves[half == &splice->halves[0] ? 1 : 0].endpoint;
}

/* What one does not take the other keeps, until writable() has it try again. */
static size_t on_data(void *owner, struct bytes data, uint32_t extended_type)
{
    struct endpoint *to = beyond(owner);

    if (to == NULL || extended_type != 0) /* a byte stream has no error stream */
        return data.len;
    return to->ops->write(to, data, 0);
}

static void on_eof(void *owner)
{
    struct endpoint *to = beyond(owner);

    if (to != NULL)
        to->ops->eof(to);
}

static void on_writable(void *owner, size_t taken)
{
    struct endpoint *from = beyond(owner);

    (void)taken;
    if (from != NULL)
        from->ops->resume(from);
}

static void finish(void *arg)
{
    struct splice *splice = arg;

    splice->deferred = false;
    if (splice->freed)
        free(splice);
    else
        splice->ended(splice->owner);
}

static void on_ended(void *owner, bool in_order, const char *why)
{
    struct half *half = owner;
    struct splice *splice = half->splice;
    struct endpoint *endpoint = half->endpoint;

    half->endpoint = NULL;
    endpoint->ops->stop(endpoint, in_order ? NULL : why);
    if (splice->over)
        return;
    splice->over = splice->deferred = true;
    loop_defer(splice->loop, finish, splice);
}

/* Of a session, which this is not. */
static void on_exit_status(void *owner, uint32_t status)
{
    (void)owner;
    (void)status;
}

static void on_exit_signal(void *owner, const Policy__ExitSignal *exit)
{
    (void)owner;
    (void)exit;
}

static void on_client_flow_control(void *owner, bool can_do)
{
    (void)owner;
    (void)can_do;
}

static void on_break_answer(void *owner, uint32_t id, bool handled)
{
    (void)owner;
    (void)id;
    (void)handled;
}

const struct endpoint_events splice_events = {
    .data = on_data,
    .eof = on_eof,
    .exit_status = on_exit_status,
    .exit_signal = on_exit_signal,
    .client_flow_control = on_client_flow_control,
    .break_answer = on_break_answer,
    .writable = on_writable,
    .ended = on_ended,
};

struct splice *splice_between(struct loop *loop, void (*ended)(void *owner), void *owner)
{
    struct splice *splice = xcalloc(1, sizeof(*splice));

    for (size_t i = 0; i < SPLICE_SIDES; i++)
        splice->halves[i].splice = splice;
    splice->loop = loop;
    splice->ended = ended;
    splice->owner = owner;
    return splice;
}

void *splice_side(struct splice *splice, size_t side)
{
    return &splice->halves[side];
}

void splice_set(struct splice *splice, size_t side, struct endpoint *endpoint)
{
    splice->halves[side].endpoint = endpoint;
}

struct splice *splice_new(struct asker *asker, struct control *control,
                          Policy__ChannelOpened *opened, const Policy__StreamEndpoint *stream,
                          int fd, void (*ended)(void *owner), void *owner)
{
    struct splice *splice = splice_between(asker_loop(asker), ended, owner);
    struct endpoint_start start = {
        .asker = asker,
        .opened = opened,
        .events = &splice_events,
        .owner = splice_side(splice, 0),
    };
    struct endpoint *policy = endpoint_policy_new(&start, control, stream);

    if (policy == NULL) {
        close(fd);
        splice_free(&splice);
        return NULL;
    }
    splice_set(splice, 0, policy);
    splice_set(splice, 1,
               endpoint_socket_new(splice->loop, &splice_events, splice_side(splice, 1), fd));
    return splice;
}

void splice_free(struct splice **where)
{
    struct splice *splice = *where;

    *where = NULL;
    if (splice == NULL)
        return;
    for (size_t i = 0; i < SPLICE_SIDES; i++) {
        struct endpoint *endpoint = splice->halves[i].endpoint;

        splice->halves[i].endpoint = NULL;
        if (endpoint != NULL)
            endpoint->ops->stop(endpoint, NULL);
    }
    splice->freed = true;
    if (!splice->deferred)
        free(splice);
}
