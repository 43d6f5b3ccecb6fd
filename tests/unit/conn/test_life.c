/* Login, deadlines, the end and its one report. */
#include "unit/conn/world.h"

#include <string.h>

/* ---- login to channels */

static void rooms_open_when_auth_completed_allows(void **state)
{
    struct world *w = *state;

    world_complete(w);
    fake_deliver(w->t, 90, "suuu", "session", 3, 1000, 1000); /* waits unread */
    assert_int_equal(fake_asked(w->control, RPC_SESSION_REQUESTED), 0);
    fake_allow(w->control, RPC_AUTH_COMPLETED);
    fake_transport_turn(w->t);
    assert_int_equal(fake_asked(w->control, RPC_SESSION_REQUESTED), 1);
}

static void a_late_no_reaches_what_was_pipelined(void **state)
{
    struct world *w = *state;

    world_complete(w);
    fake_deliver(w->t, 90, "suuu", "session", 3, 1000, 1000);
    fake_deny(w->control, RPC_AUTH_COMPLETED, "account closed");
    expect_disconnect(w, 11, "account closed");
    fake_transport_turn(w->t);
    world_end(w);
    assert_int_equal(fake_asked(w->control, RPC_SESSION_REQUESTED), 0);
}

static void the_grant_rules_the_channels(void **state)
{
    struct world *w = *state;
    Policy__AuthCompletedAnswer answer = POLICY__AUTH_COMPLETED_ANSWER__INIT;
    Policy__Allow allow = POLICY__ALLOW__INIT;
    Policy__Restrictions r = POLICY__RESTRICTIONS__INIT;
    Policy__Limits limits = POLICY__LIMITS__INIT;
    Policy__EnvVar role = POLICY__ENV_VAR__INIT, *environment[] = {&role};
    const Policy__ExecRequestedRequest *question;

    role.name = (ProtobufCBinaryData){4, (uint8_t *)"ROLE"};
    role.value = (ProtobufCBinaryData){5, (uint8_t *)"guest"};
    r.environment = environment;
    r.n_environment = 1;
    r.no_pty = true;
    r.forced_case = POLICY__RESTRICTIONS__FORCED_FORCE_COMMAND;
    r.force_command = (ProtobufCBinaryData){3, (uint8_t *)"run"};
    allow.restrictions = &r;
    limits.sessions_case = POLICY__LIMITS__SESSIONS_MAX_SESSIONS;
    limits.max_sessions = 1;
    answer.outcome_case = POLICY__AUTH_COMPLETED_ANSWER__OUTCOME_ALLOW;
    answer.allow = &allow;
    answer.limits = &limits;
    world_complete(w);
    fake_answer(w->control, RPC_AUTH_COMPLETED, &answer.base);
    fake_deliver(w->t, 90, "suuu", "session", 3, 1000, 1000);
    fake_accept(w->control, RPC_SESSION_REQUESTED);
    fake_deliver(w->t, 98, "usbsuuuus", 0, "pty-req", true, "vt100", 1, 1, 1, 1, "");
    assert_int_equal(fake_asked(w->control, RPC_PTY_REQUESTED), 0);
    fake_deliver(w->t, 98, "usbs", 0, "exec", true, "mine");
    question = fake_question(w->control, RPC_EXEC_REQUESTED);
    assert_memory_equal(question->command.data, "run", 3);
    assert_memory_equal(question->original_command.data, "mine", 4);
    fake_deliver(w->t, 90, "suuu", "session", 4, 1000, 1000);
    assert_int_equal(fake_asked(w->control, RPC_SESSION_REQUESTED), 1);
}

/* ---- deadlines */

static void every_stage_of_a_login_ends_in_time(void **state)
{
    struct world *w = *state;

    w->settings.login_timeout_ms = 20;
    for (int stage = 0; stage < 5; stage++) {
        if (stage == 0) {
            world_connect(w); /* no keys, no answer */
        } else if (stage == 1) {
            world_connect(w);
            fake_exchange_keys(w->t);
        } else if (stage == 2) {
            world_greet(w);
        } else if (stage == 3) {
            world_greet(w);
            world_ask_login(w, "alice");
        } else {
            world_complete(w);
        }
        world_wait_disconnect(w);
        expect_disconnect(w, 11, "Login took too long");
        world_end(w);
    }
    assert_int_equal(conns_count(w->conns), 0);
}

