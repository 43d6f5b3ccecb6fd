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

static struct ssh_cipher_struct *opener(const struct ends *e)
{
    return e->client.transport->session->current_crypto->in_cipher;
}

/* Data both ways all the while. Returns how often the keys were new. */
static unsigned exchange_data(struct ends *e, unsigned messages)
{
    static uint8_t data[32768];
    uint64_t packets = 0;
    unsigned rekeys = 0;

    for (uint32_t up = 0, down = 0; up < messages || down < messages;) {
        if (up < messages && transport_room(e->client.transport) > 0)
            transport_send_data(e->client.transport, up++, 0, bytes_of(data, sizeof(data)));
        if (down < messages && transport_room(e->server.transport) > 0)
            transport_send_data(e->server.transport, down++, 0, bytes_of(data, sizeof(data)));
        turns(e, 1);
        rekeys += opener(e)->packets < packets;
        packets = opener(e)->packets;
    }
    wait_for(e, e->client.data == messages && e->server.data == messages);
    assert_int_equal(e->client.disorder + e->server.disorder, 0);
    assert_int_equal(e->client.keys, 1);
    return rekeys;
}

/* As a daemon that is its own upstream: one buffer, one line of handshakes, one set of offers. */
static void test_both_on_one_worker(void **state)
{
    struct transport_settings settings = {.rekey_bytes = 1 << 20};
    struct transport_server *worker = server_for_pairs(&settings);
    struct ends e;

    (void)state;
    ends_open_on(&e, worker, worker);
    e.far = NULL;
    ends_exchange_keys(&e);
    ends_log_in(&e);
    assert_true((e.client.transport->session->flags & SSH_SESSION_FLAG_KEX_STRICT) != 0);
    assert_in_range(exchange_data(&e, 160), 3, 10);
    ends_close(&e);
}

/* What the keys could be computed from again goes with the exchange, the first and each other. */
static void expect_forgotten(const struct transport *t)
{
    const struct ssh_crypto_struct *crypto = t->session->current_crypto;

    assert_null(crypto->shared_secret);
    assert_null(crypto->ecdh_privkey);
    assert_null(crypto->dh_ctx);
    assert_null(crypto->server_pubkey);
    assert_null(crypto->client_kex.methods[SSH_KEX]);
    assert_null(crypto->server_kex.methods[SSH_KEX]);
#if LIBSSH_VERSION_INT >= SSH_VERSION_INT(0, 12, 0)
    assert_null(crypto->curve25519_privkey);
    assert_null(crypto->mlkem_privkey);
    assert_null(crypto->hybrid_shared_secret);
#endif
}

static void test_an_exchange_is_forgotten(void **state)
{
    (void)state;
    for (size_t i = 0; i < SUITES; i++) {
        struct ends e;

        if (libssh_lacks(suites[i].kex))
            continue;
        open_suite(&e, i, (struct transport_settings){0});
        expect_forgotten(e.client.transport);
        expect_forgotten(e.server.transport);
        ends_log_in(&e);
        begin_rekey(e.client.transport);
        wait_for(&e, !e.client.transport->exchanging && !e.server.transport->exchanging);
        expect_forgotten(e.client.transport);
        expect_forgotten(e.server.transport);
        ends_close(&e);
    }
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

/* ---- rekeys */

static void test_rekey_by_volume(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * SUITES; i++) {
        size_t suite = i / 2;
        struct transport_settings client = {.ciphers = suites[suite].cipher,
                                            .macs = suites[suite].mac},
                                  server = {.kex = suites[suite].kex};
        struct ends e;

        if (libssh_lacks(suites[suite].kex))
            continue;
        if (i % 2 == 0)
            client.rekey_bytes = 1 << 20;
        else
            server.rekey_bytes = 1 << 20;
        ends_open(&e, &client, &server);
        ends_exchange_keys(&e);
        ends_log_in(&e);
        assert_in_range(exchange_data(&e, 160), 3, 6); /* 5 MiB each way */
        ends_close(&e);
    }
}

