/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is different where we are the client. libssh's own beginning is left out: it reads files of
 * whoever runs the daemon (known_hosts for what to offer, the home directory for keys) and needs a
 * descriptor. What it would have set up is set up here in the same way.
 */
#include "base/alloc.h"
#include "transport/connection.h"
#include "transport/version.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define LINES_MAX      1024        /* before the version line; as OpenSSH */
#define LINES_LEN_MAX  (64 * 1024) /* of all of them */
#define FIRST_LINE_MAX 200         /* of which so much is shown */

/* RFC 8308 section 2.1; OpenSSH PROTOCOL, strict key exchange. In this order libssh takes them off
 * again when it compares. */
#define FIRST_EXCHANGE_EXTRAS ",ext-info-c,kex-strict-c-v00@openssh.com"

/* Where libssh's client goes on after each step. It hands that out to its own connections only. */
static void (*client_step)(ssh_session);

/* ---- once */

/* As far as libssh goes without a peer, over a descriptor on which nothing happens. */
static void learn_step(ssh_session session, int fd, struct evbuffer *out)
{
    struct libssh_output before;
    bool no = false;
    char *name;

    ssh_set_blocking(session, 0);
    while ((name = ssh_list_pop_head(char *, session->opts.identity_non_exp)) != NULL)
        free(name);
    if (ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &no) < 0 ||
        ssh_options_set(session, SSH_OPTIONS_SSH_DIR, "/nonexistent") < 0 ||
        ssh_options_set(session, SSH_OPTIONS_USER, "nobody") < 0 ||
        ssh_options_set(session, SSH_OPTIONS_KNOWNHOSTS, "/dev/null") < 0 ||
        ssh_options_set(session, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null") < 0 ||
        ssh_options_set(session, SSH_OPTIONS_FD, &fd) < 0)
        return;
    before = libssh_output_to((struct libssh_output){session->socket, out});
    if (ssh_connect(session) == SSH_AGAIN)
        client_step = session->ssh_connection_callback;
    libssh_output_to(before);
}

bool client_global_init(void)
{
    ssh_session session;
    struct evbuffer *out;
    int fd;

    if (client_step != NULL)
        return true;
    ssh_set_log_level(SSH_LOG_NONE);
    session = ssh_new();
    out = evbuffer_new();
    fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (session != NULL && out != NULL && fd >= 0)
        learn_step(session, fd, out);
    ssh_free(session); /* closes the descriptor */
    if (out != NULL)
        evbuffer_free(out);
    return client_step != NULL;
}

/* ---- the beginning */

static bool start_session(struct transport *t)
{
    ssh_session session;

    ssh_set_log_level(SSH_LOG_NONE); /* of this thread */
    session = t->session = ssh_new();
    if (session == NULL)
        return false;
    ssh_set_blocking(session, 0);
    session->client = 1;
    session->alive = 1;
    session->opts.rsa_min_size = HOST_RSA_BITS_MIN;
    ssh_buffer_set_secure(session->out_buffer); /* passwords pass it where packets are not sealed */
    session->ssh_connection_callback = client_step;
    session->session_state = SSH_SESSION_STATE_SOCKET_CONNECTED;
    session->clientbanner = xasprintf("SSH-2.0-%s", t->server->bind->banner);
    rekey_configure(t);
    return evbuffer_add_printf(t->out, "%s\r\n", session->clientbanner) > 0;
}

struct transport *transport_connect(struct transport_server *server, int fd,
                                    const char *host_key_algorithms,
                                    const struct transport_events *events, void *owner)
{
    struct transport *t = connection_new(server, fd, events, owner);

    if (host_key_algorithms == NULL)
        host_key_algorithms = server->bind->wanted_methods[SSH_HOSTKEYS];
    t->client = xcalloc(1, sizeof(*t->client));
    t->client->offer = offer_host_keys_to_accept(host_key_algorithms);
    t->out = evbuffer_new();
    return connection_begin(t, t->client->offer != NULL && t->out != NULL && start_session(t));
}

