/* Between the two files about what a client has us listen on: remote.c (the listeners), forwarded.c
 * (their connections). */
#ifndef PARLEY_CHANNELS_REMOTE_H
#define PARLEY_CHANNELS_REMOTE_H

#include "channels/internal.h"
#include "listeners/remote.h"

/* What a channel came from, for the rules. */
struct forwarded {
    char *host, *path; /* one of the two */
    uint16_t port;
};

/* As the client asked for it, which is how it will be told of connections. */
struct remote {
    LIST_ENTRY(remote) link;
    struct channels *channels;
    char *host; /* NULL: a path */
    char *path; /* NULL: TCP */
    uint16_t port;
    bool open; /* it has been granted */
    bool managed, ask_each;
    struct remote_listener *listener; /* NULL: managed, or asked about */
};

/* A connection that waits for the policy, or for the client to take its channel, or is the
 * policy's. */
struct accepted {
    LIST_ENTRY(accepted) link;
    struct channels *channels;
    struct remote *remote; /* NULL: it was cancelled */
    struct forwarded *from;
    struct decision *asking;
    struct splice *splice;
    struct address peer;
    int fd; /* -1: handed on */
};

/* remote.c */
struct remote *remote_find(const struct channels *channels, const Policy__Address *address);
void remote_fill_address(const struct remote *remote, Policy__Address *address);
void remote_log(const struct remote *remote, const char *outcome, const char *why);

/* forwarded.c */
listener_accept_fn forwarded_accepted; /* of remote->listener; owner: the remote */
/* The remote goes: what is still asked about ends, what began before goes on (as with sshd). */
void forwarded_orphan(struct remote *remote);
void forwarded_tighten(struct channels *channels);
void forwarded_clear_all(struct channels *channels);

#endif
