/* Streams to a policy in this process: bytes both ways, back-pressure, every end. */
#include "fixture.h"

#include "base/alloc.h"

#include "../cmocka_unit.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK       (32 * 1024)
#define PATIENCE_MS 20000 /* the machine may be busy, and sanitizers are slow */
/* Where it is the point that they pass. */
#define START_MS    1000
#define STALL_MS    1500

struct talk {
    struct fixture *fixture;
    struct stream *stream;
    unsigned readable, writable, ended;
    enum outcome outcome;
    char *why;
    /* what to send, and what has come back */
    uint64_t to_send, sent, taken, got;
    uint64_t sent_hash, got_hash;
    bool finish, full, read_nothing, close_on_end, close_on_read;
    unsigned exit_status;
};

static struct bytes chunk_of(struct talk *talk)
{
    static uint8_t chunk[CHUNK];
    uint64_t left = talk->to_send - talk->sent;
    size_t len = left < sizeof(chunk) ? (size_t)left : sizeof(chunk);

    if (len > stream_largest(talk->stream)) /* which comes back as large, if it comes back */
        len = stream_largest(talk->stream);
    for (size_t i = 0; i < len; i += 61)
        chunk[i] = (uint8_t)(talk->sent + i * 7);
    return bytes_of(chunk, len);
}

static void send_some(struct talk *talk)
{
    while (!talk->full && talk->sent < talk->to_send) {
        struct bytes chunk = chunk_of(talk);

        talk->sent += chunk.len;
        talk->sent_hash = fnv1a(talk->sent_hash, chunk);
        talk->full = !stream_send_data(talk->stream, chunk, 0);
        assert_true(talk->full || stream_room(talk->stream) > 0); /* it can only grow meanwhile */
    }
    if (talk->finish && talk->sent == talk->to_send) {
        talk->finish = false;
        stream_finish(talk->stream);
    }
}

static void on_readable(void *owner)
{
    struct talk *talk = owner;
    const Policy__ChannelAction *action;

    talk->readable++;
    if (talk->close_on_read) {
        stream_close(&talk->stream);
        return;
    }
    while (!talk->read_nothing &&
           (action = (const Policy__ChannelAction *)stream_next(talk->stream)) != NULL) {
        if (action->action_case == POLICY__CHANNEL_ACTION__ACTION_DATA) {
            talk->got += action->data->payload.len;
            talk->got_hash = fnv1a(talk->got_hash,
                                   bytes_of(action->data->payload.data, action->data->payload.len));
        } else if (action->action_case == POLICY__CHANNEL_ACTION__ACTION_EXIT_STATUS) {
            talk->exit_status++;
        }
    }
}

static void on_writable(void *owner)
{
    struct talk *talk = owner;

    talk->writable++;
    talk->taken += stream_taken(talk->stream);
    talk->full = stream_room(talk->stream) == 0;
    send_some(talk);
}

static void on_ended(void *owner, enum outcome outcome, const char *why)
{
    struct talk *talk = owner;

    talk->ended++;
    talk->outcome = outcome;
    free(talk->why);
    talk->why = xstrdup(why);
    talk->taken += stream_taken(talk->stream);
    assert_null(stream_next(talk->stream));
    if (talk->close_on_end)
        stream_close(&talk->stream);
}

static const struct stream_events events = {on_readable, on_writable, on_ended};

static int setup_with(void **state, uint32_t start_ms, uint32_t stall_ms)
{
    struct talk *talk = xcalloc(1, sizeof(*talk));

    talk->fixture = xcalloc(1, sizeof(*talk->fixture));
    fixture_init(talk->fixture);
    talk->fixture->settings.stream_start_ms = start_ms;
    talk->fixture->settings.stream_stall_ms = stall_ms;
    fixture_open(talk->fixture);
    talk->sent_hash = talk->got_hash = FNV1A_START;
    *state = talk;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, PATIENCE_MS, PATIENCE_MS);
}

static int setup_for_start(void **state)
{
    return setup_with(state, START_MS, PATIENCE_MS);
}

static int setup_for_stall(void **state)
{
    return setup_with(state, PATIENCE_MS, STALL_MS);
}

static int teardown(void **state)
{
    struct talk *talk = *state;

    stream_close(&talk->stream);
    fixture_close(talk->fixture);
    free(talk->fixture);
    free(talk->why);
    free(talk);
    return 0;
}

