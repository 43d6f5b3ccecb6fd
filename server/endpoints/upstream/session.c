/* A session that goes on at an upstream: until that stands, what the client wants of it is kept
 * here; after that everything passes straight through. */
#include "endpoints/upstream/link.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

#define WISHES_MAX 16

/* What the program is to be told, in the order of the client's requests. */
struct wish {
    enum { WISH_SIZE, WISH_SIGNAL, WISH_BREAK } kind;
    Policy__WindowSize size;
    char *signal; /* owned */
    uint32_t break_id, length_ms;
    bool want_reply;
};

struct upstream_session {
    struct endpoint base;
    struct loop *loop;
    const struct endpoint_events *events;
    void *owner;
    struct link_use *use;
    struct mux_open *opening;
    struct endpoint *inner; /* NULL: not yet, or not any more */
    struct buf encoded;     /* as mux_encode_session() does */
    struct wish wishes[WISHES_MAX];
    size_t wish_count;
    bool eof, unwanted;
    char *why; /* it never came to be */
    struct buf farewell;
    size_t said; /* of the farewell */
};

static struct upstream_session *self(struct endpoint *endpoint)
{
    return (struct upstream_session *)endpoint;
}

/* ---- what is wanted before there is anybody to want it of */

static void forget_wishes(struct upstream_session *session)
{
    for (size_t i = 0; i < session->wish_count; i++)
        free(session->wishes[i].signal);
    session->wish_count = 0;
}

/* NULL: there are too many, and this one is lost. */
static struct wish *add_wish(struct upstream_session *session)
{
    struct wish *wish = &session->wishes[session->wish_count];

    if (session->wish_count == WISHES_MAX || session->why != NULL)
        return NULL;
    session->wish_count++;
    *wish = (struct wish){0};
    return wish;
}

static void wish_size(struct upstream_session *session, const Policy__WindowSize *size)
{
    struct wish *wish = session->wish_count > 0 ? &session->wishes[session->wish_count - 1] : NULL;

    /* the next size makes the one before it vain */
    if (wish == NULL || wish->kind != WISH_SIZE)
        wish = add_wish(session);
    if (wish == NULL)
        return;
    wish->kind = WISH_SIZE;
    wish->size = *size;
}

static void fulfil(struct upstream_session *session)
{
    struct endpoint *inner = session->inner;

    for (size_t i = 0; i < session->wish_count; i++) {
        const struct wish *wish = &session->wishes[i];

        if (wish->kind == WISH_SIZE)
            inner->ops->window_change(inner, &wish->size);
        else if (wish->kind == WISH_SIGNAL)
            inner->ops->signal(inner, wish->signal);
        else
            inner->ops->break_request(inner, wish->break_id, wish->length_ms, wish->want_reply);
    }
    forget_wishes(session);
    if (session->unwanted)
        inner->ops->unwanted(inner);
    if (session->eof)
        inner->ops->eof(inner);
}

/* ---- it fails before it begins */

static void say_farewell(struct upstream_session *session)
{
    size_t rest = session->farewell.len - session->said;

    if (rest > 0)
        session->said += session->events->data(
            session->owner, bytes_of(session->farewell.data + session->said, rest), 1);
    if (session->said < session->farewell.len)
        return;                                        /* resume() follows */
    session->events->exit_status(session->owner, 255); /* as ssh(1) */
    session->events->ended(session->owner, false, session->why);
}

static void fail(struct upstream_session *session, const char *why)
{
    forget_wishes(session);
    buf_clear_secret(&session->encoded);
    session->why = xstrdup(why);
    buf_put(&session->farewell, bytes_of_string(why));
    buf_put(&session->farewell, BYTES("\r\n")); /* there may be a terminal */
    say_farewell(session);
}

/* ---- life */

static void free_memory(void *arg)
{
    struct upstream_session *session = arg;

    buf_clear(&session->farewell);
    free(session->why);
    free(session);
}

static void let_go(struct upstream_session *session)
{
    link_release(&session->use);
    forget_wishes(session);
    buf_clear_secret(&session->encoded);
    loop_defer(session->loop, free_memory, session);
}

static void on_opened(void *owner, struct endpoint *endpoint)
{
    struct upstream_session *session = owner;

    session->opening = NULL;
    session->inner = endpoint;
    fulfil(session);
    session->events->writable(session->owner, 0);
}

