/* Data from the policy to the client: its window, its packets, the transport's room. */
#include "unit/channels/client.h"

#include <stdlib.h>
#include <string.h>

static char text[200000]; /* filled with 'x' in main */

static struct bytes xs(size_t len)
{
    return bytes_of(text, len);
}

/* ---- policy to client */

static void data_keeps_within_the_peers_packet_and_window(void **state)
{
    struct client *c = *state;
    struct stream *stream;

    open_asked(c, PEER);
    channels_free(&c->channels, NULL);
    client_start(c);
    fake_deliver(c->transport, OPEN, "suuu", "session", PEER, 120, PEER_PACKET);
    fake_accept(c->control, RPC_SESSION_REQUESTED);
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    send_exec(c, 0, "run");
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    expect_sent(c, SUCCESS, "u", PEER);
    stream = fake_stream(c->control, 0);
    fake_push_data(stream, xs(130), 0);
    fake_push_data(stream, BYTES("err"), 1);
    expect_sent(c, DATA, "uS", PEER, xs(50));
    expect_sent(c, DATA, "uS", PEER, xs(50));
    expect_sent(c, DATA, "uS", PEER, xs(20));
    expect_nothing(c);
    assert_int_equal(fake_stream_unread(stream), 1); /* the policy's stream stalls */
    fake_deliver(c->transport, ADJUST, "uu", 0, 9);
    expect_sent(c, DATA, "uS", PEER, xs(9));
    fake_deliver(c->transport, ADJUST, "uu", 0, 3);
    expect_sent(c, DATA, "uS", PEER, xs(1));
    expect_sent(c, EXTENDED, "uus", PEER, 1, "er");
    expect_nothing(c);
    fake_deliver(c->transport, ADJUST, "uu", 0, 0);
    expect_nothing(c);
    fake_deliver(c->transport, ADJUST, "uu", 0, 1);
    expect_sent(c, EXTENDED, "uus", PEER, 1, "r");
}

/* eow@openssh.com: the client has nowhere to put it. */
static void unwanted_output_is_dropped(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);
    const Policy__ChannelEvent *event;

    fake_push_data(stream, xs(PEER_ROOM + 10), 0);
    for (size_t sent = 0; sent < PEER_ROOM; sent += PEER_PACKET)
        expect_sent(c, DATA, "uS", PEER, xs(PEER_PACKET));
    fake_push_data(stream, BYTES("behind it"), 0);
    assert_int_equal(fake_stream_unread(stream), 1);
    send_channel_request(c, 0, "eow@openssh.com", false, "");
    event = fake_stream_sent(stream);
    assert_int_equal(event->event_case, POLICY__CHANNEL_EVENT__EVENT_SIGNAL);
    assert_string_equal(event->signal->name, "PIPE");
    assert_int_equal(fake_stream_unread(stream), 0); /* what waited, too */
    send_channel_request(c, 0, "eow@openssh.com", true, "");
    expect_sent(c, SUCCESS, "u", PEER);
    expect_no_event(stream); /* told once */
    fake_push_data(stream, BYTES("more"), 0);
    expect_nothing(c);
    fake_deliver(c->transport, ADJUST, "uu", 0, 100);
    fake_push_data(stream, BYTES("why"), 1);
    expect_sent(c, EXTENDED, "uus", PEER, 1, "why");
    fake_deliver(c->transport, DATA, "us", 0, "input");
    expect_event_data(stream, "input");
    fake_push_exit(stream, 0);
    expect_sent(c, REQUEST, "usbu", PEER, "exit-status", false, 0);
    send_channel_request(c, 0, "eow@openssh.com", false, "u", 1);
    expect_fault(c);
}

static void flow_control_is_told(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);
    Policy__ChannelAction action = POLICY__CHANNEL_ACTION__INIT;
    Policy__ClientFlowControl may = POLICY__CLIENT_FLOW_CONTROL__INIT;

    action.action_case = POLICY__CHANNEL_ACTION__ACTION_CLIENT_FLOW_CONTROL;
    action.client_flow_control = &may;
    for (int i = 0; i < 2; i++) {
        may.can_do = i == 0;
        fake_stream_push(stream, &action.base);
        expect_sent(c, REQUEST, "usbb", PEER, "xon-xoff", false, i == 0);
    }
    expect_nothing(c);
}

