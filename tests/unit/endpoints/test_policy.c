/* StreamEndpoint: short writes both ways, and ends that come while something is blocked. */
#include "unit/cmocka_unit.h"

#include "base/alloc.h"
#include "base/log.h"
#include "endpoints/endpoint.h"
#include "fakes/answers_fake.h"
#include "fakes/control_fake.h"
#include "fakes/wire.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

/* The channel's side: takes `room` bytes, and notes what happens as text. */
struct side {
    struct loop *loop;
    struct control *control;
    struct asker *asker;
    struct endpoint *endpoint;
    struct stream *stream;
    size_t room, taken;
    struct buf seen;
    int packets; /* calls of data() that took something */
    bool stop_in_ended;
    int ended;
    bool in_order;
    char why[64];
};

static size_t on_data(void *owner, struct bytes data, uint32_t extended_type)
{
    struct side *s = owner;
    size_t len = data.len < s->room ? data.len : s->room;

    assert_int_equal(s->ended, 0);
    if (extended_type != 0)
        buf_put_u8(&s->seen, '2');
    buf_put(&s->seen, bytes_of(data.data, len));
    s->packets += len > 0;
    s->room -= len;
    return len;
}

static void note(struct side *s, const char *what)
{
    assert_int_equal(s->ended, 0);
    buf_put(&s->seen, bytes_of_string(what));
}

static void on_eof(void *owner)
{
    note(owner, "<eof>");
}

static void on_exit_status(void *owner, uint32_t status)
{
    assert_int_equal(status, 7);
    note(owner, "<exit>");
}

static void on_exit_signal(void *owner, const Policy__ExitSignal *exit)
{
    assert_string_equal(exit->name, "TERM");
    note(owner, "<signal>");
}

static void on_client_flow_control(void *owner, bool can_do)
{
    note(owner, can_do ? "<xon>" : "<xoff>");
}

static void on_break_answer(void *owner, uint32_t id, bool handled)
{
    assert_int_equal(id, 3);
    note(owner, handled ? "<break>" : "<no break>");
}

static void on_writable(void *owner, size_t taken)
{
    struct side *s = owner;

    s->taken += taken;
}

static void on_ended(void *owner, bool in_order, const char *why)
{
    struct side *s = owner;

    s->ended++;
    s->in_order = in_order;
    strncpy(s->why, why, sizeof(s->why) - 1);
    if (s->stop_in_ended) {
        s->endpoint->ops->stop(s->endpoint, NULL);
        s->endpoint = NULL;
    }
}

static const struct endpoint_events events = {
    .data = on_data,
    .eof = on_eof,
    .exit_status = on_exit_status,
    .exit_signal = on_exit_signal,
    .client_flow_control = on_client_flow_control,
    .break_answer = on_break_answer,
    .writable = on_writable,
    .ended = on_ended,
};

static const struct asker_events no_events;

static struct endpoint *make(struct side *s, const char *target)
{
    Policy__ChannelOpened opened = POLICY__CHANNEL_OPENED__INIT;
    Policy__SessionStart start = POLICY__SESSION_START__INIT;
    Policy__ShellProgram shell = POLICY__SHELL_PROGRAM__INIT;
    Policy__StreamEndpoint answer = POLICY__STREAM_ENDPOINT__INIT;
    struct endpoint_start with = {
        .asker = s->asker, .opened = &opened, .events = &events, .owner = s};

    answer.target = (char *)target;
    start.program_case = POLICY__SESSION_START__PROGRAM_SHELL;
    start.shell = &shell;
    opened.channel = 9;
    opened.kind_case = POLICY__CHANNEL_OPENED__KIND_SESSION;
    opened.session = &start;
    return endpoint_policy_new(&with, s->control, &answer);
}

static int setup(void **state)
{
    struct side *s = xcalloc(1, sizeof(*s));
    const Policy__ChannelEvent *event;

    log_set_level(LOG_ERROR);
    s->loop = loop_new();
    s->control = fake_control_new();
    s->asker = asker_new(s->control, s->loop, &no_events, s);
    s->endpoint = make(s, "");
    s->stream = fake_stream(s->control, 0);
    s->room = 1000;
    s->stop_in_ended = true;
    event = fake_stream_sent(s->stream);
    assert_int_equal(event->event_case, POLICY__CHANNEL_EVENT__EVENT_OPENED);
    assert_int_equal(event->opened->channel, 9);
    assert_string_equal(event->opened->context->connection_id, asker_connection_id(s->asker));
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct side *s = *state;

    if (s->endpoint != NULL)
        s->endpoint->ops->stop(s->endpoint, "over");
    asker_free(&s->asker);
    fake_control_free(&s->control);
    loop_free(&s->loop);
    buf_clear(&s->seen);
    free(s);
    return 0;
}

static void expect_seen(struct side *s, const char *text)
{
    assert_true(bytes_are(buf_bytes(&s->seen), text));
}

static void an_unknown_target_makes_none(void **state)
{
    struct side *s = *state;

    assert_null(make(s, "elsewhere"));
    assert_int_equal(fake_streams(s->control), 1);
}

