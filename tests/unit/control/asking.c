#include "asking.h"

#include "base/alloc.h"

#include "../cmocka_unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int asking_setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));

    fixture_init(fixture);
    fixture->settings.rpc_deadline_ms[RPC_BEGIN_AUTH] = 200;
    fixture->settings.rpc_required[RPC_CHANGE_PASSWORD] = true;
    fixture->settings.token = "t0ken";
    fixture->settings.max_in_flight = 20000;
    fixture_open(fixture);
    *state = fixture;
    return 0;
}

int asking_teardown(void **state)
{
    fixture_close(*state);
    free(*state);
    return 0;
}

void script_bytes(struct fixture *fixture, const char *rpc, struct bytes answer)
{
    policy_server_set(fixture->policy, rpc,
                      (struct script){.kind = SCRIPT_ANSWER, .answer = answer});
}

void script_status(struct fixture *fixture, const char *rpc, grpc_status_code status,
                   const char *text)
{
    policy_server_set(fixture->policy, rpc,
                      (struct script){.kind = SCRIPT_STATUS, .status = status, .text = text});
}

void ask_and_wait(struct fixture *fixture, enum rpc rpc, struct heard *heard)
{
    Policy__BeginAuthRequest begin = POLICY__BEGIN_AUTH_REQUEST__INIT;
    Policy__ConnectionMadeRequest made = POLICY__CONNECTION_MADE_REQUEST__INIT;
    Policy__ChangePasswordRequest change = POLICY__CHANGE_PASSWORD_REQUEST__INIT;
    Policy__SupportedRequest supported = POLICY__SUPPORTED_REQUEST__INIT;
    ProtobufCMessage *request = rpc == RPC_BEGIN_AUTH        ? &begin.base
                                : rpc == RPC_CONNECTION_MADE ? &made.base
                                : rpc == RPC_CHANGE_PASSWORD ? &change.base
                                                             : &supported.base;

    heard_clear(heard);
    asker_ask(fixture->asker, rpc, request, 0, heard_answer, heard);
    assert_int_equal(heard->count, 0); /* never from inside */
    fixture_until(fixture, &heard->count, 1);
}
