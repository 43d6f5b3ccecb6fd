/* What Supervise does to channels: closing one, tightening the rules, and the notes it lives on. */
#include "unit/channels/client.h"

static void open_and_closed_are_noted(void **state)
{
    struct client *c = *state;

    open_asked(c, PEER);
    assert_int_equal(c->opened, 0);
    fake_accept(c->control, RPC_SESSION_REQUESTED);
    assert_int_equal(c->opened, 1);
    assert_int_equal(c->noted, 0);
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    assert_int_equal(c->closed, 1);
    expect_sent(c, CH_CLOSE, "u", PEER);
    open_asked(c, PEER);
    fake_fail(c->control, RPC_SESSION_REQUESTED, ABSENT);
    assert_int_equal(c->opened, 1); /* one that was refused never was */
    assert_int_equal(c->closed, 1);
}

static void one_channel_is_closed(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    assert_false(channels_close_one(c->channels, 1, "no"));
    assert_false(channels_close_one(c->channels, UINT32_MAX, "no"));
    assert_true(channels_close_one(c->channels, 0, "enough"));
    expect_sent(c, CH_EOF, "u", PEER);
    expect_sent(c, CH_CLOSE, "u", PEER);
    assert_false(channels_close_one(c->channels, 0, "again"));
    assert_int_equal(c->closed, 0);
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    assert_int_equal(c->closed, 1);
}

static void one_that_is_only_asked_for_is_no_channel_yet(void **state)
{
    struct client *c = *state;

    open_asked(c, PEER);
    assert_false(channels_close_one(c->channels, 0, "no"));
    expect_nothing(c);
}

static void ask_pty(struct client *c)
{
    fake_deliver(c->transport, REQUEST, "usbsuuuus", 0, "pty-req", true, "xterm", 80, 24, 0, 0, "");
}

static void no_pty_closes_sessions_that_have_one(void **state)
{
    struct client *c = *state;
    struct channels_rules rules = c->rules;

    open_session(c, PEER, 0);
    ask_pty(c);
    fake_allow(c->control, RPC_PTY_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
    open_session(c, PEER + 1, 1);
    rules.no_pty = true;
    channels_tighten(c->channels, &rules);
    expect_sent(c, CH_EOF, "u", PEER);
    expect_sent(c, CH_CLOSE, "u", PEER);
    expect_nothing(c); /* the other has none, and stays */
    fake_deliver(c->transport, REQUEST, "usbsuuuus", 1, "pty-req", true, "xterm", 80, 24, 0, 0, "");
    expect_sent(c, FAILURE, "u", PEER + 1);
}

/* An answer on its way must not outlive what was said since. */
static void a_pty_that_is_being_asked_for_goes_too(void **state)
{
    struct client *c = *state;
    struct channels_rules rules = c->rules;

    open_session(c, PEER, 0);
    ask_pty(c);
    expect_asked(c, RPC_PTY_REQUESTED);
    rules.no_pty = true;
    channels_tighten(c->channels, &rules);
    expect_sent(c, CH_EOF, "u", PEER);
    expect_sent(c, CH_CLOSE, "u", PEER);
    assert_int_equal(fake_pending(c->control), 0);
}

static void a_forced_command_closes_other_programs(void **state)
{
    struct client *c = *state;
    struct channels_rules rules = c->rules;

    open_exec(c, PEER, 0);
    open_session(c, PEER + 1, 1);
    rules.forced = true;
    rules.forced_command = BYTES("only this");
    channels_tighten(c->channels, &rules);
    expect_sent(c, CH_EOF, "u", PEER);
    expect_sent(c, CH_CLOSE, "u", PEER);
    expect_nothing(c);
    send_exec(c, 1, "run"); /* the other has not started: it gets the forced one */
    assert_true(bytes_are(bytes_of(((const Policy__ExecRequestedRequest *)fake_question(
                                        c->control, RPC_EXEC_REQUESTED))
                                       ->command.data,
                                   9),
                          "only this"));
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    expect_sent(c, SUCCESS, "u", PEER + 1);
    channels_tighten(c->channels, &rules);
    expect_nothing(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(open_and_closed_are_noted),
        client_test(one_channel_is_closed),
        client_test(one_that_is_only_asked_for_is_no_channel_yet),
        client_test(no_pty_closes_sessions_that_have_one),
        client_test(a_pty_that_is_being_asked_for_goes_too),
        client_test(a_forced_command_closes_other_programs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
