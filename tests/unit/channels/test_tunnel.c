/* tun@openssh.com: what is asked, and that one message is one packet, whole or lost, both ways. */
#include "unit/channels/client.h"

#include <string.h>

enum { PROHIBITED = 1, TUN = 1, TAP = 2, ANY = 0x7fffffff, INET = 2, INET6 = 24 };

static void open_tunnel(struct client *c, uint32_t mode, uint32_t unit)
{
    fake_deliver(c->transport, OPEN, "suuuuu", "tun@openssh.com", PEER, PEER_ROOM, PEER_PACKET,
                 mode, unit);
}

static void answer(struct client *c, enum rpc rpc, Policy__OpenAnswer__EndpointCase kind,
                   void *message)
{
    Policy__OpenAnswer open = POLICY__OPEN_ANSWER__INIT;

    open.endpoint_case = kind;
    open.refuse = message; /* every member of the oneof is a message pointer */
    fake_answer(c->control, rpc, &open.base);
}

static void expect_refused(struct client *c, uint32_t code, const char *reason)
{
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, code, reason, "");
    expect_nothing(c);
    assert_int_equal(channels_count(c->channels), 0);
}

/* The policy's side of a tunnel, what it is told first already taken. */
static struct stream *open_stream(struct client *c, uint32_t mode)
{
    Policy__StreamEndpoint target = POLICY__STREAM_ENDPOINT__INIT;
    struct stream *stream;
    const Policy__ChannelEvent *event;

    open_tunnel(c, mode, ANY);
    answer(c, mode == TAP ? RPC_TAP_REQUESTED : RPC_TUN_REQUESTED,
           POLICY__OPEN_ANSWER__ENDPOINT_STREAM, &target);
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    stream = fake_stream(c->control, 0);
    event = fake_stream_sent(stream);
    assert_int_equal(event->opened->kind_case, mode == TAP ? POLICY__CHANNEL_OPENED__KIND_TAP
                                                           : POLICY__CHANNEL_OPENED__KIND_TUN);
    return stream;
}

/* Looks like an IP packet of that version; valid until the next call. */
static struct bytes ip(int version, size_t len)
{
    static uint8_t packet[2000];

    memset(packet, 'p', len);
    packet[0] = (uint8_t)(version << 4 | 5);
    return bytes_of(packet, len);
}

static void expect_packet(struct stream *stream, struct bytes packet)
{
    const Policy__ChannelEvent *event = fake_stream_sent(stream);

    assert_non_null(event);
    assert_int_equal(event->event_case, POLICY__CHANNEL_EVENT__EVENT_DATA);
    assert_true(bytes_equal(bytes_of(event->data->payload.data, event->data->payload.len), packet));
}

/* ---- the open */

static void the_question_names_the_unit_if_there_is_one(void **state)
{
    struct client *c = *state;
    const Policy__TunTapRequestedRequest *asked;

    open_tunnel(c, TUN, 5);
    asked = fake_question(c->control, RPC_TUN_REQUESTED);
    assert_int_equal(asked->wanted_case, POLICY__TUN_TAP_REQUESTED_REQUEST__WANTED_UNIT);
    assert_int_equal(asked->unit, 5);
    open_tunnel(c, TAP, ANY);
    asked = fake_question(c->control, RPC_TAP_REQUESTED);
    assert_int_equal(asked->wanted_case, POLICY__TUN_TAP_REQUESTED_REQUEST__WANTED__NOT_SET);
    assert_int_equal(asked->channel, 1);
}

