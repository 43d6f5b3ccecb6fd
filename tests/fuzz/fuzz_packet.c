/*
 * The transport's receiver, over a socket pair. The first byte chooses: bytes from the version line
 * on; packets in the clear whose payloads the bytes fill; or, after a real key exchange, encrypted
 * packets with payloads of any kind, and damage on the way.
 */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "unit/transport/pair.h"

#include "base/log.h"
#include "fuzz/feed.h"

static void clear_packets(struct pair *p, struct bytes feed)
{
    static const char version[] = "SSH-2.0-fuzz\r\n";
    struct buf out = {0};

    buf_put(&out, bytes_of(version, sizeof(version) - 1));
    while (feed.len > 0) {
        struct bytes payload = feed_bytes(&feed);
        size_t padding = 4 + (8 - (payload.len + 5 + 4) % 8) % 8;

        buf_put_u32(&out, (uint32_t)(1 + payload.len + padding));
        buf_put_u8(&out, (uint8_t)padding);
        buf_put(&out, payload);
        while (padding-- > 0)
            buf_put_u8(&out, 0);
    }
    evbuffer_add(p->client.out, out.data, out.len);
    buf_clear(&out);
}

static void sealed_packets(struct pair *p, struct bytes feed)
{
    static const char *const ciphers[] = {"aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com",
                                          "aes128-ctr", "aes128-ctr"};
    uint8_t how = feed_u8(&feed);

    pair_exchange_keys(p, ciphers[how & 3],
                       (how & 3) == 2 ? "hmac-sha2-256-etm@openssh.com" : "hmac-sha2-256");
    p->client.chunk = how & 4 ? 7 : 0;
    p->side.pause = (how & 0x18) == 0x18;
    p->side.refuse = (how & 0x60) == 0x60;
    while (feed.len > 0 && p->side.ends == 0) {
        uint8_t step = feed_u8(&feed);
        struct bytes payload = feed_bytes(&feed);

        if (step == 0xff)
            p->client.flip_at = p->client.sent + 1 + payload.len;
        else if ((step & 0xf0) == 0xf0)
            evbuffer_add(p->client.out, payload.data, payload.len);
        else if (payload.len > 0 && payload.data[0] != SSH2_MSG_NEWKEYS) /* our client minds */
            client_send(&p->client, payload);
        turns(p, 1);
        if (p->side.pause && p->side.messages > 0 && p->side.transport != NULL && step & 1) {
            p->side.pause = false;
            while (p->side.messages-- > 0)
                transport_resume(p->side.transport);
            p->side.messages = 0;
        }
    }
}

/* One for all runs: it reads the host key. */
static struct transport_server *server;

static void stop(void)
{
    transport_server_free(&server);
    pairs_tear_down(NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static bool ready;
    struct bytes feed = bytes_of(data, len);
    uint8_t how = feed_u8(&feed);
    struct pair p;

    log_set_level(LOG_ERROR);
    if (!ready) {
        ready = pairs_set_up(NULL) == 0;
        atexit(stop);
    }
    if (!ready)
        abort();
    if (server == NULL)
        server = server_for_pairs(NULL);
    pair_open_on(&p, server);
    if ((how & 3) == 0 && feed.len > 0)
        evbuffer_add(p.client.out, feed.data, feed.len);
    else if ((how & 3) == 1)
        clear_packets(&p, feed);
    else if (feed.len > 0)
        sealed_packets(&p, feed);
    p.client.chunk = how & 4 ? 1 + how / 8u : 0;
    for (int i = 0; i < 200 && evbuffer_get_length(p.client.out) > 0; i++)
        turns(&p, 1);
    turns(&p, 3);
    p.server = NULL; /* it stays */
    pair_close(&p);
    return 0;
}
