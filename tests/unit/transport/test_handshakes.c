/* Key exchanges stand in line: one in a turn of the loop. */
#include "unit/transport/pair.h"

#define CLIENTS 8

/* All at one server, the first pair's. */
static void open_many(struct pair *pairs)
{
    pair_open(&pairs[0], NULL);
    client_start(&pairs[0], "aes128-gcm@openssh.com", NULL, NULL);
    for (int i = 1; i < CLIENTS; i++) {
        struct pair *p = &pairs[i];
        int fds[2];

        memset(p, 0, sizeof(*p));
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
                         0);
        p->side.transport = transport_accept(pairs[0].server, fds[0], &side_events, &p->side);
        p->client.fd = fds[1];
        p->client.out = evbuffer_new();
        client_start(p, "aes128-gcm@openssh.com", NULL, NULL);
    }
}

static void close_many(struct pair *pairs)
{
    for (int i = CLIENTS - 1; i >= 0; i--)
        pair_close(&pairs[i]);
}

/* pair.h counts what clients see for the last one that was started. */
static unsigned answered(struct pair *pairs)
{
    unsigned count = 0;

    for (int i = 0; i < CLIENTS; i++)
        count += pairs[i].client.seen[SSH2_MSG_KEXDH_REPLY];
    return count;
}

static void one_turn(struct pair *pairs)
{
    event_base_loop(loop_events(loop), EVLOOP_ONCE | EVLOOP_NONBLOCK); /* exactly one */
    for (int i = 0; i < CLIENTS; i++)
        client_turn(&pairs[i].client);
}

static void a_turn_has_one_handshake(void **state)
{
    struct pair pairs[CLIENTS];
    unsigned before = 0, turn_count = 0;

    (void)state;
    open_many(pairs);
    while (before < CLIENTS && turn_count++ < 1000) {
        unsigned now;

        one_turn(pairs);
        now = answered(pairs);
        assert_in_range(now - before, 0, 1);
        before = now;
    }
    assert_int_equal(before, CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        wait_for(&pairs[i], pairs[i].side.keys == 1);
    close_many(pairs);
}

static void who_is_logged_in_is_served_in_between(void **state)
{
    struct pair pairs[CLIENTS];
    struct pair inside;

    (void)state;
    pair_open(&inside, NULL);
    pair_exchange_keys(&inside, "aes128-gcm@openssh.com", NULL);
    open_many(pairs);
    for (unsigned round = 0; answered(pairs) < CLIENTS && round < 1000; round++) {
        unsigned messages = inside.side.messages, handshakes = answered(pairs);

        client_send_type(&inside.client, SSH2_MSG_SERVICE_REQUEST);
        client_turn(&inside.client);
        one_turn(pairs);
        assert_int_equal(inside.side.messages, messages + 1);
        assert_in_range(answered(pairs), handshakes, handshakes + 1);
    }
    assert_int_equal(answered(pairs), CLIENTS);
    close_many(pairs);
    pair_close(&inside);
}

static void who_leaves_leaves_the_line(void **state)
{
    struct pair pairs[CLIENTS];
    unsigned rounds = 0;

    (void)state;
    open_many(pairs);
    while (answered(pairs) == 0 && rounds++ < 1000)
        one_turn(pairs);
    for (int i = 0; i < CLIENTS; i += 2) /* some of them in line */
        transport_free(&pairs[i].side.transport);
    for (int i = 1; i < CLIENTS; i += 2) {
        while (pairs[i].side.keys == 0 && rounds++ < 1000)
            one_turn(pairs);
        assert_int_equal(pairs[i].side.keys, 1);
    }
    close_many(pairs);
}

static bool was_answered(const struct pair *p)
{
    return p->client.session->dh_handshake_state == DH_STATE_NEWKEYS_SENT ||
           p->client.session->dh_handshake_state == DH_STATE_FINISHED;
}

/* Nothing is computed for who asked and ran. */
static void who_has_gone_gets_no_turn(void **state)
{
    struct pair pairs[CLIENTS];
    unsigned rounds = 0;

    (void)state;
    open_many(pairs);
    while (answered(pairs) == 0 && rounds++ < 1000)
        one_turn(pairs);
    for (int i = 0; i < CLIENTS; i++)
        if (!was_answered(&pairs[i]))
            shutdown(pairs[i].client.fd, SHUT_WR);
    for (int turn = 0; turn < 4; turn++) /* fewer than there were clients in line */
        event_base_loop(loop_events(loop), EVLOOP_ONCE | EVLOOP_NONBLOCK);
    for (int i = 0; i < CLIENTS; i++) {
        client_turn(&pairs[i].client);
        if (pairs[i].side.ends == 1)
            assert_string_equal(pairs[i].side.reason, "the peer closed the connection");
        else
            assert_true(was_answered(&pairs[i]));
    }
    assert_in_range(answered(pairs), 1, 2);
    close_many(pairs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_has_one_handshake),
        cmocka_unit_test(who_is_logged_in_is_served_in_between),
        cmocka_unit_test(who_leaves_leaves_the_line),
        cmocka_unit_test(who_has_gone_gets_no_turn),
    };

    return cmocka_run_group_tests(tests, pairs_set_up, pairs_tear_down);
}
