/* direct-tcpip and direct-streamlocal@openssh.com: what is asked, what its answers do, what the
 * restrictions keep from being asked at all. Where the daemon connects by itself, real sockets. */
#include "unit/channels/client.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PROHIBITED = 1 };

static void open_tcp(struct client *c, const char *host, uint32_t port)
{
    fake_deliver(c->transport, OPEN, "suuususu", "direct-tcpip", PEER, PEER_ROOM, PEER_PACKET, host,
                 port, "198.51.100.4", 4711);
}

static void open_path(struct client *c, const char *path)
{
    fake_deliver(c->transport, OPEN, "suuussu", "direct-streamlocal@openssh.com", PEER, PEER_ROOM,
                 PEER_PACKET, path, "", 0);
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

static void the_question_is_what_was_asked(void **state)
{
    struct client *c = *state;
    const Policy__ConnectionRequestedRequest *tcp;
    const Policy__UnixConnectionRequestedRequest *path;

    open_tcp(c, "Example.COM.", 8080);
    tcp = fake_question(c->control, RPC_CONNECTION_REQUESTED);
    assert_string_equal(tcp->dest_host, "Example.COM.");
    assert_int_equal(tcp->dest_port, 8080);
    assert_string_equal(tcp->orig_host, "198.51.100.4");
    assert_int_equal(tcp->orig_port, 4711);
    open_path(c, "/run/x\n.sock");
    path = fake_question(c->control, RPC_UNIX_CONNECTION_REQUESTED);
    assert_int_equal(path->channel, 1);
    assert_true(bytes_are(bytes_of(path->dest_path.data, path->dest_path.len), "/run/x\n.sock"));
}

static void only_an_explicit_yes_opens(void **state)
{
    static const enum outcome outcomes[] = {ABSENT, UNAVAILABLE, EXPIRED};
    struct client *c = *state;
    Policy__Refuse refuse = POLICY__REFUSE__INIT;
    Policy__UpstreamEndpoint upstream = POLICY__UPSTREAM_ENDPOINT__INIT;

    for (size_t i = 0; i < 3; i++) {
        open_tcp(c, "host", 80);
        fake_fail(c->control, RPC_CONNECTION_REQUESTED, outcomes[i]);
        expect_refused(c, PROHIBITED,
                       i == 0 ? "Port forwarding is not permitted"
                              : "The policy service gave no answer");
    }
    open_tcp(c, "host", 80);
    refuse.code = 4711;
    refuse.reason = "because";
    answer(c, RPC_CONNECTION_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_REFUSE, &refuse);
    expect_refused(c, 4711, "because");
    open_tcp(c, "host", 80);
    answer(c, RPC_CONNECTION_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_UPSTREAM, &upstream);
    expect_refused(c, PROHIBITED, "There is no upstream");
}

static void names_that_are_none_are_never_asked_about(void **state)
{
    static const struct {
        const char *host;
        uint32_t port;
    } rows[] = {
        {"", 80},          {"two words", 80}, {"line\nbreak", 80}, {"\xff", 80},
        {"tab\there", 80}, {"host", 0},       {"host", 65536},     {"host", UINT32_MAX},
    };
    struct client *c = *state;
    char path[109];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        open_tcp(c, rows[i].host, rows[i].port);
        expect_refused(c, PROHIBITED, "No such host or port");
    }
    fake_deliver(c->transport, OPEN, "suuuSusu", "direct-tcpip", PEER, PEER_ROOM, PEER_PACKET,
                 bytes_of((const uint8_t *)"a\0b", 3), 80, "", 0);
    expect_refused(c, PROHIBITED, "No such host or port");
    memset(path, 'p', 108);
    path[108] = '\0';
    open_path(c, path);
    expect_refused(c, PROHIBITED, "No path of a socket");
    path[107] = '\0';
    open_path(c, path);
    expect_asked(c, RPC_UNIX_CONNECTION_REQUESTED);
    open_path(c, "");
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, PROHIBITED, "No path of a socket", "");
}

static void malformed_opens_are_faults(void **state)
{
    struct client *c = *state;

    fake_deliver(c->transport, OPEN, "suuus", "direct-tcpip", PEER, PEER_ROOM, PEER_PACKET, "host");
    expect_fault(c);
}

