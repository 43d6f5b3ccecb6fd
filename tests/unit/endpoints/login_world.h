/* A login at a server that the test is, above the fake transport. */
#ifndef PARLEY_TESTS_UNIT_ENDPOINTS_LOGIN_WORLD_H
#define PARLEY_TESTS_UNIT_ENDPOINTS_LOGIN_WORLD_H

#include "unit/cmocka_unit.h"

#include "endpoints/upstream/login.h"
#include "fakes/transport_fake.h"
#include "fakes/wire.h"

struct login_world {
    struct loop *loop;
    struct transport *t;
    struct hop hop;
    struct login *login;
    int agent; /* our end of its connection; -1: there is none */
    bool agent_taken;
    int ends;
    uint32_t code;
    char *why;
    char *how;
};

int login_world_set_up(void **state);
int login_world_tear_down(void **state);
#define login_test(f) cmocka_unit_test_setup_teardown(f, login_world_set_up, login_world_tear_down)

void login_turn(struct login_world *s);
/* "alice", with the password "tiger"; SERVICE_REQUEST has been seen. */
void login_start_password(struct login_world *s);
void login_start_key_text(struct login_world *s, const char *text, struct bytes certificate);
void login_start_agent(struct login_world *s, bool there);
void login_accept_service(struct login_world *s);
void login_expect_password(struct login_world *s); /* is the next message */
/* It has ended so, and sent nothing more. */
void login_expect_end(struct login_world *s, uint32_t code, const char *why);

#endif
