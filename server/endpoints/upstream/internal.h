/*
 * The links of one client connection, as the files that make them see each other.
 *
 *   upstreams.c  who shares which link, and is told what
 *   link.c       one link's course, from nothing to its end
 *   reach.c      how it comes to its server
 *   via.c        the way through the hop before
 *   hop.c        what an answer says of a server
 *   trust.c      its host key
 *   login*.c     its login
 */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_INTERNAL_H
#define PARLEY_ENDPOINTS_UPSTREAM_INTERNAL_H

#include "endpoints/upstream/link.h"
#include "endpoints/upstream/login.h"
#include "endpoints/upstream/via.h"

#include <sys/queue.h>

#define LINK_DIGEST_LEN 32

enum link_state {
    LINK_WAITING,  /* for the hop before */
    LINK_REACHING, /* dialled, or asked for through it */
    LINK_KEYS,
    LINK_LOGIN,
    LINK_READY,
    LINK_OVER, /* nobody else may use it; its end may be under way */
};

struct link_use {
    TAILQ_ENTRY(link_use) entry;
    struct link *link;
    const struct link_events *events;
    void *owner;
    bool told; /* ready() */
};

struct link {
    LIST_ENTRY(link) entry;
    struct upstreams *upstreams;
    uint8_t digest[LINK_DIGEST_LEN];
    enum link_state state;
    struct hop hop;
    TAILQ_HEAD(, link_use) uses;

    struct link_use *before; /* while it waits for it; then via's */
    struct dial *dial;
    struct via *via;
    struct transport *transport;
    bool transport_ended;
    struct login *login;
    struct mux *mux;

    struct event *timer; /* the deadline, then keepalives */
    uint64_t bytes_seen;
    unsigned unanswered;
    uint64_t started_ms;
    char *why;    /* LINK_OVER: in words for the user; NULL: nobody wanted it any more */
    bool telling; /* a deferred call is due, or runs */
    bool ending;
    bool cleared; /* its memory goes at the end of the turn */
};

struct upstreams {
    struct asker *asker;
    struct loop *loop;
    struct upstream_settings settings;
    upstream_agent_fn *agent;
    void *owner;
    struct mux_windows windows;
    LIST_HEAD(, link) links; /* all, ended ones until they have gone */
    struct vias vias;
};

/* ---- upstreams.c */

/* The server at the end of the first `count` hops. */
struct link_use *link_use_hops(struct upstreams *upstreams, const Policy__UpstreamEndpoint *answer,
                               size_t count, const struct link_events *events, void *owner);
/* Each user that has not been told yet hears that it is ready, as long as it is. */
void link_tell_ready(struct link *link);
void link_tell_failed(struct link *link);
const char *link_name(const struct link_use *use);

/* ---- link.c */

/* Begins at once, and fails later if it must. */
struct link *link_begin(struct upstreams *upstreams, const Policy__UpstreamEndpoint *answer,
                        size_t count);
bool link_can_be_used(const struct link *link);
/* It is logged in, and somebody has not heard. */
void link_tell_later(struct link *link);
/* Nobody uses it any more. */
void link_unused(struct link *link);
/* The client connection goes: in this order, each for all of its links. */
void link_silence(struct link *link); /* nothing begins or is told any more */
void link_end_channels(struct link *link);
void link_clear(struct link *link); /* and frees it */

/* The first call wins; what follows is told from the loop. `why` is taken over and names the hop;
 * NULL: nobody wants the link any more. The server is told less, if it can be told. */
void link_over(struct link *link, char *why, uint32_t code, const char *reason);
void link_fail(struct link *link, uint32_t code,
               const char *why);                     /* puts the hop's name in front */
void link_set_timer(struct link *link, uint32_t ms); /* 0: none */
/* The server is reached: takes the descriptor. */
void link_connect(struct link *link, int fd);

/* ---- reach.c */

void link_reach(struct link *link, const Policy__UpstreamEndpoint *answer, size_t count);

#endif
