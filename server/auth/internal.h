/* Shared by the files of this room. */
#ifndef PARLEY_AUTH_INTERNAL_H
#define PARLEY_AUTH_INTERNAL_H

#include "auth/auth.h"
#include "auth/key_lists.h"

#include "base/lane.h"
#include "base/reader.h"
#include "transport/numbers.h"

#define USER_NAME_MAX_BYTES 1024
#define PASSWORD_MAX_BYTES  1024

enum auth_state {
    AUTH_NEW,        /* no SERVICE_REQUEST yet */
    AUTH_SERVICE,    /* ssh-userauth was accepted */
    AUTH_COMPLETING, /* USERAUTH_SUCCESS is sent, AuthCompleted is asked */
    AUTH_DONE,
    AUTH_FAULTY, /* the connection is told to end */
};

struct auth_method;

/* The request at the head of the lane. Owned copies: its questions outlive the message. */
struct auth_request {
    const struct auth_method *method; /* NULL: none, or one we do not know */
    char *user;
    struct buf name;        /* of the method, as sent: it is part of what a signature covers */
    struct buf rest;        /* what follows the method name; zeroed when the request ends */
    struct public_key *key; /* publickey: the one offered */
    struct certificate *certificate; /* or the certificate that was, whose key it then is */
    struct signature_facts facts;    /* and what its signature, which verified, said besides */
    struct grant
        credential;     /* what the credential itself restricts; in force once it is accepted */
    size_t line;        /* of authorized_keys that lists the key; 0: none, the policy is asked */
    bool more_needed;   /* an answer about this credential was a partial success: */
    uint32_t remaining; /* bit per method that it left */
    /* A method that talks with the client keeps its state here, freed with the request. */
    void *dialogue;
    void (*dialogue_free)(void *dialogue);
};

struct auth {
    struct transport *transport;
    struct asker *asker;
    struct grant *grant;
    const char *peer_ip;
    struct auth_settings settings;
    const struct auth_events *events;
    void *owner;

    enum auth_state state;
    struct lane lane;
    bool running;            /* inside the lane: the head began in this call */
    bool dialogue_open;      /* the request waits for the client's next message, not in the lane */
    bool dialogue_pipelined; /* and takes further ones while it waits for something else */
    struct helper_job *helping; /* what the head waits for, if not for the policy */
    char *peer_name;            /* of the client's host, once it was needed */
    struct gss_exchange *keyex; /* of the key exchange; NULL: it was another, or a request has it */
    uint32_t disabled;          /* bit per method: this daemon is not configured for it */
    struct decision *asking;    /* at most one at a time */
    struct auth_request request;
    uint32_t requests, failures;
    bool blamed; /* one of the failures was the client's own */
    uint64_t started_ms;
    uint64_t request_us; /* when the lane's head began */
    struct event *delay; /* timer of a failure's reply; NULL before the first */
    void (*after_delay)(struct auth *auth);

    /* What BeginAuth said of this user */
    bool begun;
    bool not_required;
    struct key_lists lists;
    uint32_t offered; /* bit per AuthMethod: offered by BeginAuth, or by the Supported handlers; see
                         auth_offered() */
    uint32_t known;   /* bit per AuthMethod: `offered` is known */
    bool methods_fixed; /* BeginAuth named the methods */
    bool kbdint_tied;   /* keyboard-interactive asks for the password */
    uint32_t
        *required; /* sets of factors, a bit per method each; one of them must be passed whole */
    size_t required_count;

    uint32_t passed;    /* bit per method: factors passed */
    uint32_t remaining; /* bit per method: after a partial success only these go on; 0: no partial
                           success yet */

    /* Methods still to be asked about for the list of the failure that is being sent */
    size_t listing;
    bool partial;

    struct buf banner; /* messages kept back until authentication begins, each as an SSH string */
};

/* One row per method, in the order in which they are listed to the client. */
struct auth_method {
    const char *name, *alias;
    Policy__AuthMethod method;
    enum rpc supported; /* RPC_COUNT: there is none */
    /* Handles auth->request.rest. It ends, now or from a later callback, in one of the functions of
     * outcome.c, in auth_fault(), or in auth_request_end() after a reply of its own. */
    void (*run)(struct auth *auth);
    /* Messages 61 to 79 of the client while auth_wait_for_client() holds; ends as run() does. NULL:
     * the method has no dialogue. */
    void (*message)(struct auth *auth, uint8_t type, struct bytes message);
};