static void script(struct talk *talk, struct script script)
{
    policy_server_set(talk->fixture->policy, "Channel", script);
}

static void open_stream(struct talk *talk)
{
    Policy__ChannelEvent event = POLICY__CHANNEL_EVENT__INIT;
    Policy__ChannelOpened opened = POLICY__CHANNEL_OPENED__INIT;

    talk->stream = asker_open_stream(talk->fixture->asker, RPC_CHANNEL, "", &events, talk);
    opened.context = asker_context(talk->fixture->asker);
    event.event_case = POLICY__CHANNEL_EVENT__EVENT_OPENED;
    event.opened = &opened;
    stream_send(talk->stream, &event.base);
}

static void until_ended(struct talk *talk)
{
    fixture_until(talk->fixture, &talk->ended, 1);
    fixture_run_ms(talk->fixture, 20);
    assert_int_equal(talk->ended, 1);
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define MUCH (20u << 20)
#else
#define MUCH (100u << 20)
#endif

static void echo(void **state)
{
    struct talk *talk = *state;

    script(talk, (struct script){.kind = SCRIPT_ECHO});
    talk->to_send = MUCH;
    talk->finish = true;
    open_stream(talk);
    send_some(talk);
    until_ended(talk);
    assert_int_equal(talk->outcome, ANSWERED);
    assert_int_equal(talk->got, MUCH);
    assert_true(talk->got_hash == talk->sent_hash);
    assert_int_equal(talk->taken, MUCH);
    assert_int_equal(control_counts(talk->fixture->control, RPC_CHANNEL).ended[ANSWERED], 1);
}

static void sink(void **state)
{
    struct talk *talk = *state;
    uint64_t hash;

    script(talk, (struct script){.kind = SCRIPT_SINK});
    talk->to_send = MUCH;
    talk->finish = true;
    talk->close_on_end = true;
    open_stream(talk);
    send_some(talk);
    until_ended(talk);
    assert_int_equal(talk->outcome, ANSWERED);
    assert_int_equal(policy_server_received(talk->fixture->policy, &hash), MUCH);
    assert_true(hash == talk->sent_hash);
    assert_int_equal(talk->exit_status, 1); /* before the end */
}

static void source(void **state)
{
    struct talk *talk = *state;

    script(talk, (struct script){.kind = SCRIPT_SOURCE, .count = MUCH / CHUNK, .size = CHUNK});
    open_stream(talk);
    until_ended(talk);
    assert_int_equal(talk->outcome, ANSWERED);
    assert_int_equal(talk->got, MUCH);
}

/* One message of a mebibyte, larger than window and queue. */
static void large_messages(void **state)
{
    struct talk *talk = *state;

    script(talk, (struct script){.kind = SCRIPT_SOURCE, .count = 8, .size = 1 << 20});
    open_stream(talk);
    until_ended(talk);
    assert_int_equal(talk->outcome, ANSWERED);
    assert_int_equal(talk->got, 8 << 20);
}

/* The policy does not read: so much is taken, and no more; then the write counts as stalled. */
static void policy_that_does_not_read(void **state)
{
    struct talk *talk = *state;
    uint64_t taken;

    script(talk, (struct script){.kind = SCRIPT_STALL});
    talk->to_send = 100 << 20;
    open_stream(talk);
    send_some(talk);
    do {
        taken = talk->taken;
        fixture_run_ms(talk->fixture, 300);
    } while (talk->ended == 0 && (taken == 0 || talk->taken != taken));
    assert_true(talk->full);
    assert_in_range(talk->sent, 512 * 1024, 1 << 20);
    assert_in_range(talk->taken, 1, 256 * 1024);
    assert_int_equal(stream_room(talk->stream), 0);
    until_ended(talk);
    assert_int_equal(talk->outcome, EXPIRED);
    assert_string_equal(talk->why, "a write made no progress for 1500 ms");
}

/* We do not read: the policy stalls, and our queue is bounded. */
static void asker_that_does_not_read(void **state)
{
    struct talk *talk = *state;

    script(talk, (struct script){.kind = SCRIPT_SOURCE, .count = 10000, .size = CHUNK});
    talk->read_nothing = true;
    open_stream(talk);
    fixture_until(talk->fixture, &talk->readable, 1);
    fixture_run_ms(talk->fixture, 300);
    assert_int_equal(talk->readable, 1);
    talk->read_nothing = false;
    /* What waits is what two windows and one queue hold. */
    for (int i = 0; i < 3; i++) {
        const Policy__ChannelAction *action =
            (const Policy__ChannelAction *)stream_next(talk->stream);

        assert_non_null(action);
        assert_int_equal(action->data->payload.len, CHUNK);
    }
    assert_int_equal(talk->ended, 0);
    on_readable(talk); /* goes on where it was */
    for (uint64_t end = clock_ms() + PATIENCE_MS; clock_ms() < end && talk->got < 20 << 20;)
        fixture_run_ms(talk->fixture, 5);
    assert_true(talk->got >= 20 << 20);
}

static void ends_of_the_policy(void **state)
{
    static const struct {
        grpc_status_code status;
        enum outcome outcome;
        const char *why;
    } rows[] = {
        {GRPC_STATUS_OK, ANSWERED, "status OK"},
        {GRPC_STATUS_INTERNAL, UNAVAILABLE, "INTERNAL: so it is"},
        {GRPC_STATUS_CANCELLED, UNAVAILABLE, "CANCELLED: so it is"},
        {GRPC_STATUS_UNIMPLEMENTED, ABSENT, "UNIMPLEMENTED: so it is"},
        {GRPC_STATUS_DEADLINE_EXCEEDED, EXPIRED, "DEADLINE_EXCEEDED: so it is"},
    };
    struct talk *talk = *state;

    talk->close_on_end = true;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        talk->ended = 0;
        script(talk, (struct script){
                         .kind = SCRIPT_STATUS, .status = rows[i].status, .text = "so it is"});
        open_stream(talk);
        until_ended(talk);
        assert_int_equal(talk->outcome, rows[i].outcome);
        assert_string_equal(talk->why, rows[i].why);
        assert_null(talk->stream);
    }
    /* UNIMPLEMENTED after a message is no absence */
    talk->ended = 0;
    script(talk, (struct script){.kind = SCRIPT_SEND,
                                 .answer = BYTES("\x12\x00"),
                                 .status = GRPC_STATUS_UNIMPLEMENTED});
    open_stream(talk);
    until_ended(talk);
    assert_int_equal(talk->outcome, UNAVAILABLE);
}