/* An upstream, or the policy, may send more of it than the client reads. */
static void flow_control_waits_for_room(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);
    Policy__ChannelAction action = POLICY__CHANNEL_ACTION__INIT;
    Policy__ClientFlowControl may = POLICY__CLIENT_FLOW_CONTROL__INIT;

    action.action_case = POLICY__CHANNEL_ACTION__ACTION_CLIENT_FLOW_CONTROL;
    action.client_flow_control = &may;
    fake_set_room(c->transport, 0);
    for (int i = 0; i < 100; i++) {
        may.can_do = i % 2 == 0;
        fake_stream_push(stream, &action.base);
    }
    expect_nothing(c);
    fake_set_room(c->transport, 1000);
    expect_sent(c, REQUEST, "usbb", PEER, "xon-xoff", false, false);
    expect_nothing(c);
    may.can_do = true;
    fake_stream_push(stream, &action.base);
    expect_sent(c, REQUEST, "usbb", PEER, "xon-xoff", false, true);
    fake_set_room(c->transport, 0);
    fake_set_room(c->transport, 1000);
    expect_nothing(c);
}

static void our_own_packet_size_bounds_the_peers(void **state)
{
    struct client *c = *state;
    struct stream *stream;

    fake_deliver(c->transport, OPEN, "suuu", "session", PEER, UINT32_MAX, UINT32_MAX);
    fake_accept(c->control, RPC_SESSION_REQUESTED);
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    send_exec(c, 0, "run");
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    expect_sent(c, SUCCESS, "u", PEER);
    stream = fake_stream(c->control, 0);
    fake_push_data(stream, xs(PACKET + 1), 0);
    expect_sent(c, DATA, "uS", PEER, xs(PACKET));
    expect_sent(c, DATA, "uS", PEER, xs(1));
}

static void the_peers_window_may_reach_its_limit(void **state)
{
    struct client *c = *state;

    open_exec(c, PEER, 0);
    fake_deliver(c->transport, ADJUST, "uu", 0, UINT32_MAX - PEER_ROOM);
    expect_nothing(c);
    fake_deliver(c->transport, ADJUST, "uu", 0, 1);
    expect_fault(c);
}

static void a_starved_channel_goes_on_when_there_is_room(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    fake_set_room(c->transport, 0);
    fake_push_data(stream, BYTES("abc"), 0);
    fake_push_exit(stream, 3);
    fake_stream_end(stream, ANSWERED, "ok");
    expect_nothing(c);
    assert_false(fake_stream_told_end(stream)); /* it ends behind its data */
    fake_deliver(c->transport, ADJUST, "uu", 0, 10);
    expect_nothing(c); /* window alone is not enough */
    fake_set_room(c->transport, 1000);
    expect_sent(c, DATA, "us", PEER, "abc");
    expect_sent(c, REQUEST, "usbu", PEER, "exit-status", false, 3);
    fake_stream_turn(stream);
    expect_sent(c, CH_EOF, "u", PEER);
    expect_sent(c, CH_CLOSE, "u", PEER);
}

/* One message larger than one turn's share must not wait for news that never come. */
static void a_large_message_does_not_stall(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);
    struct fake_message message;
    size_t bytes = 0;

    fake_deliver(c->transport, ADJUST, "uu", 0, 1000000);
    fake_set_room(c->transport, 1000000);
    fake_push_data(stream, xs(sizeof(text)), 0);
    client_turn(c);
    while (fake_sent(c->transport, &message))
        bytes += message.rest.len - 8;
    assert_int_equal(bytes, sizeof(text));
}

static void nothing_is_sent_beyond_the_room(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    fake_set_room(c->transport, 70);
    fake_push_data(stream, xs(1000), 0);
    expect_sent(c, DATA, "uS", PEER, xs(50));
    expect_sent(c, DATA, "uS", PEER, xs(50)); /* at most the last packet goes over */
    expect_nothing(c);
}

