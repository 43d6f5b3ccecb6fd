/* Channels that the daemon opens to the client (RFC 4254 section 5.1): who may answer, when, and
 * how often. */
#include "unit/channels/client.h"

#include "base/alloc.h"
#include "channels/internal.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#define THEIRS 40u /* the client's number of a channel of ours */

/* What an offer is for, and the endpoint that it becomes. */
struct end {
    struct endpoint base;
    int taken, refused, stopped, eofs;
    uint32_t code;
    char reason[64];
    char got[512];
    bool full; /* write() takes nothing */
    bool gone; /* nothing is left to relay once the client confirms */
    struct channel *channel;
};

static size_t end_write(struct endpoint *endpoint, struct bytes data, uint32_t extended_type)
{
    struct end *end = (struct end *)endpoint;

    assert_int_equal(extended_type, 0);
    if (end->full)
        return 0;
    assert_true(strlen(end->got) + data.len < sizeof(end->got));
    if (data.len > 0)
        memcpy(end->got + strlen(end->got), data.data, data.len);
    return data.len;
}

static void end_eof(struct endpoint *endpoint)
{
    ((struct end *)endpoint)->eofs++;
}

static void end_resume(struct endpoint *endpoint)
{
    (void)endpoint;
}

static void end_stop(struct endpoint *endpoint, const char *error)
{
    (void)error;
    ((struct end *)endpoint)->stopped++;
}

static const struct endpoint_ops end_ops = {
    .name = "test", .write = end_write, .eof = end_eof, .resume = end_resume, .stop = end_stop};

static struct endpoint *on_taken(void *arg, struct channel *channel)
{
    struct end *end = arg;

    end->taken++;
    end->channel = channel;
    end->base.ops = &end_ops;
    return end->gone ? NULL : &end->base;
}

static void on_refused(void *arg, uint32_t code, const char *reason)
{
    struct end *end = arg;

    end->refused++;
    end->code = code;
    snprintf(end->reason, sizeof(end->reason), "%s", reason);
}

static const struct offer_events offer_events = {on_taken, on_refused};

static void offer(struct client *c, struct end *end, uint32_t id)
{
    static const struct bytes fields = {(const uint8_t *)"\0\0\0\1a\0\0\0\2", 9};

    assert_true(channel_offer(c->channels, &x11_kind, fields, &offer_events, end));
    assert_int_equal(end->taken + end->refused, 0);
    expect_sent(c, OPEN, "suuusu", "x11", id, WINDOW, PACKET, "a", 2);
    expect_nothing(c);
}

static void confirm(struct client *c, uint32_t id)
{
    fake_deliver(c->transport, CONFIRMATION, "uuuu", id, THEIRS, PEER_ROOM, PEER_PACKET);
}

static void open_offered(struct client *c, struct end *end, uint32_t id)
{
    offer(c, end, id);
    confirm(c, id);
    assert_int_equal(end->taken, 1);
    assert_int_equal(end->refused, 0);
    expect_nothing(c);
}

/* ---- in order */

static void a_confirmed_channel_carries_both_ways(void **state)
{
    struct client *c = *state;
    struct end end = {0};

    open_offered(c, &end, 0);
    fake_deliver(c->transport, DATA, "us", 0, "in");
    assert_string_equal(end.got, "in");
    assert_int_equal(channel_endpoint_events.data(end.channel, BYTES("out"), 0), 3);
    expect_sent(c, DATA, "us", THEIRS, "out");
    fake_deliver(c->transport, CH_EOF, "u", 0);
    assert_int_equal(end.eofs, 1);
    channel_endpoint_events.eof(end.channel);
    expect_sent(c, CH_EOF, "u", THEIRS);
    channel_endpoint_events.ended(end.channel, true, "");
    expect_sent(c, CH_CLOSE, "u", THEIRS);
    assert_int_equal(end.stopped, 1);
    assert_int_equal(channels_count(c->channels), 1);
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    assert_int_equal(channels_count(c->channels), 0);
    expect_nothing(c);
}

