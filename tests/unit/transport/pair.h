/*
 * A transport on one end of a socket pair, and on the other end a client that is libssh without a
 * descriptor: it can exchange keys, send any message at any time, and have its bytes damaged on the
 * way.
 */
#ifndef PARLEY_TESTS_TRANSPORT_PAIR_H
#define PARLEY_TESTS_TRANSPORT_PAIR_H

#include "side.h"

#include "transport/libssh.h"
#include "transport/output.h"

#include <errno.h>
#include <event2/buffer.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

/* ---- the client's side */

struct client {
    int fd;
    ssh_session session; /* NULL: raw bytes only */
    int idle_fd;
    struct evbuffer *out;
    struct buf in;
    uint64_t sent;
    uint64_t flip_at; /* this byte of what is sent is damaged; 0: none */
    size_t chunk;     /* at most so many bytes a write; 0: all */
    unsigned seen[256];
};

static int on_client_message(ssh_session session, uint8_t type, ssh_buffer packet, void *user)
{
    struct client *client = user;

    (void)session;
    (void)packet;
    client->seen[type]++;
    /* What libssh's client handles itself: keys, and a DISCONNECT. */
    return type >= SSH2_MSG_KEXINIT && type < SSH2_MSG_USERAUTH_REQUEST ? SSH_PACKET_NOT_USED
                                                                        : SSH_PACKET_USED;
}

static ssh_packet_callback client_handlers[255];
static struct ssh_packet_callbacks_struct client_callbacks;

static void client_write(struct client *c)
{
    size_t len = evbuffer_get_length(c->out);
    uint8_t *data;
    ssize_t written;

    if (len == 0)
        return;
    if (c->chunk > 0 && len > c->chunk)
        len = c->chunk;
    data = evbuffer_pullup(c->out, (ev_ssize_t)len);
    if (c->flip_at > c->sent && c->flip_at <= c->sent + len) {
        data[c->flip_at - c->sent - 1] ^= 0x10;
        c->flip_at = 0;
    }
    written = send(c->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written > 0) {
        evbuffer_drain(c->out, (size_t)written);
        c->sent += (uint64_t)written;
    } else if (errno != EAGAIN) {
        evbuffer_drain(c->out, len); /* the server has gone */
    }
}

static void client_feed(struct client *c)
{
    struct libssh_output before;
    size_t done = 0, used;

    if (c->session == NULL)
        return;
    before = libssh_output_to((struct libssh_output){c->session->socket, c->out});
    while (done < c->in.len && c->session->session_state != SSH_SESSION_STATE_ERROR) {
        used = c->session->socket_callbacks.data(c->in.data + done, c->in.len - done, c->session);
        if (used == 0)
            break;
        done += used;
    }
    libssh_output_to(before);
    memmove(c->in.data, c->in.data + done, c->in.len - done);
    c->in.len -= done;
}

static void client_turn(struct client *c)
{
    uint8_t data[65536];
    ssize_t got;

    client_write(c);
    while ((got = recv(c->fd, data, sizeof(data), MSG_DONTWAIT)) > 0)
        buf_put(&c->in, bytes_of(data, (size_t)got));
    if (c->in.len > 0)
        client_feed(c);
    client_write(c);
}

static void client_send(struct client *c, struct bytes message)
{
    struct libssh_output before =
        libssh_output_to((struct libssh_output){c->session->socket, c->out});

    ssh_buffer_reinit(c->session->out_buffer);
    ssh_buffer_add_data(c->session->out_buffer, message.data, (uint32_t)message.len);
    ssh_packet_send(c->session);
    libssh_output_to(before);
}

static void client_send_type(struct client *c, uint8_t type)
{
    uint8_t message[32] = {type};

    client_send(c, bytes_of(message, sizeof(message)));
}

/* ---- both */

struct pair {
    struct transport_server *server;
    struct side side;
    struct client client;
};

