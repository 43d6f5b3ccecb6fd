/* Supervise: the stream's life, what it tells, what its actions do. */
#include "unit/conn/world.h"

#include <string.h>

static void skip_sent(struct world *w)
{
    struct fake_message message;

    while (fake_sent(w->t, &message))
        continue;
}

static void complete_supervised(struct world *w, Policy__OnLoss on_loss)
{
    Policy__AuthCompletedAnswer completed = POLICY__AUTH_COMPLETED_ANSWER__INIT;
    Policy__Allow allow = POLICY__ALLOW__INIT;

    completed.outcome_case = POLICY__AUTH_COMPLETED_ANSWER__OUTCOME_ALLOW;
    completed.allow = &allow;
    completed.supervise = true;
    completed.supervise_on_loss = on_loss;
    world_complete(w);
    fake_answer(w->control, RPC_AUTH_COMPLETED, &completed.base);
}

static struct stream *login_supervised(struct world *w, Policy__OnLoss on_loss)
{
    struct stream *stream;
    const Policy__SuperviseEvent *event;

    complete_supervised(w, on_loss);
    assert_int_equal(fake_streams(w->control), 1);
    stream = fake_stream(w->control, 0);
    event = fake_supervise_sent(stream);
    assert_int_equal(event->event_case, POLICY__SUPERVISE_EVENT__EVENT_STARTED);
    assert_string_equal(event->started->context->user, "alice");
    skip_sent(w);
    return stream;
}

static void act(struct stream *stream, Policy__SuperviseAction__ActionCase kind, void *message)
{
    Policy__SuperviseAction action = POLICY__SUPERVISE_ACTION__INIT;

    action.id = 77;
    action.action_case = kind;
    action.disconnect = message;
    fake_stream_push(stream, &action.base);
}

static void expect_done(struct stream *stream, const char *error)
{
    const Policy__SuperviseEvent *event = fake_supervise_sent(stream);

    assert_non_null(event);
    assert_int_equal(event->event_case, POLICY__SUPERVISE_EVENT__EVENT_DONE);
    assert_int_equal(event->done->id, 77);
    assert_string_equal(event->done->error, error);
}

static void it_is_opened_from_the_beginning_if_asked_for(void **state)
{
    struct world *w = *state;
    Policy__ConnectionMadeAnswer made = POLICY__CONNECTION_MADE_ANSWER__INIT;
    Policy__Allow allow = POLICY__ALLOW__INIT;
    const Policy__SuperviseEvent *event;

    made.outcome_case = POLICY__CONNECTION_MADE_ANSWER__OUTCOME_ALLOW;
    made.allow = &allow;
    made.supervise = true;
    world_connect(w);
    assert_int_equal(fake_streams(w->control), 0);
    fake_answer(w->control, RPC_CONNECTION_MADE, &made.base);
    assert_int_equal(fake_streams(w->control), 1);
    event = fake_supervise_sent(fake_stream(w->control, 0));
    assert_int_equal(event->event_case, POLICY__SUPERVISE_EVENT__EVENT_STARTED);
    assert_string_equal(event->started->context->user, "");
}

static void asking_twice_opens_one_and_the_last_word_on_loss_counts(void **state)
{
    struct world *w = *state;
    Policy__ConnectionMadeAnswer made = POLICY__CONNECTION_MADE_ANSWER__INIT;
    Policy__Allow allow = POLICY__ALLOW__INIT;

    w->made = &made;
    made.outcome_case = POLICY__CONNECTION_MADE_ANSWER__OUTCOME_ALLOW;
    made.allow = &allow;
    made.supervise = true;
    made.supervise_on_loss = POLICY__ON_LOSS__ON_LOSS_DISCONNECT;
    complete_supervised(w, POLICY__ON_LOSS__ON_LOSS_KEEP);
    assert_int_equal(fake_streams(w->control), 1);
    fake_stream_fail_now(fake_stream(w->control, 0), UNAVAILABLE, "gone");
    assert_false(fake_disconnected(w->t).called);
}

