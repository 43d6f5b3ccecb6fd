/*
 * The policy, seen from the server: three verbs. ask (unary, always ends), report (unary, nobody
 * waits), stream (bytes with credit). The only header of this room that the server includes;
 * nothing above it knows gRPC.
 *
 * Threads: a question or a stream belongs to the loop of its asker; its callbacks run there, and
 * never from inside a function of this header.
 */
#ifndef PARLEY_CONTROL_CONTROL_H
#define PARLEY_CONTROL_CONTROL_H

#include "base/address.h"
#include "base/bytes.h"
#include "base/loop.h"
#include "base/random.h"

#include "parley/policy/v1/policy.pb-c.h"

/* ---- the handlers: one row in control/rpc.c each */

enum rpc {
    RPC_CONNECTION_MADE,
    RPC_CONNECTION_LOST,
    RPC_DEBUG_MSG_RECEIVED,
    RPC_SUPERVISE,
    RPC_BEGIN_AUTH,
    RPC_AUTH_COMPLETED,
    RPC_HOST_BASED_AUTH_SUPPORTED,
    RPC_PUBLIC_KEY_AUTH_SUPPORTED,
    RPC_PASSWORD_AUTH_SUPPORTED,
    RPC_KBDINT_AUTH_SUPPORTED,
    RPC_VALIDATE_PUBLIC_KEY,
    RPC_VALIDATE_CA_KEY,
    RPC_VALIDATE_PASSWORD,
    RPC_CHANGE_PASSWORD,
    RPC_GET_KBDINT_CHALLENGE,
    RPC_VALIDATE_KBDINT_RESPONSE,
    RPC_VALIDATE_HOST_PUBLIC_KEY,
    RPC_VALIDATE_HOST_CA_KEY,
    RPC_VALIDATE_HOST_BASED_USER,
    RPC_VALIDATE_GSS_PRINCIPAL,
    RPC_SESSION_REQUESTED,
    RPC_CONNECTION_REQUESTED,
    RPC_UNIX_CONNECTION_REQUESTED,
    RPC_TUN_REQUESTED,
    RPC_TAP_REQUESTED,
    RPC_SERVER_REQUESTED,
    RPC_UNIX_SERVER_REQUESTED,
    RPC_FORWARD_ACCEPTED,
    RPC_PTY_REQUESTED,
    RPC_ENV_REQUESTED,
    RPC_X11_REQUESTED,
    RPC_AGENT_REQUESTED,
    RPC_SHELL_REQUESTED,
    RPC_EXEC_REQUESTED,
    RPC_SUBSYSTEM_REQUESTED,
    RPC_CHANNEL,
    RPC_COUNT,
};

const char *rpc_name(enum rpc rpc); /* "ConnectionMade" */
bool rpc_by_name(const char *name, enum rpc *out);
/* What UNIMPLEMENTED means: a default that allows is asked each time, one that refuses is
 * remembered as absent for 30 s. */
bool rpc_default_allows(enum rpc rpc);

/* ---- how an ask or a stream ends */

enum outcome {
    ANSWERED,    /* well-formed; `answer` is set */
    ABSENT,      /* UNIMPLEMENTED: the handler's default holds (a required handler is UNAVAILABLE
                    instead) */
    UNAVAILABLE, /* no link, a bad status, a malformed or oversize answer */
    EXPIRED,     /* the deadline passed */
};

const char *outcome_name(enum outcome outcome); /* "answered", ... */

/* ---- the links */

struct control;

struct control_target {
    const char *name;   /* of a stream target (StreamEndpoint.target); "" is the policy itself */
    const char *target; /* unix:/path, dns:///host:port, host:port, xds:///name */
};

struct control_settings {
    const char *policy; /* gRPC target; NULL only with policy_exec */
    const struct control_target
        *targets;            /* further stream targets, ended by a NULL name; may be NULL */
    const char *policy_exec; /* command that the daemon starts and supervises; NULL: none */
    const char *ca_file, *cert_file, *key_file; /* TLS if ca_file is set, mTLS if all are */
    bool insecure;           /* plaintext beyond loopback and Unix sockets is meant */
    const char *token;       /* sent as "authorization: Bearer <token>"; NULL: none. Never logged */
    const char *daemon_name; /* Context.daemon */
    uint32_t auth_deadline_ms;           /* 0: 10,000 */
    uint32_t deadline_ms;                /* 0: 5,000 */
    uint32_t rpc_deadline_ms[RPC_COUNT]; /* 0: as its group */
    bool rpc_required[RPC_COUNT];        /* policy.required_handlers: absence refuses */
    uint32_t stream_start_ms; /* the policy's initial metadata must come by then; 0: 5,000 */
    uint32_t stream_stall_ms; /* a write that makes no progress for so long ends the stream; 0: 0,
                                 never */
    size_t queue_bytes, queue_messages; /* per stream and direction; 0: 512 KiB, 64 */
    uint32_t max_in_flight; /* decisions; one more is UNAVAILABLE at once; 0: 4,096. Reports take
                               half of them at most */
};

/* Starts the gRPC thread. NULL with *error set (owned by the caller) if a setting cannot work: TLS
 * files unreadable, plaintext target beyond loopback without `insecure`, malformed target. Does not
 * wait for the policy to be there. */
struct control *control_new(const struct control_settings *settings, char **error);
/* With policy_exec: starts the program on `loop` (the main one) and calls ready(owner, NULL) when
 * it answers on its socket the first time, or ready(owner, why) if it ended or did not answer
 * within 30 s. Later it is restarted with backoff. Without policy_exec: ready at once (still from
 * the loop). */
void control_start(struct control *control, struct loop *loop,
                   void (*ready)(void *owner, const char *error), void *owner);
