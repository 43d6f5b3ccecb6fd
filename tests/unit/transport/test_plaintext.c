/* Before there are keys: version lines, packets that anybody could send, strict key exchange. */
#include "unit/transport/pair.h"

static void raw(struct pair *p, struct bytes data)
{
    evbuffer_add(p->client.out, data.data, data.len);
}

static void raw_text(struct pair *p, const char *text)
{
    raw(p, bytes_of_string(text));
}

static void raw_packet(struct pair *p, const uint8_t *payload, size_t len)
{
    struct buf packet = {0};
    size_t padding = 8 - (5 + len) % 8;

    padding += padding < 4 ? 8 : 0;
    buf_put_u32(&packet, (uint32_t)(1 + len + padding));
    buf_put_u8(&packet, (uint8_t)padding);
    buf_put(&packet, bytes_of(payload, len));
    for (; padding > 0; padding--)
        buf_put_u8(&packet, 0);
    raw(p, buf_bytes(&packet));
    buf_clear(&packet);
}

static void expect_end(struct pair *p, uint32_t code)
{
    wait_for(p, p->side.ends == 1);
    assert_int_equal(p->side.end.kind, TRANSPORT_END_PROTOCOL);
    assert_int_equal(p->side.end.code, code);
    assert_int_equal(p->side.messages, 0);
    assert_int_equal(p->side.keys, 0);
    turns(p, 2);
}

static bool client_got(struct pair *p, const char *text)
{
    return p->client.in.len > 0 &&
           memmem(p->client.in.data, p->client.in.len, text, strlen(text)) != NULL;
}

static void test_our_version(void **state)
{
    struct transport_settings settings = {.version_comment = "Example_1"};
    struct pair p;

    (void)state;
    pair_open(&p, &settings);
    wait_for(&p, client_got(&p, "SSH-2.0-Example_1\r\n"));
    pair_close(&p);
}

static void test_other_protocols(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        static const char *const lines[] = {"GET / HTTP/1.1\r\n\r\n", "SSH-1.5-old\r\n",
                                            "SSH-2.0-\033\r\n"};
        struct pair p;

        pair_open(&p, NULL);
        raw_text(&p, lines[i]);
        expect_end(&p, SSH2_DISCONNECT_PROTOCOL_VERSION_NOT_SUPPORTED);
        assert_true(client_got(&p, p.side.reason)); /* in words that a person can read */
        pair_close(&p);
    }
}

static void test_long_version(void **state)
{
    char line[256];
    struct pair p;

    (void)state;
    memset(line, 'v', sizeof(line));
    memcpy(line, "SSH-2.0-", 8);
    memcpy(line + 253, "\r\n", 3);
    pair_open(&p, NULL);
    raw_text(&p, line);
    wait_for(&p, strlen(transport_peer_version(p.side.transport)) == 253);
    pair_close(&p);
    line[253] = line[254] = 'v';
    pair_open(&p, NULL);
    raw(&p, bytes_of(line, 255));
    expect_end(&p, SSH2_DISCONNECT_PROTOCOL_VERSION_NOT_SUPPORTED);
    pair_close(&p);
}

