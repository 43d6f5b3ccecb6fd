/* Unary handlers: the request is unpacked, as a policy that looks at it would, and a fixed answer
 * is sent. */
#include "policy.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARMED 64 /* of each handler; more questions at once wait in the server */

struct handler {
    const char *name;
    const ProtobufCMessage *answer;
    const ProtobufCMessageDescriptor *question;
    grpc_slice packed;
    /* Another answer for this question; NULL: the fixed one. May be NULL itself. */
    const ProtobufCMessage *(*choose)(const ProtobufCMessage *question);
    void *method;
};

struct ask {
    struct tag tag;
    struct policy *policy;
    struct handler *handler; /* NULL: whatever has no handler */
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    gpr_timespec deadline;
    grpc_byte_buffer *question, *answer;
    int cancelled;
};

/* ---- the answers */

static Policy__Allow allow = POLICY__ALLOW__INIT;
static Policy__StreamEndpoint stream = POLICY__STREAM_ENDPOINT__INIT;
static Policy__Accept accepted = POLICY__ACCEPT__INIT;
static Policy__AuthMethod offered[] = {POLICY__AUTH_METHOD__AUTH_METHOD_PUBLICKEY,
                                       POLICY__AUTH_METHOD__AUTH_METHOD_PASSWORD};
static Policy__Methods methods = POLICY__METHODS__INIT;

static Policy__ConnectionMadeAnswer connection_made = POLICY__CONNECTION_MADE_ANSWER__INIT;
static Policy__BeginAuthAnswer begin_auth = POLICY__BEGIN_AUTH_ANSWER__INIT;
static Policy__AuthAnswer credential = POLICY__AUTH_ANSWER__INIT;
static Policy__PasswordAnswer password = POLICY__PASSWORD_ANSWER__INIT;
static Policy__AuthCompletedAnswer completed = POLICY__AUTH_COMPLETED_ANSWER__INIT;
static Policy__SessionAnswer session = POLICY__SESSION_ANSWER__INIT;
static Policy__SessionAnswer program = POLICY__SESSION_ANSWER__INIT;
static Policy__GrantAnswer grant = POLICY__GRANT_ANSWER__INIT;
static Policy__Ack ack = POLICY__ACK__INIT;

static Policy__OpenAnswer opened = POLICY__OPEN_ANSWER__INIT;
static Policy__ForwardEndpoint forward = POLICY__FORWARD_ENDPOINT__INIT;

/* A user named so is supervised. */
static const ProtobufCMessage *choose_completed(const ProtobufCMessage *question);
/* "run COMMAND": the daemon runs it, as sshd would, and as whoever we are. */
static const ProtobufCMessage *choose_program(const ProtobufCMessage *question);
static const ProtobufCMessage *choose_open(const ProtobufCMessage *question);
static const ProtobufCMessage *choose_session(const ProtobufCMessage *question);

static struct handler handlers[] = {
    {.name = "ConnectionMade", .answer = &connection_made.base},
    {.name = "ConnectionLost", .answer = &ack.base},
    {.name = "DebugMsgReceived", .answer = &ack.base},
    {.name = "BeginAuth", .answer = &begin_auth.base},
    {.name = "ValidatePublicKey", .answer = &credential.base},
    {.name = "ValidatePassword", .answer = &password.base},
    {.name = "AuthCompleted", .answer = &completed.base, .choose = choose_completed},
    {.name = "ConnectionRequested", .answer = &opened.base, .choose = choose_open},
    {.name = "SessionRequested", .answer = &session.base, .choose = choose_session},
    {.name = "PtyRequested", .answer = &grant.base},
    {.name = "EnvRequested", .answer = &grant.base},
    {.name = "ShellRequested", .answer = &program.base},
    {.name = "ExecRequested", .answer = &program.base, .choose = choose_program},
};

#define HANDLERS (sizeof(handlers) / sizeof(handlers[0]))

