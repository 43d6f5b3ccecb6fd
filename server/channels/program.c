/* shell, exec, subsystem (RFC 4254 section 6.5): one program a session, run exactly as decided. */
#include "channels/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

static const struct bytes original_variable = {(const uint8_t *)"SSH_ORIGINAL_COMMAND", 20};

static const char *program_name(const struct session *session)
{
    switch (session->program) {
    case POLICY__SESSION_START__PROGRAM_SHELL:
        return "shell";
    case POLICY__SESSION_START__PROGRAM_EXEC:
        return "exec";
    default:
        return "subsystem";
    }
}

static void log_program(struct channel *channel, const char *outcome, const char *why)
{
    struct session *session = channel->session;

    log_info(asker_connection_id(channel->channels->asker), "program",
             log_u64("channel", channel->id), log_str("kind", program_name(session)),
             session->command.len ? log_bytes("command", buf_bytes(&session->command)) : log_none(),
             log_str("outcome", outcome), log_str("why", why));
}

static void refuse(struct channel *channel, const char *told, const char *why)
{
    struct session *session = channel->session;

    log_program(channel, "refused", why);
    channel_tell(channel, told);
    session_close_forwards(channel);
    channel_forget_held(channel); /* a later program is not the one it was meant for */
    session->state = SESSION_NEW;
    buf_clear(&session->command);
    buf_clear(&session->original);
    env_remove(&session->environment, original_variable);
    request_done(channel, false);
}

/* ---- start */

static ProtobufCBinaryData binary(const struct buf *buf)
{
    return (ProtobufCBinaryData){.len = buf->len, .data = buf->data};
}

static void start_prepared(struct channel *channel, const Policy__SessionAnswer *answer)
{
    const char *why;
    struct endpoint *endpoint = session_start_program(channel, answer, &why);

    if (endpoint == NULL) {
        refuse(channel, why, why);
        return;
    }
    log_program(channel, "accepted", NULL);
    channel->session->state = SESSION_RUNNING;
    session_forget_choice(channel->session); /* there is no other program for it */
    channel_attach(channel, endpoint);
    request_done(channel, true);
}

static void start_program(struct channel *channel, const Policy__SessionAnswer *answer)
{
    session_prepare(channel, answer, start_prepared);
}

/* What was chosen with the session was chosen without the command: a program of ours could not
 * know it, and would run in the place of a forced one. */
static void start_chosen(struct channel *channel)
{
    const Policy__SessionAnswer *chosen = channel->session->chosen;

    if (chosen == NULL)
        refuse(channel, "", "the policy chose no endpoint");
    else if (chosen->endpoint_case == POLICY__SESSION_ANSWER__ENDPOINT_PROCESS &&
             channel->session->forced)
        refuse(channel, "", "a forced command was set, and another program chosen before it");
    else
        start_program(channel, chosen);
}

static void on_answer(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct channel *channel = owner;
    const Policy__SessionAnswer *answer = (const Policy__SessionAnswer *)message;

    channel->asking = NULL;
    if (outcome == ABSENT) {
        start_chosen(channel);
        return;
    }
    if (outcome != ANSWERED) {
        refuse(channel, "The policy service gave no answer.", outcome_name(outcome));
        return;
    }
    if (answer->recording != NULL || answer->options != NULL) {
        refuse(channel, "", "the answer orders what this daemon cannot do here");
        return;
    }
    switch (answer->endpoint_case) {
    case POLICY__SESSION_ANSWER__ENDPOINT_REFUSE:
        refuse(channel, answer->refuse->reason, answer->refuse->reason);
        break;
    case POLICY__SESSION_ANSWER__ENDPOINT_ACCEPT:
        start_chosen(channel);
        break;
    default:
        start_program(channel, answer);
    }
}

/* ---- the question */

static void ask_shell(struct channel *channel)
{
    Policy__ShellRequestedRequest question = POLICY__SHELL_REQUESTED_REQUEST__INIT;

    question.channel = channel->id;
    channel->asking = asker_ask(channel->channels->asker, RPC_SHELL_REQUESTED, &question.base, 0,
                                on_answer, channel);
}

static void ask_exec(struct channel *channel)
{
    Policy__ExecRequestedRequest question = POLICY__EXEC_REQUESTED_REQUEST__INIT;
    struct session *session = channel->session;

    question.channel = channel->id;
    question.command = binary(&session->command);
    if (session->forced) {
        question.original_case = POLICY__EXEC_REQUESTED_REQUEST__ORIGINAL_ORIGINAL_COMMAND;
        question.original_command = binary(&session->original);
    }
    channel->asking = asker_ask(channel->channels->asker, RPC_EXEC_REQUESTED, &question.base, 0,
                                on_answer, channel);
}

static void ask_subsystem(struct channel *channel)
{
    Policy__SubsystemRequestedRequest question = POLICY__SUBSYSTEM_REQUESTED_REQUEST__INIT;

    question.channel = channel->id;
    question.name = binary(&channel->session->command);
    channel->asking = asker_ask(channel->channels->asker, RPC_SUBSYSTEM_REQUESTED, &question.base,
                                0, on_answer, channel);
}

/* A forced command replaces whatever was asked for, which it finds in SSH_ORIGINAL_COMMAND
 * (sshd(8)). False: that cannot be told, and without it the command would think of a shell. */
static bool force_command(struct channel *channel)
{
    struct session *session = channel->session;
    bool told = true;

    session->forced = true;
    session->original = session->command;
    session->command = (struct buf){0};
    buf_put(&session->command, channel->channels->rules.forced_command);
    if (session->program != POLICY__SESSION_START__PROGRAM_SHELL)
        told = env_put(&session->environment, original_variable, buf_bytes(&session->original));
    session->program = POLICY__SESSION_START__PROGRAM_EXEC;
    return told;
}

static void request_program(struct channel *channel, Policy__SessionStart__ProgramCase program,
                            struct bytes command)
{
    struct session *session = channel->session;

    if (session->state != SESSION_NEW || command.len > COMMAND_MAX_BYTES) {
        request_done(channel, false);
        return;
    }
    session->state = SESSION_STARTING;
    session->program = program;
    buf_put(&session->command, command);
    if (channel->channels->rules.forced && !force_command(channel)) {
        refuse(channel, "", "the original command does not fit into the environment");
        return;
    }
    switch (session->program) {
    case POLICY__SESSION_START__PROGRAM_SHELL:
        ask_shell(channel);
        break;
    case POLICY__SESSION_START__PROGRAM_EXEC:
        ask_exec(channel);
        break;
    default:
        ask_subsystem(channel);
    }
}

static void request_with_command(struct channel *channel, Policy__SessionStart__ProgramCase program,
                                 struct reader *r)
{
    struct bytes command = reader_string(r);

    if (reader_end(r))
        request_program(channel, program, command);
    else
        request_malformed(channel);
}

void session_shell(struct channel *channel, struct reader *r)
{
    if (reader_end(r))
        request_program(channel, POLICY__SESSION_START__PROGRAM_SHELL, (struct bytes){0});
    else
        request_malformed(channel);
}

void session_exec(struct channel *channel, struct reader *r)
{
    request_with_command(channel, POLICY__SESSION_START__PROGRAM_EXEC, r);
}

void session_subsystem(struct channel *channel, struct reader *r)
{
    request_with_command(channel, POLICY__SESSION_START__PROGRAM_SUBSYSTEM, r);
}
