#include "endpoints/upstream/internal.h"

#include "base/alloc.h"
#include "base/log.h"
#include "endpoints/upstream/trust.h"
#include "transport/numbers.h"

#include <assert.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#define KEEPALIVES_MAX 3

static const char *log_id(const struct link *link)
{
    return asker_connection_id(link->upstreams->asker);
}

/* ---- the end */

static void go_if_over(struct link *link)
{
    if (link->state == LINK_OVER && !link->ending && link->transport == NULL &&
        TAILQ_EMPTY(&link->uses))
        link_clear(link);
}

/* From the loop: whoever found out that it is over may be deep inside any of these. */
static void end(void *arg)
{
    struct link *link = arg;

    if (link->cleared)
        return;
    login_free(&link->login);
    link_end_channels(link);
    link_tell_failed(link);
    if (link->transport_ended)
        transport_free(&link->transport);
    link->ending = false;
    go_if_over(link);
}

static void end_later(struct link *link)
{
    if (link->ending)
        return;
    link->ending = true;
    loop_defer(link->upstreams->loop, end, link);
}

static void log_end(const struct link *link)
{
    log_at(link->why ? LOG_WARN : LOG_INFO, log_id(link),
           link->state == LINK_READY ? "upstream_closed" : "upstream_failed",
           log_str("host", link->hop.name), log_str("user", link->hop.user),
           log_str("why", link->why ? link->why : "not needed any more"),
           log_u64("ms", clock_ms() - link->started_ms));
}

void link_over(struct link *link, char *why, uint32_t code, const char *reason)
{
    if (link->state == LINK_OVER) {
        free(why);
        return;
    }
    link->why = why;
    log_end(link);
    link->state = LINK_OVER;
    event_del(link->timer);
    hop_forget_credential(&link->hop);
    dial_cancel(&link->dial);
    link_release(&link->before);
    if (link->transport == NULL)
        via_release(&link->via);
    else if (transport_is_open(link->transport))
        transport_disconnect(link->transport, code, reason, "");
    end_later(link);
}

void link_fail(struct link *link, uint32_t code, const char *why)
{
    link_over(link, xasprintf("%s: %s", link->hop.name, why), code, why);
}

void link_unused(struct link *link)
{
    if (link->cleared)
        return;
    if (link->state == LINK_OVER)
        go_if_over(link);
    else
        link_over(link, NULL, DISCONNECT_BY_APPLICATION, "disconnected by user");
}

/* ---- ready */

static void tell(void *arg)
{
    struct link *link = arg;

    if (link->cleared)
        return;
    link->telling = false;
    if (link->state != LINK_READY)
        return;
    login_free(&link->login);
    link_tell_ready(link);
}

void link_tell_later(struct link *link)
{
    if (link->telling)
        return;
    link->telling = true;
    loop_defer(link->upstreams->loop, tell, link);
}

void link_set_timer(struct link *link, uint32_t ms)
{
    struct timeval wait = {ms / 1000, (suseconds_t)(ms % 1000) * 1000};

    if (ms > 0)
        event_add(link->timer, &wait);
    else
        event_del(link->timer);
}

static void on_mux_fault(void *owner, const char *why)
{
    struct link *link = owner;
    char *words = xasprintf("it broke the protocol: %s", why);

    link_fail(link, DISCONNECT_PROTOCOL_ERROR, words);
    free(words);
}

static void on_mux_alive(void *owner)
{
    ((struct link *)owner)->unanswered = 0;
}

static void become_ready(struct link *link)
{
    static const struct mux_events events = {on_mux_fault, on_mux_alive};
    struct upstreams *upstreams = link->upstreams;

    transport_auth_succeeded(link->transport);
    link->mux = mux_new(upstreams->loop, link->transport, &upstreams->windows, &events, link);
    link->state = LINK_READY;
    link->bytes_seen = transport_bytes_received(link->transport);
    link_set_timer(link, upstreams->settings.keepalive_ms);
    log_info(log_id(link), "upstream", log_str("host", link->hop.name),
             log_str("user", link->hop.user), log_str("method", login_how(link->login)),
             log_str("server", transport_peer_version(link->transport)),
             log_u64("ms", clock_ms() - link->started_ms));
    link_tell_later(link);
}

/* Any byte counts as an answer. */
static void keep_alive(struct link *link)
{
    uint64_t seen = transport_bytes_received(link->transport);
    bool silent = seen == link->bytes_seen;

    link->bytes_seen = seen;
    if (!silent)
        link->unanswered = 0;
    if (link->unanswered == KEEPALIVES_MAX) {
        link_fail(link, DISCONNECT_CONNECTION_LOST, "the upstream does not answer");
        return;
    }
    link_set_timer(link, link->upstreams->settings.keepalive_ms);
    if (silent) {
        link->unanswered++;
        mux_send_keepalive(link->mux);
    }
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct link *link = arg;

    (void)fd;
    (void)what;
    if (link->state == LINK_READY)
        keep_alive(link);
    else if (link->login != NULL && login_awaits_agent(link->login))
        link_fail(link, DISCONNECT_BY_APPLICATION, "the client's agent did not answer in time");
    else
        link_fail(link, DISCONNECT_BY_APPLICATION, "the server did not answer in time");
}

/* ---- from the transport */

