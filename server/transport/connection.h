/* clang-format off: a table */
/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * One connection's transport, as the files of this room see it.
 *
 *   connection.c   life: accept, connect, the end
 *   input.c        reading
 *   flush.c        writing, and who is told that there is room again
 *   version.c      the other side's version line
 *   receive.c      bytes to packets
 *   filter.c       which message may arrive when
 *   deliver.c      packets to libssh or the owner
 *   client.c       what is different where we are the client
 *   proof.c        the server's proof of its host key
 *   forget.c       what is left of an exchange that is over
 *   handshakes.c   whose turn it is to exchange keys
 *   send.c         messages to packets
 *   seal.c         packets without libssh's copies
 *   rekey.c        when keys are exchanged again
 */
/* clang-format on */
#ifndef PARLEY_TRANSPORT_CONNECTION_H
#define PARLEY_TRANSPORT_CONNECTION_H

#include "transport/libssh.h"
#include "transport/output.h"
#include "transport/server.h"
#include "transport/transport.h"

#include <event2/buffer.h>
#include <event2/event.h>

#define OUTPUT_HIGH_WATER (256 * 1024) /* producers stop */
#define OUTPUT_LOW_WATER  (128 * 1024) /* and go on */
#define OUTPUT_WRITE_AT   (64 * 1024)  /* written before the end of the turn */
#define OUTPUT_CHOKE                                                                               \
    (1024 * 1024) /* the peer makes us answer and does not read: it is not read either */
#define OUTPUT_MAX       (8 * 1024 * 1024) /* somebody ignores transport_room() */
#define HELD_MAX         (2 * 1024 * 1024) /* of it, what waits for a key exchange */
#define FLUSH_MS         5000              /* for the last bytes of a connection */
#define EARLY_REKEYS_MAX 8                 /* before login: each costs us a key exchange */

enum transport_phase {
    PHASE_VERSION, /* waiting for the other side's version line */
    PHASE_PACKETS, /* the packet layer runs */
    PHASE_CLOSING, /* the last bytes are written; nothing is read */
    PHASE_ENDED,   /* ended() has been, or is about to be called */
};

/* What only a client's side has. */
struct client_side {
    char *offer;            /* host key algorithms; after the first exchange the one that it used */
    struct buf host_key;    /* that the server has proven to hold */
    struct proof *proof;    /* of an exchange that runs */
    size_t lines, line_len; /* before the version line, and how long they were together */
    char *first_line;       /* of these, clean; NULL: there were none */
};

struct transport {
    struct transport_server *server;
    struct client_side *client; /* NULL: we are the server */
    const struct transport_events *events;
    void *owner;
    ssh_session session;
    int fd;
    struct event *readable, *writable, *timer;
    struct evbuffer *out;
    enum transport_phase phase;

    struct buf rest;   /* received, but not a whole packet yet */
    struct buf parked; /* a message that waits for transport_resume(), or in_line */
    bool in_line;      /* for its handshake */
    TAILQ_ENTRY(transport) line;
    size_t wanted;        /* `rest` is of no use before it is so long */
    uint32_t packet_len;  /* packet_length of the packet at the start of `rest`, if have_len */
    bool have_len;        /* its length field (and first block, if encrypted so) is decrypted */
    bool failed_mac;      /* says which DISCONNECT code fits */
    uint32_t message_seq; /* of the message being handled, for UNIMPLEMENTED */

    struct buf held; /* messages that wait for a key exchange: uint32 length, message, ... */
    bool corked;     /* inside an event handler, which flushes at its end */
    bool turn_due;   /* a deferred flush is on its way */
    bool blocked;    /* the socket takes no more; waiting for `writable` */
    bool starved;    /* somebody may wait for writable() */
    bool choked;     /* not read, because the peer does not read */
    bool freed;      /* transport_free() was called; memory goes at the end of the turn */
    unsigned paused;

    bool keys;                /* the first key exchange is over */
    bool peer_wants_ext_info; /* RFC 8308 section 2.1 */
    bool exchanging;          /* a key exchange runs that the timer watches */
    unsigned early_rekeys;
    struct buf session_id;
    char *algorithms;
    size_t host_key;                /* index of the one used */
    struct helper_job *gss_job;     /* gss_kex.c: a helper looks at the client's token */
    struct gss_kex *gss;            /* and has: libssh can be shown the message */
    struct gss_exchange *gss_first; /* of the first exchange, until transport_take_gss() */

    uint64_t bytes_received, bytes_sent;
    struct transport_end end; /* reason is owned */
    char *end_reason;
};

