/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * What the connections of one worker share: host keys, offers, and the buffer they read into.
 */
#ifndef PARLEY_TRANSPORT_SERVER_H
#define PARLEY_TRANSPORT_SERVER_H

#include "transport/libssh.h"
#include "transport/transport.h"

#include <sys/queue.h>

#define PACKET_MAX  (256 * 1024) /* packet_length; as OpenSSH and libssh */
#define PACKET_EDGE 128          /* more than length field and any MAC */
#define READ_MAX    (128 * 1024) /* of one connection in one turn of the loop */

enum host_key_kind { HOST_KEY_ED25519, HOST_KEY_ECDSA, HOST_KEY_RSA };

struct host_key {
    enum host_key_kind kind;
    ssh_key private_key;
    struct buf blob; /* public */
};

#define HOST_KEYS_MAX     3 /* one per kind */
#define HOST_RSA_BITS_MIN 2048

struct transport_server {
    struct loop *loop;
    unsigned references; /* its owner, and each connection */
    ssh_bind bind;
    char *client_kex; /* what our connections as a client offer: without GSSAPI's methods */
    struct host_key host_keys[HOST_KEYS_MAX];
    size_t host_key_count;
    uint64_t rekey_bytes;
    uint32_t rekey_seconds, rekey_answer_ms;
    struct helpers *helpers;
    const struct gss_settings *gss; /* NULL: no GSSAPI key exchange */
    /* handshakes.c: one of them in a turn of the loop */
    TAILQ_HEAD(, transport) handshakes; /* in line; each has parked its message */
    struct event *handshake_turn;       /* timer; NULL before the first */
    bool handshake_spent;               /* in this turn there was one */
    /* Padding is taken from here, so that not every packet costs a call of the random generator. */
    uint8_t random[2048];
    size_t random_left;
    /* The remaining bytes of a connection are put in front, the socket is read behind them, packets
     * are decrypted in place; what is left over goes back to the connection. */
    uint8_t input[PACKET_MAX + PACKET_EDGE + READ_MAX];
};

void transport_server_release(struct transport_server *server);

/* ---- hostkeys.c */

/* NULL with *error (owned) that names the file. */
bool host_key_load(const char *file, struct host_key *key, char **error);
void host_key_clear(struct host_key *key);

/* ---- offers.c */

enum offer { OFFER_KEX, OFFER_CIPHERS, OFFER_MACS, OFFER_HOST_KEYS };

/* The list to offer: `wanted`, or our defaults if NULL, reduced to what this libssh has. NULL with
 * *error (owned) if a name is not one of ours. Owned. */
char *offer_list(enum offer kind, const char *wanted, char **error);
/* Of the comma-separated host key algorithms those that a server can prove to us, certificates'
 * among them. NULL: none. Owned. */
char *offer_host_keys_to_accept(const char *wanted);

#endif
