/*
 * What the files of this room share. The only includer of <grpc/...>.
 *
 * Who frees what: an object with a call (decision, stream) is freed on its asker's loop, after its
 * last tag came back. Each holds a reference on the control, so that a letter which is delivered
 * after control_free() still finds gRPC alive.
 */
#ifndef PARLEY_CONTROL_INTERNAL_H
#define PARLEY_CONTROL_INTERNAL_H

#include "control/control.h"
#include "control/rpc.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/queue.h>

#define CONTAINER(pointer, type, member)                                                           \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* ---- cq.c: the completion queue and its thread */

/* What a batch is known by. done() runs on the gRPC thread. */
struct tag {
    void (*done)(struct tag *tag, bool ok);
};

/* A call whose tags have not all come back. */
struct live {
    LIST_ENTRY(live) entry;
    grpc_call *call;
};

struct cq {
    grpc_completion_queue *queue;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t idle;
    LIST_HEAD(, live) calls;
    size_t count;
};

bool cq_start(struct cq *cq);
/* Cancels what lives, waits for its tags, ends and joins the thread. */
void cq_cancel_all(struct cq *cq);
void cq_stop(struct cq *cq);
/* False: no tag will come. */
bool cq_batch(grpc_call *call, const grpc_op *ops, size_t count, struct tag *tag);
/* The tag comes when the channel's state is not `last` any more, or the channel is destroyed. */
void cq_watch(struct cq *cq, grpc_channel *channel, grpc_connectivity_state last, struct tag *tag);
void cq_add(struct cq *cq, struct live *live);
void cq_remove(struct cq *cq, struct live *live);
size_t cq_live(struct cq *cq);
void cq_log_setup(void); /* gRPC's own log lines go to ours */

/* ---- link.c: one gRPC channel */

/* Streams of one connection share what they may make us hold, 16 MiB a connection: its first few
 * are wide, the others ever narrower. gRPC has windows, and a largest message (it takes in whole
 * ones, however narrow the window), per link only, so that each width is a link. */
enum link_kind {
    LINK_WIDE,
    LINK_MEDIUM,
    LINK_NARROW,
    LINK_WIDTHS,
    LINK_DECISIONS = LINK_WIDTHS,
};

/* What one stream of a width may make us hold, in each direction. */
struct stream_width {
    unsigned streams;      /* of one connection, open at a time */
    size_t queue_bytes;    /* 0: as configured */
    size_t queue_messages; /* likewise */
    uint32_t window_bytes; /* HTTP/2's, towards us */
    uint32_t payload_max;  /* of one message towards us: ChannelOpened.max_payload_bytes */
};

extern const struct stream_width stream_widths[LINK_WIDTHS];

struct link {
    char *name;               /* its target */
    pthread_mutex_t lock;     /* keeps the channel while the gRPC thread looks at its state */
    grpc_channel *channel;    /* NULL: closed */
    void *methods[RPC_COUNT]; /* registered: spares each call the parsing of its path */
    _Atomic uint64_t absent_until_ms[RPC_COUNT];
    atomic_bool connected;
    atomic_uint generation;
    enum link_kind kind;
    uint64_t made_ms;          /* when this channel took the place of the last; with the lock */
    _Atomic uint64_t heard_ms; /* the last word of the policy */
    atomic_uint unanswered;    /* deadlines that passed since, without a word */
    /* The watch, if any. */
    struct tag watch;
    struct control *control;
    grpc_connectivity_state state;
};

struct link *link_new(struct control *control, const char *target, enum link_kind kind);
/* Destroys the channel, whose calls must have ended; letters still under way may look at the rest
 * until link_free(). */
void link_close(struct link *link);
void link_free(struct link **link);
/* Keeps it connected from here on, and `connected` up to date. */
void link_watch(struct link *link);
/* Tries again at once if it is backing off. */
void link_hurry(struct link *link);
grpc_call *link_call(struct link *link, enum rpc rpc, gpr_timespec deadline);
/* The policy has said something over it. */
void link_heard(struct link *link);
/* The deadline of what was asked at `asked_ms` has passed. A connection over which nothing comes,
 * although it seems to work (half-open), is replaced: what is under way on it ends on it, what is
 * asked from then on goes over a new one. */
