/* Data both ways: windows, packet sizes, what waits and what must not (RFC 4254 section 5.2). */
#include "unit/channels/client.h"

#include <stdlib.h>
#include <string.h>

static char text[2000]; /* filled with 'x' in main */

static struct bytes xs(size_t len)
{
    return bytes_of(text, len);
}

/* ---- client to policy */

static void data_reaches_the_stream(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    fake_deliver(c->transport, DATA, "us", 0, "hello");
    expect_event_data(stream, "hello");
    fake_deliver(c->transport, DATA, "us", 0, "");
    expect_no_event(stream);
    expect_nothing(c);
}

static void a_packet_may_be_as_long_as_offered(void **state)
{
    struct client *c = *state;

    open_exec(c, PEER, 0);
    fake_deliver(c->transport, DATA, "uS", 0, xs(PACKET));
    expect_nothing(c);
    fake_deliver(c->transport, DATA, "uS", 0, xs(PACKET + 1));
    expect_fault(c);
}

static void the_window_is_exact(void **state)
{
    struct client *c = *state;

    open_exec(c, PEER, 0);
    for (size_t i = 0; i < WINDOW / PACKET; i++)
        fake_deliver(c->transport, DATA, "uS", 0, xs(PACKET));
    expect_nothing(c); /* full to the last byte; the policy has read nothing */
    fake_deliver(c->transport, DATA, "us", 0, "");
    expect_nothing(c);
    fake_deliver(c->transport, DATA, "us", 0, "x");
    expect_fault(c);
}

static void the_window_opens_as_the_policy_takes(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    for (size_t i = 0; i < 6; i++)
        fake_deliver(c->transport, DATA, "uS", 0, xs(PACKET));
    fake_stream_read(stream, 4999);
    expect_nothing(c); /* below half of the window nothing is given back */
    fake_stream_read(stream, 1);
    expect_sent(c, ADJUST, "uu", PEER, 5000);
    fake_stream_read(stream, 1000);
    expect_nothing(c);
    for (size_t i = 0; i < 9; i++)
        fake_deliver(c->transport, DATA, "uS", 0, xs(PACKET));
    expect_nothing(c);
    fake_deliver(c->transport, DATA, "us", 0, "x");
    expect_fault(c);
}

static void a_policy_that_does_not_read_bounds_what_we_hold(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    fake_stream_set_room(stream, 1500);
    for (size_t i = 0; i < WINDOW / PACKET; i++)
        fake_deliver(c->transport, DATA, "uS", 0, xs(PACKET));
    assert_int_equal(fake_stream_queued(stream), 1500);
    expect_nothing(c);
    fake_stream_read(stream, 1500);
    assert_int_equal(fake_stream_queued(stream), 1500);
    for (int i = 0; i < 6; i++)
        fake_stream_read(stream, fake_stream_queued(stream));
    assert_int_equal(fake_stream_queued(stream), 0);
    expect_sent(c, ADJUST, "uu", PEER, 6000);
    expect_nothing(c);
    fake_deliver(c->transport, CH_EOF, "u", 0);
    fake_deliver(c->transport, DATA, "us", 0, "x");
    expect_fault(c);
}

static void order_holds_while_a_part_waits(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    fake_stream_set_room(stream, 2);
    fake_deliver(c->transport, DATA, "us", 0, "abcd");
    fake_deliver(c->transport, DATA, "us", 0, "ef");
    fake_deliver(c->transport, CH_EOF, "u", 0);
    expect_event_data(stream, "ab");
    expect_no_event(stream);
    fake_stream_read(stream, 2);
    expect_event_data(stream, "cd");
    expect_no_event(stream); /* the EOF waits behind the data */
    fake_stream_read(stream, 2);
    expect_event_data(stream, "ef");
    expect_event(stream, POLICY__CHANNEL_EVENT__EVENT_EOF);
    expect_no_event(stream);
    expect_nothing(c);
}

static void nothing_follows_the_eof(void **state)
{
    struct client *c = *state;

    open_exec(c, PEER, 0);
    fake_deliver(c->transport, CH_EOF, "u", 0);
    expect_nothing(c);
    fake_deliver(c->transport, CH_EOF, "u", 0);
    expect_fault(c);
}

static void extended_data_of_a_client_is_a_fault(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    fake_deliver(c->transport, EXTENDED, "uus", 0, 1, "x");
    expect_fault(c);
    expect_no_event(stream);
}

/* ---- before the program */

static void early_data_waits_for_the_program(void **state)
{
    struct client *c = *state;
    struct stream *stream;

    open_session(c, PEER, 0);
    fake_deliver(c->transport, DATA, "us", 0, "early");
    send_exec(c, 0, "run");
    fake_deliver(c->transport, DATA, "us", 0, "bird");
    fake_deliver(c->transport, CH_EOF, "u", 0);
    assert_int_equal(fake_streams(c->control), 0);
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    stream = fake_stream(c->control, 0);
    expect_event(stream, POLICY__CHANNEL_EVENT__EVENT_OPENED);
    expect_event_data(stream, "earlybird");
    expect_event(stream, POLICY__CHANNEL_EVENT__EVENT_EOF);
    expect_sent(c, SUCCESS, "u", PEER);
    expect_nothing(c);
}

/* T19: what was sent while the verdict was pending reaches nobody if it is no. */
static void early_data_of_a_refused_program_reaches_nobody(void **state)
{
    struct client *c = *state;
    struct stream *stream;

    open_session(c, PEER, 0);
    for (size_t i = 0; i < 6; i++)
        fake_deliver(c->transport, DATA, "uS", 0, xs(PACKET));
    send_exec(c, 0, "forbidden");
    fake_deliver(c->transport, DATA, "us", 0, "secret");
    fake_refuse(c->control, RPC_EXEC_REQUESTED, 0, "");
    expect_sent(c, ADJUST, "uu", PEER, 6006); /* its window is not lost */
    expect_sent(c, FAILURE, "u", PEER);
    send_exec(c, 0, "run");
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    expect_sent(c, SUCCESS, "u", PEER);
    stream = fake_stream(c->control, 0);
    expect_event(stream, POLICY__CHANNEL_EVENT__EVENT_OPENED);
    expect_no_event(stream);
    fake_deliver(c->transport, DATA, "us", 0, "public");
    expect_event_data(stream, "public");
    expect_nothing(c);
}

static void early_data_is_bounded_by_the_window(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    for (size_t i = 0; i < WINDOW / PACKET; i++)
        fake_deliver(c->transport, DATA, "uS", 0, xs(PACKET));
    expect_nothing(c);
    fake_deliver(c->transport, DATA, "us", 0, "x");
    expect_fault(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(data_reaches_the_stream),
        client_test(a_packet_may_be_as_long_as_offered),
        client_test(the_window_is_exact),
        client_test(the_window_opens_as_the_policy_takes),
        client_test(a_policy_that_does_not_read_bounds_what_we_hold),
        client_test(order_holds_while_a_part_waits),
        client_test(nothing_follows_the_eof),
        client_test(extended_data_of_a_client_is_a_fault),
        client_test(early_data_waits_for_the_program),
        client_test(early_data_of_a_refused_program_reaches_nobody),
        client_test(early_data_is_bounded_by_the_window),
    };

    memset(text, 'x', sizeof(text));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
