/* The packet layer under keys: every cipher and MAC, damaged bytes, message numbers, pauses,
 * rekeys, endings. */
#include "unit/transport/pair.h"

#include "transport/connection.h"

static const struct {
    const char *cipher, *mac;
} suites[] = {
    {"chacha20-poly1305@openssh.com", NULL},
    {"aes128-gcm@openssh.com", NULL},
    {"aes256-gcm@openssh.com", NULL},
    {"aes128-ctr", "hmac-sha2-256"},
    {"aes192-ctr", "hmac-sha2-512"},
    {"aes256-ctr", "hmac-sha2-256-etm@openssh.com"},
    {"aes128-ctr", "hmac-sha2-512-etm@openssh.com"},
};

#define SUITES (sizeof(suites) / sizeof(suites[0]))

static void open_with_keys(struct pair *p, size_t suite)
{
    pair_open(p, NULL);
    pair_exchange_keys(p, suites[suite].cipher, suites[suite].mac);
}

/* Says so on both sides; the client's libssh must know, too, or it never rekeys. */
static void pair_log_in(struct pair *p)
{
    p->client.session->auth.state = SSH_AUTH_STATE_AUTH_NONE_SENT; /* or its filter refuses ours */
    transport_send_auth_success(p->side.transport);
    wait_for(p, p->client.seen[SSH2_MSG_USERAUTH_SUCCESS] == 1);
    p->client.session->session_state = SSH_SESSION_STATE_AUTHENTICATED;
    p->client.session->flags |= SSH_SESSION_FLAG_AUTHENTICATED;
}

static void test_suites_carry_messages(void **state)
{
    (void)state;
    for (size_t i = 0; i < SUITES; i++) {
        struct pair p;
        uint8_t message[40000] = {SSH2_MSG_CHANNEL_DATA};

        open_with_keys(&p, i);
        assert_non_null(strstr(transport_algorithms(p.side.transport), suites[i].cipher));
        assert_int_equal(transport_session_id(p.side.transport).len, 32);
        pair_log_in(&p);
        for (size_t len = 1; len < sizeof(message); len = len * 3 + 1) {
            unsigned before = p.side.messages;

            client_send(&p.client, bytes_of(message, len));
            wait_for(&p, p.side.messages == before + 1);
            assert_int_equal(p.side.last.len, len - 1);
            before = p.client.seen[SSH2_MSG_CHANNEL_DATA];
            transport_send_data(p.side.transport, 0, 0, bytes_of(message, len));
            wait_for(&p, p.client.seen[SSH2_MSG_CHANNEL_DATA] == before + 1);
        }
        pair_close(&p);
    }
}

static void test_one_byte_at_a_time(void **state)
{
    (void)state;
    for (size_t i = 0; i < SUITES; i += 3) {
        struct pair p;

        pair_open(&p, NULL);
        p.client.chunk = 1;
        pair_exchange_keys(&p, suites[i].cipher, suites[i].mac);
        client_send_type(&p.client, SSH2_MSG_USERAUTH_REQUEST);
        wait_for(&p, p.side.messages == 1);
        pair_close(&p);
    }
}

/* Whatever byte of a packet is damaged, in its length, body or MAC: never delivered, always the
 * end. */
static void test_damaged_packets(void **state)
{
    (void)state;
    for (size_t i = 0; i < SUITES; i++) {
        for (unsigned at = 1; at <= 48; at += at < 8 ? 1 : 5) {
            struct pair p;
            uint8_t filler[300000] = {SSH2_MSG_IGNORE};

            open_with_keys(&p, i);
            p.client.flip_at = p.client.sent + evbuffer_get_length(p.client.out) + at;
            client_send_type(&p.client, SSH2_MSG_USERAUTH_REQUEST);
            /* A damaged length may announce more than was sent: the rest must come for the MAC to
             * be seen. */
            for (int more = 0; more < 10; more++)
                client_send(&p.client, bytes_of(filler, 30000));
            wait_for(&p, p.side.ends == 1);
            assert_int_equal(p.side.end.kind, TRANSPORT_END_PROTOCOL);
            assert_int_equal(p.side.messages, 0);
            pair_close(&p);
        }
    }
}

