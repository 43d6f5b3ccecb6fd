/*
 * Our client, and on the other end of a wire our server, or whatever the test writes there. The
 * wire can be held, cut into pieces, and damaged.
 */
#ifndef PARLEY_TESTS_TRANSPORT_ENDS_H
#define PARLEY_TESTS_TRANSPORT_ENDS_H

#pragma GCC diagnostic ignored "-Wunused-function" /* not every program needs all */

#include "side.h"

#include "transport/connection.h"

#include <event2/buffer.h>
#include <sys/socket.h>

/* One direction. */
struct strand {
    int from, to;
    struct evbuffer *bytes;
    uint64_t passed;
    uint64_t flip_at; /* this byte is damaged; 0: none */
    size_t chunk;     /* at most so many bytes a turn; 0: all */
    bool held;
};

struct ends {
    struct transport_server *worker, *far; /* of the client, of the server */
    struct side client, server;
    struct strand down, up; /* to the client, to the server */
    int fds[2];             /* the wire's; [1] is the server's end */
    bool silent;            /* the client does not notice that it is logged in */
};

static bool on_server_said(void *owner, uint8_t type, struct bytes message)
{
    struct ends *ends = owner;

    if (type == SSH2_MSG_USERAUTH_SUCCESS && !ends->silent)
        transport_auth_succeeded(ends->client.transport);
    return on_message(&ends->client, type, message);
}

static void on_client_keys(void *owner)
{
    struct ends *ends = owner;

    on_keys(&ends->client);
}

static void on_client_writable(void *owner)
{
    struct ends *ends = owner;

    on_writable(&ends->client);
}

static void on_client_ended(void *owner, const struct transport_end *end)
{
    struct ends *ends = owner;

    on_ended(&ends->client, end);
}

static const struct transport_events client_events = {on_client_keys, on_server_said,
                                                      on_client_writable, on_client_ended};

static void strand_turn(struct strand *s)
{
    uint8_t data[65536];
    size_t len;
    ssize_t done;

    while (!s->held && (done = recv(s->from, data, sizeof(data), MSG_DONTWAIT)) > 0)
        evbuffer_add(s->bytes, data, (size_t)done);
    len = evbuffer_get_length(s->bytes);
    if (s->held || len == 0)
        return;
    len = s->chunk > 0 && s->chunk < len ? s->chunk : len;
    if (s->flip_at > s->passed && s->flip_at <= s->passed + len)
        evbuffer_pullup(s->bytes, (ev_ssize_t)len)[s->flip_at - s->passed - 1] ^= 0x10;
    done =
        send(s->to, evbuffer_pullup(s->bytes, (ev_ssize_t)len), len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done > 0) {
        evbuffer_drain(s->bytes, (size_t)done);
        s->passed += (uint64_t)done;
    }
}

static void turns(struct ends *e, int count)
{
    for (int i = 0; i < count; i++) {
        strand_turn(&e->up);
        strand_turn(&e->down);
        event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
    }
}

/* Until the condition holds; the deadline is for a machine that has other work. */
#define wait_for(e, condition)                                                                     \
    do {                                                                                           \
        uint64_t until = clock_ms() + 20000;                                                       \
        while (!(condition) && clock_ms() < until)                                                 \
            turns(e, 1);                                                                           \
        assert_true(condition);                                                                    \
    } while (0)

/* A client; what it reads the test writes to `down`. */
static void ends_open_half(struct ends *e, struct transport_server *worker, const char *algorithms)
{
    int near[2];

    memset(e, 0, sizeof(*e));
    e->worker = worker;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, near), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, e->fds), 0);
    e->up = (struct strand){.from = near[1], .to = e->fds[0], .bytes = evbuffer_new()};
    e->down = (struct strand){.from = e->fds[0], .to = near[1], .bytes = evbuffer_new()};
    e->client.transport = transport_connect(worker, near[0], algorithms, &client_events, e);
    assert_non_null(e->client.transport);
}

static void ends_open_on(struct ends *e, struct transport_server *worker,
                         struct transport_server *far)
{
    ends_open_half(e, worker, NULL);
    e->far = far;
    e->server.transport = transport_accept(far, e->fds[1], &side_events, &e->server);
    assert_non_null(e->server.transport);
    e->fds[1] = -1;
}

static void ends_open(struct ends *e, const struct transport_settings *client,
                      const struct transport_settings *server)
{
    ends_open_on(e, server_for_pairs(client), server_for_pairs(server));
}

static void ends_exchange_keys(struct ends *e)
{
    wait_for(e, e->client.keys == 1 && e->server.keys == 1);
}

/* What the server sends, whatever it is. */
static void server_sends(struct ends *e, struct bytes message)
{
    transport_send(e->server.transport, message);
}

static void ends_log_in(struct ends *e)
{
    transport_send(e->client.transport, BYTES("\x05"));
    wait_for(e, e->server.messages == 1);
    server_sends(e, BYTES("\x06"));
    transport_send_auth_success(e->server.transport);
    wait_for(e, e->client.last_type == SSH2_MSG_USERAUTH_SUCCESS);
}

/* Whoever it is asks for new keys now. */
static void begin_rekey(struct transport *t)
{
    struct libssh_output before = connection_enter(t);

    assert_int_equal(ssh_send_rekex(t->session), SSH_OK);
    connection_leave(before);
    rekey_watch(t);
    connection_turn_later(t);
}

/* ---- a server that is only bytes */

static void put_clear_packet(struct buf *out, struct bytes payload)
{
    size_t padding = 4 + (8 - (payload.len + 5 + 4) % 8) % 8;

    buf_put_u32(out, (uint32_t)(1 + payload.len + padding));
    buf_put_u8(out, (uint8_t)padding);
    buf_put(out, payload);
    while (padding-- > 0)
        buf_put_u8(out, 0);
}

static void put_kexinit(struct buf *out, const char *kex, const char *host_key)
{
    const char *const lists[] = {kex,
                                 host_key,
                                 "chacha20-poly1305@openssh.com",
                                 "chacha20-poly1305@openssh.com",
                                 "hmac-sha2-256",
                                 "hmac-sha2-256",
                                 "none",
                                 "none",
                                 "",
                                 ""};
    struct buf message = {0};

    buf_put_u8(&message, SSH2_MSG_KEXINIT);
    for (int i = 0; i < 16; i++)
        buf_put_u8(&message, (uint8_t)i);
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        buf_put_cstring(&message, lists[i]);
    buf_put_bool(&message, false);
    buf_put_u32(&message, 0);
    put_clear_packet(out, buf_bytes(&message));
    buf_clear(&message);
}

/* Bytes to a client of ends_open_half(). */
static void write_down(struct ends *e, struct bytes bytes)
{
    evbuffer_add(e->down.bytes, bytes.data, bytes.len);
}

/* The workers, too. */
static void ends_close(struct ends *e)
{
    transport_free(&e->client.transport);
    transport_free(&e->server.transport);
    close(e->down.to);
    close(e->fds[0]);
    if (e->fds[1] >= 0)
        close(e->fds[1]);
    evbuffer_free(e->up.bytes);
    evbuffer_free(e->down.bytes);
    buf_clear(&e->client.last);
    buf_clear(&e->server.last);
    transport_server_free(&e->worker);
    transport_server_free(&e->far);
    for (int i = 0; i < 3; i++) /* deferred frees */
        event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
}

#endif