static void fill_answers(void)
{
    methods.methods = offered;
    methods.n_methods = sizeof(offered) / sizeof(offered[0]);
    connection_made.outcome_case = POLICY__CONNECTION_MADE_ANSWER__OUTCOME_ALLOW;
    connection_made.allow = &allow;
    begin_auth.requirement = POLICY__REQUIREMENT__REQUIREMENT_REQUIRED;
    begin_auth.methods = &methods;
    credential.outcome_case = POLICY__AUTH_ANSWER__OUTCOME_ALLOW;
    credential.allow = &allow;
    password.outcome_case = POLICY__PASSWORD_ANSWER__OUTCOME_ALLOW;
    password.allow = &allow;
    completed.outcome_case = POLICY__AUTH_COMPLETED_ANSWER__OUTCOME_ALLOW;
    completed.allow = &allow;
    session.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_STREAM;
    session.stream = &stream;
    program.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_ACCEPT;
    program.accept = &accepted;
    opened.endpoint_case = POLICY__OPEN_ANSWER__ENDPOINT_FORWARD;
    opened.forward = &forward;
    grant.outcome_case = POLICY__GRANT_ANSWER__OUTCOME_ALLOW;
    grant.allow = &allow;
}

static const ProtobufCMessage *choose_completed(const ProtobufCMessage *question)
{
    static Policy__AuthCompletedAnswer answer = POLICY__AUTH_COMPLETED_ANSWER__INIT;
    const Policy__Context *context = ((const Policy__AuthCompletedRequest *)question)->context;

    if (context == NULL || strcmp(context->user, "supervised") != 0)
        return NULL;
    answer.outcome_case = POLICY__AUTH_COMPLETED_ANSWER__OUTCOME_ALLOW;
    answer.allow = &allow;
    answer.supervise = true;
    return &answer.base;
}

static const ProtobufCMessage *choose_open(const ProtobufCMessage *question)
{
    static Policy__OpenAnswer answer = POLICY__OPEN_ANSWER__INIT;
    Policy__UpstreamEndpoint *upstream =
        upstream_for(((const Policy__ConnectionRequestedRequest *)question)->context);

    if (upstream == NULL)
        return NULL;
    answer.endpoint_case = POLICY__OPEN_ANSWER__ENDPOINT_UPSTREAM;
    answer.upstream = upstream;
    return &answer.base;
}

static const ProtobufCMessage *choose_session(const ProtobufCMessage *question)
{
    static Policy__SessionAnswer answer = POLICY__SESSION_ANSWER__INIT;
    Policy__UpstreamEndpoint *upstream =
        upstream_for(((const Policy__SessionRequestedRequest *)question)->context);

    if (upstream == NULL)
        return NULL;
    answer.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_UPSTREAM;
    answer.upstream = upstream;
    return &answer.base;
}

static const ProtobufCMessage *choose_program(const ProtobufCMessage *question)
{
    static const char run[] = "run ";
    static Policy__EnvVar path = POLICY__ENV_VAR__INIT;
    static Policy__EnvVar *environment[] = {&path};
    static Policy__ProcessEndpoint process = POLICY__PROCESS_ENDPOINT__INIT;
    static Policy__SessionAnswer answer = POLICY__SESSION_ANSWER__INIT;
    static ProtobufCBinaryData argv[3] = {{7, (uint8_t *)"/bin/sh"}, {2, (uint8_t *)"-c"}};
    const ProtobufCBinaryData *command = &((const Policy__ExecRequestedRequest *)question)->command;
    const struct passwd *me = getpwuid(geteuid());

    if (me == NULL || command->len < sizeof(run) ||
        memcmp(command->data, run, sizeof(run) - 1) != 0)
        return NULL;
    argv[2].data = command->data + sizeof(run) - 1;
    argv[2].len = command->len - (sizeof(run) - 1);
    path.name = (ProtobufCBinaryData){4, (uint8_t *)"PATH"};
    path.value = (ProtobufCBinaryData){13, (uint8_t *)"/usr/bin:/bin"};
    process.argv = argv;
    process.n_argv = 3;
    process.environment = environment;
    process.n_environment = 1;
    process.directory = (ProtobufCBinaryData){1, (uint8_t *)"/"};
    process.user = me->pw_name;
    answer.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_PROCESS;
    answer.process = &process;
    return &answer.base;
}

