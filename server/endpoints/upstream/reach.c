/* How a link comes to its server: dialled, or through the hop before it. */
#include "endpoints/upstream/internal.h"

#include "base/alloc.h"

#include <ctype.h>
#include <stdlib.h>

#define DIAL_PATIENCE_MS 1000 /* beyond our own deadline, whose words are better */

/* ---- dialled */

static void on_dialled(void *owner, int fd, const char *why)
{
    struct link *link = owner;
    char *words;

    link->dial = NULL;
    if (fd >= 0) {
        link_connect(link, fd);
        return;
    }
    words = xstrdup(why); /* a sentence's beginning, which goes behind the name */
    words[0] = (char)tolower((unsigned char)words[0]);
    link_fail(link, 0, words);
    free(words);
}

static void begin_dial(struct link *link)
{
    struct dial_target target = {
        .host = link->hop.host,
        .port = link->hop.port,
        .timeout_ms = link->hop.timeout_ms + DIAL_PATIENCE_MS,
    };

    link->state = LINK_REACHING;
    link_set_timer(link, link->hop.timeout_ms);
    link->dial =
        dial_new(link->upstreams->loop, link->upstreams->settings.dial, &target, on_dialled, link);
}

/* ---- through another; each has its own deadline, from when it is its turn */

static void on_via(void *owner, int fd, const char *why)
{
    struct link *link = owner;

    if (fd >= 0)
        link_connect(link, fd);
    else
        link_over(link, xstrdup(why), 0, "");
}

static void on_before_ready(void *owner, struct mux *mux)
{
    struct link *link = owner;

    link->state = LINK_REACHING;
    link_set_timer(link, link->hop.timeout_ms);
    link->via = via_new(&link->upstreams->vias, link->upstreams->loop, &link->before, mux,
                        &link->hop, on_via, link);
}

static void on_before_failed(void *owner, const char *why)
{
    struct link *link = owner;

    link->before = NULL;
    link_over(link, xstrdup(why), 0, "");
}

void link_reach(struct link *link, const Policy__UpstreamEndpoint *answer, size_t count)
{
    static const struct link_events before = {on_before_ready, on_before_failed};

    if (count > 1)
        link->before = link_use_hops(link->upstreams, answer, count - 1, &before, link);
    else
        begin_dial(link);
}
