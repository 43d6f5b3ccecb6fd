/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/connection.h"

#include "base/alloc.h"
#include "transport/version.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void connection_watch_input(struct transport *t)
{
    /* A parked message is the end of what may be handled; bytes behind it stay in the socket. */
    if (connection_is_open(t) && t->parked.len == 0 && !t->choked)
        event_add(t->readable, NULL);
    else
        event_del(t->readable);
}

/* libssh takes over where its own reader of the line would have ended. */
void input_begin_packets(struct transport *t)
{
    struct libssh_output before;

    t->session->session_state = SSH_SESSION_STATE_BANNER_RECEIVED;
    t->phase = PHASE_PACKETS;
    before = connection_enter(t);
    t->session->ssh_connection_callback(t->session); /* queues our KEXINIT */
    connection_leave(before);
    if (t->session->session_state == SSH_SESSION_STATE_ERROR)
        connection_violation(t, SSH2_DISCONNECT_KEY_EXCHANGE_FAILED, "key exchange cannot start");
}

static size_t take_version(struct transport *t, uint8_t *data, size_t len)
{
    struct version_line version;

    if (t->client != NULL)
        return client_take_version(t, bytes_of(data, len));
    switch (version_parse(bytes_of(data, len), &version)) {
    case VERSION_INCOMPLETE:
    case VERSION_OTHER_LINE: /* a server's */
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
    input_begin_packets(t);
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

static void end_at_eof(struct transport *t)
{
    char *reason = t->client ? client_eof_reason(t) : xstrdup("the peer closed the connection");

    connection_end(t, TRANSPORT_END_EOF, 0, reason);
    free(reason);
}

static void end_at_error(struct transport *t, int error)
{
    /* A server that has no use for us closes before it reads our version line: that is a reset, and
     * what it said before tells more. */
    if (t->client != NULL && t->phase == PHASE_VERSION && error == ECONNRESET)
        end_at_eof(t);
    else
        connection_end(t, TRANSPORT_END_IO, 0, strerror(error));
}

/* False: nothing came. */
static bool read_socket(struct transport *t, size_t *len)
{
    size_t space = sizeof(t->server->input) - *len;
    ssize_t got = read(t->fd, t->server->input + *len, space < READ_MAX ? space : READ_MAX);

    if (got > 0) {
        *len += (size_t)got;
        t->bytes_received += (uint64_t)got;
        return true;
    }
    if (got == 0)
        end_at_eof(t);
    else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        end_at_error(t, errno);
    return false;
}

/* Handles len bytes of the shared buffer and keeps what is left over. */
static void handle(struct transport *t, uint8_t *input, size_t len)
{
    size_t done;

    t->corked = true;
    t->wanted = 0;
    done = handle_input(t, input, len);
    t->corked = false;
    buf_reset(&t->rest);
    if (connection_is_open(t) && done < len)
        buf_put(&t->rest, bytes_of(input + done, len - done));
    else
        buf_clear(&t->rest); /* idle connections hold no memory for it */
    if (connection_is_open(t)) {
        connection_watch_input(t);
        connection_end_of_turn(t);
    }
}

/* The connection's remaining bytes, then what the socket has, are handled in the buffer that all
 * connections of this worker share. */
static void take_input(struct transport *t, bool from_socket)
{
    uint8_t *input = t->server->input;
    size_t kept = t->rest.len, len = kept;

    if (from_socket && !read_socket(t, &len))
        return;
    /* A large packet that comes byte by byte must not be copied for each byte. */
    if (len < t->wanted) {
        buf_put(&t->rest, bytes_of(input + kept, len - kept));
        return;
    }
    if (kept > 0)
        memcpy(input, t->rest.data, kept);
    handle(t, input, len);
}

void input_on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    take_input(arg, true);
}

void transport_pause(struct transport *t)
{
    t->paused++;
}

void input_go_on(struct transport *t)
{
    bool delivered;

    t->corked = true;
    delivered = deliver_parked(t);
    t->corked = false;
    if (delivered)
        take_input(t, false);
    else if (connection_is_open(t))
        connection_end_of_turn(t);
}

static void on_resumed(void *arg)
{
    struct transport *t = arg;

    if (connection_is_open(t) && t->paused == 0 && t->parked.len > 0 && !t->in_line &&
        t->gss_job == NULL)
        input_go_on(t);
}

void transport_resume(struct transport *t)
{
    assert(t->paused > 0);
    if (--t->paused == 0 && connection_is_open(t) && t->parked.len > 0)
        loop_defer(t->server->loop, on_resumed, t);
}
