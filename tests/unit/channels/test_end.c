/* How a channel ends: exit once, close both ways, streams that fail; break, which waits. */
#include "unit/channels/client.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

static void push_exit_signal(struct stream *stream)
{
    Policy__ChannelAction action = POLICY__CHANNEL_ACTION__INIT;
    Policy__ExitSignal exit = POLICY__EXIT_SIGNAL__INIT;

    exit.name = "KILL";
    exit.core_dumped = true;
    exit.message = "out of memory";
    exit.language = "en";
    action.action_case = POLICY__CHANNEL_ACTION__ACTION_EXIT_SIGNAL;
    action.exit_signal = &exit;
    fake_stream_push(stream, &action.base);
}

static void expect_closed(struct client *c, const char *error)
{
    const Policy__ChannelEvent *event;
    char *text = NULL;

    assert_int_equal(fake_streams(c->control), 0);
    while ((event = fake_closed_stream_sent(c->control)) != NULL) {
        free(text);
        text = NULL;
        if (event->event_case == POLICY__CHANNEL_EVENT__EVENT_CLOSED)
            text = strdup(event->closed->error);
    }
    assert_non_null(text); /* the last event is `closed` */
    assert_string_equal(text, error);
    free(text);
}

static void exit_status_is_told_once(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    fake_push_exit(stream, 256);
    expect_sent(c, REQUEST, "usbu", PEER, "exit-status", false, 256);
    fake_push_exit(stream, 0);
    push_exit_signal(stream);
    expect_nothing(c);
    fake_stream_end(stream, ANSWERED, "ok");
    expect_sent(c, CH_EOF, "u", PEER);
    expect_sent(c, CH_CLOSE, "u", PEER);
    expect_closed(c, "");
}

static void exit_signal_is_told_whole(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    push_exit_signal(stream);
    expect_sent(c, REQUEST, "usbsbss", PEER, "exit-signal", false, "KILL", true, "out of memory",
                "en");
    fake_push_exit(stream, 0);
    expect_nothing(c);
}

static void a_stream_that_fails_closes_without_exit(void **state)
{
    static const enum outcome outcomes[] = {UNAVAILABLE, EXPIRED, ABSENT, ANSWERED};
    struct client *c = *state;

    for (size_t i = 0; i < 4; i++) {
        struct stream *stream = open_exec(c, PEER, 0);

        fake_push_data(stream, BYTES("half"), 0);
        expect_sent(c, DATA, "us", PEER, "half");
        fake_stream_end(stream, outcomes[i], "the reason");
        expect_sent(c, CH_EOF, "u", PEER);
        expect_sent(c, CH_CLOSE, "u", PEER);
        expect_nothing(c);
        fake_deliver(c->transport, CH_CLOSE, "u", 0);
        expect_nothing(c);
        client_turn(c);
        assert_int_equal(channels_count(c->channels), 0);
    }
}

static void the_client_may_close_first(void **state)
{
    struct client *c = *state;

    open_exec(c, PEER, 0);
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    expect_sent(c, CH_CLOSE, "u", PEER);
    expect_nothing(c);
    expect_closed(c, "");
    assert_int_equal(channels_count(c->channels), 0);
    fake_deliver(c->transport, CH_CLOSE, "u", 0); /* twice: the number is gone */
    expect_fault(c);
}

static void what_crosses_our_close_is_harmless(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    fake_stream_end(stream, ANSWERED, "ok");
    expect_sent(c, CH_EOF, "u", PEER);
    expect_sent(c, CH_CLOSE, "u", PEER);
    fake_deliver(c->transport, DATA, "us", 0, "late");
    fake_deliver(c->transport, ADJUST, "uu", 0, 10);
    send_channel_request(c, 0, "exec", true, "s", "again");
    fake_deliver(c->transport, CH_EOF, "u", 0);
    expect_nothing(c);
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    expect_nothing(c);
    assert_int_equal(channels_count(c->channels), 0);
}

static void close_while_the_program_is_asked_about(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    send_exec(c, 0, "run");
    send_channel_request(c, 0, "env", true, "ss", "LANG", "C");
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    expect_sent(c, CH_CLOSE, "u", PEER);
    expect_nothing(c); /* no reply to what was still waiting */
    assert_int_equal(fake_cancelled(c->control), 1);
    client_turn(c);
    open_session(c, PEER, 0); /* the number is free at once */
}

static void the_connections_end_tells_the_policy_why(void **state)
{
    struct client *c = *state;

    open_exec(c, PEER, 0);
    channels_free(&c->channels, "the client went away");
    expect_nothing(c);
    expect_closed(c, "the client went away");
}

static void freeing_with_a_blocked_stream(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    fake_set_room(c->transport, 0);
    fake_push_data(stream, BYTES("blocked"), 0);
    fake_push_data(stream, BYTES("behind"), 0);
    fake_stream_end(stream, UNAVAILABLE, "gone");
    fake_deliver(c->transport, DATA, "us", 0, "x");
    channels_free(&c->channels, "why");
    client_turn(c);
    assert_int_equal(fake_streams(c->control), 0);
}

/* ---- break (RFC 4335) */

