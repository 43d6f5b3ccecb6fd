#include "unit/conn/world.h"

#include "base/alloc.h"
#include "base/log.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

int world_setup(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));

    log_set_level(LOG_ERROR);
    w->loop = loop_new();
    w->control = fake_control_new();
    w->server = fake_server_new();
    w->settings = conn_defaults;
    *state = w;
    return 0;
}

int world_teardown(void **state)
{
    struct world *w = *state;

    conns_free(&w->conns);
    world_turn(w);
    assert_int_equal(fake_transports_alive(), 0);
    fake_control_free(&w->control);
    transport_server_free(&w->server);
    loop_free(&w->loop);
    free(w);
    return 0;
}

void world_turn(struct world *w)
{
    event_base_loop(loop_events(w->loop), EVLOOP_NONBLOCK);
}

static void on_login_over(void *owner, const struct address *peer, enum conn_login how)
{
    struct world *w = owner;

    assert_string_equal(peer->ip, "192.0.2.7");
    w->logins_over++;
    w->login = how;
}

static const struct conns_events events = {.login_over = on_login_over};

void world_connect(struct world *w)
{
    struct address peer = {.ip = "192.0.2.7", .port = 4711}, local = {.ip = "::1", .port = 22};

    if (w->conns == NULL)
        w->conns = conns_new(w->loop, w->control, w->server, &w->settings, &events, w);
    conns_accept(w->conns, -1, &peer, &local);
    w->t = fake_server_last(w->server);
}

void world_greet(struct world *w)
{
    world_connect(w);
    if (w->made != NULL)
        fake_answer(w->control, RPC_CONNECTION_MADE, &w->made->base);
    else
        fake_allow(w->control, RPC_CONNECTION_MADE);
    fake_exchange_keys(w->t);
    fake_deliver(w->t, 5, "s", "ssh-userauth");
    assert_true(fake_sent_is(w->t, 6, "s", "ssh-userauth"));
}

void world_ask_login(struct world *w, const char *user)
{
    fake_deliver(w->t, 50, "sssbs", user, "ssh-connection", "password", false, "secret");
    fake_begin_both(w->control);
    assert_non_null(fake_question(w->control, RPC_VALIDATE_PASSWORD));
}

void world_complete(struct world *w)
{
    world_greet(w);
    world_ask_login(w, "alice");
    fake_allow(w->control, RPC_VALIDATE_PASSWORD);
    assert_true(fake_sent_is(w->t, 52, ""));
}

void world_login(struct world *w)
{
    world_complete(w);
    fake_allow(w->control, RPC_AUTH_COMPLETED);
    assert_true(fake_sent_is(w->t, 80, "sbss", "hostkeys-00@openssh.com", false, FAKE_HOST_KEY,
                             FAKE_OTHER_HOST_KEY));
}

void world_wait_disconnect(struct world *w)
{
    while (!fake_disconnected(w->t).called)
        event_base_loop(loop_events(w->loop), EVLOOP_ONCE);
}

void expect_disconnect(struct world *w, uint32_t code, const char *reason)
{
    struct fake_disconnect disconnect = fake_disconnected(w->t);

    assert_true(disconnect.called);
    assert_int_equal(disconnect.code, code);
    assert_string_equal(disconnect.reason, reason);
}

const Policy__ConnectionLostRequest *world_end(struct world *w)
{
    size_t before = fake_reports(w->control, RPC_CONNECTION_LOST);

    world_turn(w);
    assert_int_equal(fake_pending(w->control), 0); /* all of it went silent at once */
    assert_int_equal(fake_streams(w->control), 0);
    assert_int_equal(fake_reports(w->control, RPC_CONNECTION_LOST), before);
    fake_flush_disconnect(w->t);
    world_turn(w);
    w->t = NULL;
    assert_int_equal(fake_reports(w->control, RPC_CONNECTION_LOST), before + 1);
    return fake_report(w->control, RPC_CONNECTION_LOST);
}