void asks_register(struct policy *policy)
{
    fill_answers();
    for (size_t i = 0; i < HANDLERS; i++) {
        struct handler *handler = &handlers[i];
        const ProtobufCMethodDescriptor *method = protobuf_c_service_descriptor_get_method_by_name(
            &policy__policy__descriptor, handler->name);
        char path[96];

        if (method == NULL) {
            fprintf(stderr, "bench policy: the contract has no %s\n", handler->name);
            exit(1);
        }
        handler->question = method->input;
        handler->packed = grpc_slice_malloc(protobuf_c_message_get_packed_size(handler->answer));
        protobuf_c_message_pack(handler->answer, GRPC_SLICE_START_PTR(handler->packed));
        snprintf(path, sizeof(path), "/parley.policy.v1.Policy/%s", handler->name);
        handler->method = grpc_server_register_method(policy->server, path, NULL,
                                                      GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    }
}

/* ---- one question after another */

static void on_question(struct tag *tag, bool ok);

static void arm(struct ask *ask)
{
    struct policy *policy = ask->policy;

    ask->tag.done = on_question;
    ask->metadata.count = 0;
    if (ask->handler != NULL)
        grpc_server_request_registered_call(policy->server, ask->handler->method, &ask->call,
                                            &ask->deadline, &ask->metadata, &ask->question,
                                            policy->queue, policy->queue, &ask->tag);
    else
        grpc_server_request_call(policy->server, &ask->call, &ask->details, &ask->metadata,
                                 policy->queue, policy->queue, &ask->tag);
}

static void on_answered(struct tag *tag, bool ok)
{
    struct ask *ask = CONTAINER(tag, struct ask, tag);

    (void)ok;
    grpc_byte_buffer_destroy(ask->answer);
    grpc_call_unref(ask->call);
    ask->answer = NULL;
    ask->call = NULL;
    arm(ask);
}

/* False: not understood. */
static bool make_answer(struct ask *ask)
{
    const ProtobufCMessage *chosen = NULL;
    ProtobufCMessage *question;
    grpc_slice wire;

    if (ask->question == NULL)
        return false;
    wire = wire_read(ask->question);
    question = protobuf_c_message_unpack(ask->handler->question, NULL, GRPC_SLICE_LENGTH(wire),
                                         GRPC_SLICE_START_PTR(wire));
    grpc_slice_unref(wire);
    if (question == NULL)
        return false;
    if (ask->handler->choose != NULL)
        chosen = ask->handler->choose(question);
    ask->answer =
        chosen ? wire_pack(chosen) : grpc_raw_byte_buffer_create(&ask->handler->packed, 1);
    protobuf_c_message_free_unpacked(question, NULL);
    return true;
}

static void answer(struct ask *ask, grpc_status_code status)
{
    grpc_op ops[4] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_STATUS_FROM_SERVER, .data.send_status_from_server.status = status},
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
         .data.recv_close_on_server.cancelled = &ask->cancelled},
    };
    size_t count = 3;

    if (status == GRPC_STATUS_OK)
        ops[count++] =
            (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = ask->answer};
    ask->tag.done = on_answered;
    policy_batch(ask->call, ops, count, &ask->tag);
}

static void on_question(struct tag *tag, bool ok)
{
    struct ask *ask = CONTAINER(tag, struct ask, tag);
    grpc_status_code status = GRPC_STATUS_UNIMPLEMENTED;

    if (!ok) { /* the server ends */
        grpc_metadata_array_destroy(&ask->metadata);
        grpc_call_details_destroy(&ask->details);
        free(ask);
        return;
    }
    if (ask->handler != NULL)
        status = make_answer(ask) ? GRPC_STATUS_OK : GRPC_STATUS_INVALID_ARGUMENT;
    if (ask->question != NULL)
        grpc_byte_buffer_destroy(ask->question);
    ask->question = NULL;
    answer(ask, status);
}

static void arm_new(struct policy *policy, struct handler *handler)
{
    struct ask *ask = calloc(1, sizeof(*ask));

    if (ask == NULL)
        abort();
    ask->policy = policy;
    ask->handler = handler;
    grpc_metadata_array_init(&ask->metadata);
    grpc_call_details_init(&ask->details);
    arm(ask);
}

void asks_arm(struct policy *policy)
{
    for (size_t i = 0; i < HANDLERS; i++)
        for (int n = 0; n < ARMED; n++)
            arm_new(policy, &handlers[i]);
    arm_new(policy, NULL);
}
