/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Bytes to packets (RFC 4253 section 6), with libssh's ciphers and counters but without its copies:
 * packets are opened where they lie. What libssh keeps count of in its own receiver is kept count
 * of here in the same way.
 */
#include "transport/connection.h"

#include <string.h>

#define PADDING_MIN      4 /* RFC 4253 section 6 */
/* Before login everybody may make us hold a packet. The largest that is needed then is a Kerberos
 * token of 64 KiB. */
#define EARLY_PACKET_MAX (96 * 1024)

/* How a packet looks under the keys in use. */
struct shape {
    struct ssh_crypto_struct *crypto; /* NULL: plaintext */
    enum { PLAIN, AEAD, MAC_AFTER_ENCRYPTION, MAC_BESIDE_ENCRYPTION } kind;
    size_t block;  /* what is encrypted is a multiple of it */
    size_t prefix; /* bytes that are needed to know the length */
    size_t mac;
};

static struct shape shape_of(struct transport *t)
{
    struct shape s = {.kind = PLAIN, .block = 8, .prefix = 4};

    s.crypto = ssh_packet_get_current_crypto(t->session, SSH_DIRECTION_IN);
    if (s.crypto == NULL)
        return s;
    s.block = s.crypto->in_cipher->blocksize;
    s.mac = hmac_digest_len(s.crypto->in_hmac);
    if (s.crypto->in_cipher->aead_decrypt != NULL) {
        s.kind = AEAD;
    } else if (s.crypto->in_hmac_etm) {
        s.kind = MAC_AFTER_ENCRYPTION;
    } else {
        s.kind = MAC_BESIDE_ENCRYPTION;
        s.prefix = s.block;
    }
    return s;
}

static uint32_t read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Learns packet_length. The first block of a cipher that hides it is decrypted in place. */
static bool open_length(struct transport *t, const struct shape *s, uint8_t *data)
{
    struct ssh_cipher_struct *cipher = s->crypto ? s->crypto->in_cipher : NULL;
    uint8_t clear[4];

    switch (s->kind) {
    case AEAD: /* stays encrypted in place: it is part of what the tag covers */
        if (cipher->aead_decrypt_length(cipher, data, clear, sizeof(clear), t->session->recv_seq) !=
            SSH_OK)
            return false;
        t->packet_len = read_u32(clear);
        return true;
    case MAC_BESIDE_ENCRYPTION:
        cipher->decrypt(cipher, data, data, s->block);
        break;
    case PLAIN:
    case MAC_AFTER_ENCRYPTION:
        break;
    }
    t->packet_len = read_u32(data);
    return true;
}

static bool length_is_sane(const struct transport *t, const struct shape *s)
{
    /* With AEAD and encrypt-then-MAC the length field is not part of what is encrypted. */
    size_t outside = s->kind == AEAD || s->kind == MAC_AFTER_ENCRYPTION ? 0 : 4;
    bool early = !(t->session->flags & SSH_SESSION_FLAG_AUTHENTICATED);

    return t->packet_len >= 1 + 1 + PADDING_MIN &&
           t->packet_len <= (early ? EARLY_PACKET_MAX : PACKET_MAX) &&
           t->packet_len + outside >= s->prefix && (t->packet_len + outside) % s->block == 0;
}

/* Verifies and decrypts all of it, in place. */
static bool open_body(struct transport *t, const struct shape *s, uint8_t *data)
{
    struct ssh_cipher_struct *cipher = s->crypto ? s->crypto->in_cipher : NULL;
    size_t len = 4 + (size_t)t->packet_len;

    switch (s->kind) {
    case PLAIN:
        return true;
    case AEAD:
        return cipher->aead_decrypt(cipher, data, data + 4, t->packet_len, t->session->recv_seq) ==
               SSH_OK;
    case MAC_AFTER_ENCRYPTION:
        if (ssh_packet_hmac_verify(t->session, data, len, data + len, s->crypto->in_hmac) != SSH_OK)
            return false;
        cipher->decrypt(cipher, data + 4, data + 4, t->packet_len);
        return true;
    case MAC_BESIDE_ENCRYPTION:
        if (len > s->block)
            cipher->decrypt(cipher, data + s->block, data + s->block, len - s->block);
        return ssh_packet_hmac_verify(t->session, data, len, data + len, s->crypto->in_hmac) ==
               SSH_OK;
    }
    return false;
}

static bool strip_padding(const struct transport *t, uint8_t *data, struct packet *packet)
{
    uint8_t padding = data[4];

    if (padding < PADDING_MIN || (size_t)padding + 2 > t->packet_len)
        return false;
    packet->payload = data + 5;
    packet->len = t->packet_len - 1 - padding;
    return true;
}

/* No larger than what we send: the answer to it may be as long. */
static bool decompress(struct transport *t, struct packet *packet)
{
    ssh_session session = t->session;

    if (session->in_buffer == NULL)
        session->in_buffer = ssh_buffer_new();
    if (session->in_buffer == NULL || ssh_buffer_reinit(session->in_buffer) < 0 ||
        ssh_buffer_add_data(session->in_buffer, packet->payload, (uint32_t)packet->len) < 0 ||
        decompress_buffer(session, session->in_buffer, TRANSPORT_MESSAGE_MAX - 1) < 0)
        return false;
    packet->payload = ssh_buffer_get(session->in_buffer);
    packet->len = ssh_buffer_get_len(session->in_buffer);
    return packet->len > 0;
}

static bool count_packet(struct transport *t, const struct shape *s, size_t payload)
{
    if (t->session->recv_seq == UINT32_MAX && s->crypto == NULL)
        return false;
    t->session->recv_seq++;
    if (s->crypto != NULL) {
        s->crypto->in_cipher->packets++;
        s->crypto->in_cipher->blocks += payload / s->crypto->in_cipher->blocksize;
    }
    return true;
}

static enum receive_result fail(struct transport *t, uint32_t code, const char *reason)
{
    connection_violation(t, code, reason);
    return RECEIVE_FAILED;
}

static enum receive_result more(struct transport *t, size_t wanted)
{
    t->wanted = wanted;
    return RECEIVE_MORE;
}

enum receive_result receive_packet(struct transport *t, uint8_t *data, size_t len,
                                   struct packet *packet, size_t *consumed)
{
    struct shape shape = shape_of(t);

    if (!t->have_len) {
        if (len < shape.prefix)
            return more(t, shape.prefix);
        if (!open_length(t, &shape, data) || !length_is_sane(t, &shape))
            return fail(t, SSH2_DISCONNECT_PROTOCOL_ERROR, "bad packet length");
        t->have_len = true;
    }
    *consumed = 4 + (size_t)t->packet_len + shape.mac;
    if (len < *consumed)
        return more(t, *consumed);
    t->have_len = false;
    if (!open_body(t, &shape, data))
        return fail(t, SSH2_DISCONNECT_MAC_ERROR, "corrupted packet");
    if (!strip_padding(t, data, packet))
        return fail(t, SSH2_DISCONNECT_PROTOCOL_ERROR, "bad packet padding");
    if (shape.crypto != NULL && shape.crypto->do_compress_in && !decompress(t, packet))
        return fail(t, SSH2_DISCONNECT_COMPRESSION_ERROR, "packet does not decompress");
    if (!count_packet(t, &shape, packet->len))
        return fail(t, SSH2_DISCONNECT_PROTOCOL_ERROR, "too many packets before the first keys");
    return RECEIVE_PACKET;
}