/* Both ask at once. */
static void test_rekeys_that_cross(void **state)
{
    struct ends e;

    (void)state;
    open_with_keys(&e);
    ends_log_in(&e);
    for (uint32_t round = 1; round <= 5; round++) {
        begin_rekey(e.client.transport);
        begin_rekey(e.server.transport);
        transport_send_data(e.client.transport, round - 1, 0, BYTES("x"));
        transport_send_data(e.server.transport, round - 1, 0, BYTES("y"));
        wait_for(&e, e.client.data == round && e.server.data == round);
        wait_for(&e, !e.client.transport->exchanging && !e.server.transport->exchanging);
        assert_true(transport_room(e.client.transport) > 0);
    }
    assert_int_equal(e.client.disorder + e.server.disorder, 0);
    ends_close(&e);
}

/* RFC 4253 section 9 lets a server do so at any time; ours does not, and has to be talked into
 * it. */
static void rekey_before_login(struct ends *e)
{
    ssh_session session = e->server.transport->session;

    session->session_state = SSH_SESSION_STATE_AUTHENTICATED;
    begin_rekey(e->server.transport);
    wait_for(e, e->client.ends == 1 || session->session_state == SSH_SESSION_STATE_AUTHENTICATING);
}

static void test_rekeys_before_login(void **state)
{
    struct ends e;

    (void)state;
    open_with_keys(&e);
    for (int i = 0; i < EARLY_REKEYS_MAX; i++)
        rekey_before_login(&e);
    wait_for(&e, !e.client.transport->exchanging);
    assert_int_equal(e.client.keys, 1);
    ends_log_in(&e);
    assert_int_equal(e.client.ends, 0);
    ends_close(&e);

    open_with_keys(&e);
    for (int i = 0; i <= EARLY_REKEYS_MAX; i++)
        rekey_before_login(&e);
    wait_for(&e, e.client.ends == 1);
    assert_string_equal(e.client.reason, "too many rekeys before login");
    ends_close(&e);
}

static void test_unanswered_rekey(void **state)
{
    struct transport_settings client = {.rekey_answer_ms = 50};
    struct ends e;

    (void)state;
    ends_open(&e, &client, NULL);
    ends_exchange_keys(&e);
    ends_log_in(&e);
    e.down.held = true;
    begin_rekey(e.client.transport);
    assert_int_equal(transport_room(e.client.transport), 0);
    wait_for(&e, e.client.ends == 1);
    assert_string_equal(e.client.reason, "key exchange was not finished in time");
    ends_close(&e);
}

/* Who was trusted is who goes on. */
static void test_rekey_with_another_host_key(void **state)
{
    char *file = xasprintf("%s/other", key_dir), *command, *error = NULL;
    struct host_key other;
    struct ends e;
    ssh_key before;

    (void)state;
    command = xasprintf("ssh-keygen -q -t ed25519 -N '' -C '' -f %s", file);
    assert_int_equal(system(command), 0);
    assert_true(host_key_load(file, &other, &error));
    open_with_keys(&e);
    ends_log_in(&e);
    before = e.server.transport->session->srv.ed25519_key;
    e.server.transport->session->srv.ed25519_key = other.private_key;
    transport_send_data(e.client.transport, 0, 0, BYTES("under the old keys"));
    begin_rekey(e.server.transport);
    wait_for(&e, e.client.transport->exchanging);
    transport_send_data(e.client.transport, 1, 0, BYTES("not under the new ones"));
    wait_for(&e, e.client.ends == 1);
    assert_string_equal(e.client.reason, "the server shows another host key than before");
    assert_int_equal(e.client.end.kind, TRANSPORT_END_PROTOCOL);
    turns(&e, 5);
    assert_int_equal(e.server.data, 1);
    if (e.server.transport != NULL)
        e.server.transport->session->srv.ed25519_key = before;
    else
        ssh_key_free(before); /* the other one went with the session */
    ends_close(&e);
    if (e.server.ends > 0)
        other.private_key = NULL;
    host_key_clear(&other);
    unlink(file);
    free(command);
    command = xasprintf("%s.pub", file);
    unlink(command);
    free(command);
    free(file);
}

