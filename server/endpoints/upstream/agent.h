/* A client of an ssh-agent (draft-miller-ssh-agent), over a connected descriptor. One question at a
 * time. */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_AGENT_H
#define PARLEY_ENDPOINTS_UPSTREAM_AGENT_H

#include "base/bytes.h"
#include "base/loop.h"

struct agent;

struct agent_key {
    struct bytes blob; /* a key or a certificate */
};

struct agent_events {
    /* Never from inside a function of this header. Borrowed until the callback returns; at most
     * AGENT_KEYS_MAX. */
    void (*keys)(void *owner, const struct agent_key *keys, size_t count);
    void (*signature)(void *owner, struct bytes signature); /* len 0: the agent refused */
    /* It broke the protocol or hung up; nothing follows. `why` is static. The owner frees it. */
    void (*failed)(void *owner, const char *why);
};

#define AGENT_KEYS_MAX    256
#define AGENT_MESSAGE_MAX (256 * 1024)

enum { /* SSH_AGENT_RSA_SHA2_256, SSH_AGENT_RSA_SHA2_512 */
       AGENT_RSA_SHA2_256 = 2,
       AGENT_RSA_SHA2_512 = 4,
};

/* Takes the non-blocking descriptor. */
struct agent *agent_new(struct loop *loop, int fd, const struct agent_events *events, void *owner);
void agent_free(struct agent **agent); /* silent; legal inside the events */
void agent_list(struct agent *agent);
void agent_sign(struct agent *agent, struct bytes blob, struct bytes data, uint32_t flags);

#endif
