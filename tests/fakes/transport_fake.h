/*
 * transport.h in memory: the test is the peer and the socket. What goes out is recorded, what comes
 * in is delivered by the test, and the contract of transport.h is asserted on both sides.
 */
#ifndef PARLEY_TESTS_FAKES_TRANSPORT_FAKE_H
#define PARLEY_TESTS_FAKES_TRANSPORT_FAKE_H

#include "transport/transport.h"

#include <stdarg.h>

#define FAKE_SESSION_ID     "the-session-id"
#define FAKE_HOST_KEY       "host-key-1"
#define FAKE_OTHER_HOST_KEY "host-key-2"

/* ---- making one */

struct transport *fake_transport_new(const struct transport_events *events, void *owner);
/* For rooms that accept by themselves. The descriptor is not touched. */
struct transport_server *fake_server_new(void);
struct transport *fake_server_last(struct transport_server *server); /* accepted last, or NULL */
struct transport *fake_server_take(struct transport_server *server); /* the same, once */
void fake_server_refuse(struct transport_server *server); /* the next accept or connect: NULL */
/* The client's side of an upstream connection, as transport_connect() makes it: the test is the
 * server. The descriptor is closed when the transport is freed, and not touched else. */
struct transport *fake_client_new(const struct transport_events *events, void *owner);
int fake_descriptor(const struct transport *t); /* a client's; -1: none */
/* What transport_connect() was asked for; NULL: the worker's offers. */
const char *fake_host_key_algorithms(const struct transport *t);
void fake_set_host_key(struct transport *t, struct bytes blob); /* that the server shows; copied */

/* ---- being the peer; each call is one turn's callback */

void fake_exchange_keys(struct transport *t);
/* The other side's; borrowed. */
void fake_set_client_version(struct transport *t, const char *version);
/* Queues a message and delivers what may be delivered. `format` as in wire.h. */
void fake_deliver(struct transport *t, uint8_t type, const char *format, ...);
void fake_deliver_bytes(struct transport *t, uint8_t type, struct bytes message);
/* Delivers what a pause had held back; true if anything was delivered. */
bool fake_transport_turn(struct transport *t);
size_t fake_undelivered(const struct transport *t);
size_t fake_not_understood(const struct transport *t); /* message() answered false */
void fake_set_room(struct transport *t, size_t room); /* calls writable() where the contract says */
void fake_set_bytes(struct transport *t, uint64_t received, uint64_t sent);
/* The socket's or the peer's end: ended(). The owner usually frees the transport in a later turn.
 */
void fake_end(struct transport *t, enum transport_end_kind kind, uint32_t code, const char *reason);
/* What transport_disconnect() asked for has been flushed. */
void fake_flush_disconnect(struct transport *t);
bool fake_has_ended(const struct transport *t);

/* ---- what was sent */

struct fake_message {
    uint8_t type;
    struct bytes rest; /* after the type byte; borrowed until the transport is freed */
};

/* The oldest message not looked at yet; false: none. */
bool fake_sent(struct transport *t, struct fake_message *out);
bool fake_peek(struct transport *t, struct fake_message *out);
size_t fake_sent_waiting(const struct transport *t); /* sent and not looked at */
/* Is the oldest one exactly this? Takes it, and prints both if not. */
bool fake_sent_is(struct transport *t, uint8_t type, const char *format, ...);

int fake_paused(const struct transport *t);
bool fake_auth_success_sent(const struct transport *t);
bool fake_auth_succeeded(const struct transport *t); /* a client's transport_auth_succeeded() */

struct fake_disconnect {
    bool called;
    uint32_t code;
    const char *reason, *language;
};
struct fake_disconnect fake_disconnected(const struct transport *t);

/* How many transports exist: for leaks. */
size_t fake_transports_alive(void);
struct transport *fake_transport_nth(size_t index); /* the newest is 0; NULL: no more */

/* ---- keys: "type:name" is a blob of a key of this type, and signs as below */

/* The signature that the fake takes as good over exactly this data. */
void fake_sign(struct buf *out, struct bytes blob, const char *algorithm, struct bytes data);
/* An OpenSSH certificate of the key "ssh-ed25519:a", whose authority is "ssh-ed25519:ca"; lists as
 * they stand on the wire. */
#define FAKE_CERTIFICATE_TYPE "ssh-ed25519-cert-v01@openssh.com"
#define FAKE_AUTHORITY        "ssh-ed25519:ca"

struct fake_certificate {
    uint32_t kind, valid_before;
    struct bytes principals, critical, extensions;
    const char *signer;
};

void fake_certify(struct buf *out, const struct fake_certificate *draft);

/* The text of the private key of that blob, as private_key_parse() of the fake takes it; what it
 * signs is fake_sign()'s. FAKE_ENCRYPTED_KEY is refused as encrypted. */
#define FAKE_PRIVATE_KEY(blob) "private " blob
#define FAKE_ENCRYPTED_KEY     "encrypted"

size_t fake_private_keys_alive(void); /* for leaks */

/* Security keys only ("sk-..."): what the next signatures verified say. */
void fake_touch(bool present, bool verified);

/* ---- GSSAPI: FAKE_GSS_MORE is answered and wants another token; "final:NAME" ends the exchange
 * with that principal; any other token fails. A code is good if it is what it covers, verbatim. */

#define FAKE_GSS_MORE      "more"
#define FAKE_GSS_REPLY     "reply"
#define FAKE_GSS_ERROR     "error"
#define FAKE_GSS_ACCEPTOR  "host/server.example@EXAMPLE"
#define FAKE_GSS_NO_KEYTAB "/no/keytab"

int fake_gss_alive(void); /* exchanges: for leaks */
/* The next transport that is asked has made this client's context when keys were exchanged. */
void fake_gss_key_exchange(const char *client);

#endif