static void turns(struct pair *p, int count)
{
    for (int i = 0; i < count; i++) {
        client_turn(&p->client);
        event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
    }
}

/* Until the condition holds; the deadline is for a machine that has other work. */
#define wait_for(p, condition)                                                                     \
    do {                                                                                           \
        uint64_t until = clock_ms() + 20000;                                                       \
        while (!(condition) && clock_ms() < until)                                                 \
            turns(p, 1);                                                                           \
        assert_true(condition);                                                                    \
    } while (0)

/* With a server that pair_close() frees, too. */
static void pair_open_on(struct pair *p, struct transport_server *server)
{
    int fds[2];

    memset(p, 0, sizeof(*p));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    p->server = server;
    p->side.transport = transport_accept(p->server, fds[0], &side_events, &p->side);
    assert_non_null(p->side.transport);
    p->client.fd = fds[1];
    p->client.idle_fd = -1;
    p->client.out = evbuffer_new();
}

static void pair_open(struct pair *p, const struct transport_settings *wanted)
{
    pair_open_on(p, server_for_pairs(wanted));
}

/* Begins the client's half; compression and RSA limits are libssh's defaults. */
static void client_start(struct pair *p, const char *cipher, const char *mac,
                         const char *compression)
{
    struct client *c = &p->client;
    struct libssh_output before;
    bool no = false;

    for (size_t i = 0; i < 255; i++)
        client_handlers[i] = on_client_message;
    client_callbacks = (struct ssh_packet_callbacks_struct){
        .start = 1, .n_callbacks = 255, .callbacks = client_handlers, .user = c};
    c->idle_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    c->session = ssh_new();
    ssh_set_blocking(c->session, 0);
    ssh_options_set(c->session, SSH_OPTIONS_PROCESS_CONFIG, &no);
    ssh_options_set(c->session, SSH_OPTIONS_HOST, "test");
    ssh_options_set(c->session, SSH_OPTIONS_USER, "test");
    ssh_options_set(c->session, SSH_OPTIONS_KNOWNHOSTS, "/dev/null");
    ssh_options_set(c->session, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null");
    ssh_options_set(c->session, SSH_OPTIONS_KEY_EXCHANGE, "curve25519-sha256");
    ssh_options_set(c->session, SSH_OPTIONS_CIPHERS_C_S, cipher);
    ssh_options_set(c->session, SSH_OPTIONS_CIPHERS_S_C, cipher);
    ssh_options_set(c->session, SSH_OPTIONS_HMAC_C_S, mac ? mac : "hmac-sha2-256");
    ssh_options_set(c->session, SSH_OPTIONS_HMAC_S_C, mac ? mac : "hmac-sha2-256");
    if (compression != NULL)
        ssh_options_set(c->session, SSH_OPTIONS_COMPRESSION, compression);
    ssh_options_set(c->session, SSH_OPTIONS_FD, &c->idle_fd);
    ssh_packet_set_callbacks(c->session, &client_callbacks);
    before = libssh_output_to((struct libssh_output){c->session->socket, c->out});
    ssh_connect(c->session);
    libssh_output_to(before);
}

static void pair_exchange_keys(struct pair *p, const char *cipher, const char *mac)
{
    client_start(p, cipher, mac, NULL);
    wait_for(p, p->side.keys == 1 && p->client.seen[SSH2_MSG_EXT_INFO] == 1 &&
                    p->client.session->session_state == SSH_SESSION_STATE_AUTHENTICATING);
}

static void pair_close(struct pair *p)
{
    transport_free(&p->side.transport);
    if (p->client.session != NULL)
        ssh_free(p->client.session); /* closes idle_fd */
    close(p->client.fd);
    evbuffer_free(p->client.out);
    buf_clear(&p->client.in);
    buf_clear(&p->side.last);
    transport_server_free(&p->server);
    for (int i = 0; i < 3; i++) /* deferred frees */
        event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
}

#endif