void client_clear(struct transport *t)
{
    struct client_side *client = t->client;

    t->client = NULL;
    if (client == NULL)
        return;
    proof_free(&client->proof);
    buf_clear(&client->host_key);
    free(client->offer);
    free(client->first_line);
    free(client);
}

/* ---- the server's version line */

static void not_ssh(struct transport *t, const char *problem)
{
    char *reason = t->client->first_line
                       ? xasprintf("%s; it says: %s", problem, t->client->first_line)
                       : xstrdup(problem);

    connection_violation(t, SSH2_DISCONNECT_PROTOCOL_VERSION_NOT_SUPPORTED, reason);
    free(reason);
}

/* False: there have been too many. */
static bool skip_line(struct client_side *client, const struct version_line *other)
{
    client->lines++;
    client->line_len += other->consumed;
    if (client->first_line == NULL && other->line.len > 0)
        client->first_line = clean_text(other->line, FIRST_LINE_MAX);
    return client->lines <= LINES_MAX && client->line_len <= LINES_LEN_MAX;
}

size_t client_take_version(struct transport *t, struct bytes input)
{
    size_t done = 0;

    for (;;) {
        struct bytes rest = bytes_of(input.data + done, input.len - done);
        struct version_line version;

        switch (version_parse_server(rest, &version)) {
        case VERSION_INCOMPLETE:
            return done;
        case VERSION_REFUSED:
            not_ssh(t, version.problem);
            return done;
        case VERSION_OTHER_LINE:
            done += version.consumed;
            if (skip_line(t->client, &version))
                continue;
            not_ssh(t, "the server sends too much before its version line");
            return done;
        case VERSION_OK:
            t->session->serverbanner = bytes_to_string(version.line);
            input_begin_packets(t);
            return done + version.consumed;
        }
    }
}

char *client_eof_reason(const struct transport *t)
{
    if (t->phase != PHASE_VERSION)
        return xstrdup("the server closed the connection");
    if (t->client->first_line == NULL)
        return xstrdup("the server closed the connection without a version line");
    return xasprintf("the server closed the connection without a version line; it says: %s",
                     t->client->first_line);
}

/* ---- what we offer */

void client_offer(struct transport *t)
{
    ssh_session session = t->session;
    char **wanted = t->server->bind->wanted_methods;
    struct ssh_kex_struct *offer;

    if (session->next_crypto == NULL || session->next_crypto->client_kex.methods[0] != NULL)
        return; /* libssh, too, takes what is there */
    offer = &session->next_crypto->client_kex;
    if (!ssh_get_random(offer->cookie, sizeof(offer->cookie), 0))
        abort(); /* no random bytes: nothing can be encrypted */
    offer->methods[SSH_KEX] =
        xasprintf("%s%s", t->server->client_kex, t->keys ? "" : FIRST_EXCHANGE_EXTRAS);
    offer->methods[SSH_HOSTKEYS] = xstrdup(t->client->offer);
    for (int i = SSH_CRYPT_C_S; i <= SSH_MAC_S_C; i++)
        offer->methods[i] = xstrdup(wanted[i]);
    for (int i = SSH_COMP_C_S; i <= SSH_COMP_S_C; i++)
        offer->methods[i] = xstrdup("none");
    for (int i = SSH_LANG_C_S; i <= SSH_LANG_S_C; i++)
        offer->methods[i] = xstrdup("");
}

/* A rekey is to prove the same key, so a server with several is asked for that one. */
void client_first_keys(struct transport *t)
{
    free(t->client->offer);
    t->client->offer = xstrdup(t->session->current_crypto->kex_methods[SSH_HOSTKEYS]);
}

/* ---- login */

/* libssh's handler of the message, without what only its own authentication needs. */
void transport_auth_succeeded(struct transport *t)
{
    assert(t->client != NULL);
    if (!connection_is_open(t) || !t->keys)
        return;
    if (t->session->session_state == SSH_SESSION_STATE_AUTHENTICATING)
        t->session->session_state = SSH_SESSION_STATE_AUTHENTICATED;
    t->session->flags |= SSH_SESSION_FLAG_AUTHENTICATED;
}
