/* How the end of a connection is told of to who limits sources. */
#include "unit/conn/world.h"

static void ends(struct world *w, enum conn_login how)
{
    assert_int_equal(w->logins_over, 0);
    world_end(w);
    assert_int_equal(w->logins_over, 1);
    assert_int_equal(w->login, how);
    w->logins_over = 0;
}

static void leaves(struct world *w, enum conn_login how)
{
    assert_int_equal(w->logins_over, 0);
    fake_end(w->t, TRANSPORT_END_EOF, 0, "the peer closed the connection");
    world_turn(w);
    assert_int_equal(w->logins_over, 1);
    assert_int_equal(w->login, how);
    w->logins_over = 0;
}

static void breaks(struct world *w, uint32_t code, enum conn_login how)
{
    fake_end(w->t, TRANSPORT_END_PROTOCOL, code, "broken");
    world_turn(w);
    assert_int_equal(w->logins_over, 1);
    assert_int_equal(w->login, how);
    w->logins_over = 0;
}

static void a_login_is_over_when_it_is_complete(void **state)
{
    struct world *w = *state;

    world_complete(w);
    assert_int_equal(w->logins_over, 0); /* AuthCompleted may still say no */
    fake_allow(w->control, RPC_AUTH_COMPLETED);
    assert_int_equal(w->logins_over, 1);
    assert_int_equal(w->login, CONN_LOGIN_DONE);
    fake_end(w->t, TRANSPORT_END_PROTOCOL, 2, "nonsense, but after login");
    world_turn(w);
    assert_int_equal(w->logins_over, 1);
}

static void who_leaves_without_trying_has_not_tried(void **state)
{
    struct world *w = *state;

    world_connect(w);
    leaves(w, CONN_LOGIN_NOT_TRIED);
    world_greet(w);
    leaves(w, CONN_LOGIN_NOT_TRIED);
    world_greet(w); /* "none" is no attempt */
    fake_deliver(w->t, 50, "sss", "alice", "ssh-connection", "none");
    fake_begin_both(w->control);
    leaves(w, CONN_LOGIN_NOT_TRIED);
}

static void a_failed_attempt_is_remembered(void **state)
{
    struct world *w = *state;

    world_greet(w);
    world_ask_login(w, "alice");
    fake_deny(w->control, RPC_VALIDATE_PASSWORD, "no");
    leaves(w, CONN_LOGIN_FAILED);
    w->settings.max_failures = 1;
    conns_free(&w->conns);
    world_turn(w);
    world_greet(w);
    world_ask_login(w, "alice");
    fake_deny(w->control, RPC_VALIDATE_PASSWORD, "no");
    ends(w, CONN_LOGIN_FAILED);
}

static void a_no_at_the_end_is_a_failed_login(void **state)
{
    struct world *w = *state;

    world_complete(w);
    fake_deny(w->control, RPC_AUTH_COMPLETED, "account closed");
    ends(w, CONN_LOGIN_FAILED);
}

static void nobody_is_blamed_for_a_policy_that_is_down(void **state)
{
    struct world *w = *state;

    world_connect(w);
    fake_fail(w->control, RPC_CONNECTION_MADE, UNAVAILABLE);
    fake_exchange_keys(w->t);
    ends(w, CONN_LOGIN_BLAMELESS);
    world_greet(w);
    fake_deliver(w->t, 50, "sss", "alice", "ssh-connection", "none");
    fake_fail(w->control, RPC_BEGIN_AUTH, EXPIRED);
    ends(w, CONN_LOGIN_BLAMELESS);
    world_greet(w);
    world_ask_login(w, "alice"); /* gives up while we wait */
    leaves(w, CONN_LOGIN_BLAMELESS);
    world_complete(w);
    fake_fail(w->control, RPC_AUTH_COMPLETED, UNAVAILABLE);
    ends(w, CONN_LOGIN_BLAMELESS);
}

static void nobody_is_blamed_for_our_shutdown(void **state)
{
    struct world *w = *state;

    world_greet(w);
    conns_disconnect_all(w->conns, "bye");
    ends(w, CONN_LOGIN_BLAMELESS);
    world_greet(w);
    conns_free(&w->conns);
    world_turn(w);
    assert_int_equal(w->logins_over, 1);
    assert_int_equal(w->login, CONN_LOGIN_BLAMELESS);
}

static void who_is_not_wanted_is_refused(void **state)
{
    struct world *w = *state;

    world_connect(w);
    fake_deny(w->control, RPC_CONNECTION_MADE, "not you");
    fake_exchange_keys(w->t);
    ends(w, CONN_LOGIN_REFUSED);
}

static void a_name_that_cannot_be_is_invalid(void **state)
{
    struct world *w = *state;

    world_greet(w);
    fake_deliver(w->t, 50, "sss", "\xff", "ssh-connection", "none");
    ends(w, CONN_LOGIN_INVALID_USER);
}

static void broken_packets_are_violations_and_broken_offers_are_not(void **state)
{
    struct world *w = *state;

    world_connect(w);
    breaks(w, 2, CONN_LOGIN_VIOLATION);
    world_greet(w);
    breaks(w, 5, CONN_LOGIN_VIOLATION);
    world_connect(w);
    breaks(w, 3, CONN_LOGIN_NOT_TRIED); /* no algorithm in common */
    world_connect(w);
    breaks(w, 8, CONN_LOGIN_NOT_TRIED); /* no SSH client at all */
    world_connect(w);
    fake_allow(w->control, RPC_CONNECTION_MADE);
    fake_exchange_keys(w->t); /* a login request before its service */
    fake_deliver(w->t, 50, "sss", "alice", "ssh-connection", "none");
    ends(w, CONN_LOGIN_VIOLATION);
}

static void the_deadline_blames_who_was_slow(void **state)
{
    struct world *w = *state;

    w->settings.login_timeout_ms = 20;
    world_greet(w);
    world_wait_disconnect(w);
    ends(w, CONN_LOGIN_TOO_SLOW);
    world_greet(w);
    world_ask_login(w, "alice"); /* the policy is */
    world_wait_disconnect(w);
    ends(w, CONN_LOGIN_BLAMELESS);
}

static void who_cannot_be_accepted_gives_the_place_back(void **state)
{
    struct world *w = *state;

    world_connect(w);
    leaves(w, CONN_LOGIN_NOT_TRIED);
    fake_server_refuse(w->server);
    world_connect(w);
    assert_int_equal(w->logins_over, 1);
    assert_int_equal(w->login, CONN_LOGIN_BLAMELESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(a_login_is_over_when_it_is_complete),
        world_test(who_leaves_without_trying_has_not_tried),
        world_test(a_failed_attempt_is_remembered),
        world_test(a_no_at_the_end_is_a_failed_login),
        world_test(nobody_is_blamed_for_a_policy_that_is_down),
        world_test(nobody_is_blamed_for_our_shutdown),
        world_test(who_is_not_wanted_is_refused),
        world_test(a_name_that_cannot_be_is_invalid),
        world_test(broken_packets_are_violations_and_broken_offers_are_not),
        world_test(the_deadline_blames_who_was_slow),
        world_test(who_cannot_be_accepted_gives_the_place_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
