/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Messages to packets under an AEAD cipher, encrypted where they will be written from. libssh's own
 * way copies each packet three times. What it keeps count of is kept count of here in the same way.
 */
#include "transport/connection.h"

#include <openssl/rand.h>
#include <string.h>

#define PADDING_MIN 4
#define TAG_MAX     16

/* RFC 4253 section 6: padding SHOULD be random. One call of the generator serves many packets. */
static bool put_padding(struct transport_server *server, uint8_t *at, size_t len)
{
    if (server->random_left < len) {
        if (RAND_bytes(server->random, sizeof(server->random)) != 1)
            return false;
        server->random_left = sizeof(server->random);
    }
    server->random_left -= len;
    memcpy(at, server->random + server->random_left, len);
    return true;
}

static struct ssh_cipher_struct *usable_cipher(struct transport *t, size_t payload)
{
    struct ssh_crypto_struct *crypto;

    if (!t->keys || t->session->dh_handshake_state != DH_STATE_FINISHED || rekey_is_due(t, payload))
        return NULL;
    crypto = ssh_packet_get_current_crypto(t->session, SSH_DIRECTION_BOTH);
    if (crypto == NULL || crypto->do_compress_out || crypto->out_cipher->aead_encrypt == NULL ||
        crypto->out_cipher->tag_size > TAG_MAX)
        return NULL;
    return crypto->out_cipher;
}

/* packet_length, padding_length, payload, padding; returns their length. */
static size_t lay_out(uint8_t *at, struct bytes head, struct bytes data, size_t padding)
{
    size_t len = 1 + head.len + data.len + padding;

    at[0] = (uint8_t)(len >> 24);
    at[1] = (uint8_t)(len >> 16);
    at[2] = (uint8_t)(len >> 8);
    at[3] = (uint8_t)len;
    at[4] = (uint8_t)padding;
    memcpy(at + 5, head.data, head.len);
    if (data.len > 0)
        memcpy(at + 5 + head.len, data.data, data.len);
    return 4 + len;
}

/* libssh's ciphers report no failure. They write the tag last, and no real one is all zero
 * (2^-128). */
static bool encrypt(struct transport *t, struct ssh_cipher_struct *cipher, uint8_t *at, size_t len)
{
    static const uint8_t none[TAG_MAX];
    uint8_t *tag = at + len;

    memset(tag, 0, cipher->tag_size);
    cipher->aead_encrypt(cipher, at, at, len, tag, t->session->send_seq);
    return memcmp(tag, none, cipher->tag_size) != 0;
}

bool seal_packet(struct transport *t, struct bytes head, struct bytes data)
{
    size_t payload = head.len + data.len;
    struct ssh_cipher_struct *cipher = usable_cipher(t, payload);
    struct evbuffer_iovec space;
    size_t padding, total, len;

    if (cipher == NULL || payload > PACKET_MAX - 64)
        return false;
    padding = cipher->blocksize - (1 + payload) % cipher->blocksize;
    if (padding < PADDING_MIN)
        padding += cipher->blocksize;
    total = 4 + 1 + payload + padding + cipher->tag_size;
    if (evbuffer_reserve_space(t->out, (ev_ssize_t)total, &space, 1) != 1)
        return false;
    len = lay_out(space.iov_base, head, data, padding);
    if (!put_padding(t->server, (uint8_t *)space.iov_base + len - padding, padding))
        return false;
    if (!encrypt(t, cipher, space.iov_base, len)) {
        connection_end(t, TRANSPORT_END_IO, 0, "a message could not be encrypted");
        return true; /* the cipher's state is unknown: nothing may be sent after this */
    }
    space.iov_len = total;
    evbuffer_commit_space(t->out, &space, 1);
    t->session->send_seq++;
    cipher->packets++;
    cipher->blocks += payload / cipher->blocksize;
    return true;
}
