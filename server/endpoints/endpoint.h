/*
 * What a channel ends in. One file and one table row per kind; the channel above sees only this
 * header.
 *
 * Back-pressure is a short write: an endpoint that takes less than it was given calls writable()
 * later, a channel that takes less calls ops->resume() later.
 */
#ifndef PARLEY_ENDPOINTS_ENDPOINT_H
#define PARLEY_ENDPOINTS_ENDPOINT_H

#include "base/bytes.h"
#include "control/control.h"

struct endpoint;

/* From the endpoint up to its channel; of the functions of the ops table only resume() calls them
 * before it returns. The channel may call any of the ops from inside them, save that it calls
 * stop() only from inside ended(). */
struct endpoint_events {
    /* Bytes for the client, or one packet (taken whole or not at all); extended_type 1 is stderr
     * (RFC 4254 section 5.2). Returns how many were taken. */
    size_t (*data)(void *owner, struct bytes data, uint32_t extended_type);
    /* How much data() would take now, so that no more is fetched than can go on; 0: resume()
     * follows. May be NULL: not known. */
    size_t (*room)(void *owner);
    void (*eof)(void *owner);
    /* Nobody reads what the client still sends; it goes on being taken. */
    void (*deaf)(void *owner);
    void (*exit_status)(void *owner, uint32_t status);
    void (*exit_signal)(void *owner, const Policy__ExitSignal *exit);
    void (*client_flow_control)(void *owner, bool can_do);
    void (*break_answer)(void *owner, uint32_t id, bool handled);
    /* write() may be called again; `taken` more bytes of the client's data have been passed on for
     * good, so that much SSH window may be opened again. */
    void (*writable)(void *owner, size_t taken);
    /* The end of the endpoint's side, after its last data. Once. The channel answers with
     * ops->stop(). */
    void (*ended)(void *owner, bool in_order, const char *why);
};

struct endpoint_ops {
    const char *name;
    size_t (*write)(struct endpoint *endpoint, struct bytes data, uint32_t extended_type);
    void (*eof)(struct endpoint *endpoint); /* the client's; after the last write */
    /* These four: sessions only. */
    void (*unwanted)(
        struct endpoint *endpoint); /* nobody reads its output (save stderr) any more */
    void (*window_change)(struct endpoint *endpoint, const Policy__WindowSize *size);
    void (*signal)(struct endpoint *endpoint, const char *name);
    /* Answered by break_answer() if want_reply. */
    void (*break_request)(struct endpoint *endpoint, uint32_t id, uint32_t length_ms,
                          bool want_reply);
    void (*resume)(struct endpoint *endpoint); /* data() has room again */
    /* Ends and frees it; silent afterwards. `error`: why the channel went, NULL if in order. */
    void (*stop)(struct endpoint *endpoint, const char *error);
};

/* What every endpoint starts from; all borrowed until the constructor returns, asker and owner
 * longer. */
struct endpoint_start {
    struct asker *asker;
    Policy__ChannelOpened *opened; /* its Context is filled in by the endpoint */
    const struct endpoint_events *events;
    void *owner;
    bool packets; /* each message is one, whole or not at all */
};

/* First member of every kind. */
struct endpoint {
    const struct endpoint_ops *ops;
};

/* StreamEndpoint: the policy handles the bytes. NULL if the target is not configured. */
struct endpoint *endpoint_policy_new(const struct endpoint_start *start, struct control *control,
                                     const Policy__StreamEndpoint *answer);

/* A connected, non-blocking stream socket, which it takes over. Not for sessions. */
struct endpoint *endpoint_socket_new(struct loop *loop, const struct endpoint_events *events,
                                     void *owner, int fd);

/* ProcessEndpoint: a program on this machine. NULL sets *why it is refused, in words for the user.
 * `provided`: variables that the daemon itself adds, such as SSH_AUTH_SOCK. */
struct endpoint *endpoint_process_new(const struct endpoint_start *start,
                                      const Policy__ProcessEndpoint *answer,
                                      Policy__EnvVar *const *provided, size_t provided_count,
                                      const char **why);
/* What can be known before it is started; false sets *why. */
bool endpoint_process_check(const Policy__ProcessEndpoint *answer, const char **why);

#endif