static void writes_stop_where_the_stream_is_full(void **state)
{
    struct side *s = *state;
    const Policy__ChannelEvent *event;

    fake_stream_set_room(s->stream, 3);
    assert_int_equal(s->endpoint->ops->write(s->endpoint, BYTES("abcdef"), 0), 3);
    assert_int_equal(s->endpoint->ops->write(s->endpoint, BYTES("def"), 0), 0);
    fake_stream_read(s->stream, 3);
    assert_int_equal(s->taken, 3);
    assert_int_equal(s->endpoint->ops->write(s->endpoint, BYTES("def"), 0), 3);
    event = fake_stream_sent(s->stream);
    assert_memory_equal(event->data->payload.data, "abc", 3);
    event = fake_stream_sent(s->stream);
    assert_memory_equal(event->data->payload.data, "def", 3);
}

static void large_writes_are_cut(void **state)
{
    struct side *s = *state;
    uint8_t *data = xcalloc(1, 150000);
    size_t sum = 0;
    const Policy__ChannelEvent *event;

    assert_int_equal(s->endpoint->ops->write(s->endpoint, bytes_of(data, 150000), 0), 150000);
    while ((event = fake_stream_sent(s->stream)) != NULL) {
        assert_true(event->data->payload.len <= 65536);
        sum += event->data->payload.len;
    }
    assert_int_equal(sum, 150000);
    free(data);
}

static void every_action_is_carried_out_in_order(void **state)
{
    struct side *s = *state;
    Policy__ChannelAction action = POLICY__CHANNEL_ACTION__INIT;
    Policy__ExitSignal exit = POLICY__EXIT_SIGNAL__INIT;
    Policy__ClientFlowControl flow = POLICY__CLIENT_FLOW_CONTROL__INIT;

    fake_push_data(s->stream, BYTES("out"), 0);
    fake_push_data(s->stream, BYTES("err"), 1);
    fake_push_data(s->stream, BYTES(""), 0);
    action.action_case = POLICY__CHANNEL_ACTION__ACTION_CLIENT_FLOW_CONTROL;
    action.client_flow_control = &flow;
    fake_stream_push(s->stream, &action.base);
    fake_push_break_answer(s->stream, 3, true);
    fake_push_eof(s->stream);
    fake_push_exit(s->stream, 7);
    exit.name = "TERM";
    action.action_case = POLICY__CHANNEL_ACTION__ACTION_EXIT_SIGNAL;
    action.exit_signal = &exit;
    fake_stream_push(s->stream, &action.base);
    expect_seen(s, "out2err<xoff><break><eof><exit><signal>");
}

/* What waits while the channel has no room leaves in as few packets as its kinds allow. */
static void small_messages_leave_together(void **state)
{
    struct side *s = *state;

    s->room = 0;
    fake_push_data(s->stream, BYTES("a"), 0); /* read, and offered in vain: no more is read */
    fake_push_data(s->stream, BYTES("b"), 0);
    fake_push_data(s->stream, BYTES("c"), 0);
    fake_push_data(s->stream, BYTES("x"), 1);
    fake_push_data(s->stream, BYTES("y"), 1);
    fake_push_data(s->stream, BYTES("d"), 0);
    fake_push_eof(s->stream);
    s->room = 100;
    s->endpoint->ops->resume(s->endpoint);
    fake_stream_turn(s->stream);
    expect_seen(s, "abc2xyd<eof>");
    assert_int_equal(s->packets, 4); /* a, bc, xy, d */
}

static void joined_messages_resume_where_they_stopped(void **state)
{
    struct side *s = *state;
    uint8_t large[2000];

    memset(large, 'L', sizeof(large));
    s->room = 0;
    fake_push_data(s->stream, BYTES("ab"), 0);
    fake_push_data(s->stream, BYTES("cd"), 0);
    fake_push_data(s->stream, bytes_of(large, sizeof(large)), 0);
    for (int i = 0; i < 3; i++) {
        s->room = 1;
        s->endpoint->ops->resume(s->endpoint);
        fake_stream_turn(s->stream);
    }
    expect_seen(s, "abc");
    s->room = 3000;
    s->endpoint->ops->resume(s->endpoint);
    assert_int_equal(s->seen.len, 4 + sizeof(large));
    assert_memory_equal(s->seen.data, "abcdLL", 6);
}

static void joining_has_a_bound(void **state)
{
    struct side *s = *state;
    uint8_t piece[1024] = {0};

    s->room = 0;
    for (int i = 0; i < 60; i++)
        fake_push_data(s->stream, bytes_of(piece, sizeof(piece)), 0);
    s->room = 100 * 1024;
    s->endpoint->ops->resume(s->endpoint);
    fake_stream_turn(s->stream);
    assert_int_equal(s->seen.len, 60 * 1024);
    assert_int_equal(s->packets, 3);
}

