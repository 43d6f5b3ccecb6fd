#include "unit/endpoints/link_world.h"

#include "base/alloc.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct asker_events asker_events;

void link_world_put_host(struct buf *out, const char *marker, const char *name, const char *key)
{
    unsigned char text[512];
    const char *colon = strchr(key, ':');
    char *line;

    assert_true(colon != NULL && strlen(key) < sizeof(text) / 2);
    EVP_EncodeBlock(text, (const unsigned char *)key, (int)strlen(key));
    line = xasprintf("%s%s %.*s %s\n", marker, name, (int)(colon - key), key, (char *)text);
    buf_put(out, bytes_of_string(line));
    free(line);
}

static int no_agent(void *owner)
{
    (void)owner;
    return -1;
}

static void listen_somewhere(struct link_world *w)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);

    w->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(w->listener, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(w->listener, 64), 0);
    assert_int_equal(getsockname(w->listener, (struct sockaddr *)&at, &len), 0);
    w->port = ntohs(at.sin_port);
}

static void fill_hop(Policy__UpstreamHop *hop, char *host, uint16_t port, struct buf *known_hosts)
{
    policy__upstream_hop__init(hop);
    hop->host = host;
    hop->port = port;
    hop->user = "alice";
    hop->credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PASSWORD;
    hop->password = "tiger";
    hop->known_hosts = (ProtobufCBinaryData){known_hosts->len, known_hosts->data};
}

static void fill_answers(struct link_world *w)
{
    char *name = xasprintf("[127.0.0.1]:%u", (unsigned)w->port);

    link_world_put_host(&w->known_hosts, "", name, HOST_KEY);
    link_world_put_host(&w->inner_known_hosts, "", "inner.example.org", INNER_KEY);
    free(name);
    fill_hop(&w->first, "127.0.0.1", w->port, &w->known_hosts);
    fill_hop(&w->second, "inner.example.org", 0, &w->inner_known_hosts);
    w->hops[0] = &w->first;
    w->hops[1] = &w->second;
    policy__upstream_endpoint__init(&w->answer);
    policy__upstream_endpoint__init(&w->both);
    w->answer.hops = w->both.hops = w->hops;
    w->answer.n_hops = 1;
    w->both.n_hops = 2;
}

int link_world_set_up(void **state)
{
    struct link_world *w = xcalloc(1, sizeof(*w));

    log_set_level(LOG_ERROR);
    w->loop = loop_new();
    w->control = fake_control_new();
    w->asker = asker_new(w->control, w->loop, &asker_events, w);
    asker_set_user(w->asker, BYTES("alice"));
    w->server = fake_server_new();
    w->helpers = helpers_new(1, 1);
    w->dial.helpers = w->helpers;
    w->settings = (struct upstream_settings){.server = w->server, .dial = &w->dial};
    listen_somewhere(w);
    fill_answers(w);
    link_world_renew(w);
    *state = w;
    return 0;
}

void link_world_renew(struct link_world *w)
{
    upstreams_free(&w->upstreams);
    w->upstreams = upstreams_new(w->asker, &w->settings, no_agent, w);
}

void link_world_turn(struct link_world *w)
{
    for (int i = 0; i < 6; i++)
        event_base_loop(loop_events(w->loop), EVLOOP_NONBLOCK);
}

int link_world_tear_down(void **state)
{
    struct link_world *w = *state;

    upstreams_free(&w->upstreams);
    link_world_turn(w);
    assert_int_equal(fake_transports_alive(), 0);
    assert_int_equal(fake_private_keys_alive(), 0);
    close(w->listener);
    transport_server_free(&w->server);
    helpers_free(&w->helpers);
    asker_free(&w->asker);
    fake_control_free(&w->control);
    loop_free(&w->loop);
    buf_clear(&w->known_hosts);
    buf_clear(&w->inner_known_hosts);
    free(w);
    return 0;
}

const char *link_world_words(const struct link_world *w, const char *words)
{
    static char text[512];

    snprintf(text, sizeof(text), "[127.0.0.1]:%u: %s", (unsigned)w->port, words);
    return text;
}

/* ---- servers */

struct transport *link_world_reached(struct link_world *w)
{
    uint64_t until = clock_ms() + 20000;

    while ((w->last = fake_server_take(w->server)) == NULL && clock_ms() < until)
        link_world_turn(w);
    assert_non_null(w->last);
    return w->last;
}

void link_world_trust(struct transport *t, const char *key)
{
    assert_int_equal(fake_sent_waiting(t), 0);
    fake_set_host_key(t, bytes_of_string(key));
    fake_exchange_keys(t);
}

struct transport *link_world_log_in(struct link_world *w, const char *key)
{
    struct transport *t = link_world_reached(w);

    link_world_trust(t, key);
    assert_true(fake_sent_is(t, 5, "s", "ssh-userauth"));
    fake_deliver(t, 6, "s", "ssh-userauth");
    assert_true(fake_sent_is(t, 50, "sssbs", "alice", "ssh-connection", "password", 0, "tiger"));
    fake_deliver(t, 52, "");
    assert_true(fake_auth_succeeded(t));
    link_world_turn(w);
    return t;
}

/* ---- users */

static void on_ready(void *owner, struct mux *mux)
{
    struct link_user *user = owner;

    assert_int_equal(user->ready + user->failed, 0);
    user->ready++;
    user->mux = mux;
}

static void on_failed(void *owner, const char *why)
{
    struct link_user *user = owner;

    assert_int_equal(user->ready + user->failed, 0);
    user->failed++;
    user->why = xstrdup(why);
    user->use = NULL;
    if (user->again != NULL)
        link_user_begin(user->world, user->again, &user->world->answer);
}

void link_user_begin(struct link_world *w, struct link_user *user,
                     const Policy__UpstreamEndpoint *answer)
{
    static const struct link_events events = {on_ready, on_failed};

    user->world = w;
    user->use = link_use(w->upstreams, answer, &events, user);
    assert_int_equal(user->ready + user->failed, 0);
}

void link_user_clear(struct link_user *user)
{
    link_release(&user->use);
    free(user->why);
    *user = (struct link_user){0};
}

void link_user_expect_failed(struct link_user *user, const char *why)
{
    assert_int_equal(user->ready, 0);
    assert_int_equal(user->failed, 1);
    assert_string_equal(user->why, why);
    link_user_clear(user);
}