static void malformed_message_ends_it(void **state)
{
    struct talk *talk = *state;

    script(talk, (struct script){.kind = SCRIPT_SEND, .answer = BYTES("\x12\x00\x1a\x00")});
    open_stream(talk);
    until_ended(talk);
    assert_int_equal(talk->outcome, UNAVAILABLE);
    assert_non_null(strstr(talk->why, "malformed message: ChannelAction: more than one of"));
}

static void not_accepted_in_time(void **state)
{
    struct talk *talk = *state;
    uint64_t start = clock_ms();

    script(talk, (struct script){.kind = SCRIPT_HANG});
    open_stream(talk);
    fixture_until(talk->fixture, &talk->ended, 1);
    assert_int_equal(talk->outcome, EXPIRED);
    assert_in_range(clock_ms() - start, START_MS - 10, PATIENCE_MS - 1);
}

static void unknown_target(void **state)
{
    struct talk *talk = *state;

    assert_true(control_has_target(talk->fixture->control, ""));
    assert_false(control_has_target(talk->fixture->control, "elsewhere"));
    talk->stream = asker_open_stream(talk->fixture->asker, RPC_CHANNEL, "elsewhere", &events, talk);
    assert_int_equal(talk->ended, 0);
    stream_send_data(talk->stream, BYTES("x"), 0);
    stream_finish(talk->stream);
    until_ended(talk);
    assert_int_equal(talk->outcome, UNAVAILABLE);
    assert_string_equal(talk->why, "elsewhere: no such target");
    stream_close(&talk->stream);
    talk->stream = asker_open_stream(talk->fixture->asker, RPC_CHANNEL, "elsewhere", &events, talk);
    stream_close(&talk->stream);
    fixture_run_ms(talk->fixture, 20);
    assert_int_equal(talk->ended, 1);
}

static void no_policy(void **state)
{
    struct talk *talk = *state;

    policy_server_stop(&talk->fixture->policy);
    open_stream(talk);
    until_ended(talk);
    assert_int_equal(talk->outcome, UNAVAILABLE);
}

static void policy_dies(void **state)
{
    struct talk *talk = *state;

    script(talk, (struct script){.kind = SCRIPT_ECHO});
    talk->to_send = CHUNK;
    open_stream(talk);
    send_some(talk);
    fixture_until(talk->fixture, &talk->readable, 1);
    policy_server_stop(&talk->fixture->policy);
    until_ended(talk);
    assert_int_equal(talk->outcome, UNAVAILABLE);
}