static void a_break_waits_for_its_answer(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);
    const Policy__ChannelEvent *event;

    send_channel_request(c, 0, "break", true, "u", 500);
    send_channel_request(c, 0, "signal", true, "s", "INT");
    event = fake_stream_sent(stream);
    assert_int_equal(event->event_case, POLICY__CHANNEL_EVENT__EVENT_BREAK_REQUEST);
    assert_int_equal(event->break_request->length_ms, 500);
    assert_true(event->break_request->want_reply);
    expect_no_event(stream);                  /* the signal keeps its place */
    fake_push_break_answer(stream, 77, true); /* nobody's */
    expect_nothing(c);
    fake_push_break_answer(stream, 1, true);
    expect_sent(c, SUCCESS, "u", PEER);
    expect_sent(c, SUCCESS, "u", PEER);
    expect_event(stream, POLICY__CHANNEL_EVENT__EVENT_SIGNAL);
    fake_push_break_answer(stream, 1, true); /* twice */
    expect_nothing(c);
}

static void a_break_without_reply_waits_for_nothing(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    send_channel_request(c, 0, "break", false, "u", 0);
    send_channel_request(c, 0, "break", true, "u", 0);
    expect_event(stream, POLICY__CHANNEL_EVENT__EVENT_BREAK_REQUEST);
    expect_event(stream, POLICY__CHANNEL_EVENT__EVENT_BREAK_REQUEST);
    fake_push_break_answer(stream, 1, true); /* the first, late */
    expect_nothing(c);
    fake_push_break_answer(stream, 2, false);
    expect_sent(c, FAILURE, "u", PEER);
}

static void an_unanswered_break_fails_in_time(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    send_channel_request(c, 0, "break", true, "u", 0);
    while (fake_sent_waiting(c->transport) == 0)
        event_base_loop(loop_events(c->loop), EVLOOP_ONCE);
    expect_sent(c, FAILURE, "u", PEER);
    fake_push_break_answer(stream, 1, true);
    expect_nothing(c);
}

static void a_break_before_the_program_fails(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    send_channel_request(c, 0, "break", true, "u", 0);
    expect_sent(c, FAILURE, "u", PEER);
}

static void closing_while_a_break_waits(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    send_channel_request(c, 0, "break", true, "u", 0);
    send_channel_request(c, 0, "break", true, "u", 0);
    fake_stream_end(stream, ANSWERED, "ok");
    expect_sent(c, CH_EOF, "u", PEER);
    expect_sent(c, CH_CLOSE, "u", PEER);
    client_turn(c);
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    expect_nothing(c);
}

/* A client that sends events while the policy reads none must not make us hold them all. */
static void events_are_bounded_when_the_policy_does_not_read(void **state)
{
    struct client *c = *state;
    struct stream *stream;

    open_session(c, PEER, 0);
    send_channel_request(c, 0, "pty-req", true, "suuuus", "vt100", 80, 24, 0, 0, "");
    fake_allow(c->control, RPC_PTY_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
    send_exec(c, 0, "run");
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    expect_sent(c, SUCCESS, "u", PEER);
    stream = fake_stream(c->control, 0);
    for (uint32_t i = 0; i < 5000; i++) {
        send_channel_request(c, 0, "window-change", false, "uuuu", i, 24, 0, 0);
        send_channel_request(c, 0, "signal", false, "s", "INT");
        send_channel_request(c, 0, "break", false, "u", 0);
    }
    assert_true(fake_stream_queued_messages(stream) <= 80);
}

static void the_last_window_size_arrives(void **state)
{
    struct client *c = *state;
    struct stream *stream;
    const Policy__ChannelEvent *event;
    uint32_t last = 0;

    open_session(c, PEER, 0);
    send_channel_request(c, 0, "pty-req", true, "suuuus", "vt100", 80, 24, 0, 0, "");
    fake_allow(c->control, RPC_PTY_REQUESTED);
    send_exec(c, 0, "run");
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    stream = fake_stream(c->control, 0);
    for (uint32_t i = 1; i <= 300; i++)
        send_channel_request(c, 0, "window-change", false, "uuuu", i, 24, 0, 0);
    fake_stream_read(stream, 0);
    while ((event = fake_stream_sent(stream)) != NULL)
        if (event->event_case == POLICY__CHANNEL_EVENT__EVENT_WINDOW_CHANGE)
            last = event->window_change->columns;
    assert_int_equal(last, 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(exit_status_is_told_once),
        client_test(exit_signal_is_told_whole),
        client_test(a_stream_that_fails_closes_without_exit),
        client_test(the_client_may_close_first),
        client_test(what_crosses_our_close_is_harmless),
        client_test(close_while_the_program_is_asked_about),
        client_test(the_connections_end_tells_the_policy_why),
        client_test(freeing_with_a_blocked_stream),
        client_test(a_break_waits_for_its_answer),
        client_test(a_break_without_reply_waits_for_nothing),
        client_test(an_unanswered_break_fails_in_time),
        client_test(a_break_before_the_program_fails),
        client_test(closing_while_a_break_waits),
        client_test(events_are_bounded_when_the_policy_does_not_read),
        client_test(the_last_window_size_arrives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