extern const struct auth_method auth_methods[];
extern const size_t auth_methods_count;
const struct auth_method *auth_method_row(Policy__AuthMethod method); /* NULL: not live */
uint32_t auth_live_methods(const struct auth *auth); /* bit per method that can be had here */
/* Bit per method whose offer is the configuration's alone: no Supported handler is asked. */
uint32_t auth_unasked_methods(void);

#define METHOD_BIT(method) (UINT32_C(1) << (method))

/* begin.c: what the user may do at all */
void auth_begin(struct auth *auth); /* asks BeginAuth, then auth_dispatch() */
void auth_ask_supported(struct auth *auth, const struct auth_method *method, answer_fn *done);
/* Bit per method that may be tried. One that is tied to the password is offered if passwords are.
 */
uint32_t auth_offered(const struct auth *auth);
/* The next method whose Supported handler must be asked to know whether `method` is offered; NULL:
 * it is known. */
const struct auth_method *auth_to_ask(const struct auth *auth, const struct auth_method *method);
void auth_note_support(struct auth *auth, const struct auth_method *method, enum outcome outcome,
                       const ProtobufCMessage *answer);
/* Is it offered whatever its Supported handler would say: keys, where BeginAuth handed some over?
 */
bool auth_is_given(const struct auth *auth, const struct auth_method *method);

/* auth.c: the lane */
void auth_dispatch(struct auth *auth); /* the head's user is begun: go on with its method */
/* The connection is being ended, and this room is freed soon: no answer leads on to anything. */
bool auth_is_over(struct auth *auth);
void auth_fault(struct auth *auth, uint32_t code, const char *reason);
void auth_request_end(struct auth *auth); /* the head has its reply: the lane goes on */
/* The head has asked the client something: method->message() gets the answer. A new request ends
 * the dialogue without a reply (RFC 4252 section 5.1). */
void auth_wait_for_client(struct auth *auth);
/* From here on the client may send several messages of the dialogue without waiting for us; each is
 * taken when the head waits for the client again. */
void auth_pipeline_dialogue(struct auth *auth);

/* delay.c: the next step of a failure, once its time has passed. Silent after auth_delay_stop(). */
void auth_delay(struct auth *auth, void (*then)(struct auth *auth));
void auth_delay_stop(struct auth *auth);

/* outcome.c: how a request ends */
void auth_succeed(struct auth *auth, Policy__Factor *factor, const Policy__Allow *allow);
void auth_partly(struct auth *auth, Policy__Factor *factor, const Policy__PartialSuccess *partial);
void auth_fail(struct auth *auth, const char *why);
void auth_complete(struct auth *auth); /* sends USERAUTH_SUCCESS and asks AuthCompleted */
/* The policy's no, with its words; or no answer at all. */
void auth_deny(struct auth *auth, const Policy__Deny *deny);
void auth_no_answer(struct auth *auth, enum outcome outcome);
/* An AuthAnswer that is an allow or a partial success, and what follows of it. */
bool auth_answer_is_yes(const Policy__AuthAnswer *answer);
/* The request goes on after this yes: what it restricts, and which methods must follow, holds for
 * the request's own success. */
void auth_note_yes(struct auth *auth, const Policy__AuthAnswer *answer);
/* The last yes; NULL: the handler is absent, and its default allows. */
void auth_accept(struct auth *auth, Policy__Factor *factor, const Policy__AuthAnswer *answer);
/* Whatever is no yes. */
void auth_refuse(struct auth *auth, enum outcome outcome, const Policy__AuthAnswer *answer);
void auth_send_banner(struct auth *auth, const char *text, const char *language);
void auth_flush_banners(struct auth *auth); /* what was kept back goes before any reply */

/* method_publickey.c: does BeginAuth's list revoke the request's key or certificate? */
bool auth_key_is_revoked(struct auth *auth);

void publickey_run(struct auth *auth);
void kbdint_run(struct auth *auth);
void kbdint_message(struct auth *auth, uint8_t type, struct bytes message);
void password_run(struct auth *auth);
void hostbased_run(struct auth *auth);
void gssapi_run(struct auth *auth);
void gssapi_keyex_run(struct auth *auth);
void gssapi_message(struct auth *auth, uint8_t type, struct bytes message);

/* method_password.c: what a policy may be asked about at all, and the question */
bool auth_secret_is_acceptable(struct bytes secret);
void auth_ask_password(struct auth *auth, struct bytes password, answer_fn *done);

#endif
