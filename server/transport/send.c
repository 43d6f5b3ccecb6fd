/* SPDX-License-Identifier: Apache-2.0 */
#include "base/reader.h"
#include "transport/connection.h"

#include <assert.h>
#include <string.h>

size_t send_queued(const struct transport *t)
{
    return evbuffer_get_length(t->out) + t->held.len;
}

/* Nothing calls back from here: what goes wrong is told at the end of the turn. */
static void after_send(struct transport *t)
{
    if (send_queued(t) > OUTPUT_MAX || t->held.len > HELD_MAX) {
        connection_violation(t, SSH2_DISCONNECT_BY_APPLICATION, "too much output is not read");
        return;
    }
    if (evbuffer_get_length(t->out) >= OUTPUT_WRITE_AT)
        connection_flush(t);
    if (evbuffer_get_length(t->out) >= OUTPUT_HIGH_WATER)
        t->starved = true;
    if (!t->blocked)
        connection_turn_later(t);
}

bool send_through_libssh(struct transport *t, struct bytes message)
{
    struct libssh_output before;
    bool ok;

    if (ssh_buffer_reinit(t->session->out_buffer) < 0 ||
        ssh_buffer_add_data(t->session->out_buffer, message.data, (uint32_t)message.len) < 0)
        return false;
    before = connection_enter(t);
    ok = ssh_packet_send(t->session) != SSH_ERROR;
    connection_leave(before);
    if (connection_is_open(t))
        rekey_watch(t);
    return ok;
}

static bool is_auth_success(struct bytes head, struct bytes data)
{
    return head.len == 1 && data.len == 0 && head.data[0] == SSH2_MSG_USERAUTH_SUCCESS;
}

/* libssh sets its own state, the filter's and that of delayed compression, in the safe order. */
static bool send_success(struct transport *t)
{
    struct libssh_output before = connection_enter(t);
    bool ok = ssh_auth_reply_success(t->session, 0) != SSH_ERROR;

    connection_leave(before);
    return ok;
}

static void send_now(struct transport *t, struct bytes head, struct bytes data)
{
    bool ok;

    if (t->client == NULL && is_auth_success(head, data)) {
        ok = send_success(t);
    } else if (seal_packet(t, head, data)) {
        ok = true;
    } else {
        struct buf message = {0};

        buf_put(&message, head);
        buf_put(&message, data);
        ok = send_through_libssh(t, buf_bytes(&message));
        buf_clear_secret(&message); /* a password may be in it */
    }
    if (!ok)
        connection_end(t, TRANSPORT_END_IO, 0, "a message could not be encrypted");
}

static void send_parts(struct transport *t, struct bytes head, struct bytes data)
{
    assert(head.len + data.len < TRANSPORT_MESSAGE_MAX);
    if (!connection_is_open(t) || head.len == 0)
        return;
    if (t->held.len > 0 || !rekey_lets_send(t)) {
        buf_put_u32(&t->held, (uint32_t)(head.len + data.len));
        buf_put(&t->held, head);
        buf_put(&t->held, data);
    } else {
        send_now(t, head, data);
    }
    if (connection_is_open(t))
        after_send(t);
}

void send_held(struct transport *t)
{
    struct reader r = reader_of(buf_bytes(&t->held));
    struct bytes rest;

    while (r.left > 0 && connection_is_open(t) && rekey_lets_send(t))
        send_now(t, reader_string(&r), bytes_of(NULL, 0));
    rest = reader_rest(&r);
    if (rest.len == 0) {
        buf_clear_secret(&t->held);
    } else {
        memmove(t->held.data, rest.data, rest.len);
        t->held.len = rest.len;
    }
}

void transport_send(struct transport *t, struct bytes message)
{
    send_parts(t, message, bytes_of(NULL, 0));
}

void transport_send_data(struct transport *t, uint32_t recipient, uint32_t extended_type,
                         struct bytes data)
{
    uint8_t head[13] = {extended_type ? SSH2_MSG_CHANNEL_EXTENDED_DATA : SSH2_MSG_CHANNEL_DATA};
    uint32_t fields[3] = {recipient, extended_type, (uint32_t)data.len};
    size_t len = 1;

    for (size_t i = 0; i < 3; i++) {
        if (i == 1 && extended_type == 0)
            continue;
        for (int shift = 24; shift >= 0; shift -= 8)
            head[len++] = (uint8_t)(fields[i] >> shift);
    }
    send_parts(t, bytes_of(head, len), data);
}

void transport_send_auth_success(struct transport *t)
{
    static const uint8_t success = SSH2_MSG_USERAUTH_SUCCESS;

    transport_send(t, bytes_of(&success, 1));
}
