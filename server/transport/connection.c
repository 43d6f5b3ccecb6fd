/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/connection.h"
#include "transport/gss_kex.h"

#include "base/alloc.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool connection_is_open(const struct transport *t)
{
    return t->phase == PHASE_VERSION || t->phase == PHASE_PACKETS;
}

void connection_set_timer(struct transport *t, uint32_t ms)
{
    struct timeval wait = {ms / 1000, (suseconds_t)(ms % 1000) * 1000};

    if (ms == 0)
        event_del(t->timer);
    else
        event_add(t->timer, &wait);
}

/* ---- the end */

static void on_ended(void *arg)
{
    struct transport *t = arg;

    if (!t->freed)
        t->events->ended(t->owner, &t->end);
}

static void close_socket(struct transport *t)
{
    uint8_t discarded[4096];
    int turns = 16;

    handshakes_leave(t);
    if (t->fd < 0)
        return;
    event_del(t->readable);
    event_del(t->writable);
    event_del(t->timer);
    /* Closing with unread input resets the connection, and a reset can overtake our DISCONNECT.
     * Behind the peer's end there is none. */
    if (t->end.kind != TRANSPORT_END_EOF) {
        shutdown(t->fd, SHUT_WR);
        while (turns-- > 0 && read(t->fd, discarded, sizeof(discarded)) > 0)
            ;
    }
    close(t->fd);
    t->fd = -1;
}

static void finish(struct transport *t)
{
    t->phase = PHASE_ENDED;
    close_socket(t);
    loop_defer(t->server->loop, on_ended, t);
}

static void say_disconnect(struct transport *t, uint32_t code, const char *reason,
                           const char *language)
{
    struct buf message = {0};

    buf_put_u8(&message, SSH2_MSG_DISCONNECT);
    buf_put_u32(&message, code);
    buf_put_cstring(&message, reason);
    buf_put_cstring(&message, language);
    send_through_libssh(t, buf_bytes(&message));
    buf_clear(&message);
}

static void end_with(struct transport *t, enum transport_end_kind kind, uint32_t code,
                     const char *reason, const char *language)
{
    bool speak = kind == TRANSPORT_END_PROTOCOL || kind == TRANSPORT_END_LOCAL;

    if (!connection_is_open(t))
        return;
    t->end_reason = xstrdup(reason);
    t->end = (struct transport_end){kind, code, t->end_reason};
    if (speak && t->phase == PHASE_PACKETS)
        say_disconnect(t, code, reason, language);
    else if (kind == TRANSPORT_END_PROTOCOL && t->client == NULL)
        /* no SSH client: a line that a person can read */
        evbuffer_add_printf(t->out, "%s\r\n", reason);
    t->phase = PHASE_CLOSING;
    event_del(t->readable);
    if (speak) {
        connection_flush(t);
        if (t->blocked && evbuffer_get_length(t->out) > 0) {
            connection_set_timer(t, FLUSH_MS);
            return;
        }
    }
    finish(t);
}

void connection_end(struct transport *t, enum transport_end_kind kind, uint32_t code,
                    const char *reason)
{
    end_with(t, kind, code, reason, "");
}

void connection_violation(struct transport *t, uint32_t code, const char *reason)
{
    end_with(t, TRANSPORT_END_PROTOCOL, code, reason, "");
}

void transport_disconnect(struct transport *t, uint32_t code, const char *reason,
                          const char *language)
{
    end_with(t, TRANSPORT_END_LOCAL, code, reason ? reason : "", language ? language : "");
}

bool transport_is_open(const struct transport *t)
{
    return connection_is_open(t);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct transport *t = arg;

    (void)fd;
    (void)what;
    t->blocked = false;
    if (connection_is_open(t)) {
        connection_end_of_turn(t);
        return;
    }
    connection_flush(t);
    if (!t->blocked)
        finish(t);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct transport *t = arg;

    (void)fd;
    (void)what;
    if (t->phase == PHASE_CLOSING)
        finish(t);
    else if (connection_is_open(t))
        rekey_deadline(t);
}

