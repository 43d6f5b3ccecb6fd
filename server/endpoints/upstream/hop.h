/* One server on the way, as an answer names it, with the credential ready for use. */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_HOP_H
#define PARLEY_ENDPOINTS_UPSTREAM_HOP_H

#include "endpoints/upstream.h"

enum hop_credential { HOP_PASSWORD, HOP_KEY, HOP_AGENT };

struct hop {
    char *host, *user;
    uint16_t port;
    char *name; /* for words: the host, or "[host]:port" as known_hosts has it */
    uint32_t timeout_ms;
    struct buf known_hosts;
    enum hop_credential credential;
    char *password;
    struct private_key *key;
    struct buf certificate; /* the key's; empty: none */
};

/* `user` is meant where the answer names none. False with *why (static, in words for the user), and
 * nothing to clear. */
bool hop_init(struct hop *hop, const Policy__UpstreamHop *answer, const char *user,
              const char **why);
/* The server has let us in, or not: zeroes the credential. */
void hop_forget_credential(struct hop *hop);
void hop_clear(struct hop *hop); /* fine if zero-initialised */

/* What a server says, for the user's terminal: printable ASCII, not too long. Owned. */
char *upstream_words(struct bytes text);

#endif
