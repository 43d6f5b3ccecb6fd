/*
 * What a server can send to us. The first byte chooses: bytes from the version line on; packets in
 * the clear whose payloads the bytes fill; a key exchange's reply made of them; or, after a real
 * key exchange, encrypted packets with payloads of any kind, rekeys, and damage on the way.
 */
#include "unit/transport/ends.h"

#include "base/log.h"
#include "fuzz/feed.h"

/* ---- before there are keys */

static void clear_packets(struct ends *e, struct bytes feed)
{
    uint8_t how = feed_u8(&feed);
    struct buf out = {0};

    buf_put(&out, BYTES("SSH-2.0-fuzz\r\n"));
    if (how & 1)
        put_kexinit(
            &out, how & 2 ? "curve25519-sha256" : "ecdh-sha2-nistp256,kex-strict-s-v00@openssh.com",
            "ssh-ed25519,ssh-ed25519-cert-v01@openssh.com");
    while (feed.len > 0)
        put_clear_packet(&out, feed_bytes(&feed));
    write_down(e, buf_bytes(&out));
    buf_clear(&out);
}

static void reply(struct ends *e, struct bytes feed)
{
    struct bytes own = buf_bytes(&e->worker->host_keys[0].blob);
    static const uint8_t value[32] = {9}; /* of the other side, on the curve */
    uint8_t how = feed_u8(&feed);
    struct buf out = {0}, message = {0};

    buf_put(&out, BYTES("SSH-2.0-fuzz\r\n"));
    put_kexinit(&out, "curve25519-sha256", how & 1 ? "ssh-ed25519" : "rsa-sha2-512");
    buf_put_u8(&message, SSH2_MSG_KEXDH_REPLY);
    buf_put_string(&message, how & 1 ? own : feed_bytes(&feed));
    buf_put_string(&message, how & 2 ? bytes_of(value, sizeof(value)) : feed_bytes(&feed));
    buf_put_string(&message, feed_bytes(&feed));
    put_clear_packet(&out, buf_bytes(&message));
    buf_clear(&message);
    if (how & 4)
        put_clear_packet(&out, BYTES("\x15")); /* NEWKEYS */
    buf_put(&out, feed);
    write_down(e, buf_bytes(&out));
    buf_clear(&out);
}

/* ---- and after */

static bool both_live(const struct ends *e)
{
    return e->client.ends == 0 && e->server.ends == 0;
}

static void may_rekey(struct transport *t)
{
    if (t->session->dh_handshake_state == DH_STATE_FINISHED &&
        t->session->session_state == SSH_SESSION_STATE_AUTHENTICATED)
        begin_rekey(t);
}

static void step(struct ends *e, uint8_t what, struct bytes payload)
{
    if (what == 0xff)
        e->down.flip_at = e->down.passed + 1 + payload.len;
    else if (what == 0xfe)
        may_rekey(e->client.transport);
    else if (what == 0xfd)
        may_rekey(e->server.transport);
    else if (what == 0xfc &&
             !(e->server.transport->session->flags & SSH_SESSION_FLAG_AUTHENTICATED))
        transport_send_auth_success(e->server.transport);
    else if (what == 0xfb)
        transport_send_data(e->client.transport, 0, 0, payload);
    else if ((what & 0xf0) == 0xe0)
        write_down(e, payload);
    else if (payload.len > 0)
        server_sends(e, payload);
}

static void sealed_packets(struct ends *e, struct bytes feed)
{
    uint8_t how = feed_u8(&feed);

    ends_exchange_keys(e);
    e->down.chunk = how & 1 ? 7 : 0;
    e->client.pause = (how & 6) == 6;
    e->client.messages = 0; /* EXT_INFO may have come with the keys */
    e->client.refuse = (how & 0x18) == 0x18;
    while (feed.len > 0 && both_live(e)) {
        uint8_t what = feed_u8(&feed);

        step(e, what, feed_bytes(&feed));
        turns(e, 1);
        if (e->client.pause && e->client.messages > 0 && both_live(e)) {
            e->client.pause = false;
            while (e->client.messages-- > 0)
                transport_resume(e->client.transport);
            e->client.messages = 0;
        }
    }
}

/* ---- each input */

static struct transport_server *worker, *far;

static void stop(void)
{
    transport_server_free(&worker);
    transport_server_free(&far);
    pairs_tear_down(NULL);
}

static void start(void)
{
    if (pairs_set_up(NULL) != 0)
        abort();
    worker = server_for_pairs(NULL);
    far = server_for_pairs(NULL);
    atexit(stop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes feed = bytes_of(data, len);
    uint8_t how = feed_u8(&feed);
    struct ends e;

    log_set_level(LOG_ERROR);
    if (worker == NULL)
        start();
    if ((how & 3) == 3)
        ends_open_on(&e, worker, far);
    else
        ends_open_half(&e, worker,
                       "ssh-ed25519,rsa-sha2-512,ssh-ed25519-cert-v01@openssh.com,ssh-rsa");
    if ((how & 3) == 0)
        write_down(&e, feed);
    else if ((how & 3) == 1)
        clear_packets(&e, feed);
    else if ((how & 3) == 2)
        reply(&e, feed);
    else
        sealed_packets(&e, feed);
    if ((how & 3) != 3)
        e.down.chunk = how & 4 ? 1 + how / 8u : 0;
    for (int i = 0; i < 200 && evbuffer_get_length(e.down.bytes) > 0 && e.client.ends == 0; i++)
        turns(&e, 1);
    turns(&e, 3);
    if (((how & 3) != 3 && (e.client.keys > 0 || e.client.messages > 0)) || e.client.keys > 1)
        abort(); /* nobody has proven anything */
    if (e.client.last_type >= 80 && e.client.transport != NULL &&
        !(e.client.transport->session->flags & SSH_SESSION_FLAG_AUTHENTICATED))
        abort();
    e.worker = e.far = NULL; /* they stay */
    ends_close(&e);
    return 0;
}