static void its_window_and_packets_are_kept(void **state)
{
    struct client *c = *state;
    struct end end = {0};
    uint8_t xs[200] = {0};

    offer(c, &end, 0);
    fake_deliver(c->transport, CONFIRMATION, "uuuu", 0, THEIRS, 70, 50);
    assert_int_equal(channel_endpoint_events.data(end.channel, bytes_of(xs, 200), 0), 70);
    expect_sent(c, DATA, "uS", THEIRS, bytes_of(xs, 50));
    expect_sent(c, DATA, "uS", THEIRS, bytes_of(xs, 20));
    expect_nothing(c);
    fake_deliver(c->transport, DATA, "uS", 0, bytes_of(xs, 200));
    for (int i = 0; i < 6; i++)
        fake_deliver(c->transport, DATA, "us", 0, "");
    expect_nothing(c);
    fake_deliver(c->transport, EXTENDED, "uus", 0, 1, "x");
    expect_fault(c);
    client_restart(c);
}

static void it_is_no_session(void **state)
{
    static const char *const names[] = {"pty-req", "env",   "shell",  "exec",
                                        "signal",  "break", "x11-req"};
    struct client *c = *state;
    struct end end = {0};

    open_offered(c, &end, 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        send_channel_request(c, 0, names[i], true, "");
        expect_sent(c, FAILURE, "u", THEIRS);
    }
    expect_nothing(c);
    assert_int_equal(fake_asked(c->control, RPC_COUNT), 0);
    for (uint32_t i = 0; i < 4; i++) /* and takes no session's place */
        open_session(c, PEER + i, 1 + i);
    client_restart(c);
}

static void a_refusal_is_told_once(void **state)
{
    struct client *c = *state;
    struct end end = {0};

    offer(c, &end, 0);
    fake_deliver(c->transport, OPEN_FAILURE, "uuss", 0, 4, "no room", "en");
    assert_int_equal(end.refused, 1);
    assert_int_equal(end.taken, 0);
    assert_int_equal(end.code, 4);
    assert_string_equal(end.reason, "no room");
    assert_int_equal(channels_count(c->channels), 0);
    expect_nothing(c);
}

static void what_is_gone_meanwhile_closes(void **state)
{
    struct client *c = *state;
    struct end end = {.gone = true};

    offer(c, &end, 0);
    confirm(c, 0);
    assert_int_equal(end.taken, 1);
    expect_sent(c, CH_EOF, "u", THEIRS);
    expect_sent(c, CH_CLOSE, "u", THEIRS);
    fake_deliver(c->transport, DATA, "us", 0, "under way");
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    expect_nothing(c);
    assert_int_equal(channels_count(c->channels), 0);
}

/* ---- the client closes behind bytes that the endpoint has not taken */

static void what_came_before_a_close_arrives(void **state)
{
    struct client *c = *state;
    struct end end = {.full = true};

    open_offered(c, &end, 0);
    fake_deliver(c->transport, DATA, "us", 0, "last words");
    fake_deliver(c->transport, CH_EOF, "u", 0);
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    client_turn(c);
    expect_nothing(c);
    assert_int_equal(end.stopped, 0);
    assert_int_equal(channel_endpoint_events.data(end.channel, BYTES("too late"), 0), 8);
    expect_nothing(c);
    end.full = false;
    channel_endpoint_events.writable(end.channel, 0);
    assert_string_equal(end.got, "last words");
    assert_int_equal(end.eofs, 1);
    assert_int_equal(end.stopped, 0); /* not from inside writable() */
    client_turn(c);
    assert_int_equal(end.stopped, 1);
    expect_sent(c, CH_CLOSE, "u", THEIRS);
    assert_int_equal(channels_count(c->channels), 0);
}

