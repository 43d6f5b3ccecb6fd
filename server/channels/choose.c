/* What a session's program ends in: the endpoint that the policy chose, with the session or with
 * the program. */
#include "channels/internal.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* ---- the endpoints */

static struct endpoint *new_stream(struct channel *channel, const struct endpoint_start *start,
                                   const Policy__SessionAnswer *answer, const char **why)
{
    struct endpoint *endpoint =
        endpoint_policy_new(start, channel->channels->control, answer->stream);

    if (endpoint == NULL)
        *why = "the stream target is not configured";
    return endpoint;
}

static bool check_process(const Policy__SessionAnswer *answer, const char **why)
{
    return endpoint_process_check(answer->process, why);
}

static struct endpoint *new_process(struct channel *channel, const struct endpoint_start *start,
                                    const Policy__SessionAnswer *answer, const char **why)
{
    const struct env_list *provided = &channel->session->provided;

    return endpoint_process_new(start, answer->process, provided->vars, provided->count, why);
}

static bool check_upstream(const Policy__SessionAnswer *answer, const char **why)
{
    return endpoint_upstream_check(answer->upstream, why);
}

static struct endpoint *new_upstream(struct channel *channel, const struct endpoint_start *start,
                                     const Policy__SessionAnswer *answer, const char **why)
{
    return endpoint_upstream_new(start, channels_upstreams(channel->channels), answer->upstream,
                                 why);
}

/* One row per endpoint that this daemon has. */
static const struct endpoint_kind {
    Policy__SessionAnswer__EndpointCase endpoint;
    /* What can be known before there is a program; may be NULL. */
    bool (*check)(const Policy__SessionAnswer *answer, const char **why);
    struct endpoint *(*new)(struct channel *channel, const struct endpoint_start *start,
                            const Policy__SessionAnswer *answer, const char **why);
} endpoint_kinds[] = {
    {POLICY__SESSION_ANSWER__ENDPOINT_STREAM, NULL, new_stream},
    {POLICY__SESSION_ANSWER__ENDPOINT_PROCESS, check_process, new_process},
    {POLICY__SESSION_ANSWER__ENDPOINT_UPSTREAM, check_upstream, new_upstream},
};

static const struct endpoint_kind *find_kind(const Policy__SessionAnswer *answer, const char **why)
{
    for (size_t i = 0; i < sizeof(endpoint_kinds) / sizeof(endpoint_kinds[0]); i++)
        if (endpoint_kinds[i].endpoint == answer->endpoint_case)
            return &endpoint_kinds[i];
    *why = "the policy chose an endpoint that this server does not have";
    return NULL;
}

/* ---- chosen with the session */

/* An answer may hold the credentials of upstream servers: its memory is zeroed before it goes. */

#define HEAD_BYTES 16 /* keeps what malloc() aligns */

static void *secret_alloc(void *data, size_t size)
{
    uint8_t *memory = xmalloc(HEAD_BYTES + size);

    (void)data;
    memcpy(memory, &size, sizeof(size));
    return memory + HEAD_BYTES;
}

static void secret_release(void *data, void *pointer)
{
    uint8_t *memory = pointer;
    size_t size;

    (void)data;
    if (memory == NULL)
        return;
    memory -= HEAD_BYTES;
    memcpy(&size, memory, sizeof(size));
    explicit_bzero(memory + HEAD_BYTES, size);
    free(memory);
}

static ProtobufCAllocator secret_allocator = {secret_alloc, secret_release, NULL};

Policy__SessionAnswer *session_copy_choice(const Policy__SessionAnswer *answer)
{
    Policy__SessionAnswer only = *answer, *copy;
    struct buf packed = {0};

    only.common = NULL;
    only.options = NULL;
    only.recording = NULL;
    packed.cap = packed.len = policy__session_answer__get_packed_size(&only);
    packed.data = xmalloc(packed.cap + 1);
    policy__session_answer__pack(&only, packed.data);
    copy = policy__session_answer__unpack(&secret_allocator, packed.len, packed.data);
    buf_clear_secret(&packed);
    return copy;
}

void session_free_choice(Policy__SessionAnswer **copy)
{
    if (*copy != NULL)
        policy__session_answer__free_unpacked(*copy, &secret_allocator);
    *copy = NULL;
}

bool session_choose(struct channel *channel, const Policy__SessionAnswer *answer, const char **why)
{
    const struct endpoint_kind *kind;

    if (answer->endpoint_case == POLICY__SESSION_ANSWER__ENDPOINT_ACCEPT)
        return true;
    kind = find_kind(answer, why);
    if (kind == NULL || (kind->check != NULL && !kind->check(answer, why)))
        return false;
    channel->session->chosen = session_copy_choice(answer);
    return true;
}

void session_forget_choice(struct session *session)
{
    session_free_choice(&session->chosen);
}

/* ---- the program */

static ProtobufCBinaryData binary(const struct buf *buf)
{
    return (ProtobufCBinaryData){.len = buf->len, .data = buf->data};
}

static struct endpoint *new_endpoint(struct channel *channel, const Policy__SessionAnswer *answer,
                                     Policy__SessionStart *session, const char **why)
{
    const struct endpoint_kind *kind = find_kind(answer, why);
    Policy__ChannelOpened opened = POLICY__CHANNEL_OPENED__INIT;
    struct endpoint_start start = {
        .asker = channel->channels->asker,
        .opened = &opened,
        .events = &channel_endpoint_events,
        .owner = channel,
    };

    opened.channel = channel->id;
    opened.kind_case = POLICY__CHANNEL_OPENED__KIND_SESSION;
    opened.session = session;
    return kind ? kind->new (channel, &start, answer, why) : NULL;
}

struct endpoint *session_start_program(struct channel *channel, const Policy__SessionAnswer *answer,
                                       const char **why)
{
    struct session *session = channel->session;
    Policy__SessionStart start = POLICY__SESSION_START__INIT;
    Policy__ShellProgram shell = POLICY__SHELL_PROGRAM__INIT;
    Policy__ExecProgram exec = POLICY__EXEC_PROGRAM__INIT;
    Policy__SubsystemProgram subsystem = POLICY__SUBSYSTEM_PROGRAM__INIT;

    start.program_case = session->program;
    if (session->program == POLICY__SESSION_START__PROGRAM_SHELL) {
        start.shell = &shell;
    } else if (session->program == POLICY__SESSION_START__PROGRAM_EXEC) {
        exec.command = binary(&session->command);
        if (session->forced) {
            exec.original_case = POLICY__EXEC_PROGRAM__ORIGINAL_ORIGINAL_COMMAND;
            exec.original_command = binary(&session->original);
        }
        start.exec = &exec;
    } else {
        subsystem.name = binary(&session->command);
        start.subsystem = &subsystem;
    }
    start.pty = session->pty;
    start.environment = session->environment.vars;
    start.n_environment = session->environment.count;
    start.x11 = session->x11;
    start.agent_granted = session->agent;
    return new_endpoint(channel, answer, &start, why);
}
