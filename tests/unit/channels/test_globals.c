/* Global requests (RFC 4254 section 4; OpenSSH PROTOCOL sections 2.2 and 2.5). */
#include "unit/channels/client.h"

#include <stdlib.h>

static void unknown_requests_fail(void **state)
{
    struct client *c = *state;

    fake_deliver(c->transport, GLOBAL_REQUEST, "sb", "keepalive@openssh.com", true);
    expect_sent(c, REQUEST_FAILURE, "");
    fake_deliver(c->transport, GLOBAL_REQUEST, "sb", "keepalive@openssh.com", false);
    fake_deliver(c->transport, GLOBAL_REQUEST, "sbR", "", false, BYTES("whatever"));
    expect_nothing(c);
}

static void ask_to_listen(struct client *c, const char *host, uint32_t port)
{
    fake_deliver(c->transport, GLOBAL_REQUEST, "sbsu", "tcpip-forward", true, host, port);
}

static void only_an_explicit_yes_listens(void **state)
{
    static const enum outcome outcomes[] = {ABSENT, UNAVAILABLE, EXPIRED};
    struct client *c = *state;
    Policy__ListenAnswer answer = POLICY__LISTEN_ANSWER__INIT;
    Policy__Refuse no = POLICY__REFUSE__INIT;

    for (size_t i = 0; i < 3; i++) {
        ask_to_listen(c, "localhost", 0);
        expect_nothing(c);
        fake_fail(c->control, RPC_SERVER_REQUESTED, outcomes[i]);
        expect_sent(c, REQUEST_FAILURE, "");
    }
    ask_to_listen(c, "localhost", 0);
    answer.listener_case = POLICY__LISTEN_ANSWER__LISTENER_REFUSE;
    answer.refuse = &no;
    fake_answer(c->control, RPC_SERVER_REQUESTED, &answer.base);
    expect_sent(c, REQUEST_FAILURE, "");
    assert_int_equal(c->listeners, 0);
}

static void a_question_goes_with_the_connection(void **state)
{
    struct client *c = *state;

    ask_to_listen(c, "localhost", 0);
    expect_asked(c, RPC_SERVER_REQUESTED);
    client_restart(c);
    assert_int_equal(fake_pending(c->control), 0);
}

/* One lane: what comes behind a question waits for its answer. */
static void replies_keep_the_order(void **state)
{
    struct client *c = *state;
    Policy__ListenAnswer answer = POLICY__LISTEN_ANSWER__INIT;
    Policy__ManagedListener managed = POLICY__MANAGED_LISTENER__INIT;

    ask_to_listen(c, "host", 0);
    fake_deliver(c->transport, GLOBAL_REQUEST, "sb", "whatever", true);
    fake_deliver(c->transport, GLOBAL_REQUEST, "sbsu", "cancel-tcpip-forward", true, "host", 7);
    expect_nothing(c);
    answer.listener_case = POLICY__LISTEN_ANSWER__LISTENER_MANAGED;
    answer.managed = &managed;
    managed.port = 7;
    fake_answer(c->control, RPC_SERVER_REQUESTED, &answer.base);
    expect_sent(c, REQUEST_SUCCESS, "u", 7);
    expect_sent(c, REQUEST_FAILURE, "");
    expect_sent(c, REQUEST_SUCCESS, "");
    assert_int_equal(c->listeners, 0); /* opened, then cancelled */
}

static void no_more_sessions_is_confirmed(void **state)
{
    struct client *c = *state;

    fake_deliver(c->transport, GLOBAL_REQUEST, "sb", "no-more-sessions@openssh.com", true);
    expect_sent(c, REQUEST_SUCCESS, "");
}

static void malformed_requests_are_faults(void **state)
{
    struct client *c = *state;
    struct buf whole = {0};

    wire_put(&whole, "sb", "x", true);
    for (size_t len = 0; len < whole.len; len++) {
        fake_deliver_bytes(c->transport, GLOBAL_REQUEST, bytes_of(whole.data, len));
        expect_fault(c);
        assert_int_equal(fake_sent_waiting(c->transport), 0);
        client_restart(c);
    }
    buf_clear(&whole);
}

static void host_keys_are_announced_and_proved(void **state)
{
    struct client *c = *state;
    struct buf data = {0}, signature = {0};

    channels_announce_host_keys(c->channels);
    expect_sent(c, GLOBAL_REQUEST, "sbss", "hostkeys-00@openssh.com", false, FAKE_HOST_KEY,
                FAKE_OTHER_HOST_KEY);
    fake_deliver(c->transport, GLOBAL_REQUEST, "sbs", "hostkeys-prove-00@openssh.com", true,
                 FAKE_OTHER_HOST_KEY);
    wire_put(&data, "sss", "hostkeys-prove-00@openssh.com", FAKE_SESSION_ID, FAKE_OTHER_HOST_KEY);
    fake_sign(&signature, BYTES(FAKE_OTHER_HOST_KEY), "host", buf_bytes(&data));
    expect_sent(c, REQUEST_SUCCESS, "S", buf_bytes(&signature));
    buf_clear(&data);
    buf_clear(&signature);
}

static void foreign_or_malformed_keys_are_not_proved(void **state)
{
    static const char prove[] = "hostkeys-prove-00@openssh.com";
    struct client *c = *state;
    struct buf many = {0};

    fake_deliver(c->transport, GLOBAL_REQUEST, "sb", prove, true);
    expect_sent(c, REQUEST_FAILURE, "");
    fake_deliver(c->transport, GLOBAL_REQUEST, "sbss", prove, true, FAKE_HOST_KEY, "another");
    expect_sent(c, REQUEST_FAILURE, "");
    fake_deliver(c->transport, GLOBAL_REQUEST, "sbsc", prove, true, FAKE_HOST_KEY, 0);
    expect_sent(c, REQUEST_FAILURE, "");
    for (int i = 0; i < 17; i++)
        wire_put(&many, "s", FAKE_HOST_KEY);
    fake_deliver(c->transport, GLOBAL_REQUEST, "sbR", prove, true, buf_bytes(&many));
    expect_sent(c, REQUEST_FAILURE, "");
    buf_clear(&many);
}

static void keepalives_are_answered_either_way(void **state)
{
    struct client *c = *state;

    channels_send_keepalive(c->channels);
    expect_sent(c, GLOBAL_REQUEST, "sb", "keepalive@openssh.com", true);
    fake_deliver(c->transport, REQUEST_FAILURE, "");
    fake_deliver(c->transport, REQUEST_SUCCESS, "");
    assert_int_equal(c->global_replies, 2);
    expect_nothing(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(unknown_requests_fail),
        client_test(only_an_explicit_yes_listens),
        client_test(a_question_goes_with_the_connection),
        client_test(replies_keep_the_order),
        client_test(no_more_sessions_is_confirmed),
        client_test(malformed_requests_are_faults),
        client_test(host_keys_are_announced_and_proved),
        client_test(foreign_or_malformed_keys_are_not_proved),
        client_test(keepalives_are_answered_either_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
