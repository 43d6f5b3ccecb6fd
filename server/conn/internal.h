/* Shared by the files of this room. */
#ifndef PARLEY_CONN_INTERNAL_H
#define PARLEY_CONN_INTERNAL_H

#include "conn/conn.h"

#include "auth/auth.h"
#include "channels/channels.h"
#include "channels/env.h"
#include "transport/numbers.h"

#include <event2/event.h>
#include <sys/queue.h>

enum conn_state {
    CONN_GREETING, /* keys are exchanged, ConnectionMade is asked */
    CONN_AUTH,     /* both are done; until AuthCompleted allows */
    CONN_OPEN,
    CONN_CLOSING, /* DISCONNECT is on its way out */
    CONN_CLOSED,  /* freed at the end of the turn */
};

/* When something has to happen; clock_ms(), 0: never. */
struct deadlines {
    uint64_t login;    /* accept to AuthCompleted */
    uint64_t lifetime; /* Limits.max_lifetime_s */
    uint64_t idle_ms;  /* Limits.idle_timeout_s */
    uint64_t keepalive_ms;
    uint32_t keepalive_max; /* unanswered ones; 0: any number */
    uint64_t keepalive_next;
    uint32_t keepalives_unanswered;
    uint64_t bytes_seen; /* received when the last keepalive was considered */
    struct event *timer;
};

struct conn {
    struct conns *conns;
    LIST_ENTRY(conn) link;
    enum conn_state state;
    bool keys_exchanged;
    struct decision *made; /* ConnectionMade; NULL once it has ended */
    char *refusal;         /* ConnectionMade's no, until it can be said under encryption */
    bool unwanted;         /* and it was the policy's, not for want of an answer */
    struct address peer, local;
    struct asker *asker;
    struct transport *transport;
    struct grant grant;
    struct auth *auth;
    struct channels *channels;   /* NULL before login */
    struct supervise *supervise; /* NULL: nobody does */
    struct env_list environment;
    struct channels_settings channel_limits;
    struct deadlines deadlines;
    uint32_t debug_messages; /* reported; after login it falls with time */
    uint64_t debug_counted_ms;
    bool debug_dropped; /* some were not reported, and the log says so */
    uint64_t accepted_ms;
    bool logging_in;       /* login_over() is still to be told */
    enum conn_login login; /* DONE until something else is known */
    /* The end, for ConnectionLost and the log */
    bool clean;
    uint32_t end_code;
    char *end_reason;
};

struct conns {
    struct loop *loop;
    struct control *control;
    struct transport_server *server;
    struct conn_settings settings;
    const struct conns_events *events;
    void *owner;
    LIST_HEAD(, conn) list;
    size_t count;
    bool freed; /* goes with the last connection */
};

/* conn.c */
/* Tells the client and ends; the first reason stays. */
void conn_disconnect(struct conn *conn, uint32_t code, const char *reason, const char *language);

/* opened.c */
void conn_open_channels(struct conn *conn);
/* The grant has grown: the channels follow. */
void conn_apply_rules(struct conn *conn);

/* supervise.c */
/* Opens the stream, unless it is open already; the last word on its loss counts. */
void supervise_begin(struct conn *conn, Policy__OnLoss on_loss);
void supervise_channel_opened(struct conn *conn, const struct channel_note *note);
void supervise_channel_closed(struct conn *conn, const struct channel_note *note);
void supervise_listener(struct conn *conn, bool opened, const Policy__ListenerNote *note);
/* An action that took its time has ended. */
void supervise_done(struct conn *conn, uint64_t id, const char *error, uint32_t channel);
void supervise_clear(struct conn *conn);

/* deadlines.c */
void deadlines_init(struct conn *conn);
void deadlines_clear(struct conn *conn);
void deadlines_apply(struct conn *conn, const Policy__Limits *limits); /* NULL is fine */
void deadlines_login_done(struct conn *conn);
void deadlines_update(struct conn *conn); /* a deadline changed: sets the timer again */
void deadlines_alive(struct conn *conn);  /* the client answered a keepalive */

/* login.c */
/* Before conn_disconnect(): what the end will be taken for, if it comes before login. The first one
 * stays. */
void login_blame(struct conn *conn, enum conn_login how);
void login_blame_slow(struct conn *conn);
/* The connection ends with this code, which we sent (or the peer's doing, false). */
void login_judge_end(struct conn *conn, bool by_us, uint32_t code);
void login_over(struct conn *conn); /* tells it, once */

/* report.c */
void report_lost(struct conn *conn);
void report_debug(struct conn *conn, struct bytes message);

#endif