static void expect_violation(struct pair *p, uint8_t type)
{
    client_send_type(&p->client, type);
    wait_for(p, p->side.ends == 1);
    assert_int_equal(p->side.end.kind, TRANSPORT_END_PROTOCOL);
    assert_int_equal(p->side.end.code, SSH2_DISCONNECT_PROTOCOL_ERROR);
    assert_int_equal(p->side.messages, 0);
    wait_for(p, p->client.seen[SSH2_MSG_DISCONNECT] == 1);
}

static void test_numbers_before_login(void **state)
{
    static const uint8_t refused[] = {6, 30, 31, 51, 52, 53, 60, 80, 90, 94, 98, 100, 127};

    (void)state;
    for (size_t i = 0; i < sizeof(refused); i++) {
        struct pair p;

        open_with_keys(&p, 0);
        expect_violation(&p, refused[i]);
        pair_close(&p);
    }
}

static void test_numbers_after_login(void **state)
{
    static const uint8_t refused[] = {6, 30, 31, 32, 33, 34, 51, 52, 53, 60};

    (void)state;
    for (size_t i = 0; i < sizeof(refused); i++) {
        struct pair p;

        open_with_keys(&p, 1);
        pair_log_in(&p);
        expect_violation(&p, refused[i]);
        pair_close(&p);
    }
}

static void test_unknown_numbers(void **state)
{
    static const uint8_t unknown[] = {8, 29, 49, 54, 67, 79, 128, 200, 255};
    struct pair p;

    (void)state;
    open_with_keys(&p, 0);
    for (size_t i = 0; i < sizeof(unknown); i++) {
        client_send_type(&p.client, unknown[i]);
        wait_for(&p, p.client.seen[SSH2_MSG_UNIMPLEMENTED] == i + 1);
    }
    assert_int_equal(p.side.messages, 0);
    p.side.refuse = true;
    client_send_type(&p.client, 50);
    wait_for(&p, p.client.seen[SSH2_MSG_UNIMPLEMENTED] == sizeof(unknown) + 1);
    pair_close(&p);
}

/* Whatever number comes, short or long, before or after login: no crash, and nothing is delivered
 * that should not be. */
static void test_every_number(void **state)
{
    static uint8_t message[30000];

    (void)state;
    for (int type = 0; type < 256; type++) {
        if (type == SSH2_MSG_NEWKEYS)
            continue; /* the client's own libssh does not survive that */
        for (int round = 0; round < 4; round++) {
            struct pair p;

            open_with_keys(&p, (size_t)round);
            if (round >= 2)
                pair_log_in(&p);
            message[0] = (uint8_t)type;
            client_send(&p.client, bytes_of(message, round % 2 == 0 ? 1 : sizeof(message)));
            turns(&p, 4);
            if (type >= 80 && type < 128)
                assert_int_equal(p.side.messages, round >= 2);
            if (p.side.ends == 0) {
                client_send(&p.client, BYTES("\x07")); /* still in step? */
                wait_for(&p, p.side.messages > 0);
            }
            pair_close(&p);
        }
    }
}

/* A packet that trickles in is not handled, nor copied as a whole, for each byte. */
static void test_trickle(void **state)
{
    static uint8_t message[90000] = {SSH2_MSG_USERAUTH_REQUEST};
    struct pair p;

    (void)state;
    for (size_t i = 0; i < SUITES; i += 3) {
        open_with_keys(&p, i);
        client_send(&p.client, bytes_of(message, sizeof(message)));
        p.client.chunk = 100;
        wait_for(&p, p.side.messages == 1);
        assert_int_equal(p.side.last.len, sizeof(message) - 1);
        client_send_type(&p.client, SSH2_MSG_USERAUTH_REQUEST);
        wait_for(&p, p.side.messages == 2);
        p.client.chunk = 0;
        client_send(&p.client, bytes_of(message, sizeof(message)));
        client_send_type(&p.client, SSH2_MSG_USERAUTH_REQUEST);
        wait_for(&p, p.side.messages == 4);
        pair_close(&p);
    }
}