static void on_refused(void *owner, uint32_t code, const char *reason)
{
    struct upstream_session *session = owner;
    char *why = link_lost(session->use) != NULL /* it is gone, and has refused nothing */
                    ? xstrdup(reason)
                    : xasprintf("The upstream server refused the session%s%s",
                                reason[0] ? ": " : ".", reason);

    (void)code;
    session->opening = NULL;
    fail(session, why);
    free(why);
}

static void on_closed(void *owner)
{
    let_go(owner);
}

static const struct mux_opened_events opened_events = {on_opened, on_refused, on_closed};

static void on_ready(void *owner, struct mux *mux)
{
    struct upstream_session *session = owner;

    session->opening = mux_open_session(mux, buf_bytes(&session->encoded), session->events,
                                        session->owner, &opened_events, session);
    buf_clear_secret(&session->encoded);
}

static void on_failed(void *owner, const char *why)
{
    struct upstream_session *session = owner;

    session->use = NULL;
    fail(session, why);
}

static const struct link_events link_events = {on_ready, on_failed};

/* ---- the operations */

static size_t session_write(struct endpoint *endpoint, struct bytes data, uint32_t extended_type)
{
    struct endpoint *inner = self(endpoint)->inner;

    return inner != NULL ? inner->ops->write(inner, data, extended_type) : 0;
}

static void session_eof(struct endpoint *endpoint)
{
    struct upstream_session *session = self(endpoint);

    session->eof = true;
    if (session->inner != NULL)
        session->inner->ops->eof(session->inner);
}

static void session_unwanted(struct endpoint *endpoint)
{
    struct upstream_session *session = self(endpoint);

    session->unwanted = true;
    if (session->inner != NULL)
        session->inner->ops->unwanted(session->inner);
}

static void session_window_change(struct endpoint *endpoint, const Policy__WindowSize *size)
{
    struct upstream_session *session = self(endpoint);

    if (session->inner != NULL)
        session->inner->ops->window_change(session->inner, size);
    else
        wish_size(session, size);
}

static void session_signal(struct endpoint *endpoint, const char *name)
{
    struct upstream_session *session = self(endpoint);
    struct wish *wish;

    if (session->inner != NULL) {
        session->inner->ops->signal(session->inner, name);
    } else if ((wish = add_wish(session)) != NULL) {
        wish->kind = WISH_SIGNAL;
        wish->signal = xstrdup(name);
    }
}

static void session_break(struct endpoint *endpoint, uint32_t id, uint32_t length_ms,
                          bool want_reply)
{
    struct upstream_session *session = self(endpoint);
    struct wish *wish;

    if (session->inner != NULL) {
        session->inner->ops->break_request(session->inner, id, length_ms, want_reply);
    } else if ((wish = add_wish(session)) != NULL) {
        wish->kind = WISH_BREAK;
        wish->break_id = id;
        wish->length_ms = length_ms;
        wish->want_reply = want_reply;
    }
}

static void session_resume(struct endpoint *endpoint)
{
    struct upstream_session *session = self(endpoint);

    if (session->inner != NULL)
        session->inner->ops->resume(session->inner);
    else if (session->why != NULL)
        say_farewell(session);
}

static void session_stop(struct endpoint *endpoint, const char *error)
{
    struct upstream_session *session = self(endpoint);
    struct endpoint *inner = session->inner;

    session->inner = NULL;
    mux_open_cancel(&session->opening);
    if (inner != NULL)
        inner->ops->stop(inner, error); /* on_closed() follows, or came from inside it */
    else
        let_go(session);
}

static const struct endpoint_ops session_ops = {
    .name = "upstream session",
    .write = session_write,
    .eof = session_eof,
    .unwanted = session_unwanted,
    .window_change = session_window_change,
    .signal = session_signal,
    .break_request = session_break,
    .resume = session_resume,
    .stop = session_stop,
};

struct endpoint *endpoint_upstream_new(const struct endpoint_start *start,
                                       struct upstreams *upstreams,
                                       const Policy__UpstreamEndpoint *answer, const char **why)
{
    struct upstream_session *session;

    if (!endpoint_upstream_check(answer, why))
        return NULL;
    session = xcalloc(1, sizeof(*session));
    session->base.ops = &session_ops;
    session->loop = asker_loop(start->asker);
    session->events = start->events;
    session->owner = start->owner;
    mux_encode_session(start->opened->session, &session->encoded);
    session->use = link_use(upstreams, answer, &link_events, session);
    return &session->base;
}