/* ---- bytes that are wrong */

/* Whatever is changed on the way to us: there are keys only if both sides have the same. */
static void test_damage_in_the_first_exchange(void **state)
{
    struct transport_server *worker = server_for_pairs(NULL), *far = server_for_pairs(NULL);

    (void)state;
    for (uint64_t at = 1; at < 2400; at += 5) {
        struct ends e;

        ends_open_on(&e, worker, far);
        e.down.flip_at = at;
        for (int i = 0; i < 12 && e.client.ends == 0 && e.client.keys == 0; i++)
            turns(&e, 1);
        if (e.client.keys > 0)
            wait_for(&e, e.client.ends > 0 || e.server.keys > 0);
        if (e.client.keys > 0 && e.client.ends == 0)
            assert_true(bytes_equal(transport_session_id(e.client.transport),
                                    transport_session_id(e.server.transport)));
        e.worker = e.far = NULL; /* they stay */
        ends_close(&e);
    }
    transport_server_free(&worker);
    transport_server_free(&far);
    event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
}

static void test_damaged_packets(void **state)
{
    (void)state;
    for (size_t i = 1; i < SUITES; i++) {
        for (uint64_t offset = 1; offset < 40; offset += 6) {
            struct ends e;

            if (libssh_lacks(suites[i].kex))
                continue;
            open_suite(&e, i, (struct transport_settings){0});
            ends_log_in(&e);
            e.down.flip_at = e.down.passed + offset;
            server_sends(&e, BYTES("\x5a whatever it is, it is longer than this"));
            server_sends(&e, BYTES("\x5a whatever it is, it is longer than this"));
            wait_for(&e, e.client.ends == 1 || e.client.transport->wanted > 0);
            assert_int_not_equal(e.client.last_type, SSH2_MSG_CHANNEL_OPEN);
            ends_close(&e);
        }
    }
}

static void expect_end(struct ends *e, const char *reason)
{
    wait_for(e, e->client.ends == 1);
    assert_string_equal(e->client.reason, reason);
    assert_int_equal(e->client.keys, 0);
    assert_int_equal(e->client.messages, 0);
}

/* With `bytes` from the server, and then nothing more, or its end. */
static void expect_after(struct transport_server *worker, struct bytes bytes, bool close_it,
                         const char *reason)
{
    for (size_t chunk = 0; chunk < 3; chunk++) {
        struct ends e;

        ends_open_half(&e, worker, NULL);
        write_down(&e, bytes);
        e.down.chunk = bytes.len < 1000 ? chunk : 0;
        while (evbuffer_get_length(e.down.bytes) > 0 && e.client.ends == 0)
            turns(&e, 1);
        if (close_it)
            shutdown(e.down.to, SHUT_WR);
        expect_end(&e, reason);
        e.worker = NULL;
        ends_close(&e);
    }
}

#define A20  "aaaaaaaaaaaaaaaaaaaa"
#define A200 A20 A20 A20 A20 A20 A20 A20 A20 A20 A20