static void an_end_cuts_the_drain_short(void **state)
{
    struct client *c = *state;
    struct end end = {.full = true}, lost = {.full = true};

    open_offered(c, &end, 0);
    open_offered(c, &lost, 1);
    for (uint32_t id = 0; id < 2; id++) {
        fake_deliver(c->transport, DATA, "us", id, "last words");
        fake_deliver(c->transport, CH_CLOSE, "u", id);
    }
    channel_endpoint_events.ended(end.channel, false, "reset");
    assert_int_equal(end.stopped, 1);
    expect_sent(c, CH_CLOSE, "u", THEIRS);
    channels_free(&c->channels, "lost");
    assert_int_equal(lost.stopped, 1);
    client_turn(c);
    expect_nothing(c);
}

static void a_closed_channel_takes_no_more(void **state)
{
    struct client *c = *state;
    struct end end = {.full = true};

    open_offered(c, &end, 0);
    fake_deliver(c->transport, DATA, "us", 0, "last words");
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    fake_deliver(c->transport, DATA, "us", 0, "more");
    expect_fault(c);
    client_restart(c);
    assert_int_equal(end.stopped, 1);
}

/* ---- out of order */

static void a_second_answer_is_a_fault(void **state)
{
    for (int i = 0; i < 4; i++) {
        struct client *c = *state;
        struct end end = {0};

        offer(c, &end, 0);
        if (i & 1)
            confirm(c, 0);
        else
            fake_deliver(c->transport, OPEN_FAILURE, "uuss", 0, 1, "", "");
        assert_int_equal(end.taken + end.refused, 1);
        if (i & 2)
            confirm(c, 0);
        else
            fake_deliver(c->transport, OPEN_FAILURE, "uuss", 0, 1, "", "");
        expect_fault(c);
        assert_int_equal(end.taken + end.refused, 1);
        client_restart(c);
        assert_int_equal(end.stopped, i & 1);
    }
}

static void nothing_comes_before_the_confirmation(void **state)
{
    static const uint8_t types[] = {ADJUST,   DATA,    EXTENDED, CH_EOF,
                                    CH_CLOSE, REQUEST, SUCCESS,  FAILURE};

    for (size_t i = 0; i < sizeof(types); i++) {
        struct client *c = *state;
        struct end end = {0};

        offer(c, &end, 0);
        fake_deliver(c->transport, types[i], "uu", 0, 0);
        expect_fault(c);
        assert_string_equal(end.got, "");
        client_restart(c);
        assert_int_equal(end.taken, 0);
        assert_int_equal(end.refused, 1);
    }
}

static void answers_to_other_channels_are_faults(void **state)
{
    struct client *c = *state;
    struct end end = {0};

    open_session(c, PEER, 0);
    offer(c, &end, 1);
    confirm(c, 2);
    expect_fault(c);
    client_restart(c);
    memset(&end, 0, sizeof(end));
    open_asked(c, PEER); /* the client's own: the answer is ours to give */
    offer(c, &end, 1);
    confirm(c, 0);
    expect_fault(c);
    assert_int_equal(end.taken, 0);
    client_restart(c);
}

static void malformed_answers_are_faults(void **state)
{
    struct client *c = *state;

    for (size_t len = 4; len < 18; len++) {
        struct end end = {0};

        if (len == 16)
            continue;
        offer(c, &end, 0);
        fake_deliver_bytes(c->transport, CONFIRMATION,
                           bytes_of("\0\0\0\0\0\0\0\1\0\0\0\1\0\0\0\1\0", len));
        expect_fault(c);
        assert_int_equal(end.taken, 0);
        client_restart(c);
    }
    for (size_t len = 4; len < 18; len++) {
        struct end end = {0};

        if (len == 16)
            continue;
        offer(c, &end, 0);
        fake_deliver_bytes(c->transport, OPEN_FAILURE,
                           bytes_of("\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0", len));
        expect_fault(c);
        client_restart(c);
        assert_int_equal(end.refused, 1);
    }
}

static void a_packet_size_of_nothing_is_a_fault(void **state)
{
    struct client *c = *state;
    struct end end = {0};

    offer(c, &end, 0);
    fake_deliver(c->transport, CONFIRMATION, "uuuu", 0, THEIRS, PEER_ROOM, 0);
    expect_fault(c);
    assert_int_equal(end.taken, 0);
    client_restart(c);
}