static void only_an_explicit_yes_opens(void **state)
{
    static const enum outcome outcomes[] = {ABSENT, UNAVAILABLE, EXPIRED};
    struct client *c = *state;
    Policy__Refuse refuse = POLICY__REFUSE__INIT;
    Policy__UpstreamEndpoint upstream = POLICY__UPSTREAM_ENDPOINT__INIT;
    Policy__StreamEndpoint stream = POLICY__STREAM_ENDPOINT__INIT;

    for (size_t i = 0; i < 3; i++) {
        open_tunnel(c, TUN, ANY);
        fake_fail(c->control, RPC_TUN_REQUESTED, outcomes[i]);
        expect_refused(c, PROHIBITED,
                       i == 0 ? "Tunnels are not permitted" : "The policy service gave no answer");
    }
    open_tunnel(c, TAP, ANY);
    refuse.code = 4711;
    refuse.reason = "because";
    answer(c, RPC_TAP_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_REFUSE, &refuse);
    expect_refused(c, 4711, "because");
    open_tunnel(c, TUN, ANY);
    answer(c, RPC_TUN_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_UPSTREAM, &upstream);
    expect_refused(c, PROHIBITED, "The policy chose an endpoint that this server does not have");
    open_tunnel(c, TUN, ANY);
    stream.target = "nowhere";
    answer(c, RPC_TUN_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_STREAM, &stream);
    expect_refused(c, PROHIBITED, "The stream target is not configured");
}

static void tunnels_that_are_none_are_never_asked_about(void **state)
{
    static const uint32_t rows[][2] = {
        {0, 0}, {3, 0}, {UINT32_MAX, ANY}, {TUN, 0x80000000}, {TAP, UINT32_MAX}};
    struct client *c = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        open_tunnel(c, rows[i][0], rows[i][1]);
        expect_refused(c, PROHIBITED, "No such tunnel");
    }
    assert_int_equal(fake_asked(c->control, RPC_COUNT), 0);
}

static void malformed_opens_are_faults(void **state)
{
    struct client *c = *state;

    fake_deliver(c->transport, OPEN, "suuuu", "tun@openssh.com", PEER, PEER_ROOM, PEER_PACKET, TUN);
    expect_fault(c);
    client_restart(c);
    fake_deliver(c->transport, OPEN, "suuuuuc", "tun@openssh.com", PEER, PEER_ROOM, PEER_PACKET,
                 TUN, ANY, 0);
    expect_fault(c);
}

static void restrictions_come_before_the_question_and_after_it(void **state)
{
    static Policy__Restrictions *list[1];
    struct client *c = *state;
    Policy__Restrictions restrictions = POLICY__RESTRICTIONS__INIT;
    Policy__StreamEndpoint stream = POLICY__STREAM_ENDPOINT__INIT;

    open_stream(c, TUN);
    open_tunnel(c, TAP, ANY);
    restrictions.no_tunnel = true;
    list[0] = &restrictions;
    c->rules.restrictions = list;
    c->rules.restriction_count = 1;
    channels_tighten(c->channels, &c->rules);
    expect_sent(c, CH_EOF, "u", PEER);
    expect_sent(c, CH_CLOSE, "u", PEER);
    answer(c, RPC_TAP_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_STREAM, &stream);
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, PROHIBITED, "Tunnels are not permitted", "");
    open_tunnel(c, TUN, ANY);
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, PROHIBITED, "Tunnels are not permitted", "");
    assert_int_equal(fake_asked(c->control, RPC_TUN_REQUESTED), 1);
}

static void a_forward_that_is_no_device_is_refused(void **state)
{
    struct client *c = *state;
    uint8_t slash = '/';

    for (int i = 0; i < 4; i++) {
        Policy__ForwardEndpoint forward = POLICY__FORWARD_ENDPOINT__INIT;

        if (i == 0)
            forward.host = "localhost";
        else if (i == 1)
            forward.port = 1;
        else if (i == 2)
            forward.path = (ProtobufCBinaryData){1, &slash};
        else
            forward.source_address = "127.0.0.1";
        open_tunnel(c, TUN, ANY);
        answer(c, RPC_TUN_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_FORWARD, &forward);
        expect_refused(c, PROHIBITED, "The policy chose no device");
    }
}

/* ---- packets */

static void the_address_family_stays_on_the_wire(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_stream(c, TUN);

    fake_deliver(c->transport, DATA, "uS", 0, BYTES("\0\0\0\2\1052345678901234567890"));
    expect_packet(stream, BYTES("\1052345678901234567890"));
    fake_push_data(stream, ip(4, 20), 0);
    fake_push_data(stream, ip(6, 40), 0);
    expect_sent(c, DATA, "uuuR", PEER, 24, INET, ip(4, 20));
    expect_sent(c, DATA, "uuuR", PEER, 44, INET6, ip(6, 40));
    expect_nothing(c);
}

