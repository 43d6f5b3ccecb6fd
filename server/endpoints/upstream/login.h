/*
 * RFC 4252 from the client's side: one credential for one server, whose host key was checked
 * before.
 */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_LOGIN_H
#define PARLEY_ENDPOINTS_UPSTREAM_LOGIN_H

#include "endpoints/upstream/hop.h"
#include "transport/numbers.h"

struct login;

struct login_start {
    struct transport *transport; /* its keys are exchanged, the host key is trusted */
    struct loop *loop;
    const struct hop *hop;
    upstream_agent_fn *agent;
    void *agent_owner;
    const char *log_id;
};

/* Once, never from inside login_new(), and last: neither the hop nor the transport is touched any
 * more. `why` is NULL once the server has let us in; else it says in words for the user why it did
 * not, and `code` is that of RFC 4253 section 11.1. */
typedef void login_fn(void *owner, uint32_t code, const char *why);

/* Borrows all of `start`. */
struct login *login_new(const struct login_start *start, login_fn *done, void *owner);
/* EXT_INFO, SERVICE_ACCEPT, 51 to 79. False: not understood. */
bool login_message(struct login *login, uint8_t type, struct bytes message);
/* Not from inside done(). */
void login_free(struct login **login);
/* "password", "publickey SHA256:...": what the server took, or was offered last. For the log. */
const char *login_how(const struct login *login);
/* Is it the client's agent that we wait for? */
bool login_awaits_agent(const struct login *login);

#endif