static void test_packet_size(void **state)
{
    static uint8_t message[256 * 1024] = {SSH2_MSG_USERAUTH_REQUEST};
    struct pair p;

    (void)state;
    open_with_keys(&p, 0);
    client_send(&p.client, bytes_of(message, 100 * 1024));
    wait_for(&p, p.side.ends == 1);
    pair_close(&p);
    open_with_keys(&p, 0);
    pair_log_in(&p);
    client_send(&p.client, bytes_of(message, sizeof(message) - 64));
    wait_for(&p, p.side.messages == 1);
    client_send(&p.client, bytes_of(message, sizeof(message)));
    wait_for(&p, p.side.ends == 1);
    pair_close(&p);
}

static void test_ping(void **state)
{
    struct pair p;
    struct buf message = {0};
    uint32_t received;

    (void)state;
    open_with_keys(&p, 0);
    received = p.client.session->recv_seq;
    buf_put_u8(&message, 192);
    buf_put_string(&message, BYTES("hello"));
    client_send(&p.client, buf_bytes(&message));
    /* The client's libssh knows no 193, but counts it. */
    wait_for(&p, p.client.session->recv_seq == received + 1);
    buf_put_u8(&message, 0);
    client_send(&p.client, buf_bytes(&message));
    wait_for(&p, p.side.ends == 1);
    buf_clear(&message);
    pair_close(&p);
}

/* What compresses well may be larger than any packet: its answer is no larger than what we send. */
static void test_ping_that_swells(void **state)
{
    struct pair p;
    struct buf message = {0};

    (void)state;
    open_with_keys(&p, 0);
    pair_log_in(&p);
    p.client.session->current_crypto->do_compress_out = 1;
    p.side.transport->session->current_crypto->do_compress_in = 1;
    buf_put_u8(&message, 192);
    buf_put_u32(&message, TRANSPORT_MESSAGE_MAX - 5);
    while (message.len < TRANSPORT_MESSAGE_MAX)
        buf_put_u8(&message, 0);
    client_send(&p.client, buf_bytes(&message));
    wait_for(&p, p.side.ends == 1);
    assert_string_equal(p.side.reason, "packet does not decompress");
    buf_clear(&message);
    pair_close(&p);
}

static void test_ignored(void **state)
{
    static const uint8_t dropped[] = {2, 3, 193};
    struct pair p;

    (void)state;
    open_with_keys(&p, 0);
    for (size_t i = 0; i < sizeof(dropped); i++)
        client_send_type(&p.client, dropped[i]);
    client_send_type(&p.client, SSH2_MSG_DEBUG);
    wait_for(&p, p.side.messages == 1);
    assert_int_equal(p.side.last_type, SSH2_MSG_DEBUG);
    pair_close(&p);
}

static void test_peer_s_disconnect(void **state)
{
    struct pair p;
    struct buf message = {0};

    (void)state;
    open_with_keys(&p, 0);
    buf_put_u8(&message, SSH2_MSG_DISCONNECT);
    buf_put_u32(&message, 11);
    buf_put_string(&message, BYTES("by\ne\033"));
    buf_put_string(&message, BYTES(""));
    client_send(&p.client, buf_bytes(&message));
    wait_for(&p, p.side.ends == 1);
    assert_int_equal(p.side.end.kind, TRANSPORT_END_PEER);
    assert_int_equal(p.side.end.code, 11);
    assert_string_equal(p.side.reason, "by?e?");
    buf_clear(&message);
    pair_close(&p);
}

static void test_peer_s_eof(void **state)
{
    struct pair p;

    (void)state;
    open_with_keys(&p, 0);
    shutdown(p.client.fd, SHUT_WR);
    wait_for(&p, p.side.ends == 1);
    assert_int_equal(p.side.end.kind, TRANSPORT_END_EOF);
    pair_close(&p);
}