static void after_login_that_deadline_is_gone(void **state)
{
    struct world *w = *state;
    Policy__AuthCompletedAnswer answer = POLICY__AUTH_COMPLETED_ANSWER__INIT;
    Policy__Allow allow = POLICY__ALLOW__INIT;
    Policy__Limits limits = POLICY__LIMITS__INIT;

    /* So large an idle time must not wrap around and come first. */
    limits.idle_timeout_case = POLICY__LIMITS__IDLE_TIMEOUT_IDLE_TIMEOUT_S;
    limits.idle_timeout_s = 4294968;
    limits.keepalive_interval_case = POLICY__LIMITS__KEEPALIVE_INTERVAL_KEEPALIVE_INTERVAL_S;
    limits.keepalive_interval_s = 4294968;
    limits.lifetime_case = POLICY__LIMITS__LIFETIME_MAX_LIFETIME_S;
    limits.max_lifetime_s = 1;
    answer.outcome_case = POLICY__AUTH_COMPLETED_ANSWER__OUTCOME_ALLOW;
    answer.allow = &allow;
    answer.limits = &limits;
    w->settings.login_timeout_ms = 200;
    world_complete(w);
    fake_answer(w->control, RPC_AUTH_COMPLETED, &answer.base);
    assert_true(fake_sent_is(w->t, 80, "sbss", "hostkeys-00@openssh.com", false, FAKE_HOST_KEY,
                             FAKE_OTHER_HOST_KEY));
    world_wait_disconnect(w);
    expect_disconnect(w, 11, "The connection has lived long enough");
    assert_int_equal(fake_sent_waiting(w->t), 0); /* no keepalive either */
    world_end(w);
}

static void a_grant_expires(void **state)
{
    struct world *w = *state;

    world_complete(w);
    fake_allow_for(w->control, RPC_AUTH_COMPLETED, 1);
    fake_deliver(w->t, 90, "suuu", "session", 3, 1000, 1000);
    world_wait_disconnect(w);
    expect_disconnect(w, 11, "The login has expired");
    world_end(w);
}

static void an_idle_connection_ends(void **state)
{
    struct world *w = *state;
    Policy__ConnectionMadeAnswer answer = POLICY__CONNECTION_MADE_ANSWER__INIT;
    Policy__Allow allow = POLICY__ALLOW__INIT;
    Policy__Limits limits = POLICY__LIMITS__INIT;

    limits.idle_timeout_case = POLICY__LIMITS__IDLE_TIMEOUT_IDLE_TIMEOUT_S;
    limits.idle_timeout_s = 1;
    answer.outcome_case = POLICY__CONNECTION_MADE_ANSWER__OUTCOME_ALLOW;
    answer.allow = &allow;
    answer.limits = &limits;
    world_connect(w);
    fake_answer(w->control, RPC_CONNECTION_MADE, &answer.base);
    fake_exchange_keys(w->t);
    fake_deliver(w->t, 5, "s", "ssh-userauth");
    world_ask_login(w, "alice");
    fake_allow(w->control, RPC_VALIDATE_PASSWORD);
    fake_allow(w->control, RPC_AUTH_COMPLETED);
    world_wait_disconnect(w);
    expect_disconnect(w, 11, "Idle for too long");
    world_end(w);
}

static void keepalives_find_a_dead_client(void **state)
{
    struct world *w = *state;
    const Policy__ConnectionLostRequest *lost;

    w->settings.keepalive_interval_s = 1;
    w->settings.keepalive_count_max = 1;
    world_login(w);
    world_wait_disconnect(w);
    assert_true(fake_sent_is(w->t, 80, "sb", "keepalive@openssh.com", true));
    assert_int_equal(fake_sent_waiting(w->t), 0);
    expect_disconnect(w, 10, "No answer to keepalives");
    lost = world_end(w);
    assert_int_equal(lost->disconnect_code, 10);
}

static void keepalives_of_no_count_end_nobody(void **state)
{
    struct world *w = *state;
    Policy__AuthCompletedAnswer answer = POLICY__AUTH_COMPLETED_ANSWER__INIT;
    Policy__Allow allow = POLICY__ALLOW__INIT;
    Policy__Limits limits = POLICY__LIMITS__INIT;

    limits.keepalive_interval_case = POLICY__LIMITS__KEEPALIVE_INTERVAL_KEEPALIVE_INTERVAL_S;
    limits.keepalive_interval_s = 1;
    limits.keepalive_count_case = POLICY__LIMITS__KEEPALIVE_COUNT_KEEPALIVE_COUNT_MAX;
    limits.keepalive_count_max = 0; /* none is counted (sshd_config, ClientAliveCountMax) */
    limits.lifetime_case = POLICY__LIMITS__LIFETIME_MAX_LIFETIME_S;
    limits.max_lifetime_s = 2;
    answer.outcome_case = POLICY__AUTH_COMPLETED_ANSWER__OUTCOME_ALLOW;
    answer.allow = &allow;
    answer.limits = &limits;
    world_complete(w);
    fake_answer(w->control, RPC_AUTH_COMPLETED, &answer.base);
    world_wait_disconnect(w);
    expect_disconnect(w, 11, "The connection has lived long enough");
    world_end(w);
}

