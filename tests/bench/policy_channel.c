/* Channel: `true`, `source N`, `sink` and `echo` as the programs of sessions; a shell is an echo.
 * Supervise: listens, and does nothing. */
#include "policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARMED 64
/* The daemon's windows are fixed at 64 KiB a step, except within one message: larger ones cost
 * fewer switches. */
#define CHUNK (256 * 1024)

enum program { PROGRAM_NONE, PROGRAM_SOURCE, PROGRAM_SINK, PROGRAM_ECHO };

struct channel {
    struct tag requested, accepted, received, sent, closed;
    struct policy *policy;
    grpc_call *call;
    grpc_metadata_array metadata;
    gpr_timespec deadline;
    grpc_byte_buffer *in, *out;
    int cancelled;
    unsigned tags_out;
    enum program program;
    uint64_t left;     /* source: bytes to send */
    uint64_t taken;    /* sink: bytes received */
    bool supervises;   /* of the RPC Supervise */
    bool broken, over; /* the other side went; our status is on its way */
};

static void *channel_method, *supervise_method;
static uint8_t zeros[CHUNK];
static grpc_slice full_chunk; /* a packed ChannelAction with CHUNK bytes */

static void free_if_done(struct channel *channel)
{
    if (channel->tags_out > 0 || !(channel->over || channel->broken))
        return;
    grpc_metadata_array_destroy(&channel->metadata);
    grpc_call_unref(channel->call);
    free(channel);
}

/* ---- sending */

static void send_message(struct channel *channel, grpc_byte_buffer *message)
{
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = message};

    channel->out = message;
    channel->tags_out++;
    policy_batch(channel->call, &op, 1, &channel->sent);
}

/* The exit status, and the end of the stream. */
static void finish(struct channel *channel, uint32_t status)
{
    Policy__ExitStatus exit_status = POLICY__EXIT_STATUS__INIT;
    Policy__ChannelAction action = POLICY__CHANNEL_ACTION__INIT;
    grpc_op ops[2] = {{.op = GRPC_OP_SEND_MESSAGE}, {.op = GRPC_OP_SEND_STATUS_FROM_SERVER}};

    exit_status.status = status;
    action.action_case = POLICY__CHANNEL_ACTION__ACTION_EXIT_STATUS;
    action.exit_status = &exit_status;
    channel->out = wire_pack(&action.base);
    ops[0].data.send_message.send_message = channel->out;
    channel->over = true;
    channel->tags_out++;
    policy_batch(channel->call, ops, 2, &channel->sent);
}

static void send_more(struct channel *channel)
{
    size_t len = channel->left < CHUNK ? (size_t)channel->left : CHUNK;

    if (len == 0) {
        finish(channel, 0);
        return;
    }
    channel->left -= len;
    send_message(channel, len == CHUNK ? grpc_raw_byte_buffer_create(&full_chunk, 1)
                                       : wire_data(zeros, len));
}

/* ---- receiving */

static void receive(struct channel *channel)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &channel->in};

    channel->tags_out++;
    policy_batch(channel->call, &op, 1, &channel->received);
}

static void on_sent(struct tag *tag, bool ok)
{
    struct channel *channel = CONTAINER(tag, struct channel, sent);

    channel->tags_out--;
    grpc_byte_buffer_destroy(channel->out);
    channel->out = NULL;
    channel->broken = channel->broken || !ok;
    if (!channel->broken && !channel->over) {
        if (channel->program == PROGRAM_SOURCE)
            send_more(channel);
        else if (channel->program == PROGRAM_SINK)
            finish(channel, 0); /* what was sent was the count */
        else
            receive(channel);
    }
    free_if_done(channel);
}

static bool is_command(const Policy__ExecProgram *exec, const char *name)
{
    size_t len = strlen(name);

    return exec->command.len >= len && memcmp(exec->command.data, name, len) == 0;
}

static void start_exec(struct channel *channel, const Policy__ExecProgram *exec)
{
    char number[24] = "";

    if (is_command(exec, "source ") && exec->command.len - 7 < sizeof(number)) {
        memcpy(number, exec->command.data + 7, exec->command.len - 7);
        channel->left = strtoull(number, NULL, 10);
        channel->program = PROGRAM_SOURCE;
        send_more(channel);
    } else if (is_command(exec, "sink") || is_command(exec, "echo")) {
        channel->program = is_command(exec, "sink") ? PROGRAM_SINK : PROGRAM_ECHO;
        receive(channel);
    } else {
        finish(channel, is_command(exec, "true") ? 0 : 127);
    }
}

static void start(struct channel *channel, const Policy__ChannelOpened *opened)
{
    const Policy__SessionStart *session =
        opened->kind_case == POLICY__CHANNEL_OPENED__KIND_SESSION ? opened->session : NULL;

    if (session != NULL && session->program_case == POLICY__SESSION_START__PROGRAM_EXEC) {
        start_exec(channel, session->exec);
    } else if (session != NULL && session->program_case == POLICY__SESSION_START__PROGRAM_SHELL) {
        channel->program = PROGRAM_ECHO;
        receive(channel);
    } else {
        finish(channel, 127);
    }
}