static void on_login_done(void *owner, uint32_t code, const char *why)
{
    struct link *link = owner;

    if (why != NULL) {
        link_fail(link, code, why);
        return;
    }
    hop_forget_credential(&link->hop);
    become_ready(link);
}

static void begin_login(struct link *link)
{
    struct login_start start = {
        .transport = link->transport,
        .loop = link->upstreams->loop,
        .hop = &link->hop,
        .agent = link->upstreams->agent,
        .agent_owner = link->upstreams->owner,
        .log_id = log_id(link),
    };

    link->state = LINK_LOGIN;
    link->login = login_new(&start, on_login_done, link);
}

/* Nothing has been sent yet, and nothing is to one that is not who it should be. */
static void on_keys_exchanged(void *owner)
{
    struct link *link = owner;
    struct trust trust;

    if (link->state != LINK_KEYS)
        return;
    trust = trust_check(&link->hop, transport_host_key_used(link->transport));
    log_debug(log_id(link), "upstream_keys", log_str("host", link->hop.name),
              log_str("host_key", trust.key),
              log_str("algorithms", transport_algorithms(link->transport)));
    buf_clear(&link->hop.known_hosts);
    if (trust.why == NULL)
        begin_login(link);
    else
        link_fail(link, DISCONNECT_HOST_KEY_NOT_VERIFIABLE, trust.why);
    trust_clear(&trust);
}

static bool on_message(void *owner, uint8_t type, struct bytes message)
{
    struct link *link = owner;

    if (link->state == LINK_OVER || type == MSG_DEBUG)
        return true;
    if (link->state == LINK_LOGIN)
        return login_message(link->login, type, message);
    if (link->state != LINK_READY || type < MSG_GLOBAL_REQUEST || type > MSG_CHANNEL_FAILURE)
        return type == MSG_EXT_INFO;
    return mux_message(link->mux, type, message);
}

static void on_writable(void *owner)
{
    struct link *link = owner;

    if (link->state == LINK_READY)
        mux_writable(link->mux);
}

static char *words_of_end(const struct link *link, const struct transport_end *how)
{
    const char *lost = link->via != NULL ? via_lost(link->via) : NULL;
    const char *name = link->hop.name;

    if (lost != NULL)
        return xstrdup(lost);
    if (how->kind == TRANSPORT_END_PEER)
        return xasprintf("%s: disconnected: %s", name, how->reason);
    if (how->kind == TRANSPORT_END_PROTOCOL && how->code == DISCONNECT_PROTOCOL_ERROR)
        return xasprintf("%s: it broke the protocol: %s", name, how->reason);
    return xasprintf("%s: %s", name, how->reason);
}

static void on_transport_ended(void *owner, const struct transport_end *how)
{
    struct link *link = owner;

    link->transport_ended = true;
    link_over(link, words_of_end(link, how), 0, "");
    end_later(link);
}

/* ---- life */

void link_connect(struct link *link, int fd)
{
    static const struct transport_events events = {on_keys_exchanged, on_message, on_writable,
                                                   on_transport_ended};
    char *algorithms = trust_algorithms(&link->hop);

    assert(link->state == LINK_REACHING);
    link->state = LINK_KEYS;
    link->transport =
        transport_connect(link->upstreams->settings.server, fd, algorithms, &events, link);
    free(algorithms);
    if (link->transport == NULL)
        link_fail(link, 0, "no connection can be set up");
}

struct link *link_begin(struct upstreams *upstreams, const Policy__UpstreamEndpoint *answer,
                        size_t count)
{
    struct link *link = xcalloc(1, sizeof(*link));
    const char *why;

    LIST_INSERT_HEAD(&upstreams->links, link, entry);
    TAILQ_INIT(&link->uses);
    link->upstreams = upstreams;
    link->started_ms = clock_ms();
    link->timer = evtimer_new(loop_events(upstreams->loop), on_timer, link);
    if (link->timer == NULL)
        abort(); /* out of memory */
    if (!hop_init(&link->hop, answer->hops[count - 1], asker_user(upstreams->asker), &why)) {
        link->hop.name = xstrdup(""); /* what nobody checked */
        link_over(link, xstrdup(why), 0, "");
    } else {
        link_reach(link, answer, count);
    }
    return link;
}

bool link_can_be_used(const struct link *link)
{
    return link->state != LINK_OVER &&
           (link->transport == NULL || transport_is_open(link->transport));
}

void link_silence(struct link *link)
{
    if (link->state != LINK_OVER)
        log_end(link);
    link->state = LINK_OVER;
    link->ending = link->cleared = true; /* nothing else ends it */
    event_del(link->timer);
    dial_cancel(&link->dial);
    login_free(&link->login);
    link_release(&link->before);
    via_release(&link->via);
}

void link_end_channels(struct link *link)
{
    if (link->mux != NULL)
        mux_free(&link->mux, link->why ? link->why : "the client has gone");
    if (link->transport != NULL && transport_is_open(link->transport))
        transport_disconnect(link->transport, DISCONNECT_BY_APPLICATION, "disconnected by user",
                             "");
}

void link_clear(struct link *link)
{
    assert(TAILQ_EMPTY(&link->uses));
    link->cleared = true;
    LIST_REMOVE(link, entry);
    transport_free(&link->transport);
    via_release(&link->via);
    login_free(&link->login);
    hop_clear(&link->hop);
    event_free(link->timer);
    free(link->why);
    loop_defer(link->upstreams->loop, free, link);
}