/* ---- the end */

static void the_end_is_reported_once(void **state)
{
    static const struct {
        enum transport_end_kind kind;
        uint32_t code;
        bool clean;
    } rows[] = {
        {TRANSPORT_END_PEER, 11, true},     {TRANSPORT_END_PEER, 2, false},
        {TRANSPORT_END_EOF, 0, false},      {TRANSPORT_END_IO, 0, false},
        {TRANSPORT_END_PROTOCOL, 2, false},
    };
    struct world *w = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const Policy__ConnectionLostRequest *lost;

        world_login(w);
        fake_set_bytes(w->t, 100, 200);
        fake_deliver(w->t, 90, "suuu", "session", 3, 1000, 1000);
        fake_end(w->t, rows[i].kind, rows[i].code, "why");
        world_turn(w);
        assert_int_equal(fake_reports(w->control, RPC_CONNECTION_LOST), i + 1);
        lost = fake_report(w->control, RPC_CONNECTION_LOST);
        assert_int_equal(lost->clean, rows[i].clean);
        assert_string_equal(lost->reason, "why");
        assert_int_equal(lost->disconnect_code, rows[i].code);
        assert_int_equal(lost->bytes_received, 100);
        assert_int_equal(lost->bytes_sent, 200);
        assert_string_equal(lost->context->user, "alice");
        assert_int_equal(fake_pending(w->control), 0);
        assert_int_equal(conns_count(w->conns), 0);
    }
}

static void the_first_reason_stays(void **state)
{
    struct world *w = *state;
    const Policy__ConnectionLostRequest *lost;

    world_login(w);
    fake_deliver(w->t, 94, "us", 9, "x");
    expect_disconnect(w, 2, "Message for a channel that is not open");
    conns_disconnect_all(w->conns, "shutdown");
    fake_end(w->t, TRANSPORT_END_IO, 0, "reset");
    world_turn(w);
    lost = fake_report(w->control, RPC_CONNECTION_LOST);
    assert_string_equal(lost->reason, "Message for a channel that is not open");
    assert_int_equal(fake_reports(w->control, RPC_CONNECTION_LOST), 1);
}

static void ending_everyone(void **state)
{
    struct world *w = *state;
    struct transport *first;

    world_login(w);
    first = w->t;
    world_connect(w);
    assert_int_equal(conns_count(w->conns), 2);
    conns_disconnect_all(w->conns, "going down");
    conns_disconnect_all(w->conns, "again");
    expect_disconnect(w, 11, "going down");
    world_turn(w);
    fake_flush_disconnect(first);
    fake_flush_disconnect(w->t);
    world_turn(w);
    assert_int_equal(conns_count(w->conns), 0);
    assert_int_equal(fake_reports(w->control, RPC_CONNECTION_LOST), 2);
}

/* What was deferred must not find the memory gone. */
static void freeing_at_any_moment(void **state)
{
    struct world *w = *state;

    for (int moment = 0; moment < 5; moment++) {
        world_login(w);
        fake_deliver(w->t, 90, "suuu", "session", 3, 1000, 1000);
        if (moment >= 1)
            fake_accept(w->control, RPC_SESSION_REQUESTED);
        if (moment >= 2) {
            fake_deliver(w->t, 98, "usb", 0, "shell", true);
            fake_accept_stream(w->control, RPC_SHELL_REQUESTED, "");
        }
        if (moment == 3)
            conns_disconnect_all(w->conns, "going down");
        if (moment == 4)
            fake_end(w->t, TRANSPORT_END_EOF, 0, "closed");
        conns_free(&w->conns);
        assert_int_equal(fake_pending(w->control), 0);
        assert_int_equal(fake_streams(w->control), 0);
        world_turn(w);
        assert_int_equal(fake_reports(w->control, RPC_CONNECTION_LOST), (size_t)moment + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(rooms_open_when_auth_completed_allows),
        world_test(a_late_no_reaches_what_was_pipelined),
        world_test(the_grant_rules_the_channels),
        world_test(every_stage_of_a_login_ends_in_time),
        world_test(after_login_that_deadline_is_gone),
        world_test(a_grant_expires),
        world_test(an_idle_connection_ends),
        world_test(keepalives_find_a_dead_client),
        world_test(keepalives_of_no_count_end_nobody),
        world_test(the_end_is_reported_once),
        world_test(the_first_reason_stays),
        world_test(ending_everyone),
        world_test(freeing_at_any_moment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