/* ---- the client that does not answer */

static void offers_count_as_channels(void **state)
{
    struct client *c = *state;
    struct end ends[7] = {{.taken = 0}};

    for (uint32_t i = 0; i < 6; i++)
        offer(c, &ends[i], i);
    assert_false(channel_offer(c->channels, &agent_kind, BYTES(""), &offer_events, &ends[6]));
    fake_deliver(c->transport, OPEN, "suuu", "session", PEER, PEER_ROOM, PEER_PACKET);
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, 4, "Too many channels", "");
    expect_nothing(c);
    assert_int_equal(ends[6].taken + ends[6].refused, 0);
    channels_free(&c->channels, NULL);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(ends[i].refused, 1);
}

static void a_thousand_unanswered_offers_stay_within_bounds(void **state)
{
    struct client *c = *state;
    struct end *ends = xcalloc(1001, sizeof(*ends));
    uint64_t sum = 0;

    c->settings = (struct channels_settings){.max_sessions = 10,
                                             .max_channels = 1000,
                                             .window_bytes = 2 * 1024 * 1024,
                                             .max_packet_bytes = 32768};
    client_start(c);
    for (size_t i = 0; i < 1001; i++) {
        struct fake_message message;
        struct reader r;

        assert_int_equal(
            channel_offer(c->channels, &agent_kind, BYTES(""), &offer_events, &ends[i]), i < 1000);
        if (i == 1000)
            break;
        assert_true(fake_sent(c->transport, &message));
        r = reader_of(message.rest);
        (void)reader_string(&r);
        (void)reader_u32(&r);
        sum += reader_u32(&r);
    }
    assert_true(sum <= 16 * 1024 * 1024);
    channels_free(&c->channels, NULL);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(ends[i].refused, 1);
    assert_int_equal(ends[1000].refused, 0);
    free(ends);
}

static void wait_until_refused(struct client *c, const struct end *end)
{
    while (end->refused == 0) {
        event_base_loop(loop_events(c->loop), EVLOOP_ONCE);
        fake_transport_turn(c->transport);
    }
}

static void an_offer_expires(void **state)
{
    struct client *c = *state;
    struct end end = {0}, other = {0};

    c->settings.open_answer_ms = 1;
    client_start(c);
    offer(c, &end, 0);
    wait_until_refused(c, &end);
    assert_int_equal(end.code, 2);
    expect_nothing(c);
    assert_int_equal(channels_count(c->channels), 1); /* its number may still be answered */
    offer(c, &other, 1);
    confirm(c, 0);
    expect_sent(c, CH_EOF, "u", THEIRS);
    expect_sent(c, CH_CLOSE, "u", THEIRS);
    assert_int_equal(end.taken, 0);
    fake_deliver(c->transport, DATA, "us", 0, "under way");
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    assert_int_equal(channels_count(c->channels), 1);
    wait_until_refused(c, &other);
    fake_deliver(c->transport, OPEN_FAILURE, "uuss", 1, 1, "", "");
    assert_int_equal(other.refused, 1);
    assert_int_equal(channels_count(c->channels), 0);
    expect_nothing(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(a_confirmed_channel_carries_both_ways),
        client_test(its_window_and_packets_are_kept),
        client_test(it_is_no_session),
        client_test(a_refusal_is_told_once),
        client_test(what_is_gone_meanwhile_closes),
        client_test(what_came_before_a_close_arrives),
        client_test(an_end_cuts_the_drain_short),
        client_test(a_closed_channel_takes_no_more),
        client_test(a_second_answer_is_a_fault),
        client_test(nothing_comes_before_the_confirmation),
        client_test(answers_to_other_channels_are_faults),
        client_test(malformed_answers_are_faults),
        client_test(a_packet_size_of_nothing_is_a_fault),
        client_test(offers_count_as_channels),
        client_later_test(a_thousand_unanswered_offers_stay_within_bounds),
        client_later_test(an_offer_expires),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
