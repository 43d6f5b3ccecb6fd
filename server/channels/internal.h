/* Shared by the files of this room. */
#ifndef PARLEY_CHANNELS_INTERNAL_H
#define PARLEY_CHANNELS_INTERNAL_H

#include "channels/channels.h"

#include "base/lane.h"
#include "base/reader.h"
#include "channels/env.h"
#include "channels/session.h"
#include "endpoints/endpoint.h"
#include "endpoints/upstream.h"
#include "transport/numbers.h"

/* What one connection may make us hold for all its channels: windows shrink as channels multiply.
 */
#define WINDOWS_MAX_BYTES (16u * 1024 * 1024)
#define WINDOW_MIN_BYTES  (4u * 1024) /* so that 1,000 channels are within it */

enum channel_state {
    CHANNEL_OPENING,   /* the client wants it: the policy is asked */
    CHANNEL_OFFERED,   /* we want it: the client is asked */
    CHANNEL_ABANDONED, /* so it was, and nobody wants it any more: its answer ends it */
    CHANNEL_OPEN,
    CHANNEL_DRAINING, /* the peer sent CLOSE, and the endpoint still takes what came before it */
    CHANNEL_CLOSING,  /* we sent CLOSE, the peer has not */
    CHANNEL_CLOSED,   /* gone from the table, freed at the end of the turn */
};

/* One direction of a channel. */
enum flow {
    FLOW_DATA,
    FLOW_EOF, /* EOF is promised: sent, or received */
};

/* A CHANNEL_REQUEST that channels of one kind take. */
struct request_type {
    const char *name; /* NULL ends the table */
    void (*run)(struct channel *channel, struct reader *r);
};

/* How packets travel on a channel where each message is one. */
struct framing {
    /* The packet of a message from the client, never empty. False: it holds none. */
    bool (*unwrap)(struct bytes message, struct bytes *packet);
    /* Appends the message of a packet. False: it is no packet of that sort. */
    bool (*wrap)(struct bytes packet, struct buf *message);
};

/* What differs between channels of one type and another. */
struct channel_kind {
    const char *name;                      /* as on the wire; for the log, too */
    void (*init)(struct channel *channel); /* NULL: it has no state of its own */
    void (*clear)(struct channel *channel);
    const struct request_type *requests; /* NULL: every request fails */
    bool has_program;                    /* whose end must be reported, and which ends at once */
    struct bytes (*detail)(const struct channel *channel); /* for Supervise; NULL: none */
    /* Why the channel may not be under the rules as they are now; NULL: it may. */
    const char *(*misfit)(const struct channel *channel);
    const struct framing *framing; /* NULL: a stream of bytes, however they are cut */
};

struct channel {
    struct channels *channels;
    const struct channel_kind *kind;
    uint32_t id;   /* ours */
    uint32_t peer; /* theirs */
    enum channel_state state;
    struct decision *asking; /* open, or the head of the lane */
    struct lane lane;        /* CHANNEL_REQUEST */
    bool running;            /* inside the lane: the head began in this call */
    bool want_reply;         /* of that head */
    struct offer *offer;     /* CHANNEL_OFFERED; else NULL */
    uint64_t opened_ms;

    /* client to us */
    enum flow from_client;
    uint32_t window;      /* bytes the client may still send */
    uint32_t window_size; /* what we keep it at */
    uint32_t window_owed; /* passed on, not yet given back */
    uint32_t packet_max;  /* of one message from the client */
    struct buf held;      /* received, and not taken by the endpoint yet; bounded by the window.
                             Packets: each with its length before it */
    size_t held_done;
    bool eof_passed; /* the endpoint knows of the EOF */
    uint64_t bytes_in;

    /* us to client */
    enum flow to_client;
    uint32_t peer_window;
    uint32_t peer_packet_max;
    uint32_t peer_window_most; /* that the client ever gave */
    uint64_t packets_lost;     /* of those that are packets, either way */
    bool starved;              /* the endpoint waits for ops->resume() */
    bool flow_due;             /* xon-xoff waits for room */
    bool flow_can_do;          /* what it says */
    bool output_unwanted;      /* eow@openssh.com: data is dropped, stderr is not */
    uint64_t bytes_out;

    struct endpoint *endpoint; /* NULL until a program was accepted */
    bool exit_reported;
    char *end_reason; /* for the log */