static void a_short_take_resumes_where_it_stopped(void **state)
{
    struct side *s = *state;

    s->room = 2;
    fake_push_data(s->stream, BYTES("abcdef"), 0);
    fake_push_exit(s->stream, 7);
    expect_seen(s, "ab");
    s->room = 1;
    s->endpoint->ops->resume(s->endpoint);
    expect_seen(s, "abc");
    s->endpoint->ops->resume(s->endpoint);
    expect_seen(s, "abc");
    s->room = 3;
    s->endpoint->ops->resume(s->endpoint);
    expect_seen(s, "abcdef<exit>");
    s->endpoint->ops->resume(s->endpoint); /* with nothing to do */
    expect_seen(s, "abcdef<exit>");
}

static void the_end_waits_for_a_blocked_action(void **state)
{
    struct side *s = *state;
    uint8_t last[2000] = {0}; /* not joined: it stays the stream's until it is taken */

    s->room = 0;
    fake_push_data(s->stream, bytes_of(last, sizeof(last)), 0);
    fake_stream_end(s->stream, ANSWERED, "status OK");
    fake_stream_turn(s->stream);
    assert_int_equal(s->ended, 0);
    s->room = 2000;
    s->endpoint->ops->resume(s->endpoint);
    assert_int_equal(s->seen.len, sizeof(last));
    assert_int_equal(s->ended, 0); /* control tells the end after the last message was taken */
    fake_stream_turn(s->stream);
    assert_int_equal(s->ended, 1);
    assert_true(s->in_order);
    assert_null(s->endpoint);
}

static void the_end_waits_for_what_is_joined(void **state)
{
    struct side *s = *state;

    s->room = 0;
    fake_push_data(s->stream, BYTES("last"), 0);
    fake_stream_end(s->stream, ANSWERED, "status OK");
    fake_stream_turn(s->stream);
    assert_int_equal(s->ended, 0);
    s->room = 10;
    s->endpoint->ops->resume(s->endpoint);
    expect_seen(s, "last");
    assert_int_equal(s->ended, 1);
    assert_null(s->endpoint);
}

/* A stream that fails may tell its end while an action of it is still in our hands. */
static void a_failure_overtakes_nothing_in_hand(void **state)
{
    struct side *s = *state;

    s->room = 1;
    fake_push_data(s->stream, BYTES("ab"), 0);
    fake_stream_fail_now(s->stream, EXPIRED, "stalled");
    assert_int_equal(s->ended, 0);
    s->room = 1;
    s->endpoint->ops->resume(s->endpoint);
    expect_seen(s, "ab");
    assert_int_equal(s->ended, 1);
    assert_false(s->in_order);
    assert_string_equal(s->why, "stalled");
    assert_null(s->endpoint);
}

static void only_an_answer_is_in_order(void **state)
{
    static const enum outcome outcomes[] = {ABSENT, UNAVAILABLE, EXPIRED};

    for (size_t i = 0; i < 3; i++) {
        struct side *s;
        void *fresh;

        (void)state;
        setup(&fresh);
        s = fresh;
        fake_stream_end(s->stream, outcomes[i], "no");
        assert_int_equal(s->ended, 1);
        assert_false(s->in_order);
        teardown(&fresh);
    }
}

static void stopping_tells_the_policy_why(void **state)
{
    struct side *s = *state;
    const Policy__ChannelEvent *event;

    s->endpoint->ops->stop(s->endpoint, "the client went away");
    s->endpoint = NULL;
    event = fake_closed_stream_sent(s->control);
    assert_int_equal(event->event_case, POLICY__CHANNEL_EVENT__EVENT_CLOSED);
    assert_string_equal(event->closed->error, "the client went away");
    assert_null(fake_closed_stream_sent(s->control));
}

static void events_of_the_client_arrive(void **state)
{
    struct side *s = *state;
    const Policy__ChannelEvent *event;
    Policy__WindowSize size = POLICY__WINDOW_SIZE__INIT;

    size.rows = 50;
    s->endpoint->ops->window_change(s->endpoint, &size);
    s->endpoint->ops->signal(s->endpoint, "HUP");
    s->endpoint->ops->break_request(s->endpoint, 3, 500, true);
    s->endpoint->ops->eof(s->endpoint);
    event = fake_stream_sent(s->stream);
    assert_int_equal(event->window_change->rows, 50);
    event = fake_stream_sent(s->stream);
    assert_string_equal(event->signal->name, "HUP");
    event = fake_stream_sent(s->stream);
    assert_int_equal(event->break_request->id, 3);
    event = fake_stream_sent(s->stream);
    assert_int_equal(event->event_case, POLICY__CHANNEL_EVENT__EVENT_EOF);
}

#define policy_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        policy_test(an_unknown_target_makes_none),
        policy_test(writes_stop_where_the_stream_is_full),
        policy_test(large_writes_are_cut),
        policy_test(every_action_is_carried_out_in_order),
        policy_test(small_messages_leave_together),
        policy_test(joined_messages_resume_where_they_stopped),
        policy_test(joining_has_a_bound),
        policy_test(a_short_take_resumes_where_it_stopped),
        policy_test(the_end_waits_for_a_blocked_action),
        policy_test(the_end_waits_for_what_is_joined),
        policy_test(a_failure_overtakes_nothing_in_hand),
        cmocka_unit_test(only_an_answer_is_in_order),
        policy_test(stopping_tells_the_policy_why),
        policy_test(events_of_the_client_arrive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