static void frames_travel_as_they_are(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_stream(c, TAP);

    fake_deliver(c->transport, DATA, "uS", 0, ip(0, 14));
    expect_packet(stream, ip(0, 14));
    fake_deliver(c->transport, DATA, "uS", 0, ip(0, 13));
    expect_no_event(stream);
    fake_push_data(stream, ip(1, 50), 0);
    fake_push_data(stream, ip(1, 13), 0);
    fake_push_data(stream, ip(2, 14), 0);
    expect_sent(c, DATA, "uS", PEER, ip(1, 50));
    expect_sent(c, DATA, "uS", PEER, ip(2, 14));
    expect_nothing(c);
}

/* Each loses one packet, and no window. */
static void what_is_no_packet_is_lost(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_stream(c, TUN);

    fake_deliver(c->transport, DATA, "us", 0, "");
    fake_deliver(c->transport, DATA, "us", 0, "abc");
    fake_deliver(c->transport, DATA, "uuu", 0, 4, INET);
    fake_deliver(c->transport, DATA, "uuuR", 0, 23, INET, ip(4, 19));
    fake_deliver(c->transport, DATA, "uuuR", 0, 43, INET6, ip(6, 39));
    fake_deliver(c->transport, DATA, "uuuR", 0, 44, INET, ip(6, 40));
    fake_deliver(c->transport, DATA, "uuuR", 0, 24, INET6, ip(4, 20));
    fake_deliver(c->transport, DATA, "uuuR", 0, 24, 10, ip(6, 20));
    fake_deliver(c->transport, DATA, "uuuR", 0, 24, INET, ip(5, 20));
    fake_push_data(stream, ip(4, 19), 0);
    fake_push_data(stream, ip(6, 39), 0);
    fake_push_data(stream, ip(7, 40), 0);
    fake_push_data(stream, ip(4, 20), 1); /* no tunnel has an error stream */
    expect_no_event(stream);
    expect_nothing(c);
    for (size_t lost = 189; lost + 1000 < WINDOW / 2; lost += 1000)
        fake_deliver(c->transport, DATA, "uuuR", 0, 1000, 10, ip(4, 996));
    expect_nothing(c);
    fake_deliver(c->transport, DATA, "uuuR", 0, 1000, 10, ip(4, 996));
    expect_sent(c, ADJUST, "uu", PEER, 5189);
    fake_deliver(c->transport, DATA, "uuuR", 0, 24, INET, ip(4, 20));
    expect_packet(stream, ip(4, 20));
}

static void packets_that_wait_stay_packets(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_stream(c, TUN);

    fake_stream_set_room(stream, 10);
    fake_deliver(c->transport, DATA, "uuuR", 0, 1000, INET, ip(4, 996)); /* whole, or not at all */
    expect_packet(stream, ip(4, 996));
    fake_deliver(c->transport, DATA, "uuuR", 0, 24, INET, ip(4, 20));
    fake_deliver(c->transport, DATA, "uuuR", 0, 54, INET6, ip(6, 50));
    fake_deliver(c->transport, DATA, "us", 0, "none");
    fake_deliver(c->transport, DATA, "uuuR", 0, 25, INET, ip(4, 21));
    fake_deliver(c->transport, CH_EOF, "u", 0);
    expect_no_event(stream);
    fake_stream_read(stream, 996);
    expect_packet(stream, ip(4, 20));
    expect_packet(stream, ip(6, 50));
    expect_packet(stream, ip(4, 21));
    expect_event(stream, POLICY__CHANNEL_EVENT__EVENT_EOF);
    expect_no_event(stream);
}

/* What the client will never have room for is lost; what it will have room for waits. */
static void packets_fit_the_client_or_wait_or_are_lost(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_stream(c, TUN);
    size_t window = PEER_ROOM;

    fake_push_data(stream, ip(4, 47), 0); /* 51 bytes with the family */
    expect_nothing(c);
    while (window >= PEER_PACKET) {
        fake_push_data(stream, ip(4, 46), 0);
        expect_sent(c, DATA, "uuuR", PEER, 50, INET, ip(4, 46));
        window -= 50;
    }
    fake_push_data(stream, ip(4, 20), 0);
    fake_push_data(stream, ip(4, 21), 0);
    expect_nothing(c);
    assert_int_equal(fake_stream_unread(stream), 1); /* the other one is being sent */
    fake_deliver(c->transport, ADJUST, "uu", 0, 40);
    expect_nothing(c); /* less than a packet: more will come */
    fake_deliver(c->transport, ADJUST, "uu", 0, 40);
    expect_sent(c, DATA, "uuuR", PEER, 24, INET, ip(4, 20));
    expect_sent(c, DATA, "uuuR", PEER, 25, INET, ip(4, 21));
    expect_nothing(c);
}

