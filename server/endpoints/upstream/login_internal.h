/* Shared by the login's files: login.c has the course of it, login_*.c a credential each. */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_LOGIN_INTERNAL_H
#define PARLEY_ENDPOINTS_UPSTREAM_LOGIN_INTERNAL_H

#include "base/reader.h"
#include "endpoints/upstream/agent.h"
#include "endpoints/upstream/login.h"

enum login_state {
    LOGIN_SERVICE, /* SERVICE_REQUEST is sent */
    LOGIN_ASKED,   /* a USERAUTH_REQUEST is, or the answer to what it led to */
    LOGIN_AGENT,   /* it is the agent's turn: the server has nothing to say */
    LOGIN_OVER,
};

struct login_offers;

struct login {
    struct login_start start;
    login_fn *done;
    void *owner;
    enum login_state state;
    const struct login_method *method;
    bool host_bound;             /* the server has publickey-hostbound */
    char *algorithms;            /* its server-sig-algs; NULL: it does not say */
    char *how;                   /* for the log */
    unsigned banners;            /* logged */
    unsigned rounds;             /* keyboard-interactive: INFO_REQUESTs */
    bool answered;               /* the password was its response */
    struct login_offers *offers; /* the agent's */
};

/* One row per credential, and one for what a password may turn into. Each function ends in a
 * request that is sent, in the agent being asked, or in login_end(). */
struct login_method {
    void (*begin)(struct login *login);
    /* USERAUTH_FAILURE without a partial success; the names that may go on. */
    void (*refused)(struct login *login, struct bytes methods);
    void (*message)(struct login *login, struct bytes message); /* number 60; NULL: never */
    void (*clear)(struct login *login);                         /* NULL: nothing */
};

extern const struct login_method login_password, login_key, login_agent;

/* Nothing of the login may be touched after these. */
void login_end(struct login *login, uint32_t code, const char *why);
void login_fault(struct login *login, const char *why); /* the server broke the protocol */
void login_denied(struct login *login, struct bytes methods);

void login_set_how(struct login *login, const char *method, const char *what); /* NULL: only that */
/* The head of a USERAUTH_REQUEST. */
void login_put_request(const struct login *login, struct buf *out, const char *method);
/* Sends it, zeroes it, and waits for the server. */
void login_send(struct login *login, struct buf *message);

/* ---- login_key.c: what is offered, a key or a certificate */

struct login_offer {
    struct bytes blob;     /* borrowed */
    char *algorithm;       /* of the request: "rsa-sha2-512-cert-v01@openssh.com" */
    const char *signed_by; /* of the signature: "rsa-sha2-512" */
    char *print;           /* "SHA256:..." */
};

/* False: nothing that both sides can do; never SHA-1. */
bool login_offer_init(const struct login *login, struct bytes blob, struct login_offer *offer);
void login_offer_clear(struct login_offer *offer);
void login_put_offer(const struct login *login, struct buf *out, const struct login_offer *offer,
                     bool is_signed);
/* What is signed: the session, then the request up to its signature (RFC 4252 section 7). */
void login_put_signed(const struct login *login, struct buf *out, const struct login_offer *offer);

#endif
