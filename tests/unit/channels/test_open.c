/* CHANNEL_OPEN (RFC 4254 section 5.1), limits, and messages that name no open channel. */
#include "unit/channels/client.h"

#include <stdlib.h>
#include <string.h>

#define PROHIBITED 1
#define UNKNOWN    3
#define SHORTAGE   4

static void unknown_types_are_refused(void **state)
{
    struct client *c = *state;

    fake_deliver(c->transport, OPEN, "suuu", "wormhole", PEER, PEER_ROOM, PEER_PACKET);
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, UNKNOWN, "Unknown channel type", "");
    fake_deliver(c->transport, OPEN, "Suuu", BYTES("session\0"), PEER, PEER_ROOM, PEER_PACKET);
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, UNKNOWN, "Unknown channel type", "");
    fake_deliver(c->transport, OPEN, "suuu", "", PEER, PEER_ROOM, PEER_PACKET);
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, UNKNOWN, "Unknown channel type", "");
    expect_nothing(c);
    assert_int_equal(channels_count(c->channels), 0);
}

static void only_an_explicit_yes_opens(void **state)
{
    struct client *c = *state;

    open_asked(c, PEER);
    fake_fail(c->control, RPC_SESSION_REQUESTED, ABSENT);
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, PROHIBITED, "Session refused", "");
    for (int i = 0; i < 3; i++) {
        open_asked(c, PEER);
        if (i == 0)
            fake_fail(c->control, RPC_SESSION_REQUESTED, UNAVAILABLE);
        else if (i == 1)
            fake_fail(c->control, RPC_SESSION_REQUESTED, EXPIRED);
        else
            fake_answer_wire(c->control, RPC_SESSION_REQUESTED, BYTES(""));
        expect_sent(c, OPEN_FAILURE, "uuss", PEER, PROHIBITED,
                    "Session refused: the policy service gave no answer", "");
    }
    assert_int_equal(channels_count(c->channels), 0);
    fake_deliver(c->transport, REQUEST, "usbs", 0, "exec", true, "run");
    expect_fault(c);
}

static void a_refusal_is_told_as_it_is(void **state)
{
    struct client *c = *state;

    open_asked(c, PEER);
    fake_refuse(c->control, RPC_SESSION_REQUESTED, 4711, "no \xc3\xa4ther");
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, 4711, "no \xc3\xa4ther", "");
    open_asked(c, PEER);
    fake_refuse(c->control, RPC_SESSION_REQUESTED, 0, "");
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, PROHIBITED, "Session refused", "");
}

static void what_this_daemon_cannot_do_refuses(void **state)
{
    struct client *c = *state;
    Policy__SessionAnswer answer = POLICY__SESSION_ANSWER__INIT;
    Policy__ProcessEndpoint process = POLICY__PROCESS_ENDPOINT__INIT;
    Policy__UpstreamEndpoint upstream = POLICY__UPSTREAM_ENDPOINT__INIT;
    Policy__Accept accept = POLICY__ACCEPT__INIT;
    Policy__RecordingOrder recording = POLICY__RECORDING_ORDER__INIT;
    Policy__FileSink sink = POLICY__FILE_SINK__INIT;
    struct fake_message message;

    for (int i = 0; i < 3; i++) {
        policy__session_answer__init(&answer);
        answer.endpoint_case = i == 0   ? POLICY__SESSION_ANSWER__ENDPOINT_PROCESS
                               : i == 1 ? POLICY__SESSION_ANSWER__ENDPOINT_UPSTREAM
                                        : POLICY__SESSION_ANSWER__ENDPOINT_ACCEPT;
        if (i == 0) /* of no program */
            answer.process = &process;
        else if (i == 1) /* of no server */
            answer.upstream = &upstream;
        else
            answer.accept = &accept;
        recording.sink_case = POLICY__RECORDING_ORDER__SINK_FILE;
        recording.file = &sink;
        if (i == 2)
            answer.recording = &recording; /* even if it is not required */
        open_asked(c, PEER);
        fake_answer(c->control, RPC_SESSION_REQUESTED, &answer.base);
        assert_true(fake_sent(c->transport, &message));
        assert_int_equal(message.type, OPEN_FAILURE);
        expect_nothing(c);
    }
    assert_int_equal(channels_count(c->channels), 0);
}

static void a_maximum_packet_of_nothing_is_refused(void **state)
{
    struct client *c = *state;
    struct fake_message message;

    fake_deliver(c->transport, OPEN, "suuu", "session", PEER, PEER_ROOM, 0);
    assert_true(fake_sent(c->transport, &message));
    assert_int_equal(message.type, OPEN_FAILURE);
    assert_int_equal(fake_asked(c->control, RPC_COUNT), 0);
}

