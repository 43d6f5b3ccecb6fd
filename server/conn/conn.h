/*
 * The connections of one worker: each one client, from accept to free. The room ties transport,
 * asker, auth and channels together and knows no protocol detail.
 */
#ifndef PARLEY_CONN_CONN_H
#define PARLEY_CONN_CONN_H

#include "base/address.h"
#include "base/helpers.h"
#include "base/network.h"
#include "base/siphash.h"
#include "control/control.h"
#include "transport/transport.h"

struct conn_settings {
    uint32_t login_timeout_ms; /* accept to USERAUTH_SUCCESS, policy waits included; 0: none. Up to
                                  1/32 is added at random */
    uint32_t max_failures;     /* failed attempts before we disconnect */
    uint32_t max_requests;     /* USERAUTH requests of any kind before we disconnect */
    uint32_t max_sessions;     /* open session channels */
    uint32_t max_channels;     /* open channels of any kind */
    uint32_t window_bytes, max_packet_bytes;            /* what we offer for each channel */
    uint32_t max_debug_messages;                        /* DEBUG messages reported before login */
    uint32_t keepalive_interval_s, keepalive_count_max; /* interval 0: off */
    const struct network *forward_denied; /* never connected to for a client; borrowed */
    size_t forward_denied_count;
    uint32_t forward_timeout_ms;    /* for such a connection */
    uint32_t upstream_keepalive_ms; /* of connections to upstream servers; 0: off */
    bool hostbased_trust_claimed_host;
    const struct gss_settings *gss;      /* borrowed; NULL: GSSAPI is off */
    struct helpers *helpers;             /* the process's, borrowed: for library calls that block */
    const struct siphash_key *delay_key; /* of the process: what the time of a failed login depends
                                            on; NULL: they are answered at once */
};

extern const struct conn_settings conn_defaults;

/* How logging in ended: what a limit on sources tells apart. */
enum conn_login {
    CONN_LOGIN_DONE,         /* the client is in */
    CONN_LOGIN_BLAMELESS,    /* it is not, and that is not its fault: no answer, our shutdown */
    CONN_LOGIN_NOT_TRIED,    /* it left, or could not go on, without a failed attempt */
    CONN_LOGIN_FAILED,       /* it tried */
    CONN_LOGIN_INVALID_USER, /* with a name that nobody can have */
    CONN_LOGIN_REFUSED,      /* the policy ordered it away */
    CONN_LOGIN_TOO_SLOW,     /* the login deadline */
    CONN_LOGIN_VIOLATION,    /* it broke the protocol */
};

struct conns_events {
    /* Once for each connection that conns_accept() was given: nobody logs in there any more. */
    void (*login_over)(void *owner, const struct address *peer, enum conn_login how);
};

struct conns;

/* All borrowed; they outlive it. */
struct conns *conns_new(struct loop *loop, struct control *control, struct transport_server *server,
                        const struct conn_settings *settings, const struct conns_events *events,
                        void *owner);
/* Takes the connected, non-blocking descriptor. */
void conns_accept(struct conns *conns, int fd, const struct address *peer,
                  const struct address *local);
size_t conns_count(const struct conns *conns);
/* Disconnects every client (RFC 4253 code 11) with these words; conns_count() falls to 0 as they
 * go. */
void conns_disconnect_all(struct conns *conns, const char *reason);
/* Ends what is left: silent at once, reported and freed at the end of the loop's turn. */
void conns_free(struct conns **conns);

#endif
