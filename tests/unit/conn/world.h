/* Whole connections above the fakes: the test is the client, its socket and the policy. */
#ifndef PARLEY_TESTS_UNIT_CONN_WORLD_H
#define PARLEY_TESTS_UNIT_CONN_WORLD_H

#include "unit/cmocka_unit.h"

#include "conn/conn.h"
#include "fakes/answers_fake.h"
#include "fakes/control_fake.h"
#include "fakes/transport_fake.h"
#include "fakes/wire.h"

struct world {
    struct loop *loop;
    struct control *control;
    struct transport_server *server;
    struct conn_settings settings; /* before the first world_connect() */
    struct conns *conns;
    size_t logins_over; /* how often, and how the last one */
    enum conn_login login;
    const Policy__ConnectionMadeAnswer *made; /* world_greet()'s answer; NULL: a plain allow */
    struct transport
        *t; /* of the last connection; dead once it has ended and the loop has turned */
};

int world_setup(void **state);
int world_teardown(void **state);

#define world_test(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

void world_turn(struct world *w);
/* A client connects: ConnectionMade is pending. */
void world_connect(struct world *w);
void world_greet(struct world *w); /* ... is allowed, and keys are exchanged */
void world_ask_login(struct world *w, const char *user); /* ValidatePassword is pending */
void world_complete(struct world *w); /* USERAUTH_SUCCESS; AuthCompleted is pending */
void world_login(struct world *w);    /* all of it */
/* Runs the loop until the transport is told to disconnect. */
void world_wait_disconnect(struct world *w);
void expect_disconnect(struct world *w, uint32_t code, const char *reason);
/* The disconnect is flushed; the connection goes and reports itself once. */
const Policy__ConnectionLostRequest *world_end(struct world *w);

#endif