void link_unanswered(struct link *link, uint64_t asked_ms);
bool link_is_absent(struct link *link, enum rpc rpc);
/* Counts its connections: what was heard over an old one says nothing of the policy behind a new
 * one. */
unsigned link_generation(struct link *link);
void link_remember_absent(struct link *link, enum rpc rpc, unsigned generation);

/* ---- control.c: the whole */

struct named_link {
    char *name; /* "" is the policy */
    struct link *links[LINK_WIDTHS];
};

enum { END_CANCELLED = EXPIRED + 1, END_COUNT };

struct policy_exec;

struct control {
    atomic_int refs;
    struct cq cq;
    bool cq_running;
    grpc_channel_credentials *credentials;
    struct link *decisions;
    struct named_link *bulk; /* ended by a NULL name */
    atomic_uint in_flight;   /* decisions */

    /* Settings, copied. */
    char *daemon_name;
    char *policy_target;
    grpc_slice bearer; /* "Bearer <token>", or empty */
    uint32_t deadline_ms[RPC_COUNT];
    bool required[RPC_COUNT];
    uint32_t stream_start_ms, stream_stall_ms, max_in_flight;
    size_t queue_bytes, queue_messages;

    _Atomic uint64_t ends[RPC_COUNT][END_COUNT];

    struct policy_exec *exec;
    struct start *start; /* of control_start() without a program: its letter is under way */
    void (*ready)(void *owner, const char *error); /* for exec */
    void *ready_owner;
    bool watching;
};

void control_ref(struct control *control);
void control_unref(struct control *control);
void control_count(struct control *control, enum rpc rpc, int end);
const struct named_link *control_bulk(const struct control *control, const char *target);

/* ---- credentials.c */

/* NULL sets *error. */
grpc_channel_credentials *credentials_new(const struct control_settings *settings, char **error);

/* ---- call.c: what unary calls and streams have in common */

struct call_end {
    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice details;
    const char *debug; /* gRPC's own account; freed with gpr_free() */
};

#define CALL_METADATA_MAX 2

struct call_metadata {
    grpc_metadata items[CALL_METADATA_MAX];
    size_t count;
};

void call_end_init(struct call_end *end);
void call_end_clear(struct call_end *end);
/* ANSWERED means status OK. *why: owned, clean text; NULL if ANSWERED. */
enum outcome call_end_outcome(const struct call_end *end, char **why);
/* trace and span: hex ids; span_id's first 16 digits are used. */
void call_metadata_init(struct call_metadata *metadata, const struct control *control,
                        const char *trace_id, const char *span_id);
void call_metadata_clear(struct call_metadata *metadata);
/* Packed into a slice that is zeroed when the last holder lets go. False: a string in it is not
 * clean; *why is owned. */
bool call_pack(const ProtobufCMessage *message, grpc_slice *out, char **why);
/* The message's bytes, in place if they are in one piece; else a copy in *owned (of the length of
 * the bytes). False: compressed (which we do not offer), or unreadable. */
bool call_bytes(grpc_byte_buffer *buffer, struct bytes *out, uint8_t **owned);
/* Zeroes what the buffer holds, then destroys it; NULL is fine. */
void call_wipe(grpc_byte_buffer *buffer);

/* ---- asker.c, for decision.c and stream.c */

struct decision;
LIST_HEAD(decision_list, decision);

struct control *asker_control(const struct asker *asker);
struct decision_list *asker_decisions(struct asker *asker);
unsigned *asker_streams(struct asker *asker);    /* its open streams, by enum link_kind */
unsigned asker_epoch(const struct asker *asker); /* counts the changes of the user name */
const struct asker_events *asker_events(const struct asker *asker, void **owner);
/* The Context with this question id, or a new one if NULL. */
Policy__Context *asker_context_for(struct asker *asker, const char *question_id);
void asker_set_state(struct asker *asker, struct bytes state, unsigned epoch);

/* ---- decision.c */

/* The asker goes: reports go on without it, decisions that ended without their callback are freed.
 */
void decisions_leave(struct decision_list *list);

#endif