/* ---- concurrency and limits */

static void opens_are_answered_in_any_order(void **state)
{
    struct client *c = *state;
    Policy__SessionAnswer accept = POLICY__SESSION_ANSWER__INIT;
    Policy__Accept yes = POLICY__ACCEPT__INIT;

    accept.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_ACCEPT;
    accept.accept = &yes;
    for (uint32_t i = 0; i < 3; i++)
        fake_deliver(c->transport, OPEN, "suuu", "session", PEER + i, PEER_ROOM, PEER_PACKET);
    assert_int_equal(fake_pending(c->control), 3);
    fake_answer_nth(c->control, 2, &accept.base);
    expect_sent(c, CONFIRMATION, "uuuu", PEER + 2, 2, WINDOW, PACKET);
    fake_fail_nth(c->control, 0, EXPIRED);
    assert_true(fake_sent_waiting(c->transport) == 1);
    fake_answer_nth(c->control, 0, &accept.base);
    assert_int_equal(channels_count(c->channels), 2);
}

static void an_unconfirmed_channel_has_no_number(void **state)
{
    static const uint8_t types[] = {ADJUST, DATA, EXTENDED, CH_EOF, CH_CLOSE, REQUEST};

    for (size_t i = 0; i < sizeof(types); i++) {
        struct client *c = *state;

        open_asked(c, PEER);
        fake_deliver(c->transport, types[i], "u", 0);
        expect_fault(c);
        client_restart(c);
    }
}

static void sessions_are_limited(void **state)
{
    struct client *c = *state;

    for (uint32_t i = 0; i < 4; i++)
        open_session(c, PEER + i, i);
    fake_deliver(c->transport, OPEN, "suuu", "session", 99, PEER_ROOM, PEER_PACKET);
    expect_sent(c, OPEN_FAILURE, "uuss", 99, SHORTAGE, "Too many sessions", "");
    fake_deliver(c->transport, CH_CLOSE, "u", 1);
    expect_sent(c, CH_CLOSE, "u", PEER + 1);
    client_turn(c);
    open_session(c, 50, 1); /* its slot is free again */
    channels_set_limits(c->channels, 0, 0);
    fake_deliver(c->transport, OPEN, "suuu", "session", 99, PEER_ROOM, PEER_PACKET);
    expect_sent(c, OPEN_FAILURE, "uuss", 99, SHORTAGE, "Too many sessions", "");
    assert_int_equal(channels_count(c->channels), 4);
}

static void channels_are_limited(void **state)
{
    struct client *c = *state;

    channels_set_limits(c->channels, 100, 2);
    open_session(c, PEER, 0);
    open_asked(c, PEER + 1); /* one that is being asked about counts */
    fake_deliver(c->transport, OPEN, "suuu", "session", 99, PEER_ROOM, PEER_PACKET);
    expect_sent(c, OPEN_FAILURE, "uuss", 99, SHORTAGE, "Too many channels", "");
    expect_nothing(c);
}

static void windows_shrink_as_channels_multiply(void **state)
{
    struct client *c = *state;
    uint64_t sum = 0;

    c->settings = (struct channels_settings){.max_sessions = 1000,
                                             .max_channels = 1000,
                                             .window_bytes = 2 * 1024 * 1024,
                                             .max_packet_bytes = 32768};
    client_start(c);
    for (uint32_t i = 0; i < 1000; i++) {
        struct fake_message message;

        fake_deliver(c->transport, OPEN, "suuu", "session", i, PEER_ROOM, PEER_PACKET);
        fake_accept(c->control, RPC_SESSION_REQUESTED);
        assert_true(fake_sent(c->transport, &message));
        assert_int_equal(message.type, CONFIRMATION);
        sum += (uint32_t)message.rest.data[8] << 24 | (uint32_t)message.rest.data[9] << 16 |
               (uint32_t)message.rest.data[10] << 8 | message.rest.data[11];
    }
    assert_true(sum <= 16 * 1024 * 1024);
}

static void no_more_sessions_is_kept(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    fake_deliver(c->transport, GLOBAL_REQUEST, "sb", "no-more-sessions@openssh.com", false);
    expect_nothing(c);
    fake_deliver(c->transport, OPEN, "suuu", "session", 99, PEER_ROOM, PEER_PACKET);
    expect_fault(c);
    assert_int_equal(fake_pending(c->control), 0);
}

/* ---- the end of the connection */

