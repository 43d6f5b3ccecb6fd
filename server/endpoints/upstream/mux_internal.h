/* Shared by the files of the mux. */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_MUX_INTERNAL_H
#define PARLEY_ENDPOINTS_UPSTREAM_MUX_INTERNAL_H

#include "endpoints/upstream/mux.h"

#include "base/reader.h"
#include "endpoints/upstream/held.h"
#include "transport/numbers.h"

#define PACKET_MAX_BYTES  (32u * 1024) /* of one message's data, either way */
#define WINDOW_MAX_BYTES  (2u * 1024 * 1024)
#define WINDOW_MIN_BYTES  (4u * 1024)
#define WINDOWS_MAX_BYTES (16u * 1024 * 1024) /* what one client's upstreams may make us hold */
#define CLOSING_MAX       4096                /* channels that nobody but the upstream keeps */
#define CLOSE_MAX_MS      10000               /* after that nobody waits for it */
#define EXTENDED_UNKNOWN  2                   /* any type of extended data but stderr */
#define EXPECTED_MAX      16                  /* replies that it owes on one channel */

enum mux_state {
    MUX_OPENING,   /* the upstream is asked */
    MUX_ABANDONED, /* so it was, and nobody wants it any more: its answer ends it */
    MUX_OPEN,
    MUX_CLOSING, /* we sent CLOSE, the upstream has not */
    MUX_CLOSED,  /* both have, or the connection is gone: out of the table, `mux` is NULL */
};

/* What the upstream answers by SUCCESS or FAILURE, in the order of our requests. */
enum expected_kind { EXPECT_PTY, EXPECT_PROGRAM, EXPECT_BREAK };

struct expected {
    enum expected_kind kind;
    uint32_t id; /* of a break */
};

struct mux_open {
    struct mux_channel *channel;
};

struct mux_channel {
    struct endpoint base;
    struct mux *mux;
    struct mux_windows *windows;
    struct loop *loop;
    enum mux_state state;
    uint32_t id;   /* ours */
    uint32_t peer; /* theirs */
    bool is_session;
    struct mux_open handle;
    const struct mux_opened_events *opened;
    void *opened_owner;
    bool left;              /* closed() has been told, or there is nobody to tell it to */
    struct event *patience; /* for the upstream's CLOSE; NULL: nobody waits */
    struct buf first;       /* a session's first requests, until it is confirmed */

    /* to the client's channel: nothing once it has stopped us */
    const struct endpoint_events *events;
    void *owner;
    bool stopped;

    /* upstream to client */
    uint32_t window;      /* bytes the upstream may still send */
    uint32_t window_size; /* what we keep it at */
    uint32_t window_owed; /* passed on, not yet given back */
    struct held held;     /* received, and not taken by the channel yet; bounded by the window */
    struct buf words;     /* ours, for the error stream, behind what is held */
    size_t words_done;
    bool eof, eof_passed;
    struct event
        *eof_timer; /* a session's EOF waits for what may overtake it; NULL: it never did */
    bool eof_waited;
    Policy__ExitSignal *exit_signal; /* owned; behind what is held, as are the next ones */
    bool has_status, exit_seen;
    uint32_t status;
    char *end_why;                      /* the end of it all; NULL: not yet */
    bool end_in_order, end_told, going; /* going: the memory, at the end of the turn */

    /* client to upstream */
    uint32_t peer_window;
    uint32_t peer_packet_max;
    bool eof_sent;
    bool deaf;    /* nobody reads it there (eow@openssh.com) */
    bool blocked; /* write() took less than it was given */
    size_t taken; /* and not told yet by writable() */
    bool telling; /* at the end of the turn */
    bool resized; /* `size` waits for room */
    Policy__WindowSize size;
    struct expected expected[EXPECTED_MAX];
    size_t expected_count;
};

struct mux {
    struct loop *loop;
    struct transport *transport;
    struct mux_windows *windows;
    const struct mux_events *events;
    void *owner;
    struct mux_channel **table; /* by our id; NULL where free */
    size_t table_size;
    size_t closing; /* MUX_CLOSING and MUX_ABANDONED */
    size_t turn;    /* whose turn it is when the transport has room again */
    bool faulty;    /* the owner knows: nothing is handled any more */
};

/* mux.c */
void mux_fault(struct mux *mux, const char *why);
void mux_take_slot(struct mux *mux, struct mux_channel *channel);

/* mux_open.c */
void mux_recv_confirmation(struct mux_channel *channel, struct reader *r);
void mux_recv_failure(struct mux_channel *channel, struct reader *r);
/* The connection is gone. */
void mux_open_fail(struct mux_channel *channel, uint32_t code, const char *reason);

/* mux_channel.c */
extern const struct endpoint_ops mux_channel_ops;
struct mux_channel *mux_channel_new(struct mux *mux);
void mux_channel_begin(struct mux_channel *channel, struct buf *message, uint8_t type);
void mux_channel_send(struct mux_channel *channel, struct buf *message); /* and clears it */
void mux_channel_send_close(struct mux_channel *channel);                /* once */
/* MUX_CLOSING, or MUX_ABANDONED: it is the upstream's turn; counted, since it may take its time. */
void mux_channel_await_end(struct mux_channel *channel, enum mux_state state);
void mux_channel_recv_data(struct mux_channel *channel, uint32_t extended_type, struct bytes data);
void mux_channel_recv_eof(struct mux_channel *channel);
void mux_channel_recv_close(struct mux_channel *channel);
void mux_channel_recv_window_adjust(struct mux_channel *channel, uint32_t bytes);
/* The transport has room. */
void mux_channel_wake(struct mux_channel *channel);
/* Hands over what is there, in order; after it the channel may be stopped. */
void mux_channel_pass_on(struct mux_channel *channel);
/* The end, behind what is held; the first one counts. */
void mux_channel_end(struct mux_channel *channel, bool in_order, const char *why);
/* A line on the error stream, behind what is held. */
void mux_channel_tell(struct mux_channel *channel, const char *text);
/* Nobody reads what the client still sends: it goes nowhere. */
void mux_channel_deafen(struct mux_channel *channel);
void mux_channel_give_up_window(struct mux_channel *channel); /* nothing will be held */
/* Out of the table. */
void mux_channel_remove(struct mux_channel *channel);
/* Frees it at the end of the turn once nobody holds it. */
void mux_channel_let_go(struct mux_channel *channel);

/* mux_session.c */
void mux_session_begin(struct mux_channel *channel); /* confirmed: sends what it begins with */
bool mux_session_may_pass_eof(const struct mux_channel *channel);
void mux_session_delay_eof(struct mux_channel *channel);
void mux_session_recv_request(struct mux_channel *channel, struct reader *r);
void mux_session_recv_reply(struct mux_channel *channel, bool success);
void mux_session_window_change(struct endpoint *endpoint, const Policy__WindowSize *size);
void mux_session_signal(struct endpoint *endpoint, const char *name);
void mux_session_break(struct endpoint *endpoint, uint32_t id, uint32_t length_ms, bool want_reply);
void mux_session_unwanted(struct endpoint *endpoint);

#endif