static void a_stream_begins_with_the_question(void **state)
{
    struct client *c = *state;
    Policy__StreamEndpoint stream = POLICY__STREAM_ENDPOINT__INIT;
    const Policy__ChannelEvent *event;

    open_tcp(c, "host", 80);
    answer(c, RPC_CONNECTION_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_STREAM, &stream);
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    event = fake_stream_sent(fake_stream(c->control, 0));
    assert_int_equal(event->opened->kind_case, POLICY__CHANNEL_OPENED__KIND_DIRECT_TCPIP);
    assert_string_equal(event->opened->direct_tcpip->dest_host, "host");
    fake_deliver(c->transport, DATA, "us", 0, "GET");
    event = fake_stream_sent(fake_stream(c->control, 0));
    assert_true(bytes_are(bytes_of(event->data->payload.data, event->data->payload.len), "GET"));
    /* Not a session: its requests fail. */
    fake_deliver(c->transport, REQUEST, "usbs", 0, "exec", true, "id");
    expect_sent(c, FAILURE, "u", PEER);
}

static void an_unknown_target_refuses(void **state)
{
    struct client *c = *state;
    Policy__StreamEndpoint stream = POLICY__STREAM_ENDPOINT__INIT;

    stream.target = "elsewhere";
    open_path(c, "/run/x");
    answer(c, RPC_UNIX_CONNECTION_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_STREAM, &stream);
    expect_refused(c, PROHIBITED, "The stream target is not configured");
}

/* ---- restrictions */

static void restrict_to(struct client *c, Policy__Restrictions *restrictions)
{
    static Policy__Restrictions *list[1];

    list[0] = restrictions;
    c->rules.restrictions = list;
    c->rules.restriction_count = 1;
    channels_tighten(c->channels, &c->rules);
}

static void what_is_not_permitted_is_not_asked(void **state)
{
    static const struct {
        const char *pattern, *host;
        uint32_t port;
        bool permitted;
    } rows[] = {
        {"host:80", "host", 80, true},
        {"host:80", "host", 81, false},
        {"host:80", "Host", 80, false},
        {"host:*", "host", 65535, true},
        {"*:80", "anything", 80, true},
        {"*:80", "anything", 8, false},
        {"*:*", "x", 1, true},
        {"[2001:db8::1]:22", "2001:db8::1", 22, true},
        {"2001:db8::1:22", "2001:db8::1", 22, true},
        {"host", "host", 80, false},
        {"hos*:80", "host", 80, false},
        {"host:080", "host", 80, false},
        {"127.0.0.1:80", "127.1", 80, false},
        {":80", "host", 80, false},
        {"host:", "host", 80, false},
        {"host:8", "host", 80, false},
    };
    struct client *c = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        Policy__Restrictions restrictions = POLICY__RESTRICTIONS__INIT;
        Policy__Patterns patterns = POLICY__PATTERNS__INIT;
        char *pattern = (char *)rows[i].pattern;

        patterns.patterns = &pattern;
        patterns.n_patterns = 1;
        restrictions.permit_open = &patterns;
        restrict_to(c, &restrictions);
        open_tcp(c, rows[i].host, rows[i].port);
        if (rows[i].permitted)
            fake_fail(c->control, RPC_CONNECTION_REQUESTED, ABSENT);
        expect_refused(c, PROHIBITED, "Port forwarding is not permitted");
        assert_int_equal(fake_pending(c->control), 0);
    }
}

static void any_list_keeps_paths_out(void **state)
{
    struct client *c = *state;
    Policy__Patterns none = POLICY__PATTERNS__INIT;

    for (int i = 0; i < 3; i++) {
        Policy__Restrictions restrictions = POLICY__RESTRICTIONS__INIT;

        restrictions.no_port_forwarding = i == 0;
        restrictions.permit_open = i == 1 ? &none : NULL;
        restrictions.permit_listen = i == 2 ? &none : NULL;
        restrict_to(c, &restrictions);
        open_path(c, "/run/x");
        expect_refused(c, PROHIBITED, "Port forwarding is not permitted");
    }
    assert_int_equal(fake_asked(c->control, RPC_COUNT), 0);
}