static void test_bad_lengths(void **state)
{
    static const uint8_t packets[][16] = {
        {0, 0, 0, 0, 4},
        {0, 0, 0, 5, 4},
        {0, 0, 0, 13, 4},
        {0, 4, 0, 4, 4},
        {0xff, 0xff, 0xff, 0xfc, 4},
        {0, 0, 0, 12, 3, 2},
        {0, 0, 0, 12, 11, 2},
        {0, 0, 0, 12, 255, 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
        struct pair p;

        pair_open(&p, NULL);
        raw_text(&p, "SSH-2.0-x\r\n");
        raw(&p, bytes_of(packets[i], sizeof(packets[i])));
        expect_end(&p, SSH2_DISCONNECT_PROTOCOL_ERROR);
        pair_close(&p);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    for (int type = 0; type < 256; type++) {
        const uint8_t payload[20] = {(uint8_t)type};
        bool refused = (type >= 5 && type <= 7) || type == 21 || (type >= 30 && type <= 34) ||
                       (type >= 50 && type < 128);
        struct pair p;

        pair_open(&p, NULL);
        raw_text(&p, "SSH-2.0-x\r\n");
        raw_packet(&p, payload, sizeof(payload));
        if (refused) {
            expect_end(&p, SSH2_DISCONNECT_PROTOCOL_ERROR);
        } else if (type == 20) {
            expect_end(&p, SSH2_DISCONNECT_KEY_EXCHANGE_FAILED);
        } else if (type == 1) {
            wait_for(&p, p.side.ends == 1);
            assert_int_equal(p.side.end.kind, TRANSPORT_END_PEER);
        } else {
            turns(&p, 3);
            assert_int_equal(p.side.ends, 0);
            assert_int_equal(p.side.messages, 0);
        }
        pair_close(&p);
    }
}

/* OpenSSH PROTOCOL: with strict key exchange nothing but the exchange may be in the first one
 * (Terrapin). */
static void test_strict_extra_message(void **state)
{
    static const uint8_t extras[] = {2, 3, 4, 192, 22};

    (void)state;
    for (size_t i = 0; i < sizeof(extras); i++) {
        struct pair p;

        pair_open(&p, NULL);
        client_start(&p, "chacha20-poly1305@openssh.com", NULL, NULL);
        wait_for(&p, p.client.seen[SSH2_MSG_KEXINIT] == 1);
        client_send_type(&p.client, extras[i]);
        expect_end(&p, SSH2_DISCONNECT_PROTOCOL_ERROR);
        pair_close(&p);
    }
}

static void test_strict_message_before_kexinit(void **state)
{
    static const uint8_t ignore[10] = {SSH2_MSG_IGNORE};
    struct pair p;

    (void)state;
    pair_open(&p, NULL);
    client_start(&p, "chacha20-poly1305@openssh.com", NULL, NULL);
    client_turn(&p.client); /* reads nothing yet, sends its version line */
    raw_packet(&p, ignore, sizeof(ignore));
    expect_end(&p, SSH2_DISCONNECT_KEY_EXCHANGE_FAILED);
    pair_close(&p);
}

static void test_nothing_in_common(void **state)
{
    struct transport_settings settings = {.kex = "ecdh-sha2-nistp521"};
    struct pair p;

    (void)state;
    pair_open(&p, &settings);
    client_start(&p, "chacha20-poly1305@openssh.com", NULL, NULL);
    expect_end(&p, SSH2_DISCONNECT_KEY_EXCHANGE_FAILED);
    assert_non_null(strstr(p.side.reason, "curve25519-sha256"));
    pair_close(&p);
}

/* What is sent too early waits for the keys. */
static void test_early_messages(void **state)
{
    struct pair p;

    (void)state;
    pair_open(&p, NULL);
    assert_int_equal(transport_room(p.side.transport), 0);
    transport_send(p.side.transport, BYTES("\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00"));
    turns(&p, 2);
    pair_exchange_keys(&p, "aes128-gcm@openssh.com", NULL);
    wait_for(&p, p.client.seen[SSH2_MSG_DEBUG] == 1);
    assert_int_equal(p.side.writables, 1);
    assert_true(transport_room(p.side.transport) > 0);
    pair_close(&p);
}

static void test_disconnect_before_version(void **state)
{
    struct pair p;

    (void)state;
    pair_open(&p, NULL);
    transport_disconnect(p.side.transport, 12, "too many connections", "");
    wait_for(&p, p.side.ends == 1);
    assert_int_equal(p.side.end.kind, TRANSPORT_END_LOCAL);
    pair_close(&p);
}

static void test_free_at_once(void **state)
{
    struct pair p;

    (void)state;
    pair_open(&p, NULL);
    pair_close(&p);
    assert_int_equal(p.side.ends, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_our_version),
        cmocka_unit_test(test_other_protocols),
        cmocka_unit_test(test_long_version),
        cmocka_unit_test(test_bad_lengths),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_strict_extra_message),
        cmocka_unit_test(test_strict_message_before_kexinit),
        cmocka_unit_test(test_nothing_in_common),
        cmocka_unit_test(test_early_messages),
        cmocka_unit_test(test_disconnect_before_version),
        cmocka_unit_test(test_free_at_once),
    };

    return cmocka_run_group_tests(tests, pairs_set_up, pairs_tear_down);
}