static void test_disconnect(void **state)
{
    struct pair p;

    (void)state;
    open_with_keys(&p, 0);
    transport_disconnect(p.side.transport, 11, "good bye", "en");
    assert_int_equal(p.side.ends, 0); /* never from inside */
    transport_send(p.side.transport, BYTES("\x50"));
    wait_for(&p, p.side.ends == 1);
    assert_int_equal(p.side.end.kind, TRANSPORT_END_LOCAL);
    assert_string_equal(p.side.reason, "good bye");
    wait_for(&p, p.client.seen[SSH2_MSG_DISCONNECT] == 1);
    assert_int_equal(p.client.seen[SSH2_MSG_GLOBAL_REQUEST], 0);
    pair_close(&p);
}

static void test_disconnect_inside_message(void **state)
{
    struct pair p;

    (void)state;
    open_with_keys(&p, 0);
    p.side.disconnect = true;
    client_send_type(&p.client, 50);
    client_send_type(&p.client, 50);
    wait_for(&p, p.side.ends == 1);
    assert_int_equal(p.side.messages, 1);
    assert_int_equal(p.side.end.kind, TRANSPORT_END_LOCAL);
    pair_close(&p);
}

static void test_free_inside_message(void **state)
{
    struct pair p;

    (void)state;
    open_with_keys(&p, 0);
    p.side.free_inside = true;
    p.side.refuse = true;
    client_send_type(&p.client, 50);
    client_send_type(&p.client, 50);
    wait_for(&p, p.side.messages == 1);
    turns(&p, 5);
    assert_int_equal(p.side.messages, 1);
    assert_int_equal(p.side.ends, 0);
    pair_close(&p);
}

static void test_pause(void **state)
{
    struct pair p;

    (void)state;
    open_with_keys(&p, 0);
    p.side.pause = true;
    for (int i = 0; i < 3; i++)
        client_send_type(&p.client, 50);
    wait_for(&p, p.side.messages == 1);
    turns(&p, 10);
    assert_int_equal(p.side.messages, 1);
    transport_pause(p.side.transport);
    transport_resume(p.side.transport);
    turns(&p, 10);
    assert_int_equal(p.side.messages, 1); /* it nests */
    transport_resume(p.side.transport);
    assert_int_equal(p.side.messages, 1); /* never from inside */
    wait_for(&p, p.side.messages == 2);
    transport_resume(p.side.transport);
    wait_for(&p, p.side.messages == 3);
    p.side.pause = false;
    transport_resume(p.side.transport);
    client_send_type(&p.client, 50);
    wait_for(&p, p.side.messages == 4);
    pair_close(&p);
}

static void client_rekey(struct pair *p)
{
    struct libssh_output before =
        libssh_output_to((struct libssh_output){p->client.session->socket, p->client.out});

    assert_int_equal(ssh_send_rekex(p->client.session), SSH_OK);
    libssh_output_to(before);
}

static void expect_rekey(struct pair *p, enum ssh_session_state_e then)
{
    unsigned newkeys = p->client.seen[SSH2_MSG_NEWKEYS];

    client_rekey(p);
    wait_for(p, p->client.seen[SSH2_MSG_NEWKEYS] == newkeys + 1 &&
                    p->client.session->session_state == then);
}

static void test_rekey_by_the_client(void **state)
{
    (void)state;
    for (size_t i = 0; i < SUITES; i++) {
        struct pair p;

        open_with_keys(&p, i);
        pair_log_in(&p);
        for (unsigned round = 1; round <= 3; round++) {
            expect_rekey(&p, SSH_SESSION_STATE_AUTHENTICATED);
            client_send_type(&p.client, 80);
            wait_for(&p, p.side.messages == round);
        }
        assert_int_equal(p.side.keys, 1);
        pair_close(&p);
    }
}