static void on_eof(struct channel *channel)
{
    char count[32];

    if (channel->program != PROGRAM_SINK) {
        finish(channel, 0);
        return;
    }
    snprintf(count, sizeof(count), "%llu\n", (unsigned long long)channel->taken);
    send_message(channel, wire_data((const uint8_t *)count, strlen(count)));
}

static void on_event(struct channel *channel, grpc_byte_buffer *buffer)
{
    grpc_slice wire = wire_read(buffer);
    Policy__ChannelEvent *event =
        policy__channel_event__unpack(NULL, GRPC_SLICE_LENGTH(wire), GRPC_SLICE_START_PTR(wire));

    grpc_slice_unref(wire);
    if (event == NULL)
        finish(channel, 126);
    else if (event->event_case == POLICY__CHANNEL_EVENT__EVENT_OPENED)
        start(channel, event->opened);
    else if (event->event_case == POLICY__CHANNEL_EVENT__EVENT_EOF)
        on_eof(channel);
    else if (event->event_case == POLICY__CHANNEL_EVENT__EVENT_CLOSED)
        finish(channel, 0);
    else
        receive(channel);
    if (event != NULL)
        policy__channel_event__free_unpacked(event, NULL);
}

static void on_data(struct channel *channel, grpc_byte_buffer *buffer, size_t offset, size_t len)
{
    grpc_slice wire;

    if (channel->program != PROGRAM_ECHO) {
        channel->taken += len;
        receive(channel);
        return;
    }
    wire = wire_read(buffer);
    send_message(channel, wire_data(GRPC_SLICE_START_PTR(wire) + offset, len));
    grpc_slice_unref(wire);
}

static void on_received(struct tag *tag, bool ok)
{
    struct channel *channel = CONTAINER(tag, struct channel, received);
    grpc_byte_buffer *buffer = channel->in;
    size_t offset, len;

    channel->tags_out--;
    channel->in = NULL;
    if (!ok || buffer == NULL)
        channel->broken = true;
    else if (channel->supervises)
        receive(channel);
    else if (!channel->broken && wire_is_data(buffer, &offset, &len))
        on_data(channel, buffer, offset, len);
    else if (!channel->broken)
        on_event(channel, buffer);
    if (buffer != NULL)
        grpc_byte_buffer_destroy(buffer);
    free_if_done(channel);
}

/* ---- opening and ending */

static void on_closed(struct tag *tag, bool ok)
{
    struct channel *channel = CONTAINER(tag, struct channel, closed);

    (void)ok;
    channel->tags_out--;
    channel->broken = channel->broken || channel->cancelled;
    free_if_done(channel);
}

static void on_accepted(struct tag *tag, bool ok)
{
    struct channel *channel = CONTAINER(tag, struct channel, accepted);

    channel->tags_out--;
    channel->broken = channel->broken || !ok;
    free_if_done(channel);
}

static void arm(struct policy *policy, bool supervises);

static void on_requested(struct tag *tag, bool ok)
{
    struct channel *channel = CONTAINER(tag, struct channel, requested);
    grpc_op close = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                     .data.recv_close_on_server.cancelled = &channel->cancelled};
    grpc_op accept = {.op = GRPC_OP_SEND_INITIAL_METADATA};

    if (!ok) { /* the server ends */
        grpc_metadata_array_destroy(&channel->metadata);
        free(channel);
        return;
    }
    arm(channel->policy, channel->supervises);
    channel->tags_out = 2;
    policy_batch(channel->call, &close, 1, &channel->closed);
    policy_batch(channel->call, &accept, 1, &channel->accepted);
    receive(channel);
}

static void arm(struct policy *policy, bool supervises)
{
    struct channel *channel = calloc(1, sizeof(*channel));

    if (channel == NULL)
        abort();
    channel->policy = policy;
    channel->supervises = supervises;
    channel->requested.done = on_requested;
    channel->accepted.done = on_accepted;
    channel->received.done = on_received;
    channel->sent.done = on_sent;
    channel->closed.done = on_closed;
    grpc_metadata_array_init(&channel->metadata);
    grpc_server_request_registered_call(policy->server,
                                        supervises ? supervise_method : channel_method,
                                        &channel->call, &channel->deadline, &channel->metadata,
                                        NULL, policy->queue, policy->queue, &channel->requested);
}

void channels_register(struct policy *policy)
{
    grpc_byte_buffer *chunk = wire_data(zeros, sizeof(zeros));

    full_chunk = wire_read(chunk);
    grpc_byte_buffer_destroy(chunk);
    channel_method = grpc_server_register_method(policy->server, "/parley.policy.v1.Policy/Channel",
                                                 NULL, GRPC_SRM_PAYLOAD_NONE, 0);
    supervise_method = grpc_server_register_method(
        policy->server, "/parley.policy.v1.Policy/Supervise", NULL, GRPC_SRM_PAYLOAD_NONE, 0);
}

void channels_arm(struct policy *policy)
{
    for (int i = 0; i < ARMED; i++)
        arm(policy, false);
    for (int i = 0; i < ARMED; i++)
        arm(policy, true);
}