static void the_transport_is_waited_for(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_stream(c, TUN);

    fake_set_room(c->transport, 0);
    fake_push_data(stream, ip(4, 20), 0);
    fake_push_data(stream, ip(4, 21), 0);
    expect_nothing(c);
    fake_set_room(c->transport, 1000);
    fake_transport_turn(c->transport);
    expect_sent(c, DATA, "uuuR", PEER, 24, INET, ip(4, 20));
    expect_sent(c, DATA, "uuuR", PEER, 25, INET, ip(4, 21));
}

/* A small window all of which one packet would need. */
static void no_window_is_too_small_to_go_on(void **state)
{
    struct client *c = *state;
    Policy__StreamEndpoint target = POLICY__STREAM_ENDPOINT__INIT;
    struct stream *stream;

    fake_deliver(c->transport, OPEN, "suuuuu", "tun@openssh.com", PEER, 45, PEER_PACKET, TUN, ANY);
    answer(c, RPC_TUN_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_STREAM, &target);
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    stream = fake_stream(c->control, 0);
    fake_push_data(stream, ip(4, 46), 0); /* never fits: lost */
    fake_push_data(stream, ip(4, 20), 0);
    expect_sent(c, DATA, "uuuR", PEER, 24, INET, ip(4, 20));
    fake_push_data(stream, ip(4, 20), 0); /* 21 are left, less than half */
    expect_nothing(c);
    fake_deliver(c->transport, ADJUST, "uu", 0, 24);
    expect_sent(c, DATA, "uuuR", PEER, 24, INET, ip(4, 20));
}

/* It counts four bytes more against its window and its maximum for each packet. */
static void openssh_counts_the_length_too(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_stream(c, TUN);
    size_t window = PEER_ROOM;

    fake_set_client_version(c->transport, "SSH-2.0-OpenSSH_9.2p1");
    fake_push_data(stream, ip(4, 43), 0); /* 51 */
    expect_nothing(c);
    while (window >= PEER_PACKET) {
        fake_push_data(stream, ip(4, 42), 0);
        expect_sent(c, DATA, "uuuR", PEER, 46, INET, ip(4, 42));
        window -= 50;
    }
    fake_push_data(stream, ip(4, 20), 0);
    expect_nothing(c);
}

static void a_closed_tunnel_ends_its_stream(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_stream(c, TAP);

    fake_stream_set_room(stream, 0);
    fake_deliver(c->transport, DATA, "uS", 0, ip(0, 14));
    fake_stream_end(stream, ANSWERED, "");
    expect_sent(c, CH_EOF, "u", PEER);
    expect_sent(c, CH_CLOSE, "u", PEER);
    fake_deliver(c->transport, DATA, "uS", 0, ip(0, 14));
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    expect_nothing(c);
    assert_int_equal(channels_count(c->channels), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(the_question_names_the_unit_if_there_is_one),
        client_test(only_an_explicit_yes_opens),
        client_test(tunnels_that_are_none_are_never_asked_about),
        client_test(malformed_opens_are_faults),
        client_test(restrictions_come_before_the_question_and_after_it),
        client_test(a_forward_that_is_no_device_is_refused),
        client_test(the_address_family_stays_on_the_wire),
        client_test(frames_travel_as_they_are),
        client_test(what_is_no_packet_is_lost),
        client_test(packets_that_wait_stay_packets),
        client_test(packets_fit_the_client_or_wait_or_are_lost),
        client_test(the_transport_is_waited_for),
        client_test(no_window_is_too_small_to_go_on),
        client_test(openssh_counts_the_length_too),
        client_test(a_closed_tunnel_ends_its_stream),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
