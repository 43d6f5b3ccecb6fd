/* ConnectionMade beside the key exchange, and messages out of their time. */
#include "unit/conn/world.h"

#include <string.h>

static void connection_made_is_asked_at_accept(void **state)
{
    struct world *w = *state;
    const Policy__ConnectionMadeRequest *question;

    world_connect(w);
    question = fake_question(w->control, RPC_CONNECTION_MADE);
    assert_string_equal(question->context->peer->ip, "192.0.2.7");
    assert_int_equal(question->context->local->port, 22);
    assert_string_equal(question->context->client_version, "");
    assert_int_equal(conns_count(w->conns), 1);
}

static void nothing_is_answered_before_connection_made_is(void **state)
{
    struct world *w = *state;
    const Policy__BeginAuthRequest *question;

    world_connect(w);
    fake_exchange_keys(w->t);
    assert_int_equal(fake_paused(w->t), 1);
    fake_deliver(w->t, 5, "s", "ssh-userauth");
    assert_int_equal(fake_sent_waiting(w->t), 0);
    fake_allow(w->control, RPC_CONNECTION_MADE);
    assert_int_equal(fake_paused(w->t), 0);
    fake_transport_turn(w->t);
    assert_true(fake_sent_is(w->t, 6, "s", "ssh-userauth"));
    fake_deliver(w->t, 50, "sss", "alice", "ssh-connection", "none");
    question = fake_question(w->control, RPC_BEGIN_AUTH);
    assert_string_equal(question->context->client_version, "SSH-2.0-Fake_1.0");
    assert_int_equal(question->context->session_id.len, strlen(FAKE_SESSION_ID));
}

static void an_absent_handler_allows(void **state)
{
    struct world *w = *state;

    world_connect(w);
    fake_fail(w->control, RPC_CONNECTION_MADE, ABSENT);
    fake_exchange_keys(w->t);
    assert_int_equal(fake_paused(w->t), 0);
    assert_false(fake_disconnected(w->t).called);
}

static void a_denial_waits_for_the_keys(void **state)
{
    struct world *w = *state;
    const Policy__ConnectionLostRequest *lost;

    world_connect(w);
    fake_deny(w->control, RPC_CONNECTION_MADE, "not from there");
    world_turn(w);
    assert_false(fake_disconnected(w->t).called);
    fake_exchange_keys(w->t);
    expect_disconnect(w, 11, "not from there");
    lost = world_end(w);
    assert_true(lost->clean);
    assert_int_equal(lost->disconnect_code, 11);
    assert_string_equal(lost->reason, "not from there");
}

static void a_denial_after_the_keys_ends_at_once(void **state)
{
    struct world *w = *state;

    world_connect(w);
    fake_exchange_keys(w->t);
    fake_deliver(w->t, 5, "s", "ssh-userauth");
    fake_deny(w->control, RPC_CONNECTION_MADE, "");
    expect_disconnect(w, 11, "Connection refused");
    fake_transport_turn(w->t);
    assert_int_equal(fake_sent_waiting(w->t), 0);
    world_end(w);
}

static void no_answer_refuses(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < 3; i++) {
        world_connect(w);
        if (i == 0)
            fake_fail(w->control, RPC_CONNECTION_MADE, UNAVAILABLE);
        else if (i == 1)
            fake_fail(w->control, RPC_CONNECTION_MADE, EXPIRED);
        else
            fake_answer_wire(w->control, RPC_CONNECTION_MADE, BYTES(""));
        fake_exchange_keys(w->t);
        expect_disconnect(w, 11, "Connection refused: the policy service gave no answer");
        world_end(w);
    }
}

static void send_disconnect_order(struct world *w, enum rpc rpc)
{
    Policy__ConnectionMadeAnswer made = POLICY__CONNECTION_MADE_ANSWER__INIT;
    Policy__BeginAuthAnswer begin = POLICY__BEGIN_AUTH_ANSWER__INIT;
    Policy__AuthCompletedAnswer completed = POLICY__AUTH_COMPLETED_ANSWER__INIT;
    Policy__Allow allow = POLICY__ALLOW__INIT;
    Policy__Common common = POLICY__COMMON__INIT;
    Policy__Disconnect disconnect = POLICY__DISCONNECT__INIT;

    disconnect.reason = "go away";
    disconnect.code = rpc == RPC_BEGIN_AUTH ? 12 : 0;
    common.disconnect = &disconnect;
    made.common = begin.common = completed.common = &common;
    made.outcome_case = POLICY__CONNECTION_MADE_ANSWER__OUTCOME_ALLOW;
    completed.outcome_case = POLICY__AUTH_COMPLETED_ANSWER__OUTCOME_ALLOW;
    made.allow = completed.allow = &allow;
    begin.requirement = POLICY__REQUIREMENT__REQUIREMENT_NOT_REQUIRED;
    if (rpc == RPC_CONNECTION_MADE)
        fake_answer(w->control, rpc, &made.base);
    else if (rpc == RPC_BEGIN_AUTH)
        fake_answer(w->control, rpc, &begin.base);
    else
        fake_answer(w->control, rpc, &completed.base);
}

static void an_ordered_disconnect_outdoes_the_answer(void **state)
{
    struct world *w = *state;

    world_connect(w); /* before the keys */
    send_disconnect_order(w, RPC_CONNECTION_MADE);
    expect_disconnect(w, 11, "go away");
    world_end(w);
    world_greet(w);
    fake_deliver(w->t, 50, "sss", "alice", "ssh-connection", "none");
    send_disconnect_order(w, RPC_BEGIN_AUTH);
    expect_disconnect(w, 12, "go away");
    assert_false(fake_auth_success_sent(w->t));
    world_end(w);
    world_complete(w);
    send_disconnect_order(w, RPC_AUTH_COMPLETED);
    expect_disconnect(w, 11, "go away");
    world_end(w);
}