static void every_loss_is_a_loss(void **state)
{
    static const enum outcome outcomes[] = {ANSWERED, ABSENT, UNAVAILABLE, EXPIRED};
    struct world *w = *state;

    for (size_t i = 0; i < 8; i++) {
        bool keep = i >= 4;
        struct stream *stream = login_supervised(w, keep ? POLICY__ON_LOSS__ON_LOSS_KEEP
                                                         : POLICY__ON_LOSS__ON_LOSS_UNSPECIFIED);

        fake_stream_fail_now(stream, outcomes[i % 4], "over");
        assert_int_equal(fake_streams(w->control), 0);
        assert_int_equal(fake_disconnected(w->t).called, !keep);
        if (keep)
            fake_end(w->t, TRANSPORT_END_EOF, 0, "closed");
        else
            world_end(w);
        world_turn(w);
    }
}

static void channels_are_told_of(void **state)
{
    struct world *w = *state;
    struct stream *stream = login_supervised(w, POLICY__ON_LOSS__ON_LOSS_KEEP);
    const Policy__SuperviseEvent *event;

    fake_deliver(w->t, 90, "suuu", "session", 5, 1000, 1000);
    assert_null(fake_supervise_sent(stream));
    fake_accept(w->control, RPC_SESSION_REQUESTED);
    event = fake_supervise_sent(stream);
    assert_int_equal(event->event_case, POLICY__SUPERVISE_EVENT__EVENT_CHANNEL_OPENED);
    assert_int_equal(event->channel_opened->channel, 0);
    assert_string_equal(event->channel_opened->kind, "session");
    fake_deliver(w->t, 98, "usbs", 0, "exec", true, "uname -a");
    fake_deliver(w->t, 97, "u", 0);
    event = fake_supervise_sent(stream);
    assert_int_equal(event->event_case, POLICY__SUPERVISE_EVENT__EVENT_CHANNEL_CLOSED);
    assert_string_equal(event->channel_closed->detail, "uname -a");
}

static void the_last_channel_is_told_of_when_the_connection_goes(void **state)
{
    struct world *w = *state;
    const Policy__SuperviseEvent *event;

    login_supervised(w, POLICY__ON_LOSS__ON_LOSS_KEEP);
    fake_deliver(w->t, 90, "suuu", "session", 5, 1000, 1000);
    fake_accept(w->control, RPC_SESSION_REQUESTED);
    fake_end(w->t, TRANSPORT_END_EOF, 0, "closed");
    world_turn(w);
    event = (const Policy__SuperviseEvent *)fake_closed_stream_sent(w->control);
    assert_int_equal(event->event_case, POLICY__SUPERVISE_EVENT__EVENT_CHANNEL_OPENED);
    event = (const Policy__SuperviseEvent *)fake_closed_stream_sent(w->control);
    assert_int_equal(event->event_case, POLICY__SUPERVISE_EVENT__EVENT_CHANNEL_CLOSED);
}

static void it_disconnects(void **state)
{
    struct world *w = *state;
    struct stream *stream = login_supervised(w, POLICY__ON_LOSS__ON_LOSS_KEEP);
    Policy__Disconnect order = POLICY__DISCONNECT__INIT;

    order.reason = "enough";
    act(stream, POLICY__SUPERVISE_ACTION__ACTION_DISCONNECT, &order);
    expect_disconnect(w, 11, "enough");
    world_end(w);
}

static void it_sends_debug_messages(void **state)
{
    struct world *w = *state;
    struct stream *stream = login_supervised(w, POLICY__ON_LOSS__ON_LOSS_KEEP);
    Policy__DebugMessage debug = POLICY__DEBUG_MESSAGE__INIT;
    char text[5000];

    debug.message = "hello";
    debug.always_display = true;
    act(stream, POLICY__SUPERVISE_ACTION__ACTION_DEBUG, &debug);
    assert_true(fake_sent_is(w->t, 4, "bss", true, "hello", ""));
    expect_done(stream, "");
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    debug.message = text;
    act(stream, POLICY__SUPERVISE_ACTION__ACTION_DEBUG, &debug);
    assert_int_equal(fake_sent_waiting(w->t), 0);
    expect_done(stream, "the text is too long");
}

static void banners_are_for_before_login(void **state)
{
    struct world *w = *state;
    struct stream *stream = login_supervised(w, POLICY__ON_LOSS__ON_LOSS_KEEP);
    Policy__Banner banner = POLICY__BANNER__INIT;

    banner.text = "late";
    act(stream, POLICY__SUPERVISE_ACTION__ACTION_BANNER, &banner);
    assert_int_equal(fake_sent_waiting(w->t), 0);
    expect_done(stream, "after login there are no banners");
}