static void test_other_lines(void **state)
{
    struct transport_server *worker = server_for_pairs(NULL);
    struct buf lines = {0};

    (void)state;
    expect_after(worker, BYTES(""), true,
                 "the server closed the connection without a version line");
    expect_after(worker, BYTES("\r\nExceeded \x1bMaxStartups\r\nx"), true,
                 "the server closed the connection without a version line; it says: Exceeded "
                 "?MaxStartups");
    expect_after(worker, BYTES("220 mail\r\n\0"), false,
                 "this is not an SSH server; it says: 220 mail");
    expect_after(worker, BYTES("SSH-1.5-old\r\n"), false, "SSH protocol 2.0 is required");
    expect_after(worker, BYTES("SSH-2.0-\r\n"), false, "malformed version line");
    expect_after(worker, BYTES("SSH-2.0-a\x01\r\n"), false, "malformed version line");
    for (int i = 0; i < 1024; i++)
        buf_put(&lines, BYTES("\r\n"));
    buf_put(&lines, BYTES("SSH-1.5-\n"));
    expect_after(worker, buf_bytes(&lines), false, "SSH protocol 2.0 is required");
    buf_reset(&lines);
    for (int i = 0; i < 1025; i++)
        buf_put(&lines, BYTES("\r\n"));
    expect_after(worker, buf_bytes(&lines), false,
                 "the server sends too much before its version line");
    buf_reset(&lines);
    for (int i = 0; i < 8191; i++)
        buf_put_u8(&lines, 'a');
    buf_put(&lines, BYTES("\nSSH-1.5-\n"));
    expect_after(worker, buf_bytes(&lines), false, "SSH protocol 2.0 is required; it says: " A200);
    buf_reset(&lines);
    for (int i = 0; i < 8192; i++)
        buf_put_u8(&lines, 'a');
    expect_after(worker, buf_bytes(&lines), false, "this is not an SSH server");
    buf_reset(&lines);
    for (int i = 0; i < 70000; i++)
        buf_put_u8(&lines, i % 1000 == 999 ? '\n' : 'a');
    expect_after(worker, bytes_of(lines.data, 65536 + 1000), false,
                 "the server sends too much before its version line; it says: " A200);
    buf_clear(&lines);
    transport_server_free(&worker);
}

/* Before a real server. */
static void test_lines_before_a_server(void **state)
{
    struct ends e;

    (void)state;
    ends_open(&e, NULL, NULL);
    e.down.chunk = 3;
    write_down(&e, BYTES("Welcome\r\n\r\nto this\nserver SSH-2.0-not-this\n"));
    ends_exchange_keys(&e);
    assert_string_equal(transport_peer_version(e.client.transport),
                        "SSH-2.0-Parley_" PARLEY_VERSION);
    ends_close(&e);
}

/* ---- a first exchange that goes wrong */

#define SERVER_LINE "SSH-2.0-test\r\n"
#define STRICT      ",kex-strict-s-v00@openssh.com"

static struct buf begun(const char *kex)
{
    struct buf out = {0};

    buf_put(&out, BYTES(SERVER_LINE));
    if (kex != NULL)
        put_kexinit(&out, kex, "ssh-ed25519");
    return out;
}

static void put_type(struct buf *out, uint8_t type)
{
    uint8_t message[16] = {type};

    put_clear_packet(out, bytes_of(message, sizeof(message)));
}

static void test_order_of_the_first_exchange(void **state)
{
    struct transport_server *worker = server_for_pairs(NULL);
    static const struct {
        const char *kex; /* NULL: before the server's KEXINIT */
        uint8_t type;
    } cases[] = {
        {NULL, 5},
        {NULL, 6},
        {NULL, 7},
        {NULL, 21},
        {NULL, 30},
        {NULL, 31},
        {NULL, 33},
        {NULL, 50},
        {NULL, 52},
        {NULL, 80},
        {NULL, 90},
        {"curve25519-sha256", 6},
        {"curve25519-sha256", 7},
        {"curve25519-sha256", 20},
        {"curve25519-sha256", 21},
        {"curve25519-sha256", 30},
        {"curve25519-sha256", 33},
        {"curve25519-sha256", 52},
        {"curve25519-sha256", 90},
        {"curve25519-sha256" STRICT, 2},
        {"curve25519-sha256" STRICT, 3},
        {"curve25519-sha256" STRICT, 4},
        {"curve25519-sha256" STRICT, 192},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out = begun(cases[i].kex);
        char *reason = xasprintf("message %u is not allowed now", cases[i].type);

        put_type(&out, cases[i].type);
        expect_after(worker, buf_bytes(&out), false, reason);
        free(reason);
        buf_clear(&out);
    }
    transport_server_free(&worker);
}

static void test_strict_means_from_the_start(void **state)
{
    struct transport_server *worker = server_for_pairs(NULL);
    struct buf out = begun(NULL);

    (void)state;
    put_type(&out, SSH2_MSG_IGNORE);
    put_kexinit(&out, "curve25519-sha256" STRICT, "ssh-ed25519");
    expect_after(worker, buf_bytes(&out), false,
                 "strict key exchange: KEXINIT was not the first message");
    buf_clear(&out);
    transport_server_free(&worker);
}