static void starved_channels_take_turns(void **state)
{
    struct client *c = *state;
    struct stream *streams[3];
    int served[3] = {0};
    struct fake_message message;

    for (uint32_t i = 0; i < 3; i++)
        streams[i] = open_exec(c, PEER + i, i);
    fake_set_room(c->transport, 0);
    for (uint32_t i = 0; i < 3; i++)
        fake_push_data(streams[i], xs(1000), 0);
    for (int round = 0; round < 12; round++)
        fake_set_room(c->transport, PEER_PACKET); /* for one packet */
    while (fake_sent(c->transport, &message))
        served[message.rest.data[3] - PEER]++;
    for (int i = 0; i < 3; i++)
        assert_int_equal(served[i], 4);
}

static void data_behind_our_eof_is_dropped(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    fake_push_eof(stream);
    fake_push_data(stream, BYTES("late"), 0);
    fake_push_eof(stream);
    expect_sent(c, CH_EOF, "u", PEER);
    expect_nothing(c);
    fake_push_exit(stream, 0);
    expect_sent(c, REQUEST, "usbu", PEER, "exit-status", false, 0);
}

static void half_open_channels_carry_on(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    fake_deliver(c->transport, CH_EOF, "u", 0);
    expect_event(stream, POLICY__CHANNEL_EVENT__EVENT_EOF);
    fake_push_data(stream, BYTES("result"), 0);
    expect_sent(c, DATA, "us", PEER, "result");
    expect_nothing(c);
}

static void options_of_the_answer_shrink_window_and_packet(void **state)
{
    struct client *c = *state;
    Policy__SessionAnswer answer = POLICY__SESSION_ANSWER__INIT;
    Policy__Accept accept = POLICY__ACCEPT__INIT;
    Policy__ChannelOptions options = POLICY__CHANNEL_OPTIONS__INIT;
    struct stream *stream;

    options.window_bytes = 1;
    options.max_packet_bytes = 20;
    answer.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_ACCEPT;
    answer.accept = &accept;
    answer.options = &options;
    open_asked(c, PEER);
    fake_answer(c->control, RPC_SESSION_REQUESTED, &answer.base);
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, 1, 20);
    send_exec(c, 0, "run");
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    expect_sent(c, SUCCESS, "u", PEER);
    stream = fake_stream(c->control, 0);
    fake_deliver(c->transport, DATA, "us", 0, "x");
    fake_stream_read(stream, 0);
    expect_nothing(c); /* no adjustment by nothing */
    fake_stream_read(stream, 1);
    expect_sent(c, ADJUST, "uu", PEER, 1);
    fake_deliver(c->transport, DATA, "us", 0, "xy");
    expect_fault(c);
}

static void options_cannot_widen(void **state)
{
    struct client *c = *state;
    Policy__SessionAnswer answer = POLICY__SESSION_ANSWER__INIT;
    Policy__Accept accept = POLICY__ACCEPT__INIT;
    Policy__ChannelOptions options = POLICY__CHANNEL_OPTIONS__INIT;

    options.window_bytes = UINT32_MAX;
    options.max_packet_bytes = UINT32_MAX;
    answer.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_ACCEPT;
    answer.accept = &accept;
    answer.options = &options;
    open_asked(c, PEER);
    fake_answer(c->control, RPC_SESSION_REQUESTED, &answer.base);
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(data_keeps_within_the_peers_packet_and_window),
        client_test(unwanted_output_is_dropped),
        client_test(flow_control_is_told),
        client_test(flow_control_waits_for_room),
        client_test(our_own_packet_size_bounds_the_peers),
        client_test(the_peers_window_may_reach_its_limit),
        client_test(a_starved_channel_goes_on_when_there_is_room),
        client_test(a_large_message_does_not_stall),
        client_test(nothing_is_sent_beyond_the_room),
        client_test(starved_channels_take_turns),
        client_test(data_behind_our_eof_is_dropped),
        client_test(half_open_channels_carry_on),
        client_test(options_of_the_answer_shrink_window_and_packet),
        client_test(options_cannot_widen),
    };

    memset(text, 'x', sizeof(text));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