static void it_closes_channels(void **state)
{
    struct world *w = *state;
    struct stream *stream = login_supervised(w, POLICY__ON_LOSS__ON_LOSS_KEEP);
    Policy__CloseChannel order = POLICY__CLOSE_CHANNEL__INIT;

    act(stream, POLICY__SUPERVISE_ACTION__ACTION_CLOSE_CHANNEL, &order);
    expect_done(stream, "no such channel");
    fake_deliver(w->t, 90, "suuu", "session", 5, 1000, 1000);
    fake_accept(w->control, RPC_SESSION_REQUESTED);
    fake_supervise_sent(stream);
    skip_sent(w);
    act(stream, POLICY__SUPERVISE_ACTION__ACTION_CLOSE_CHANNEL, &order);
    assert_true(fake_sent_is(w->t, 96, "u", 5));
    assert_true(fake_sent_is(w->t, 97, "u", 5));
    expect_done(stream, "");
}

static void tightening_beyond_the_client_disconnects(void **state)
{
    struct world *w = *state;
    struct stream *stream = login_supervised(w, POLICY__ON_LOSS__ON_LOSS_KEEP);
    Policy__Restrictions restrictions = POLICY__RESTRICTIONS__INIT;
    Policy__Patterns sources = POLICY__PATTERNS__INIT;
    char *networks[] = {"198.51.100.0/24"};

    restrictions.no_pty = true;
    act(stream, POLICY__SUPERVISE_ACTION__ACTION_TIGHTEN, &restrictions);
    expect_done(stream, "");
    assert_false(fake_disconnected(w->t).called);
    restrictions.source_addresses = &sources;
    sources.patterns = networks;
    sources.n_patterns = 1;
    act(stream, POLICY__SUPERVISE_ACTION__ACTION_TIGHTEN, &restrictions);
    assert_true(fake_disconnected(w->t).called);
    world_end(w);
}

static void limits_change(void **state)
{
    struct world *w = *state;
    struct stream *stream = login_supervised(w, POLICY__ON_LOSS__ON_LOSS_KEEP);
    Policy__Limits limits = POLICY__LIMITS__INIT;
    struct fake_message message;

    limits.sessions_case = POLICY__LIMITS__SESSIONS_MAX_SESSIONS;
    limits.max_sessions = 0;
    act(stream, POLICY__SUPERVISE_ACTION__ACTION_SET_LIMITS, &limits);
    expect_done(stream, "");
    fake_deliver(w->t, 90, "suuu", "session", 5, 1000, 1000);
    assert_int_equal(fake_pending(w->control), 0);
    assert_true(fake_sent(w->t, &message) && message.type == 92);
}

static void what_was_not_granted_is_not_done(void **state)
{
    struct world *w = *state;
    struct stream *stream = login_supervised(w, POLICY__ON_LOSS__ON_LOSS_KEEP);
    Policy__Address address = POLICY__ADDRESS__INIT;
    static const Policy__SuperviseAction__ActionCase opens[] = {
        POLICY__SUPERVISE_ACTION__ACTION_OPEN_FORWARDED_TCPIP,
        POLICY__SUPERVISE_ACTION__ACTION_OPEN_FORWARDED_STREAMLOCAL,
        POLICY__SUPERVISE_ACTION__ACTION_OPEN_X11,
        POLICY__SUPERVISE_ACTION__ACTION_OPEN_AGENT,
    };

    act(stream, POLICY__SUPERVISE_ACTION__ACTION_CLOSE_LISTENER, &address);
    expect_done(stream, "no such listener");
    for (size_t i = 0; i < sizeof(opens) / sizeof(opens[0]); i++) {
        Policy__OpenToClient open = POLICY__OPEN_TO_CLIENT__INIT;

        open.listened = &address;
        act(stream, opens[i], &open);
        expect_done(stream, "that was not granted");
    }
    assert_int_equal(fake_sent_waiting(w->t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(it_is_opened_from_the_beginning_if_asked_for),
        world_test(asking_twice_opens_one_and_the_last_word_on_loss_counts),
        world_test(every_loss_is_a_loss),
        world_test(channels_are_told_of),
        world_test(the_last_channel_is_told_of_when_the_connection_goes),
        world_test(it_disconnects),
        world_test(it_sends_debug_messages),
        world_test(banners_are_for_before_login),
        world_test(it_closes_channels),
        world_test(tightening_beyond_the_client_disconnects),
        world_test(limits_change),
        world_test(what_was_not_granted_is_not_done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
