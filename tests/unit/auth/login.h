/* One login above the fakes: the test is the client and the policy. */
#ifndef PARLEY_TESTS_UNIT_AUTH_LOGIN_H
#define PARLEY_TESTS_UNIT_AUTH_LOGIN_H

#include "unit/cmocka_unit.h"

#include "auth/auth.h"
#include "fakes/answers_fake.h"
#include "fakes/control_fake.h"
#include "fakes/helpers_fake.h"
#include "fakes/transport_fake.h"
#include "fakes/wire.h"

#define KEY_A "ssh-ed25519:a"
#define KEY_B "ssh-ed25519:b"

#define LOGIN_HOST "client.example" /* what the peer's address resolves to */

struct login {
    struct loop *loop;
    struct control *control;
    struct helpers *helpers;
    struct transport *transport;
    struct asker *asker;
    struct grant grant;
    struct auth *auth;
    int completed; /* times */
    bool completed_with_answer;
    int faults;
    uint32_t fault_code;
    char fault_reason[256];
};

int login_setup(void **state);     /* the service is accepted already */
int login_setup_new(void **state); /* nothing has been sent */
/* With other settings, from the beginning; the service is accepted. */
void login_restart(struct login *l, const struct auth_settings *settings);
int login_teardown(void **state);
void login_configure(struct login *l, bool trust_claimed_host, const struct gss_settings *gss);

#define login_test(f) cmocka_unit_test_setup_teardown(f, login_setup, login_teardown)

/* ---- the client */

void send_request(struct login *l, const char *user, const char *method, const char *format, ...);
void send_none(struct login *l, const char *user);
void send_password(struct login *l, const char *user, const char *password);
void send_kbdint(struct login *l, const char *user);
void send_responses(struct login *l, uint32_t count, const char *response); /* all the same */
void send_probe(struct login *l, const char *user, const char *key);
/* With a signature that is good for exactly this. */
void send_signed(struct login *l, const char *user, const char *key);
void send_signed_as(struct login *l, const char *user, const char *key, const char *algorithm);
/* What a signature for this request covers. */
void signed_data(struct buf *out, const char *user, const char *algorithm, const char *key);

/* ---- what must be */

void expect_failure(struct login *l, const char *methods, bool partial);
void expect_banner(struct login *l, const char *text);
void expect_success(struct login *l); /* the message; AuthCompleted is asked */
void expect_no_success(struct login *l);
void expect_pk_ok(struct login *l, const char *algorithm, const char *key);
void expect_password_prompt(struct login *l);           /* of a tied dialogue */
void expect_challenge(struct login *l, size_t prompts); /* as fake_challenge() asks */
void expect_silence(struct login *l);                   /* nothing sent, no fault */
void expect_fault(struct login *l, uint32_t code);
void expect_asked(struct login *l, enum rpc rpc); /* it is what waits, and nothing else */
void expect_idle(struct login *l);                /* nothing is asked */

#endif