/* RFC 4253 section 9 allows it at any time; libssh by itself does not. */
static void test_rekey_before_login(void **state)
{
    struct pair p;

    (void)state;
    open_with_keys(&p, 0);
    /* The client's libssh will not either, unless it believes to be logged in. */
    p.client.session->session_state = SSH_SESSION_STATE_AUTHENTICATED;
    expect_rekey(&p, SSH_SESSION_STATE_AUTHENTICATING);
    client_send_type(&p.client, 50);
    wait_for(&p, p.side.messages == 1);
    client_send_type(&p.client, 90); /* still not logged in */
    wait_for(&p, p.side.ends == 1);
    assert_int_equal(p.side.messages, 1);
    pair_close(&p);
}

static void test_rekeys_before_login_are_bounded(void **state)
{
    struct pair p;

    (void)state;
    open_with_keys(&p, 0);
    for (int i = 0; i < 8; i++) {
        p.client.session->session_state = SSH_SESSION_STATE_AUTHENTICATED;
        expect_rekey(&p, SSH_SESSION_STATE_AUTHENTICATING);
    }
    p.client.session->session_state = SSH_SESSION_STATE_AUTHENTICATED;
    client_rekey(&p);
    wait_for(&p, p.side.ends == 1);
    pair_close(&p);
}

/* We hold our messages back, in order, while keys are exchanged, and take the peer's. */
static void test_messages_during_a_rekey(void **state)
{
    struct pair p;

    (void)state;
    open_with_keys(&p, 0);
    pair_log_in(&p);
    client_rekey(&p);
    client_write(&p.client);
    event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
    assert_int_equal(transport_room(p.side.transport), 0);
    transport_send(p.side.transport, BYTES("\x50"));
    transport_send_data(p.side.transport, 1, 0, BYTES("data"));
    p.client.session->flags &=
        ~SSH_SESSION_FLAG_AUTHENTICATED; /* or the client's libssh holds it back */
    client_send_type(&p.client, 94);
    p.client.session->flags |= SSH_SESSION_FLAG_AUTHENTICATED;
    client_write(&p.client);
    event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
    assert_int_equal(p.side.messages, 1);
    wait_for(&p, p.client.seen[94] == 1);
    assert_int_equal(p.client.seen[80], 1);
    assert_true(transport_room(p.side.transport) > 0);
    assert_int_equal(p.side.writables, 1);
    pair_close(&p);
}

static void test_rekey_by_volume(void **state)
{
    static uint8_t data[32768];

    (void)state;
    for (size_t i = 0; i < SUITES; i++) {
        struct transport_settings settings = {.rekey_bytes = 1 << 20};
        struct pair p;
        unsigned sent = 0;

        pair_open(&p, &settings);
        pair_exchange_keys(&p, suites[i].cipher, suites[i].mac);
        pair_log_in(&p);
        while (sent < 320) { /* 10 MiB */
            if (transport_room(p.side.transport) > 0) {
                transport_send_data(p.side.transport, 0, 0, bytes_of(data, sizeof(data)));
                sent++;
            }
            turns(&p, 1);
        }
        wait_for(&p, p.client.seen[SSH2_MSG_CHANNEL_DATA] == sent);
        assert_in_range(p.client.seen[SSH2_MSG_NEWKEYS], 8, 12);
        pair_close(&p);
    }
}

static void test_unanswered_rekey(void **state)
{
    struct transport_settings settings = {.rekey_bytes = 1 << 20, .rekey_answer_ms = 50};
    static uint8_t data[32768];
    struct pair p;

    (void)state;
    pair_open(&p, &settings);
    pair_exchange_keys(&p, suites[0].cipher, NULL);
    pair_log_in(&p);
    /* This client reads, but never answers the KEXINIT. */
    p.client.session->socket_callbacks.data = NULL;
    for (int i = 0; i < 40 && transport_room(p.side.transport) > 0; i++) {
        transport_send_data(p.side.transport, 0, 0, bytes_of(data, sizeof(data)));
        client_write(&p.client);
        event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
        while (recv(p.client.fd, data, sizeof(data), 0) > 0)
            ;
    }
    assert_int_equal(transport_room(p.side.transport), 0);
    for (int i = 0; i < 200 && p.side.ends == 0; i++) {
        usleep(1000);
        event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
        while (recv(p.client.fd, data, sizeof(data), 0) > 0)
            ;
    }
    assert_int_equal(p.side.ends, 1);
    assert_int_equal(p.side.end.kind, TRANSPORT_END_PROTOCOL);
    pair_close(&p);
}