static void freeing_while_asking_is_silent(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    send_exec(c, 0, "run");
    fake_deliver(c->transport, OPEN, "suuu", "session", 99, PEER_ROOM, PEER_PACKET);
    assert_int_equal(fake_pending(c->control), 2);
    channels_free(&c->channels, NULL);
    assert_int_equal(fake_cancelled(c->control), 2);
    expect_nothing(c);
}

static void after_a_fault_nothing_is_heard(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    fake_deliver(c->transport, CH_EOF, "");
    expect_fault(c);
    fake_deliver(c->transport, DATA, "us", 0, "x");
    fake_deliver(c->transport, OPEN, "suuu", "session", 99, PEER_ROOM, PEER_PACKET);
    fake_deliver(c->transport, GLOBAL_REQUEST, "sb", "x", true);
    expect_no_event(stream);
    assert_int_equal(fake_sent_waiting(c->transport), 0);
    assert_int_equal(fake_pending(c->control), 0);
}

/* ---- malformed messages, cut at every length */

static void malformed_opens_are_faults(void **state)
{
    struct client *c = *state;
    struct buf whole = {0};

    wire_put(&whole, "suuuc", "session", PEER, PEER_ROOM, PEER_PACKET, 0);
    for (size_t len = 0; len <= whole.len; len++) {
        if (len == whole.len - 1)
            continue; /* that one is right */
        fake_deliver_bytes(c->transport, OPEN, bytes_of(whole.data, len));
        expect_fault(c);
        assert_int_equal(fake_pending(c->control), 0);
        client_restart(c);
    }
    buf_clear(&whole);
}

static void malformed_channel_messages_are_faults(void **state)
{
    static const struct {
        uint8_t type;
        const char *fields;
        size_t len;
    } rows[] = {
        {ADJUST, "\0\0\0\0\0\0\0\1", 8},
        {DATA, "\0\0\0\0\0\0\0\1x", 9},
        {EXTENDED, "\0\0\0\0\0\0\0\1\0\0\0\1x", 13},
        {CH_EOF, "\0\0\0\0", 4},
        {CH_CLOSE, "\0\0\0\0", 4},
    };
    struct client *c = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (size_t len = 0; len <= rows[i].len + 1; len++) {
            struct buf message = {0};

            if (len == rows[i].len)
                continue;
            open_session(c, PEER, 0);
            buf_put(&message, bytes_of(rows[i].fields, len < rows[i].len ? len : rows[i].len));
            if (len > rows[i].len)
                buf_put_u8(&message, 0);
            fake_deliver_bytes(c->transport, rows[i].type, buf_bytes(&message));
            expect_fault(c);
            assert_int_equal(channels_count(c->channels), 1);
            buf_clear(&message);
            client_restart(c);
        }
}

static void unknown_channels_are_faults(void **state)
{
    static const uint32_t ids[] = {1, 3, 4, 5, 0x7fffffff, 0x80000000, 0xffffffff};
    struct client *c = *state;

    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        open_session(c, PEER, 0);
        fake_deliver(c->transport, DATA, "us", ids[i], "x");
        expect_fault(c);
        client_restart(c);
    }
}

static void replies_to_opens_we_never_sent_are_faults(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    fake_deliver(c->transport, CONFIRMATION, "uuuu", 0, 1, 2, 3);
    expect_fault(c);
    client_restart(c);
    open_session(c, PEER, 0);
    fake_deliver(c->transport, OPEN_FAILURE, "uuss", 0, 1, "", "");
    expect_fault(c);
}

static void other_numbers_are_not_understood(void **state)
{
    struct client *c = *state;

    for (int type = 83; type < 128; type++)
        if (type < 90 || type > 100)
            fake_deliver(c->transport, (uint8_t)type, "u", 0);
    assert_int_equal(fake_not_understood(c->transport), 7 + 27);
    expect_nothing(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(unknown_types_are_refused),
        client_test(only_an_explicit_yes_opens),
        client_test(a_refusal_is_told_as_it_is),
        client_test(what_this_daemon_cannot_do_refuses),
        client_test(a_maximum_packet_of_nothing_is_refused),
        client_test(opens_are_answered_in_any_order),
        client_test(an_unconfirmed_channel_has_no_number),
        client_test(sessions_are_limited),
        client_test(channels_are_limited),
        client_later_test(windows_shrink_as_channels_multiply),
        client_test(no_more_sessions_is_kept),
        client_test(freeing_while_asking_is_silent),
        client_test(after_a_fault_nothing_is_heard),
        client_test(malformed_opens_are_faults),
        client_test(malformed_channel_messages_are_faults),
        client_test(unknown_channels_are_faults),
        client_test(replies_to_opens_we_never_sent_are_faults),
        client_test(other_numbers_are_not_understood),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