static void tightening_closes_what_is_open_and_stops_what_is_asked(void **state)
{
    struct client *c = *state;
    Policy__StreamEndpoint stream = POLICY__STREAM_ENDPOINT__INIT;
    Policy__Restrictions restrictions = POLICY__RESTRICTIONS__INIT;

    open_tcp(c, "host", 80);
    answer(c, RPC_CONNECTION_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_STREAM, &stream);
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    open_tcp(c, "host", 81);
    restrictions.no_port_forwarding = true;
    restrict_to(c, &restrictions);
    expect_sent(c, CH_EOF, "u", PEER);
    expect_sent(c, CH_CLOSE, "u", PEER);
    answer(c, RPC_CONNECTION_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_STREAM, &stream);
    expect_sent(c, OPEN_FAILURE, "uuss", PEER, PROHIBITED, "Port forwarding is not permitted", "");
}

/* ---- the daemon connects */

static void wait_sent(struct client *c)
{
    while (fake_sent_waiting(c->transport) == 0) {
        event_base_loop(loop_events(c->loop), EVLOOP_ONCE);
        fake_transport_turn(c->transport);
    }
}

static int listen_somewhere(uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static void a_forward_connects_as_rewritten(void **state)
{
    struct client *c = *state;
    Policy__ForwardEndpoint forward = POLICY__FORWARD_ENDPOINT__INIT;
    uint16_t port;
    int listener = listen_somewhere(&port), fd;
    char got[8] = "";

    open_tcp(c, "some.where", 1);
    forward.host = "127.0.0.1";
    forward.port = port;
    answer(c, RPC_CONNECTION_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_FORWARD, &forward);
    expect_nothing(c);
    wait_sent(c);
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    fd = accept(listener, NULL, NULL);
    fake_deliver(c->transport, DATA, "us", 0, "hello");
    assert_int_equal(recv(fd, got, sizeof(got), 0), 5);
    assert_int_equal(send(fd, "hi", 2, 0), 2);
    wait_sent(c);
    expect_sent(c, DATA, "us", PEER, "hi");
    close(fd);
    close(listener);
}

static void a_failed_connection_says_why(void **state)
{
    struct client *c = *state;
    Policy__ForwardEndpoint forward = POLICY__FORWARD_ENDPOINT__INIT;
    uint16_t port;
    int listener = listen_somewhere(&port);

    close(listener);
    open_tcp(c, "127.0.0.1", port);
    answer(c, RPC_CONNECTION_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_FORWARD, &forward);
    wait_sent(c);
    expect_refused(c, 2, "Connection refused");
}

static void a_place_that_is_none_is_refused(void **state)
{
    struct client *c = *state;
    uint8_t nul[] = {'/', 0, 'x'};

    for (int i = 0; i < 5; i++) {
        Policy__ForwardEndpoint forward = POLICY__FORWARD_ENDPOINT__INIT;

        if (i == 0)
            forward.port = 65536;
        if (i == 1)
            forward.path = (ProtobufCBinaryData){sizeof(nul), nul};
        if (i == 2)
            forward.device_case = POLICY__FORWARD_ENDPOINT__DEVICE_UNIT;
        if (i >= 3) {
            open_path(c, "/run/x");
            forward.host = "localhost"; /* and no port */
            if (i == 4)
                forward.path = (ProtobufCBinaryData){1, nul};
            answer(c, RPC_UNIX_CONNECTION_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_FORWARD,
                   &forward);
        } else {
            open_tcp(c, "host", 80);
            answer(c, RPC_CONNECTION_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_FORWARD, &forward);
        }
        expect_refused(c, PROHIBITED, "The policy chose no place to connect to");
    }
}

static void a_client_that_goes_takes_its_connections_along(void **state)
{
    struct client *c = *state;
    Policy__ForwardEndpoint forward = POLICY__FORWARD_ENDPOINT__INIT;

    open_tcp(c, "192.0.2.1", 9); /* nobody answers there */
    answer(c, RPC_CONNECTION_REQUESTED, POLICY__OPEN_ANSWER__ENDPOINT_FORWARD, &forward);
    channels_free(&c->channels, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(the_question_is_what_was_asked),
        client_test(only_an_explicit_yes_opens),
        client_test(names_that_are_none_are_never_asked_about),
        client_test(malformed_opens_are_faults),
        client_test(a_stream_begins_with_the_question),
        client_test(an_unknown_target_refuses),
        client_test(what_is_not_permitted_is_not_asked),
        client_test(any_list_keeps_paths_out),
        client_test(tightening_closes_what_is_open_and_stops_what_is_asked),
        client_test(a_forward_connects_as_rewritten),
        client_test(a_failed_connection_says_why),
        client_test(a_place_that_is_none_is_refused),
        client_test(a_client_that_goes_takes_its_connections_along),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