static void test_nothing_in_common(void **state)
{
    struct transport_server *worker = server_for_pairs(NULL);
    struct buf out = begun("diffie-hellman-group1-sha1,ext-info-s");

    (void)state;
    expect_after(worker, buf_bytes(&out), false,
                 "nothing in common for kex algos; the server offers "
                 "diffie-hellman-group1-sha1,ext-info-s");
    buf_reset(&out);
    buf_put(&out, BYTES(SERVER_LINE));
    put_kexinit(&out, "curve25519-sha256", "ssh-dss");
    expect_after(worker, buf_bytes(&out), false,
                 "nothing in common for server host key algo; the server offers ssh-dss");
    buf_clear(&out);
    transport_server_free(&worker);
}

static struct buf reply_of(struct bytes blob, struct bytes value, struct bytes signature)
{
    struct buf reply = {0};

    buf_put_u8(&reply, 31);
    buf_put_string(&reply, blob);
    buf_put_string(&reply, value);
    buf_put_string(&reply, signature);
    return reply;
}

static void expect_reply_refused(struct transport_server *worker, struct bytes reply,
                                 const char *reason)
{
    struct buf out = begun("curve25519-sha256" STRICT);

    put_clear_packet(&out, reply);
    expect_after(worker, buf_bytes(&out), false, reason);
    buf_clear(&out);
}

static void test_wrong_replies(void **state)
{
    struct transport_server *worker = server_for_pairs(NULL);
    struct bytes blob = buf_bytes(&worker->host_keys[0].blob);
    static const uint8_t value[32] = {9},
                         signature[4 + 11 + 4 + 64] = "\0\0\0\x0bssh-ed25519\0\0\0\x40";
    struct buf reply = reply_of(blob, bytes_of(value, 32), bytes_of(signature, sizeof(signature)));

    (void)state;
    expect_reply_refused(worker, buf_bytes(&reply),
                         "the server's signature by its host key is wrong");
    for (size_t len = 1; len < reply.len; len += 3)
        expect_reply_refused(worker, bytes_of(reply.data, len), "malformed key exchange reply");
    buf_put_u8(&reply, 0);
    expect_reply_refused(worker, buf_bytes(&reply), "malformed key exchange reply");
    buf_clear(&reply);

    reply = reply_of(BYTES("\0\0\0\x07ssh-rsa\0\0\0\x01\x03\0\0\0\x01\x03"), bytes_of(value, 32),
                     bytes_of(signature, sizeof(signature)));
    expect_reply_refused(worker, buf_bytes(&reply), "the host key is malformed or weak");
    buf_clear(&reply);
    reply = reply_of(blob, bytes_of(value, 31), bytes_of(signature, sizeof(signature)));
    expect_reply_refused(worker, buf_bytes(&reply),
                         "Incorrect size for server Curve25519 public key: 31");
    buf_clear(&reply);
    transport_server_free(&worker);
}

/* ---- which host keys */

static void test_host_key_algorithms(void **state)
{
    struct transport_server *worker = server_for_pairs(NULL);
    static const char *const cases[][2] = {
        {"ssh-ed25519", "ssh-ed25519"},
        {"x,ssh-ed25519,,ssh-dss,ssh-ed25519,", "ssh-ed25519"},
        {"rsa-sha2-256-cert-v01@openssh.com,rsa-sha2-512,ssh-ed25519-cert-v01@openssh.com",
         "rsa-sha2-256-cert-v01@openssh.com,rsa-sha2-512,ssh-ed25519-cert-v01@openssh.com"},
        {NULL, "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
               "rsa-sha2-512,rsa-sha2-256"},
    };
    static const char *const none[] = {"",
                                       ",",
                                       "ssh-dss",
                                       "ssh-rsa",
                                       "ssh-rsa-cert-v01@openssh.com",
                                       "sk-ssh-ed25519@openssh.com"};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ends e;

        ends_open_half(&e, worker, cases[i][0]);
        assert_string_equal(e.client.transport->client->offer, cases[i][1]);
        e.worker = NULL;
        ends_close(&e);
    }
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        int fds[2];
        char byte;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
        assert_null(transport_connect(worker, fds[0], none[i], &client_events, NULL));
        assert_int_equal(recv(fds[1], &byte, 1, 0), 0); /* closed */
        close(fds[1]);
    }
    transport_server_free(&worker);
}