/* ---- connection.c */

/* Ends the connection: now if nothing can be said to the peer any more, else after a last
 * DISCONNECT and flush. The first call wins. ended() comes later, from the loop. */
void connection_end(struct transport *t, enum transport_end_kind kind, uint32_t code,
                    const char *reason);
/* The peer broke the protocol: DISCONNECT with this code and reason. */
void connection_violation(struct transport *t, uint32_t code, const char *reason);
void connection_set_timer(struct transport *t, uint32_t ms); /* 0: none */
bool connection_is_open(const struct transport *t);

/* Takes the descriptor. Without a session; connection_begin() follows. */
struct transport *connection_new(struct transport_server *server, int fd,
                                 const struct transport_events *events, void *owner);
/* Reads from now on. NULL, and the connection is gone, if it could not be made ready. */
struct transport *connection_begin(struct transport *t, bool ready);
/* Around every call into libssh. */
struct libssh_output connection_enter(struct transport *t);
void connection_leave(struct libssh_output before);
/* Printable ASCII of at most max bytes. Owned. */
char *clean_text(struct bytes text, size_t max);

/* ---- input.c */

void input_on_readable(evutil_socket_t fd, short what, void *transport);
void connection_watch_input(struct transport *t); /* reads, or not, as the state says */
void input_begin_packets(struct transport *t);    /* the version line is known */
void input_go_on(struct transport *t);            /* with what was parked, then with the rest */

/* ---- client.c */

/* Once, before any thread. False: libssh does not work as we know it. */
bool client_global_init(void);
void client_clear(struct transport *t);
/* Before libssh may begin an exchange: what we offer in it. */
void client_offer(struct transport *t);
/* Takes from the server's bytes what is done with; the connection may end. */
size_t client_take_version(struct transport *t, struct bytes input);
/* Why the connection ends if the server has closed it. Owned. */
char *client_eof_reason(const struct transport *t);
/* The first exchange is over. */
void client_first_keys(struct transport *t);

/* ---- proof.c: around libssh's handling of the server's reply, message 31 */

/* False: the connection ends. */
bool proof_read(struct transport *t, struct bytes reply);
bool proof_check(struct transport *t);
void proof_free(struct proof **proof);

/* ---- handshakes.c */

/* False: there was one in this turn already; input_go_on() comes in another. */
bool handshakes_may_begin(struct transport *t);
void handshakes_leave(struct transport *t); /* the connection ends, in line or not */

/* ---- flush.c */

/* Writes what the socket takes. */
void connection_flush(struct transport *t);
/* Flushes, and tells whoever waited for room. Event handlers call it last. */
void connection_end_of_turn(struct transport *t);
/* The same later, unless an event handler of ours does it anyway. */
void connection_turn_later(struct transport *t);

/* ---- receive.c */

struct packet {
    uint8_t *payload; /* type byte first; in place */
    size_t len;       /* at least 1 */
};

enum receive_result { RECEIVE_MORE, RECEIVE_PACKET, RECEIVE_FAILED };

/* The packet at data[0..len): on RECEIVE_PACKET *consumed bytes are done with. On RECEIVE_FAILED
 * the connection is ending. */
enum receive_result receive_packet(struct transport *t, uint8_t *data, size_t len,
                                   struct packet *packet, size_t *consumed);

/* ---- deliver.c */

/* False: the message must wait (it has been parked), or the connection ends. */
bool deliver_packet(struct transport *t, const struct packet *packet);
bool deliver_parked(struct transport *t);

/* ---- forget.c */

void forget_exchange(struct transport *t);

/* ---- send.c */

void send_held(struct transport *t);
size_t send_queued(const struct transport *t);
/* Straight through libssh, whatever the state: DISCONNECT, EXT_INFO. */
bool send_through_libssh(struct transport *t, struct bytes message);

/* ---- seal.c */

/* Encrypts head+data as one packet into the output, in place. False: this state or cipher needs
 * libssh's way. */
bool seal_packet(struct transport *t, struct bytes head, struct bytes data);

/* ---- rekey.c */

void rekey_configure(struct transport *t);
/* True if keys are used up by `payload` more bytes. */
bool rekey_is_due(struct transport *t, size_t payload);
/* After a packet was received. */
void rekey_if_due(struct transport *t);
/* Notices that an exchange began or ended; after every call that may have done so. */
void rekey_watch(struct transport *t);
void rekey_deadline(struct transport *t);
/* May messages other than those of the key exchange be sent now? */
bool rekey_lets_send(const struct transport *t);
void rekey_note_algorithms(struct transport *t);

#endif