    struct session *session;     /* of a session channel; else NULL */
    struct direct *direct;       /* of a direct-* channel; else NULL */
    struct forwarded *forwarded; /* of a forwarded-* channel; else NULL */
    struct tunnel *tunnel;       /* of a tun@openssh.com channel; else NULL */
};

struct channels {
    struct transport *transport;
    struct asker *asker;
    struct control *control;
    struct channels_settings settings;
    struct channels_rules rules;
    struct buf forced_command; /* owns rules.forced_command */
    const struct channels_events *events;
    void *owner;

    struct channel **table; /* by our id; NULL where free */
    size_t table_size, count, sessions;
    uint32_t windows; /* sum of window_size */
    uint64_t last_data_ms;
    bool faulty;           /* the connection is told to end: nothing is handled any more */
    bool no_more_sessions; /* no-more-sessions@openssh.com */
    struct lane globals;
    struct decision *asking; /* about the head of that lane */
    bool global_running;     /* inside the lane: the head began in this call */
    bool global_wants_reply; /* of that head */
    LIST_HEAD(, remote) remotes;
    size_t remote_count;
    LIST_HEAD(, accepted) accepted; /* connections to them that are not channels yet */
    size_t accepted_count;
    struct upstreams *upstreams; /* NULL: none was needed yet */
    size_t turn;                 /* whose turn it is when the transport has room again */
};

/* channels.c */
void channels_fault(struct channels *channels, const char *reason);
void channels_pressure(void *owner, bool full); /* lane_pressure_fn of the room's own lane */
void channels_set_rules(struct channels *channels, const struct channels_rules *rules);
struct loop *channels_loop(const struct channels *channels);

/* channel.c: one channel's life and flow control */
struct channel *channel_new(struct channels *channels,
                            const struct channel_kind *kind); /* NULL: the table is full */
void channel_set_peer(struct channel *channel, uint32_t peer, uint32_t window, uint32_t packet_max);
void channel_note_opened(const struct channel *channel);
/* NULL: the rules allow it as it is. */
const char *channel_misfit(const struct channel *channel);
void channel_confirm(struct channel *channel, const Policy__ChannelOptions *options);
void channel_refuse(struct channel *channel, uint32_t code, const char *reason,
                    const char *language);
void channel_recv_data(struct channel *channel, uint32_t extended_type, struct bytes data);
void channel_passed_on(struct channel *channel, size_t taken); /* the endpoint did, and has room */
/* Keeps it for the endpoint, behind what is kept already. */
void channel_hold(struct channel *channel, struct bytes data);
/* What came before the endpoint reaches nobody; its window is given back. */
void channel_forget_held(struct channel *channel);
void channel_recv_eof(struct channel *channel);
void channel_recv_close(struct channel *channel);
void channel_recv_window_adjust(struct channel *channel, uint32_t bytes);
/* Gives the channel its endpoint: what was held back flows. NULL endpoint: false. */
void channel_attach(struct channel *channel, struct endpoint *endpoint);
void channel_send_eof(struct channel *channel);               /* once */
void channel_close(struct channel *channel, const char *why); /* EOF and CLOSE, once */
void channel_drop(struct channel *channel, const char *why);  /* silent: the connection goes */
void channel_give_up_window(struct channel *channel);         /* it will carry nothing */
void channel_resume(
    struct channel *channel); /* the transport or the peer's window has room again */
/* A CHANNEL_REQUEST of ours without a reply: name, then its own fields. */
void channel_send_request(struct channel *channel, const char *name, struct bytes fields);
/* Text for the user on the error stream: what a CHANNEL_FAILURE cannot say. */
void channel_tell(struct channel *channel, const char *text);

extern const struct endpoint_events channel_endpoint_events;

/* upstream.c: of this client; borrowed. */
struct upstreams *channels_upstreams(struct channels *channels);

/* packets.c: the same for channels whose kind has a framing */
void packet_recv(struct channel *channel, struct bytes message); /* its window is taken already */
size_t packets_hand_over(struct channel *channel); /* bytes of `held` that the endpoint took */
/* As endpoint_events.room() and .data(): the packet is taken whole (sent, or lost) or, as long as
 * there is no room, not at all. */
size_t packet_room(struct channel *channel);
size_t packet_send(struct channel *channel, struct bytes packet, uint32_t extended_type);