/* The worker's own host keys are not a client's to sign with. */
static void test_no_host_keys_of_ours(void **state)
{
    struct buf signature = {0};
    struct bytes blob;
    struct ends e;

    (void)state;
    open_with_keys(&e);
    blob = transport_host_key_used(e.client.transport);
    assert_true(blob.len > 0); /* both sides read the same file */
    assert_int_equal(transport_host_key_count(e.client.transport), 0);
    assert_int_equal(transport_host_key_blob(e.client.transport, 0).len, 0);
    assert_false(transport_host_key_sign(e.client.transport, blob, BYTES("x"), &signature));
    assert_int_equal(signature.len, 0);
    ends_close(&e);
}

/* ---- whose turn it is */

#define CLIENTS 8

static unsigned steps(const struct ends *ends)
{
    unsigned count = 0;

    for (int i = 0; i < CLIENTS; i++) {
        enum ssh_dh_state_e state = ends[i].client.transport->session->dh_handshake_state;

        count += state == DH_STATE_INIT ? 0 : state == DH_STATE_INIT_SENT ? 1 : 2;
    }
    return count;
}

/* Each has two: its own value, and what the server's makes of it. */
static void test_a_turn_has_one_step(void **state)
{
    struct transport_server *worker = server_for_pairs(NULL), *far = server_for_pairs(NULL);
    struct ends ends[CLIENTS];
    unsigned before = 0;

    (void)state;
    for (int i = 0; i < CLIENTS; i++)
        ends_open_on(&ends[i], worker, far);
    for (int turn = 0; before < 2 * CLIENTS && turn < 2000; turn++) {
        unsigned now;

        for (int i = 0; i < CLIENTS; i++) {
            strand_turn(&ends[i].up);
            strand_turn(&ends[i].down);
        }
        event_base_loop(loop_events(loop), EVLOOP_ONCE | EVLOOP_NONBLOCK); /* exactly one */
        now = steps(ends);
        assert_in_range(now - before, 0, 1);
        before = now;
    }
    assert_int_equal(before, 2 * CLIENTS);
    for (int i = 0; i < CLIENTS; i++) {
        ends_exchange_keys(&ends[i]);
        ends[i].worker = ends[i].far = NULL;
        ends_close(&ends[i]);
    }
    transport_server_free(&worker);
    transport_server_free(&far);
    event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_both_ways),
        cmocka_unit_test(test_one_byte_at_a_time),
        cmocka_unit_test(test_messages_wait_for_keys),
        cmocka_unit_test(test_both_on_one_worker),
        cmocka_unit_test(test_an_exchange_is_forgotten),
        cmocka_unit_test(test_connection_messages_need_login),
        cmocka_unit_test(test_every_number),
        cmocka_unit_test(test_rekey_by_volume),
        cmocka_unit_test(test_rekeys_that_cross),
        cmocka_unit_test(test_rekeys_before_login),
        cmocka_unit_test(test_unanswered_rekey),
        cmocka_unit_test(test_rekey_with_another_host_key),
        cmocka_unit_test(test_damage_in_the_first_exchange),
        cmocka_unit_test(test_damaged_packets),
        cmocka_unit_test(test_other_lines),
        cmocka_unit_test(test_lines_before_a_server),
        cmocka_unit_test(test_order_of_the_first_exchange),
        cmocka_unit_test(test_strict_means_from_the_start),
        cmocka_unit_test(test_nothing_in_common),
        cmocka_unit_test(test_wrong_replies),
        cmocka_unit_test(test_host_key_algorithms),
        cmocka_unit_test(test_no_host_keys_of_ours),
        cmocka_unit_test(test_a_turn_has_one_step),
    };

    return cmocka_run_group_tests(tests, pairs_set_up, pairs_tear_down);
}