static void destroy(void *arg)
{
    struct transport *t = arg;

    if (t->readable != NULL)
        event_free(t->readable);
    if (t->writable != NULL)
        event_free(t->writable);
    if (t->timer != NULL)
        event_free(t->timer);
    if (t->session != NULL)
        ssh_free(t->session);
    if (t->out != NULL)
        evbuffer_free(t->out);
    buf_clear(&t->rest);
    buf_clear_secret(&t->parked);
    buf_clear_secret(&t->held);
    buf_clear(&t->session_id);
    gss_kex_clear(t);
    client_clear(t);
    free(t->algorithms);
    free(t->end_reason);
    transport_server_release(t->server);
    free(t);
}

void transport_free(struct transport **where)
{
    struct transport *t = *where;

    *where = NULL;
    if (t == NULL)
        return;
    t->freed = true;
    gss_kex_cancel(t);
    t->phase = PHASE_ENDED;
    close_socket(t);
    loop_defer(t->server->loop, destroy,
               t); /* our callers may be callbacks of ours, deferred calls may be due */
}

/* ---- the beginning */

struct libssh_output connection_enter(struct transport *t)
{
    if (t->client != NULL)
        client_offer(t);
    return libssh_output_to((struct libssh_output){t->session->socket, t->out});
}

void connection_leave(struct libssh_output before)
{
    libssh_output_to(before);
}

static bool start_session(struct transport *t)
{
    struct libssh_output before;
    int rc;

    ssh_set_log_level(SSH_LOG_NONE); /* of this thread */
    t->session = ssh_new();
    if (t->session == NULL)
        return false;
    ssh_set_blocking(t->session, 0);
    if (ssh_bind_accept_fd(t->server->bind, t->session, SSH_INVALID_SOCKET) != SSH_OK)
        return false;
    rekey_configure(t);
    before = connection_enter(t);
    rc = ssh_handle_key_exchange(t->session); /* queues our version line */
    connection_leave(before);
    return rc == SSH_AGAIN;
}

static bool start_events(struct transport *t)
{
    struct event_base *base = loop_events(t->server->loop);

    t->readable = event_new(base, t->fd, EV_READ | EV_PERSIST, input_on_readable, t);
    t->writable = event_new(base, t->fd, EV_WRITE, on_writable, t);
    t->timer = event_new(base, -1, 0, on_timer, t);
    return t->readable != NULL && t->writable != NULL && t->timer != NULL;
}

struct transport *connection_new(struct transport_server *server, int fd,
                                 const struct transport_events *events, void *owner)
{
    struct transport *t = xcalloc(1, sizeof(*t));

    server->references++;
    t->server = server;
    t->events = events;
    t->owner = owner;
    t->fd = fd;
    return t;
}

struct transport *connection_begin(struct transport *t, bool ready)
{
    int on = 1;

    if (!ready || !start_events(t)) {
        close(t->fd);
        destroy(t);
        return NULL;
    }
    setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &on,
               sizeof(on)); /* fails on Unix sockets, which need it not */
    event_add(t->readable, NULL);
    connection_turn_later(t);
    return t;
}

struct transport *transport_accept(struct transport_server *server, int fd,
                                   const struct transport_events *events, void *owner)
{
    struct transport *t = connection_new(server, fd, events, owner);

    t->out = evbuffer_new();
    return connection_begin(t, t->out != NULL && start_session(t));
}

/* ---- facts */

const char *transport_peer_version(const struct transport *t)
{
    const char *line = t->client ? t->session->serverbanner : t->session->clientbanner;

    return line ? line : "";
}

struct bytes transport_session_id(const struct transport *t)
{
    return buf_bytes(&t->session_id);
}

const char *transport_algorithms(const struct transport *t)
{
    return t->algorithms ? t->algorithms : "";
}

uint64_t transport_bytes_received(const struct transport *t)
{
    return t->bytes_received;
}

uint64_t transport_bytes_sent(const struct transport *t)
{
    return t->bytes_sent;
}

char *clean_text(struct bytes text, size_t max)
{
    size_t len = text.len < max ? text.len : max;
    char *clean = xmalloc(len + 1);

    for (size_t i = 0; i < len; i++)
        clean[i] = text.data[i] >= 0x20 && text.data[i] < 0x7f ? (char)text.data[i] : '?';
    clean[len] = '\0';
    return clean;
}
