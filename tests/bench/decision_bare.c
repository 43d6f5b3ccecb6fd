#include "decision.h"

#include "parley/policy/v1/policy.pb-c.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define DEADLINE_S 5 /* as every question has one */

struct bare_side {
    grpc_completion_queue *queue;
    grpc_channel *channel;
    void *method;
};

/* What asker_ask() would send. */
static grpc_byte_buffer *question(void)
{
    Policy__ConnectionMadeRequest request = POLICY__CONNECTION_MADE_REQUEST__INIT;
    Policy__Context context = POLICY__CONTEXT__INIT;
    Policy__Address peer = POLICY__ADDRESS__INIT, local = POLICY__ADDRESS__INIT;
    grpc_slice slice;
    grpc_byte_buffer *buffer;

    peer.ip = local.ip = "127.0.0.1";
    peer.port = 50000;
    local.port = 2222;
    context.connection_id = context.question_id = "0123456789abcdef0123456789abcdef";
    context.daemon = "bench";
    context.contract_revision = 1;
    context.peer = &peer;
    context.local = &local;
    context.client_version = "SSH-2.0-bench";
    request.context = &context;
    slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(&request.base));
    protobuf_c_message_pack(&request.base, GRPC_SLICE_START_PTR(slice));
    buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

static bool is_allow(grpc_byte_buffer *buffer)
{
    Policy__ConnectionMadeAnswer *answer;
    grpc_byte_buffer_reader reader;
    grpc_slice wire;
    bool allow;

    if (buffer == NULL || !grpc_byte_buffer_reader_init(&reader, buffer))
        return false;
    wire = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    answer = policy__connection_made_answer__unpack(NULL, GRPC_SLICE_LENGTH(wire),
                                                    GRPC_SLICE_START_PTR(wire));
    grpc_slice_unref(wire);
    allow = answer != NULL && answer->outcome_case == POLICY__CONNECTION_MADE_ANSWER__OUTCOME_ALLOW;
    policy__connection_made_answer__free_unpacked(answer, NULL);
    return allow;
}

static void call_once(struct bare_side *side)
{
    gpr_timespec deadline =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_seconds(DEADLINE_S, GPR_TIMESPAN));
    grpc_call *call = grpc_channel_create_registered_call(
        side->channel, NULL, GRPC_PROPAGATE_DEFAULTS, side->queue, side->method, deadline, NULL);
    grpc_byte_buffer *request = question(), *answer = NULL;
    grpc_metadata_array initial, trailing;
    grpc_slice details = grpc_empty_slice();
    grpc_status_code status = GRPC_STATUS_UNKNOWN;

    grpc_metadata_array_init(&initial);
    grpc_metadata_array_init(&trailing);
    const grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = request},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &initial},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &answer},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {.trailing_metadata = &trailing,
                                        .status = &status,
                                        .status_details = &details}},
    };
    if (grpc_call_start_batch(call, ops, sizeof(ops) / sizeof(ops[0]), side, NULL) != GRPC_CALL_OK)
        abort();
    grpc_completion_queue_next(side->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    if (status != GRPC_STATUS_OK || !is_allow(answer)) {
        fprintf(stderr, "bench decision: bare call ended with status %d\n", (int)status);
        exit(1);
    }
    grpc_byte_buffer_destroy(request);
    grpc_byte_buffer_destroy(answer);
    grpc_metadata_array_destroy(&initial);
    grpc_metadata_array_destroy(&trailing);
    grpc_slice_unref(details);
    grpc_call_unref(call);
}

static void *bare_open(const char *policy)
{
    grpc_arg no_retries = {.type = GRPC_ARG_INTEGER, .key = (char *)GRPC_ARG_ENABLE_RETRIES};
    grpc_channel_args args = {1, &no_retries};
    grpc_channel_credentials *credentials;
    struct bare_side *side = calloc(1, sizeof(*side));

    grpc_init();
    credentials = grpc_insecure_credentials_create();
    side->queue = grpc_completion_queue_create_for_next(NULL);
    side->channel = grpc_channel_create(policy, credentials, &args);
    grpc_channel_credentials_release(credentials);
    side->method = grpc_channel_register_call(
        side->channel, "/parley.policy.v1.Policy/ConnectionMade", NULL, NULL);
    return side;
}

static void bare_ask(void *opened, double *us, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double started = now_us();

        call_once(opened);
        us[i] = now_us() - started;
    }
}

static void bare_close(void *opened)
{
    struct bare_side *side = opened;

    grpc_channel_destroy(side->channel);
    grpc_completion_queue_shutdown(side->queue);
    while (
        grpc_completion_queue_next(side->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
        GRPC_QUEUE_SHUTDOWN)
        ;
    grpc_completion_queue_destroy(side->queue);
    grpc_shutdown();
    free(side);
}

const struct side side_bare = {bare_open, bare_ask, bare_close};
