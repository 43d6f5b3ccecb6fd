/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/connection.h"

#include "base/alloc.h"
#include "transport/version.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WRITE_PARTS 32

bool connection_is_open(const struct transport *t)
{
    return t->phase == PHASE_VERSION || t->phase == PHASE_PACKETS;
}

void connection_watch_input(struct transport *t)
{
    /* A parked message is the end of what may be handled; bytes behind it stay in the socket. */
    if (connection_is_open(t) && t->parked.len == 0 && !t->choked)
        event_add(t->readable, NULL);
    else
        event_del(t->readable);
}

void connection_set_timer(struct transport *t, uint32_t ms)
{
    struct timeval wait = {ms / 1000, (suseconds_t)(ms % 1000) * 1000};

    if (ms == 0)
        event_del(t->timer);
    else
        event_add(t->timer, &wait);
}

/* ---- output */

/* Not evbuffer_write(): that one raises SIGPIPE. */
static ssize_t write_some(struct transport *t)
{
    struct evbuffer_iovec parts[WRITE_PARTS];
    int count = evbuffer_peek(t->out, -1, NULL, parts, WRITE_PARTS);
    struct msghdr message = {
        .msg_iov = (struct iovec *)parts,
        .msg_iovlen = (size_t)(count < WRITE_PARTS ? count : WRITE_PARTS),
    };
    ssize_t sent = sendmsg(t->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (sent > 0) {
        evbuffer_drain(t->out, (size_t)sent);
        t->bytes_sent += (uint64_t)sent;
    }
    return sent;
}

void connection_flush(struct transport *t)
{
    while (t->phase != PHASE_ENDED && !t->blocked && evbuffer_get_length(t->out) > 0) {
        if (write_some(t) >= 0 || errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            t->blocked = true;
            event_add(t->writable, NULL);
        } else if (connection_is_open(t)) {
            connection_end(t, TRANSPORT_END_IO, 0, strerror(errno));
        } else {
            return; /* the last bytes are lost; the caller ends it */
        }
    }
}

/* Two marks, so that one packet more or less does not switch producers on and off. */
static void tell_producers(struct transport *t)
{
    if (!t->starved || evbuffer_get_length(t->out) > OUTPUT_LOW_WATER || transport_room(t) == 0)
        return;
    t->starved = false;
    t->corked = true;
    t->events->writable(t->owner);
    t->corked = false;
    connection_flush(t);
}

static void check_choke(struct transport *t)
{
    size_t len = evbuffer_get_length(t->out);

    if (t->choked ? len <= OUTPUT_LOW_WATER : len >= OUTPUT_CHOKE) {
        t->choked = !t->choked;
        connection_watch_input(t);
    }
}

static void end_of_turn(struct transport *t)
{
    connection_flush(t);
    if (connection_is_open(t))
        tell_producers(t);
    if (connection_is_open(t))
        check_choke(t);
}

static void on_turn_end(void *arg)
{
    struct transport *t = arg;

    t->turn_due = false;
    if (connection_is_open(t))
        end_of_turn(t);
}

void connection_turn_later(struct transport *t)
{
    if (t->corked || t->turn_due || !connection_is_open(t))
        return;
    t->turn_due = true;
    loop_defer(t->server->loop, on_turn_end, t);
}

/* ---- input */

static size_t take_version(struct transport *t, uint8_t *data, size_t len)
{
    struct version_line version;
    struct libssh_output before;

    switch (version_parse(bytes_of(data, len), &version)) {
    case VERSION_INCOMPLETE:
        return 0;
    case VERSION_REFUSED:
        connection_violation(t, SSH2_DISCONNECT_PROTOCOL_VERSION_NOT_SUPPORTED, version.problem);
        return 0;
    case VERSION_OK:
        break;
    }
    /* What libssh's own reader would do, which stops at 127 bytes: the exchange hash needs the
     * exact line. */
    t->session->clientbanner = bytes_to_string(version.line);
    t->session->session_state = SSH_SESSION_STATE_BANNER_RECEIVED;
    t->phase = PHASE_PACKETS;
    before = connection_enter(t);
    t->session->ssh_connection_callback(t->session); /* queues our KEXINIT */
    connection_leave(before);
    if (t->session->session_state == SSH_SESSION_STATE_ERROR)
        connection_violation(t, SSH2_DISCONNECT_KEY_EXCHANGE_FAILED, "key exchange cannot start");
    return version.consumed;
}

/* Returns how much of it is done with. */
static size_t handle_input(struct transport *t, uint8_t *data, size_t len)
{
    size_t done = 0;

    if (t->phase == PHASE_VERSION)
        done = take_version(t, data, len);
    while (t->phase == PHASE_PACKETS && t->parked.len == 0) {
        struct packet packet;
        size_t consumed = 0;

        if (receive_packet(t, data + done, len - done, &packet, &consumed) != RECEIVE_PACKET)
            break;
        done += consumed;
        if (!deliver_packet(t, &packet))
            break;
        rekey_if_due(t);
    }
    return done;
}

/* False: nothing came. */
static bool read_socket(struct transport *t, size_t *len)
{
    ssize_t got = read(t->fd, t->server->input + *len, READ_MAX);

    if (got > 0) {
        *len += (size_t)got;
        t->bytes_received += (uint64_t)got;
        return true;
    }
    if (got == 0)
        connection_end(t, TRANSPORT_END_EOF, 0, "the peer closed the connection");
    else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        connection_end(t, TRANSPORT_END_IO, 0, strerror(errno));
    return false;
}

/* The connection's remaining bytes, then what the socket has, are handled in the buffer that all
 * connections of this worker share. */
static void take_input(struct transport *t, bool from_socket)
{
    uint8_t *input = t->server->input;
    size_t len = t->rest.len, done;

    if (len > 0)
        memcpy(input, t->rest.data, len);
    if (from_socket) {
        assert(len + READ_MAX <= sizeof(t->server->input));
        if (!read_socket(t, &len))
            return;
    }
    t->corked = true;
    done = handle_input(t, input, len);
    t->corked = false;
    buf_reset(&t->rest);
    if (connection_is_open(t) && done < len)
        buf_put(&t->rest, bytes_of(input + done, len - done));
    else
        buf_clear(&t->rest); /* idle connections hold no memory for it */
    if (connection_is_open(t)) {
        connection_watch_input(t);
        end_of_turn(t);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    take_input(arg, true);
}

void transport_pause(struct transport *t)
{
    t->paused++;
}

static void on_resumed(void *arg)
{
    struct transport *t = arg;
    bool delivered;

    if (!connection_is_open(t) || t->paused > 0 || t->parked.len == 0)
        return;
    t->corked = true;
    delivered = deliver_parked(t);
    t->corked = false;
    if (delivered)
        take_input(t, false);
    else if (connection_is_open(t))
        end_of_turn(t);
}

void transport_resume(struct transport *t)
{
    assert(t->paused > 0);
    if (--t->paused == 0 && connection_is_open(t) && t->parked.len > 0)
        loop_defer(t->server->loop, on_resumed, t);
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
    static uint8_t discarded[4096];
    int turns = 16;

    if (t->fd < 0)
        return;
    event_del(t->readable);
    event_del(t->writable);
    event_del(t->timer);
    /* Closing with unread input resets the connection, and a reset can overtake our DISCONNECT. */
    shutdown(t->fd, SHUT_WR);
    while (turns-- > 0 && read(t->fd, discarded, sizeof(discarded)) > 0)
        ;
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
    else if (kind == TRANSPORT_END_PROTOCOL) /* no SSH client: a line that a person can read */
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

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct transport *t = arg;

    (void)fd;
    (void)what;
    t->blocked = false;
    if (connection_is_open(t)) {
        end_of_turn(t);
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
    buf_clear(&t->held);
    buf_clear(&t->session_id);
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
    t->phase = PHASE_ENDED;
    close_socket(t);
    loop_defer(t->server->loop, destroy,
               t); /* our callers may be callbacks of ours, deferred calls may be due */
}

/* ---- the beginning */

struct libssh_output connection_enter(struct transport *t)
{
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

    t->readable = event_new(base, t->fd, EV_READ | EV_PERSIST, on_readable, t);
    t->writable = event_new(base, t->fd, EV_WRITE, on_writable, t);
    t->timer = event_new(base, -1, 0, on_timer, t);
    return t->readable != NULL && t->writable != NULL && t->timer != NULL;
}

struct transport *transport_accept(struct transport_server *server, int fd,
                                   const struct transport_events *events, void *owner)
{
    struct transport *t = xcalloc(1, sizeof(*t));
    int on = 1;

    server->references++;
    t->server = server;
    t->events = events;
    t->owner = owner;
    t->fd = fd;
    t->out = evbuffer_new();
    if (t->out == NULL || !start_events(t) || !start_session(t)) {
        close(fd);
        destroy(t);
        return NULL;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
               sizeof(on)); /* fails on Unix sockets, which need it not */
    event_add(t->readable, NULL);
    connection_turn_later(t);
    return t;
}

/* ---- facts */

size_t transport_room(struct transport *t)
{
    size_t queued = evbuffer_get_length(t->out);
    size_t room = queued < OUTPUT_HIGH_WATER ? OUTPUT_HIGH_WATER - queued : 0;

    if (!t->keys || t->session->dh_handshake_state != DH_STATE_FINISHED || t->held.len > 0)
        room = 0;
    if (!connection_is_open(t))
        return 0;
    if (room == 0)
        t->starved = true;
    return room;
}

const char *transport_client_version(const struct transport *t)
{
    return t->session->clientbanner ? t->session->clientbanner : "";
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

char *connection_libssh_error(const struct transport *t)
{
    const char *text = ssh_get_error(t->session);

    return clean_text(bytes_of_string(text), 200);
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
