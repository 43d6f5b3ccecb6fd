/* The handlers of the contract: one row each. Private to control/, apart from what control.h
 * declares. */
#ifndef PARLEY_CONTROL_RPC_H
#define PARLEY_CONTROL_RPC_H

#include "control/control.h"

enum rpc_verb { RPC_ASK, RPC_REPORT, RPC_STREAM };
enum rpc_group { GROUP_AUTH, GROUP_OTHER }; /* of deadlines */

struct rpc_row {
    const char *name; /* as in the .proto */
    const char *path; /* as on the wire */
    enum rpc_verb verb;
    enum rpc_group group;
    bool default_allows;
    uint32_t max_answer; /* bytes of one answer or inbound stream message */
};

const struct rpc_row *rpc_row(enum rpc rpc);
/* From the generated service descriptor; NULL if the contract has no such method. */
const ProtobufCMessageDescriptor *rpc_input(enum rpc rpc);
const ProtobufCMessageDescriptor *rpc_output(enum rpc rpc);
/* The largest max_answer of all rows. */
uint32_t rpc_largest_answer(void);

#endif