/* A peer that does not read stops producers, then is not read itself, and costs bounded memory. */
static void test_peer_that_does_not_read(void **state)
{
    static uint8_t data[32768];
    struct pair p;
    size_t sent = 0;

    (void)state;
    open_with_keys(&p, 1);
    pair_log_in(&p);
    while (transport_room(p.side.transport) > 0 && sent < 100 * sizeof(data)) {
        transport_send_data(p.side.transport, 0, 0, bytes_of(data, sizeof(data)));
        event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
        sent += sizeof(data);
    }
    assert_in_range(sent, 256 * 1024, 2 * 1024 * 1024);
    assert_int_equal(p.side.writables, 0);
    wait_for(&p, p.side.writables == 1);
    for (int i = 0; i < 1000; i++) /* whoever ignores transport_room() is stopped */
        transport_send_data(p.side.transport, 0, 0, bytes_of(data, sizeof(data)));
    event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
    wait_for(&p, p.side.ends == 1);
    assert_int_equal(p.side.end.kind, TRANSPORT_END_PROTOCOL);
    pair_close(&p);
}

static void test_host_keys(void **state)
{
    struct pair p;
    struct buf signature = {0};
    struct bytes blob;
    struct public_key *key;

    (void)state;
    open_with_keys(&p, 0);
    assert_int_equal(transport_host_key_count(p.side.transport), 1);
    blob = transport_host_key_blob(p.side.transport, 0);
    assert_true(bytes_equal(blob, transport_host_key_used(p.side.transport)));
    assert_int_equal(transport_host_key_blob(p.side.transport, 1).len, 0);
    assert_true(transport_host_key_sign(p.side.transport, blob, BYTES("proof"), &signature));
    key = public_key_parse(blob);
    assert_true(
        public_key_verify(key, BYTES("ssh-ed25519"), buf_bytes(&signature), BYTES("proof"), NULL));
    assert_false(transport_host_key_sign(p.side.transport, BYTES("other"), BYTES("x"), &signature));
    public_key_free(&key);
    buf_clear(&signature);
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suites_carry_messages),
        cmocka_unit_test(test_one_byte_at_a_time),
        cmocka_unit_test(test_damaged_packets),
        cmocka_unit_test(test_numbers_before_login),
        cmocka_unit_test(test_numbers_after_login),
        cmocka_unit_test(test_unknown_numbers),
        cmocka_unit_test(test_every_number),
        cmocka_unit_test(test_trickle),
        cmocka_unit_test(test_packet_size),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_ping_that_swells),
        cmocka_unit_test(test_ignored),
        cmocka_unit_test(test_peer_s_disconnect),
        cmocka_unit_test(test_peer_s_eof),
        cmocka_unit_test(test_disconnect),
        cmocka_unit_test(test_disconnect_inside_message),
        cmocka_unit_test(test_free_inside_message),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_rekey_by_the_client),
        cmocka_unit_test(test_rekey_before_login),
        cmocka_unit_test(test_rekeys_before_login_are_bounded),
        cmocka_unit_test(test_messages_during_a_rekey),
        cmocka_unit_test(test_rekey_by_volume),
        cmocka_unit_test(test_unanswered_rekey),
        cmocka_unit_test(test_peer_that_does_not_read),
        cmocka_unit_test(test_host_keys),
    };

    return cmocka_run_group_tests(tests, pairs_set_up, pairs_tear_down);
}
