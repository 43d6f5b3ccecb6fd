/* Our client on our server: keys, what may come when, rekeys, and a server that does wrong. */
#include "unit/transport/ends.h"

#include "base/reader.h"

static const struct {
    const char *kex, *cipher, *mac;
} suites[] = {
    {NULL, NULL, NULL},
    {"curve25519-sha256", "chacha20-poly1305@openssh.com", NULL},
    {"sntrup761x25519-sha512@openssh.com", "aes128-gcm@openssh.com", NULL},
    {"ecdh-sha2-nistp256", "aes256-gcm@openssh.com", NULL},
    {"ecdh-sha2-nistp521", "aes128-ctr", "hmac-sha2-256"},
    {"diffie-hellman-group14-sha256", "aes256-ctr", "hmac-sha2-512-etm@openssh.com"},
};

#define SUITES (sizeof(suites) / sizeof(suites[0]))

static bool libssh_lacks(const char *kex)
{
    char *kept = kex ? ssh_keep_known_algos(SSH_KEX, kex) : NULL;
    bool lacks = kex != NULL && kept == NULL;

    free(kept);
    return lacks;
}

static void open_suite(struct ends *e, size_t suite, struct transport_settings client)
{
    struct transport_settings server = {.kex = suites[suite].kex};

    client.ciphers = suites[suite].cipher;
    client.macs = suites[suite].mac;
    ends_open(e, &client, &server);
    ends_exchange_keys(e);
}

static void open_with_keys(struct ends *e)
{
    ends_open(e, NULL, NULL);
    ends_exchange_keys(e);
}

/* ---- as it should be */

static void test_messages_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < SUITES; i++) {
        struct transport *c, *s;
        struct ends e;

        if (libssh_lacks(suites[i].kex))
            continue;
        open_suite(&e, i, (struct transport_settings){0});
        c = e.client.transport;
        s = e.server.transport;
        assert_string_equal(transport_peer_version(c), "SSH-2.0-Parley_" PARLEY_VERSION);
        assert_true(bytes_equal(transport_session_id(c), transport_session_id(s)));
        assert_string_equal(transport_algorithms(c), transport_algorithms(s));
        assert_true(bytes_equal(transport_host_key_used(c), transport_host_key_blob(s, 0)));
        wait_for(&e, e.client.last_type == SSH2_MSG_EXT_INFO);
        ends_log_in(&e);
        transport_send(c, BYTES("\x5ahello"));
        wait_for(&e, e.server.last_type == SSH2_MSG_CHANNEL_OPEN);
        assert_true(bytes_equal(buf_bytes(&e.server.last), BYTES("hello")));
        transport_send_data(s, 7, 0, BYTES("data"));
        wait_for(&e, e.client.last_type == SSH2_MSG_CHANNEL_DATA);
        assert_int_equal(e.client.last.len, 4 + 4 + 4);
        assert_int_equal(e.client.ends + e.server.ends, 0);
        ends_close(&e);
    }
}

static void test_one_byte_at_a_time(void **state)
{
    struct ends e;

    (void)state;
    ends_open(&e, NULL, NULL);
    e.down.chunk = 1;
    ends_exchange_keys(&e);
    ends_log_in(&e);
    server_sends(&e, BYTES("\x5ahello"));
    wait_for(&e, e.client.last_type == SSH2_MSG_CHANNEL_OPEN);
    ends_close(&e);
}

/* What is sent before there are keys waits for them. */
static void test_messages_wait_for_keys(void **state)
{
    struct ends e;

    (void)state;
    ends_open(&e, NULL, NULL);
    assert_int_equal(transport_room(e.client.transport), 0);
    assert_int_equal(transport_host_key_used(e.client.transport).len, 0);
    transport_send(e.client.transport, BYTES("\x05hello"));
    wait_for(&e, e.server.messages == 1);
    assert_true(bytes_equal(buf_bytes(&e.server.last), BYTES("hello")));
    wait_for(&e, e.client.writables == 1);
    ends_close(&e);
}

/* ---- what a server may not send */

static void expect_refused(struct ends *e)
{
    wait_for(e, e->client.ends == 1);
    assert_int_equal(e->client.end.kind, TRANSPORT_END_PROTOCOL);
    assert_int_equal(e->client.end.code, SSH2_DISCONNECT_PROTOCOL_ERROR);
}

static void send_type(struct ends *e, int type)
{
    uint8_t message[32] = {(uint8_t)type};

    server_sends(e, bytes_of(message, sizeof(message)));
}

/* Also after something that looks like a login, if the owner did not take it for one. */
static void test_connection_messages_need_login(void **state)
{
    (void)state;
    for (int type = 80; type < 128; type++) {
        struct ends e;

        open_with_keys(&e);
        wait_for(&e, e.client.last_type == SSH2_MSG_EXT_INFO);
        e.silent = true;
        if (type % 2 == 0)
            transport_send_auth_success(e.server.transport);
        send_type(&e, type);
        expect_refused(&e);
        assert_int_equal(e.client.messages, type % 2 == 0 ? 2 : 1);
        assert_true(e.client.last_type < 80);
        ends_close(&e);
    }
}

/* Every number, before and after login: the connection ends, or goes on as if nothing had been. */
static void test_every_number(void **state)
{
    (void)state;
    for (int type = 0; type < 256; type++) {
        for (int logged_in = 0; logged_in < 2; logged_in++) {
            bool owner = type == 4 || type == 7 ||
                         (!logged_in && (type == 6 || type == 51 || type == 52 || type == 53 ||
                                         (type >= 60 && type <= 66))) ||
                         (logged_in && type >= 80 && type < 128);
            bool refused = type == 5 || type == 21 || (type >= 30 && type < 35) || type == 50 ||
                           type == 192; /* a malformed ping */
            unsigned before;
            struct ends e;

            open_with_keys(&e);
            wait_for(&e, e.client.last_type == SSH2_MSG_EXT_INFO);
            if (logged_in)
                ends_log_in(&e);
            else
                e.silent = true;
            before = e.client.messages;
            e.client.last_type = 0;
            send_type(&e, type);
            send_type(&e, SSH2_MSG_EXT_INFO); /* still in step? */
            wait_for(&e, e.client.ends == 1 || e.client.last_type == SSH2_MSG_EXT_INFO);
            turns(&e, 3);
            if (owner)
                assert_int_equal(e.client.messages, before + 2);
            else if (e.client.ends == 0)
                assert_int_equal(e.client.messages, before + 1);
            if (refused)
                expect_refused(&e);
            ends_close(&e);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_both_ways),
        cmocka_unit_test(test_one_byte_at_a_time),
        cmocka_unit_test(test_messages_wait_for_keys),
        cmocka_unit_test(test_connection_messages_need_login),
        cmocka_unit_test(test_every_number),
    };

    return cmocka_run_group_tests(tests, pairs_set_up, pairs_tear_down);
}
