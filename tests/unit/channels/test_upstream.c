/* Channels that go on at an upstream server: what it is asked for, what its answers do, and that
 * the rules hold on the way. */
#include "unit/channels/client.h"
#include "unit/channels/upstream_fake.h"

#include "channels/internal.h"

#include <string.h>

enum { PROHIBITED = 1 };

static int setup(void **state)
{
    struct client *c;

    client_setup_later(state);
    c = *state;
    c->settings.upstream_keepalive_ms = 1234;
    client_start(c);
    fake_upstream_reset();
    return 0;
}

static int teardown(void **state)
{
    client_teardown(state);
    assert_int_equal(fake_upstreams_alive(), 0);
    fake_upstream_reset();
    return 0;
}

#define upstream_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* ---- direct channels */

static void open_tcp(struct client *c)
{
    fake_deliver(c->transport, OPEN, "suuususu", "direct-tcpip", PEER, PEER_ROOM, PEER_PACKET, "db",
                 5432, "198.51.100.4", 4711);
}

static void answer_open(struct client *c, enum rpc rpc, const char *host)
{
    Policy__OpenAnswer open = POLICY__OPEN_ANSWER__INIT;
    Policy__UpstreamEndpoint upstream;

    fake_upstream_answer(&upstream, host);
    open.endpoint_case = POLICY__OPEN_ANSWER__ENDPOINT_UPSTREAM;
    open.upstream = &upstream;
    fake_answer(c->control, rpc, &open.base);
}

static void restrict_forwarding(struct client *c)
{
    static Policy__Restrictions restrictions;
    static Policy__Restrictions *list[1] = {&restrictions};

    policy__restrictions__init(&restrictions);
    restrictions.no_port_forwarding = true;
    c->rules.restrictions = list;
    c->rules.restriction_count = 1;
    channels_tighten(c->channels, &c->rules);
}

static void a_port_is_asked_for_as_the_client_did(void **state)
{
    struct client *c = *state;

    open_tcp(c);
    assert_int_equal(fake_upstreams_alive(), 0); /* none before one is needed */
    answer_open(c, RPC_CONNECTION_REQUESTED, "jump");
    expect_nothing(c); /* confirmed once the upstream has */
    assert_int_equal(fake_upstreams_alive(), 1);
    assert_int_equal(fake_upstream_settings().keepalive_ms, 1234);
    assert_string_equal(fake_upstream.host, "jump");
    assert_string_equal(fake_upstream.target, "db");
    assert_string_equal(fake_upstream.origin, "198.51.100.4");
    assert_int_equal(fake_upstream.port, 5432);
    assert_int_equal(fake_upstream.origin_port, 4711);
    fake_upstream_confirm();
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    fake_deliver(c->transport, DATA, "us", 0, "hello");
    assert_true(bytes_are(buf_bytes(&fake_upstream.written), "hello"));
    fake_upstream.events->data(fake_upstream.owner, BYTES("hi"), 0);
    expect_sent(c, DATA, "us", PEER, "hi");
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    assert_true(fake_upstream.stopped);
    expect_sent(c, CH_CLOSE, "u", PEER);
}

static void a_path_is_asked_for_as_the_client_did(void **state)
{
    struct client *c = *state;

    fake_deliver(c->transport, OPEN, "suuussu", "direct-streamlocal@openssh.com", PEER, PEER_ROOM,
                 PEER_PACKET, "/run/x", "", 0);
    answer_open(c, RPC_UNIX_CONNECTION_REQUESTED, "jump");
    assert_string_equal(fake_upstream.path, "/run/x");
    assert_string_equal(fake_upstream.target, "");
    fake_upstream_refuse(99, "no such \xc3\xa4ther");
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, 99, "no such \xc3\xa4ther", "");
    assert_int_equal(channels_count(c->channels), 0);
}

/* It is kept as long as the channel is, and goes on to the upstream. */
static void an_origin_is_no_longer_than_a_name(void **state)
{
    struct client *c = *state;
    char origin[2048];

    memset(origin, 'x', sizeof(origin));
    origin[sizeof(origin) - 1] = '\0';
    fake_deliver(c->transport, OPEN, "suuususu", "direct-tcpip", PEER, PEER_ROOM, PEER_PACKET, "db",
                 5432, origin, 4711);
    answer_open(c, RPC_CONNECTION_REQUESTED, "jump");
    assert_string_equal(fake_upstream.origin, "");
    assert_int_equal(fake_upstream.origin_port, 4711);
}

static void options_hold(void **state)
{
    struct client *c = *state;
    Policy__OpenAnswer open = POLICY__OPEN_ANSWER__INIT;
    Policy__ChannelOptions options = POLICY__CHANNEL_OPTIONS__INIT;
    Policy__UpstreamEndpoint upstream;

    fake_upstream_answer(&upstream, "jump");
    options.window_bytes = 5000;
    options.max_packet_bytes = 500;
    open.options = &options;
    open.endpoint_case = POLICY__OPEN_ANSWER__ENDPOINT_UPSTREAM;
    open.upstream = &upstream;
    open_tcp(c);
    fake_answer(c->control, RPC_CONNECTION_REQUESTED, &open.base);
    fake_upstream_confirm();
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, 5000, 500);
}

