/* What the tests of questions share: a control that asks a policy, and one question after another.
 */
#ifndef PARLEY_TESTS_CONTROL_ASKING_H
#define PARLEY_TESTS_CONTROL_ASKING_H

#include "fixture.h"

/* The state is a struct fixture. */
int asking_setup(void **state);
int asking_teardown(void **state);
#define ASKING_TEST(name) cmocka_unit_test_setup_teardown(name, asking_setup, asking_teardown)

void script_bytes(struct fixture *fixture, const char *rpc, struct bytes answer);
void script_status(struct fixture *fixture, const char *rpc, grpc_status_code status,
                   const char *text);
/* BeginAuth, ConnectionMade, ChangePassword, or one of the Supported questions. */
void ask_and_wait(struct fixture *fixture, enum rpc rpc, struct heard *heard);

#endif
