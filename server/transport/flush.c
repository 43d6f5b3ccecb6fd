/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/connection.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define WRITE_PARTS 32

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

void connection_end_of_turn(struct transport *t)
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
        connection_end_of_turn(t);
}

void connection_turn_later(struct transport *t)
{
    if (t->corked || t->turn_due || !connection_is_open(t))
        return;
    t->turn_due = true;
    loop_defer(t->server->loop, on_turn_end, t);
}

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
