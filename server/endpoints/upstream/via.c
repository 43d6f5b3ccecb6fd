#include "endpoints/upstream/via.h"

#include "base/alloc.h"
#include "endpoints/splice.h"
#include "endpoints/upstream/internal.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_S 1 /* for the last bytes: a DISCONNECT */

enum { CHANNEL_SIDE, SOCKET_SIDE };

struct via {
    LIST_ENTRY(via) entry;
    struct loop *loop;
    struct link_use *before; /* NULL: the channel is closed */
    struct mux_open *opening;
    struct splice *splice; /* NULL: it carries nothing any more */
    char *to, *lost;       /* lost: why the hop before has gone */
    via_fn *done;          /* NULL: told, or nobody listens */
    void *owner;
    bool held; /* by its owner */
    struct event *linger;
};

static void go_if_over(struct via *via)
{
    if (via->held || via->before != NULL || via->splice != NULL)
        return;
    LIST_REMOVE(via, entry);
    event_free(via->linger);
    free(via->to);
    free(via->lost);
    free(via);
}

/* Nothing may follow a call of this. */
static void tell(struct via *via, int fd, const char *why)
{
    via_fn *done = via->done;

    via->done = NULL;
    done(via->owner, fd, why);
}

/* Closes the socket's other end, and the channel unless that has ended by itself; closed() follows
 * if there was one. */
static void stop(struct via *via)
{
    event_del(via->linger);
    mux_open_cancel(&via->opening);
    splice_free(&via->splice);
}

static void on_splice_ended(void *owner)
{
    struct via *via = owner;

    stop(via);
    go_if_over(via);
}

static void on_linger(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    on_splice_ended(arg);
}

/* ---- the channel */

static void on_opened(void *owner, struct endpoint *endpoint)
{
    struct via *via = owner;
    int pair[2];

    via->opening = NULL;
    splice_set(via->splice, CHANNEL_SIDE, endpoint);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
        char *why = xasprintf("%s: %s", via->to, strerror(errno));

        stop(via);
        tell(via, -1, why);
        free(why);
        return;
    }
    splice_set(via->splice, SOCKET_SIDE,
               endpoint_socket_new(via->loop, &splice_events, splice_side(via->splice, SOCKET_SIDE),
                                   pair[0]));
    tell(via, pair[1], "");
}

/* Owned. */
static char *words_of_refusal(const struct via *via, const char *reason)
{
    const char *lost = link_lost(via->before);
    char *words = upstream_words(bytes_of_string(reason)), *why;

    if (lost != NULL) /* it has refused nothing */
        why = xstrdup(lost);
    else
        why = xasprintf("%s: %s cannot connect to it: %s", via->to, link_name(via->before),
                        words[0] != '\0' ? words : "it does not say why");
    free(words);
    return why;
}

static void on_refused(void *owner, uint32_t code, const char *reason)
{
    struct via *via = owner;
    char *why = words_of_refusal(via, reason);

    (void)code;
    via->opening = NULL;
    stop(via);
    link_release(&via->before);
    tell(via, -1, why);
    free(why);
}

static void on_closed(void *owner)
{
    struct via *via = owner;
    const char *lost = link_lost(via->before);

    via->lost = lost ? xstrdup(lost) : NULL;
    link_release(&via->before);
    go_if_over(via);
}

/* ---- life */

struct via *via_new(struct vias *list, struct loop *loop, struct link_use **before, struct mux *mux,
                    const struct hop *to, via_fn *done, void *owner)
{
    static const struct mux_opened_events events = {on_opened, on_refused, on_closed};
    struct upstream_target target = {
        .host = to->host, .port = to->port, .origin_host = "127.0.0.1"};
    struct via *via = xcalloc(1, sizeof(*via));

    LIST_INSERT_HEAD(list, via, entry);
    via->loop = loop;
    via->before = *before;
    *before = NULL;
    via->to = xstrdup(to->name);
    via->done = done;
    via->owner = owner;
    via->held = true;
    via->linger = evtimer_new(loop_events(loop), on_linger, via);
    if (via->linger == NULL)
        abort(); /* out of memory */
    via->splice = splice_between(loop, on_splice_ended, via);
    via->opening = mux_open_direct(mux, &target, &splice_events,
                                   splice_side(via->splice, CHANNEL_SIDE), &events, via);
    return via;
}

void via_release(struct via **where)
{
    static const struct timeval linger = {LINGER_S, 0};
    struct via *via = *where;

    *where = NULL;
    if (via == NULL)
        return;
    via->held = false;
    via->done = NULL;
    if (via->opening != NULL) {
        stop(via);
        link_release(&via->before);
    } else if (via->splice != NULL) {
        event_add(via->linger, &linger);
    }
    go_if_over(via);
}

const char *via_lost(const struct via *via)
{
    return via->before != NULL ? link_lost(via->before) : via->lost;
}

void vias_stop(struct vias *list)
{
    struct via *via, *next;

    for (via = LIST_FIRST(list); via != NULL; via = next) {
        bool opening = via->opening != NULL;

        next = LIST_NEXT(via, entry);
        stop(via);
        if (opening)
            link_release(&via->before);
        go_if_over(via);
    }
}