static void rules_that_tightened_meanwhile_hold(void **state)
{
    struct client *c = *state;

    open_tcp(c);
    answer_open(c, RPC_CONNECTION_REQUESTED, "jump");
    restrict_forwarding(c);
    assert_true(fake_upstream.asked);
    fake_upstream_confirm();
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, PROHIBITED, "Port forwarding is not permitted", "");
    assert_true(fake_upstream.stopped);
    assert_int_equal(channels_count(c->channels), 0);
    open_tcp(c); /* not even asked about */
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, PROHIBITED, "Port forwarding is not permitted", "");
    assert_int_equal(fake_pending(c->control), 0);
}

static void a_restriction_closes_what_is_open(void **state)
{
    struct client *c = *state;

    open_tcp(c);
    answer_open(c, RPC_CONNECTION_REQUESTED, "jump");
    fake_upstream_confirm();
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    restrict_forwarding(c);
    assert_true(fake_upstream.stopped);
    expect_sent(c, CH_EOF, "u", PEER);
    expect_sent(c, CH_CLOSE, "u", PEER);
}

static void a_client_that_goes_takes_its_opens_along(void **state)
{
    struct client *c = *state;

    open_tcp(c);
    answer_open(c, RPC_CONNECTION_REQUESTED, "jump");
    channels_free(&c->channels, "gone");
    assert_false(fake_upstream.asked);
    assert_int_equal(fake_upstreams_alive(), 0);
}

static void upstreams_go_after_their_channels(void **state)
{
    struct client *c = *state;

    open_tcp(c);
    answer_open(c, RPC_CONNECTION_REQUESTED, "jump");
    fake_upstream_confirm();
    channels_free(&c->channels, "gone"); /* the fake asserts the order */
    assert_true(fake_upstream.stopped);
    assert_string_equal(fake_upstream.stop_error, "gone");
    assert_int_equal(fake_upstreams_alive(), 0);
}

/* ---- sessions */

static void answer_session(struct client *c, enum rpc rpc, const char *host)
{
    Policy__SessionAnswer answer = POLICY__SESSION_ANSWER__INIT;
    Policy__UpstreamEndpoint upstream;

    fake_upstream_answer(&upstream, host);
    answer.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_UPSTREAM;
    answer.upstream = &upstream;
    fake_answer(c->control, rpc, &answer.base);
}

static void a_program_starts_on_what_its_answer_says(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    send_exec(c, 0, "run");
    answer_session(c, RPC_EXEC_REQUESTED, "server");
    expect_sent(c, SUCCESS, "u", PEER);
    assert_string_equal(fake_upstream.host, "server");
    assert_string_equal(fake_upstream.program, "exec run");
    fake_deliver(c->transport, DATA, "us", 0, "in");
    assert_true(bytes_are(buf_bytes(&fake_upstream.written), "in"));
}

static void a_program_starts_on_what_the_session_chose(void **state)
{
    struct client *c = *state;

    open_asked(c, PEER);
    answer_session(c, RPC_SESSION_REQUESTED, "server");
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    assert_int_equal(fake_upstreams_alive(), 0);
    send_channel_request(c, 0, "subsystem", true, "s", "sftp");
    fake_fail(c->control, RPC_SUBSYSTEM_REQUESTED, ABSENT);
    expect_sent(c, SUCCESS, "u", PEER);
    assert_string_equal(fake_upstream.program, "subsystem sftp");
    /* There is one program a session: the credentials are not needed again. */
    assert_null(c->channels->table[0]->session->chosen);
}

/* The command that is forced is what the upstream is asked to run. */
static void a_forced_command_goes_along(void **state)
{
    struct client *c = *state;
    struct channels_rules rules = c->rules;

    rules.forced = true;
    rules.forced_command = BYTES("only-this");
    channels_tighten(c->channels, &rules);
    open_asked(c, PEER);
    answer_session(c, RPC_SESSION_REQUESTED, "server");
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    send_channel_request(c, 0, "shell", true, "");
    fake_accept(c->control, RPC_EXEC_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
    assert_string_equal(fake_upstream.program, "exec only-this");
}

static void the_agent_is_the_clients_if_it_was_granted(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    send_exec(c, 0, "run");
    answer_session(c, RPC_EXEC_REQUESTED, "server");
    expect_sent(c, SUCCESS, "u", PEER);
    assert_int_equal(fake_upstream_agent(), -1);
    expect_nothing(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        upstream_test(a_port_is_asked_for_as_the_client_did),
        upstream_test(a_path_is_asked_for_as_the_client_did),
        upstream_test(an_origin_is_no_longer_than_a_name),
        upstream_test(options_hold),
        upstream_test(rules_that_tightened_meanwhile_hold),
        upstream_test(a_restriction_closes_what_is_open),
        upstream_test(a_client_that_goes_takes_its_opens_along),
        upstream_test(upstreams_go_after_their_channels),
        upstream_test(a_program_starts_on_what_its_answer_says),
        upstream_test(a_program_starts_on_what_the_session_chose),
        upstream_test(a_forced_command_goes_along),
        upstream_test(the_agent_is_the_clients_if_it_was_granted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