/* Ends every call, stops the policy program (TERM, then KILL after 5 s) and joins the gRPC thread.
 * Decisions and streams must have been cancelled by their owners, and the owners' loops still
 * exist. */
void control_free(struct control **control);
/* True while the last thing known of the policy's link is that it works, for readiness. */
bool control_is_connected(const struct control *control);
/* Decisions and streams so far that ended so; `cancelled` ones by their owner. Any thread. */
struct control_counts {
    uint64_t ended[EXPIRED + 1]; /* by enum outcome */
    uint64_t cancelled;
};
struct control_counts control_counts(const struct control *control, enum rpc rpc);
/* One line at info for each handler that was asked; called at the end, after the last of them. */
void control_log_counts(const struct control *control);

/* ---- who asks: the facts that every question of one connection carries, and what every answer may
 * do to it */

struct asker_events {
    /* An answer's Common.disconnect; it wins over the rest of the answer: the decision has ended,
     * its answer_fn is not called, and its handle must still be cancelled (now or later, before
     * asker_free()). Do not free the asker in here. */
    void (*disconnect)(void *owner, uint32_t code, const char *reason, const char *language);
    /* An answer's Common.banner, at most 8 KiB; comes before the answer itself. Do not free the
     * asker in here. */
    void (*banner)(void *owner, const char *text, const char *language);
};

struct asker;

struct asker *asker_new(struct control *control, struct loop *loop,
                        const struct asker_events *events, void *owner);
/* Every decision and stream of this asker must have been cancelled or have ended. */
void asker_free(struct asker **asker);
const char *asker_connection_id(const struct asker *asker); /* 32 hex digits */
struct loop *asker_loop(const struct asker *asker);

/* Setters copy. */
void asker_set_addresses(struct asker *asker, const struct address *peer,
                         const struct address *local);
void asker_set_client_version(struct asker *asker, const char *version);
void asker_set_session_id(struct asker *asker, struct bytes session_id);
/* A new user name: the factors are dropped, and the state is again what it was before the first
 * name was set. `user` must pass text_is_clean(). */
void asker_set_user(struct asker *asker, struct bytes user);
const char *asker_user(const struct asker *asker);
void asker_set_authenticated(struct asker *asker);
void asker_add_factor(struct asker *asker, const Policy__Factor *factor);
size_t asker_factors(const struct asker *asker);
/* The Context as it would be sent; for ChannelOpened. Borrowed until the next call on this asker.
 */
Policy__Context *asker_context(struct asker *asker);

/* ---- ask */

struct decision;

/* One call per decision unless it is cancelled. The decision has ended when this is called: forget
 * the handle first. The answer is of the RPC's answer type and borrowed until return; every
 * multi-member oneof in it is set, every enum value known, every string clean, no field unknown
 * (outside Common). */
typedef void answer_fn(void *owner, enum outcome outcome, const ProtobufCMessage *answer);

enum ask_flags {
    ASK_PROBE = 1, /* about an unproven key: the answer's new state is ignored */
};

/* Sends `request`, whose first field is its Context: that one is filled in here. Everything is
 * copied before return; secrets in the copy are zeroed once sent. Never NULL: failures arrive as an
 * outcome. */
struct decision *asker_ask(struct asker *asker, enum rpc rpc, ProtobufCMessage *request, int flags,
                           answer_fn *done, void *owner);
/* Silence from here on; nulls the handle; NULL inside is fine. */
void decision_cancel(struct decision **decision);

/* One-way: nobody hears how it ended (it is counted and logged), and its answer changes nothing. */
void asker_report(struct asker *asker, enum rpc rpc, ProtobufCMessage *request);

/* ---- stream */

struct stream;

struct stream_events {
    /* Messages wait; take them with stream_next(). Called again only after stream_next() has
     * returned NULL. */
    void (*readable)(void *owner);
    /* stream_send() may be called again after it returned false; or all that was queued has passed
     * the policy's window, so that stream_taken() has news. */
    void (*writable)(void *owner);
    /* The policy's side ended; after the last message was taken. ANSWERED: status OK. Once; free
     * with stream_close(). `why`: clean text for the log. */
    void (*ended)(void *owner, enum outcome outcome, const char *why);
};

/* Opens an RPC of kind stream on the bulk link of `target` ("" or a configured name). Never NULL;
 * an unknown target ends it. */
struct stream *asker_open_stream(struct asker *asker, enum rpc rpc, const char *target,
                                 const struct stream_events *events, void *owner);
bool control_has_target(const struct control *control, const char *target);
/* Queues one message. False: the queue is full now (the message *was* taken); stop until
 * writable(). */
bool stream_send(struct stream *stream, const ProtobufCMessage *message);
/* A ChannelEvent of kind data, without packing the payload twice. Same result. */
bool stream_send_data(struct stream *stream, struct bytes payload, uint32_t extended_type);
/* Bytes that stream_send_data() takes before it returns false; the SSH window follows it. */
size_t stream_room(const struct stream *stream);
/* The largest payload of a message from the policy: gRPC ends a stream that brings a larger one. */
size_t stream_largest(const struct stream *stream);
/* Bytes of payload sent that have passed the policy's HTTP/2 window since the last call: so much
 * SSH window may be given back. */
size_t stream_taken(struct stream *stream);
/* Next message, or NULL; borrowed until the next call. Its shape has been checked like an answer's;
 * one that fails ends the stream (UNAVAILABLE). */
const ProtobufCMessage *stream_next(struct stream *stream);
/* No more messages from us; what is queued is still sent. */
void stream_finish(struct stream *stream);
/* Ends and frees it: cancels the RPC unless it has ended; silent; nulls the handle. After
 * stream_finish() what is queued is still delivered in the background for at most 5 s before the
 * RPC is cancelled. */
void stream_close(struct stream **stream);

#endif