/* offer.c: channels that we open to the client (RFC 4254 section 5.1) */

extern const struct channel_kind x11_kind, agent_kind;

struct offer_events {
    /* The client took it: makes what it ends in, from `arg`, which it takes over. NULL: that went
     * away meanwhile, and the channel closes. */
    struct endpoint *(*taken)(void *arg, struct channel *channel);
    /* It did not, or not in time, or the connection ended: `arg` is given back. */
    void (*refused)(void *arg, uint32_t code, const char *reason);
};

/* `fields` are the ones of its type, behind those that all types have. False: there are as many
 * channels as there may be; no event follows. Else one of the two does, and never from inside this
 * call. */
bool channel_offer(struct channels *channels, const struct channel_kind *kind, struct bytes fields,
                   const struct offer_events *events, void *arg);
void offer_recv_confirmation(struct channel *channel, struct reader *r);
void offer_recv_failure(struct channel *channel, struct reader *r);
void offer_clear(struct channel *channel); /* silent to the client */

/* forwards.c: a connection to the client's agent, if one of its sessions that still live was
 * granted it (AgentRequested). Non-blocking, the caller's; at its other end is a channel that the
 * client is offered, and which hangs up if the client refuses. -1: not granted, or too many
 * channels. */
int channel_open_agent(struct channels *channels);

/* session.c */
extern const struct channel_kind session_kind;
extern const struct request_type session_requests[]; /* request.c */

/* open.c */
struct opening {
    uint32_t peer, window, packet_max;
};

void open_recv(struct channels *channels, struct bytes message);
/* The client's answer where there is no channel (yet). */
void open_fail(struct channels *channels, const struct opening *opening, uint32_t code,
               const char *reason);
/* NULL: too many; the client has been told. */
struct channel *open_new(struct channels *channels, const struct opening *opening,
                         const struct channel_kind *kind);
void open_log(const struct channel *channel, const char *outcome, const char *why);
void open_refuse(struct channel *channel, const Policy__Refuse *refuse,
                 const char *unsaid); /* what is said if the policy has no words */
void open_refuse_for(struct channel *channel, uint32_t code, const char *reason);

/* direct.c */
void direct_open_tcpip(struct channels *channels, const struct opening *opening, struct reader *r);
void direct_open_streamlocal(struct channels *channels, const struct opening *opening,
                             struct reader *r);

/* tunnel.c */
void tunnel_open(struct channels *channels, const struct opening *opening, struct reader *r);

/* remote.c, forwarded.c; each of these four ends in global_done(), now or from a later callback */
extern const struct channel_kind forwarded_tcpip_kind, forwarded_streamlocal_kind;
void remote_listen_tcp(struct channels *channels, struct reader *r);
void remote_cancel_tcp(struct channels *channels, struct reader *r);
void remote_listen_path(struct channels *channels, struct reader *r);
void remote_cancel_path(struct channels *channels, struct reader *r);
void remotes_tighten(struct channels *channels);
void remotes_clear(struct channels *channels);
/* What a channel to the client from there is called, and the fields of its open. NULL: nobody
 * listens there. */
const struct channel_kind *remote_kind(const struct channels *channels,
                                       const Policy__OpenToClient *open, struct buf *fields,
                                       struct forwarded **from);
void forwarded_free(struct forwarded **from);

/* permit.c: why the restrictions of the login forbid it; NULL: they do not */
const char *permit_open(const struct channels_rules *rules, const char *host, uint32_t port);
const char *permit_listen(const struct channels_rules *rules, const char *host, uint32_t port);
const char *permit_path(const struct channels_rules *rules);
const char *permit_tunnel(const struct channels_rules *rules);

/* request.c, program.c, global.c */
void request_pressure(void *owner, bool full); /* lane_pressure_fn of a channel's lane */
enum lane_step request_run(void *owner, uint8_t type, struct bytes message);
/* The head of the channel's lane ends: replies if the client wanted it, and goes on with the next.
 */
void request_done(struct channel *channel, bool success);
void request_malformed(struct channel *channel);
enum lane_step global_run(void *owner, uint8_t type, struct bytes message);
/* The head of the lane of global requests ends: replies if that is wanted, and goes on. */
void global_done(struct channels *channels, bool success, struct bytes fields);

#endif
