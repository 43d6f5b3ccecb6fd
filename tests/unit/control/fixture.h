/* What the tests of control/ share: a loop that runs until something holds, a policy, a control, an
 * asker. */
#ifndef PARLEY_TESTS_CONTROL_FIXTURE_H
#define PARLEY_TESTS_CONTROL_FIXTURE_H

#include "control/control.h"
#include "policy_server.h"

struct fixture {
    struct loop *loop;
    char directory[64], target[96];
    struct policy_server *policy;
    struct control_settings settings;
    struct control *control;
    struct asker *asker;
    /* What asker_events saw. */
    unsigned banners, disconnects;
    char *banner, *disconnect;
    unsigned ready; /* calls of control_start()'s ready(), and its last error */
    char *ready_error;
    struct decision **cancel_on_event; /* cancelled inside of an event */
};

/* A policy and a control for it; settings may be changed before fixture_open(). */
void fixture_init(struct fixture *fixture);
void fixture_open(struct fixture *fixture);
void fixture_close(struct fixture *fixture);
/* Runs the loop until *flag is at least `wanted`; fails the test after 20 s. */
void fixture_until(struct fixture *fixture, const unsigned *flag, unsigned wanted);
void fixture_run_ms(struct fixture *fixture, unsigned ms);

/* The last outcome of an ask. */
struct heard {
    unsigned count;
    enum outcome outcome;
    char *text; /* the message of a Deny, or a member's name */
};
answer_fn heard_answer;
void heard_clear(struct heard *heard);
/* Asks ValidatePassword and waits for the end. */
void fixture_ask_password(struct fixture *fixture, const char *password, struct heard *heard);

#endif
