/* A direct channel that goes on at an upstream: there is none until the upstream has confirmed
 * it. */
#include "endpoints/upstream/link.h"

#include "base/alloc.h"
#include "transport/numbers.h"

#include <stdlib.h>

/* First it is being opened, then it is the endpoint: one object, since it holds the link. */
struct upstream_opening {
    struct endpoint base;
    const struct endpoint_events *events;
    void *events_owner;
    upstream_opened_fn *opened;
    void *owner;
    char *path, *host, *origin_host;
    uint32_t port, origin_port;
    struct link_use *use;
    struct mux_open *opening;
    struct endpoint *inner;
};

static struct upstream_opening *self(struct endpoint *endpoint)
{
    return (struct upstream_opening *)endpoint;
}

static void let_go(struct upstream_opening *direct)
{
    link_release(&direct->use);
    free(direct->path);
    free(direct->host);
    free(direct->origin_host);
    free(direct);
}

/* ---- the endpoint */

static size_t direct_write(struct endpoint *endpoint, struct bytes data, uint32_t extended_type)
{
    struct endpoint *inner = self(endpoint)->inner;

    return inner->ops->write(inner, data, extended_type);
}

static void direct_eof(struct endpoint *endpoint)
{
    struct endpoint *inner = self(endpoint)->inner;

    inner->ops->eof(inner);
}

static void direct_resume(struct endpoint *endpoint)
{
    struct endpoint *inner = self(endpoint)->inner;

    inner->ops->resume(inner);
}

/* on_closed() follows, or comes from inside. */
static void direct_stop(struct endpoint *endpoint, const char *error)
{
    struct endpoint *inner = self(endpoint)->inner;

    inner->ops->stop(inner, error);
}

static const struct endpoint_ops direct_ops = {
    .name = "upstream channel",
    .write = direct_write,
    .eof = direct_eof,
    .resume = direct_resume,
    .stop = direct_stop,
};

/* ---- until it is confirmed */

static void refuse(struct upstream_opening *direct, uint32_t code, const char *reason)
{
    direct->opened(direct->owner, NULL, code, reason);
    let_go(direct);
}

static void on_opened(void *owner, struct endpoint *endpoint)
{
    struct upstream_opening *direct = owner;

    direct->opening = NULL;
    direct->inner = endpoint;
    direct->opened(direct->owner, &direct->base, 0, NULL);
}

static void on_refused(void *owner, uint32_t code, const char *reason)
{
    struct upstream_opening *direct = owner;

    direct->opening = NULL;
    refuse(direct, code, reason);
}

static void on_closed(void *owner)
{
    let_go(owner);
}

static const struct mux_opened_events opened_events = {on_opened, on_refused, on_closed};

static void on_ready(void *owner, struct mux *mux)
{
    struct upstream_opening *direct = owner;
    const struct upstream_target target = {
        .path = direct->path,
        .host = direct->host,
        .port = direct->port,
        .origin_host = direct->origin_host,
        .origin_port = direct->origin_port,
    };

    direct->opening =
        mux_open_direct(mux, &target, direct->events, direct->events_owner, &opened_events, direct);
}

static void on_failed(void *owner, const char *why)
{
    struct upstream_opening *direct = owner;

    direct->use = NULL;
    refuse(direct, OPEN_CONNECT_FAILED, why);
}

static const struct link_events link_events = {on_ready, on_failed};

static char *copy(const char *text)
{
    return text ? xstrdup(text) : NULL;
}

struct upstream_opening *upstream_open(struct upstreams *upstreams,
                                       const Policy__UpstreamEndpoint *answer,
                                       const struct upstream_target *target,
                                       const struct endpoint_events *events, void *events_owner,
                                       upstream_opened_fn *opened, void *owner)
{
    struct upstream_opening *direct = xcalloc(1, sizeof(*direct));

    direct->base.ops = &direct_ops;
    direct->events = events;
    direct->events_owner = events_owner;
    direct->opened = opened;
    direct->owner = owner;
    direct->path = copy(target->path);
    direct->host = copy(target->host);
    direct->port = target->port;
    direct->origin_host = copy(target->origin_host);
    direct->origin_port = target->origin_port;
    direct->use = link_use(upstreams, answer, &link_events, direct);
    return direct;
}

void upstream_cancel(struct upstream_opening **where)
{
    struct upstream_opening *direct = *where;

    *where = NULL;
    if (direct == NULL)
        return;
    mux_open_cancel(&direct->opening);
    let_go(direct);
}