static void close_in_every_state(void **state)
{
    struct talk *talk = *state;

    script(talk, (struct script){.kind = SCRIPT_SOURCE, .count = 100000, .size = CHUNK});
    open_stream(talk);
    stream_close(&talk->stream); /* at once */
    assert_null(talk->stream);
    stream_close(&talk->stream);
    for (int i = 0; i < 30; i++) { /* at some time */
        talk->to_send = talk->sent + 10 * CHUNK;
        talk->full = false;
        open_stream(talk);
        send_some(talk);
        fixture_run_ms(talk->fixture, (unsigned)i % 10);
        stream_close(&talk->stream);
    }
    talk->close_on_read = true; /* from its own callback */
    open_stream(talk);
    fixture_until(talk->fixture, &talk->readable, talk->readable + 1);
    assert_null(talk->stream);
    assert_int_equal(talk->ended, 0);
}

/* Finished and closed: what is queued still arrives. */
static void lingers(void **state)
{
    struct talk *talk = *state;
    uint64_t hash, received = 0;

    script(talk, (struct script){.kind = SCRIPT_SINK});
    talk->to_send = 400 * 1024;
    open_stream(talk);
    send_some(talk);
    stream_finish(talk->stream);
    stream_close(&talk->stream);
    for (uint64_t end = clock_ms() + PATIENCE_MS; clock_ms() < end && received < talk->sent;) {
        fixture_run_ms(talk->fixture, 5);
        received = policy_server_received(talk->fixture->policy, &hash);
    }
    assert_int_equal(received, talk->sent);
    assert_true(hash == talk->sent_hash);
    assert_int_equal(talk->ended, 0);
}

static void broken_text_ends_it(void **state)
{
    struct talk *talk = *state;
    Policy__ChannelEvent event = POLICY__CHANNEL_EVENT__INIT;
    Policy__Signal signal = POLICY__SIGNAL__INIT;

    script(talk, (struct script){.kind = SCRIPT_ECHO});
    open_stream(talk);
    signal.name = (char *)"\xff";
    event.event_case = POLICY__CHANNEL_EVENT__EVENT_SIGNAL;
    event.signal = &signal;
    assert_false(stream_send(talk->stream, &event.base));
    until_ended(talk);
    assert_int_equal(talk->outcome, UNAVAILABLE);
}

/* Many at once, closed at random: everything comes back. */
static void many(void **state)
{
    struct talk *first = *state;
    struct talk *talks = xcalloc(100, sizeof(*talks));

    script(first, (struct script){.kind = SCRIPT_ECHO});
    for (int i = 0; i < 100; i++) {
        talks[i].fixture = first->fixture;
        talks[i].sent_hash = talks[i].got_hash = FNV1A_START;
        talks[i].to_send = 10 * CHUNK;
        talks[i].finish = true;
        open_stream(&talks[i]);
        send_some(&talks[i]);
        if (i % 3 == 0)
            fixture_run_ms(first->fixture, 1);
        if (i % 5 == 0)
            stream_close(&talks[i].stream);
    }
    for (int i = 0; i < 100; i++) {
        if (i % 5 == 0)
            continue;
        fixture_until(first->fixture, &talks[i].ended, 1);
        assert_int_equal(talks[i].outcome, ANSWERED);
        assert_true(talks[i].got_hash == talks[i].sent_hash);
        stream_close(&talks[i].stream);
    }
    for (int i = 0; i < 100; i++)
        free(talks[i].why);
    free(talks);
}

int main(void)
{
#define TEST_WITH(setup, name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST(name)             TEST_WITH(setup, name)
    const struct CMUnitTest tests[] = {
        TEST(echo),
        TEST(sink),
        TEST(source),
        TEST(large_messages),
        TEST_WITH(setup_for_stall, policy_that_does_not_read),
        TEST(asker_that_does_not_read),
        TEST(ends_of_the_policy),
        TEST(malformed_message_ends_it),
        TEST_WITH(setup_for_start, not_accepted_in_time),
        TEST(unknown_target),
        TEST(no_policy),
        TEST(policy_dies),
        TEST(close_in_every_state),
        TEST(lingers),
        TEST(broken_text_ends_it),
        TEST(many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