static void a_greetings_banner_comes_with_the_first_reply(void **state)
{
    struct world *w = *state;
    Policy__ConnectionMadeAnswer made = POLICY__CONNECTION_MADE_ANSWER__INIT;
    Policy__Allow allow = POLICY__ALLOW__INIT;
    Policy__Common common = POLICY__COMMON__INIT;
    Policy__Banner banner = POLICY__BANNER__INIT;

    banner.text = "welcome";
    common.banner = &banner;
    made.common = &common;
    made.outcome_case = POLICY__CONNECTION_MADE_ANSWER__OUTCOME_ALLOW;
    made.allow = &allow;
    world_connect(w);
    fake_answer(w->control, RPC_CONNECTION_MADE, &made.base);
    fake_exchange_keys(w->t);
    assert_int_equal(fake_sent_waiting(w->t), 0);
    fake_deliver(w->t, 5, "s", "ssh-userauth");
    assert_true(fake_sent_is(w->t, 6, "s", "ssh-userauth"));
    fake_deliver(w->t, 50, "sss", "alice", "ssh-connection", "none");
    fake_begin_both(w->control);
    assert_true(fake_sent_is(w->t, 53, "ss", "welcome\r\n", ""));
}

/* T5, T6 */
static void connection_messages_before_login_reach_nobody(void **state)
{
    struct world *w = *state;

    for (int type = 80; type <= 100; type++) {
        world_greet(w);
        fake_deliver(w->t, (uint8_t)type, "suuu", "session", 0, 1000, 1000);
        assert_true(fake_has_ended(w->t));
        world_turn(w);
    }
    assert_int_equal(fake_asked(w->control, RPC_SESSION_REQUESTED), 0);
    assert_int_equal(conns_count(w->conns), 0);
}

static void messages_out_of_order_disconnect(void **state)
{
    struct world *w = *state;

    world_connect(w); /* the keys are missing: a transport would not let it through */
    fake_deliver(w->t, 5, "s", "ssh-userauth");
    expect_disconnect(w, 2, "Message out of order");
    world_end(w);
}

static void numbers_of_nobody_are_not_understood(void **state)
{
    struct world *w = *state;

    world_login(w);
    fake_deliver(w->t, 7, "u", 0); /* EXT_INFO */
    assert_int_equal(fake_not_understood(w->t), 0);
    fake_deliver(w->t, 128, "");
    fake_deliver(w->t, 255, "");
    fake_deliver(w->t, 192, "s", "ping");
    assert_int_equal(fake_not_understood(w->t), 3);
    assert_false(fake_disconnected(w->t).called);
}

static void debug_messages_are_reported_up_to_a_limit(void **state)
{
    struct world *w = *state;
    const Policy__DebugMsgReceivedRequest *report;

    world_connect(w);
    for (int i = 0; i < 20; i++)
        fake_deliver(w->t, 4, "bss", true, "hello", "en");
    assert_int_equal(fake_reports(w->control, RPC_DEBUG_MSG_RECEIVED), 16);
    report = fake_report(w->control, RPC_DEBUG_MSG_RECEIVED);
    assert_string_equal(report->message, "hello");
    assert_true(report->always_display);
    fake_end(w->t, TRANSPORT_END_EOF, 0, "closed");
    world_turn(w);
    world_connect(w);
    fake_deliver(w->t, 4, "bSs", true, BYTES("a\0b"), "en");
    fake_deliver(w->t, 4, "bSs", true, BYTES("\xff"), "en");
    fake_deliver(w->t, 4, "bs", true, "cut");
    assert_int_equal(fake_reports(w->control, RPC_DEBUG_MSG_RECEIVED), 16);
    assert_false(fake_disconnected(w->t).called);
}

static void debug_messages_trickle_after_login(void **state)
{
    struct world *w = *state;
    size_t reports;
    uint64_t began = clock_ms();

    world_login(w);
    for (int i = 0; i < 2000; i++)
        fake_deliver(w->t, 4, "bss", false, "hello", "");
    reports = fake_reports(w->control, RPC_DEBUG_MSG_RECEIVED);
    assert_in_range(reports, 256, 256 + 1 + (clock_ms() - began) / 100);
    while (fake_reports(w->control, RPC_DEBUG_MSG_RECEIVED) < reports + 2)
        fake_deliver(w->t, 4, "bss", false, "hello", "");
    assert_in_range(clock_ms() - began, 100, 60000);
}

static void a_failing_accept_leaves_nothing(void **state)
{
    struct world *w = *state;

    fake_server_refuse(w->server);
    world_connect(w);
    assert_null(w->t);
    assert_int_equal(conns_count(w->conns), 0);
    assert_int_equal(fake_asked(w->control, RPC_COUNT), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(connection_made_is_asked_at_accept),
        world_test(nothing_is_answered_before_connection_made_is),
        world_test(an_absent_handler_allows),
        world_test(a_denial_waits_for_the_keys),
        world_test(a_denial_after_the_keys_ends_at_once),
        world_test(no_answer_refuses),
        world_test(an_ordered_disconnect_outdoes_the_answer),
        world_test(a_greetings_banner_comes_with_the_first_reply),
        world_test(connection_messages_before_login_reach_nobody),
        world_test(messages_out_of_order_disconnect),
        world_test(numbers_of_nobody_are_not_understood),
        world_test(debug_messages_are_reported_up_to_a_limit),
        world_test(debug_messages_trickle_after_login),
        world_test(a_failing_accept_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
