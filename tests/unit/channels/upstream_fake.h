/* upstream.h in memory: the test is the upstream servers. */
#ifndef PARLEY_TESTS_UNIT_CHANNELS_UPSTREAM_FAKE_H
#define PARLEY_TESTS_UNIT_CHANNELS_UPSTREAM_FAKE_H

#include "endpoints/upstream.h"

/* What the last upstream_open() or endpoint_upstream_new() was given, and what became of it. */
struct fake_upstream {
    const struct endpoint_events *events;
    void *owner;
    char host[64]; /* of the answer's last hop: the fake's server */
    char path[128], target[64], origin[64];
    uint32_t port, origin_port;
    char program[64]; /* "exec run", "shell", "subsystem sftp"; "": a direct channel */
    bool asked;       /* upstream_open() waits for its answer */
    bool started;     /* there is an endpoint */
    bool stopped;
    char stop_error[64]; /* "": in order */
    struct buf written;
};

extern struct fake_upstream fake_upstream;

/* Forgets what was; nothing may be open. */
void fake_upstream_reset(void);
size_t fake_upstreams_alive(void);                     /* struct upstreams */
struct upstream_settings fake_upstream_settings(void); /* what they were made with */
int fake_upstream_agent(void);                         /* asks for the client's agent */
void fake_upstream_confirm(void);
void fake_upstream_refuse(uint32_t code, const char *reason);

/* An answer that the check passes: of one hop. Its credential is a password. */
void fake_upstream_answer(Policy__UpstreamEndpoint *answer, const char *host);

#endif
