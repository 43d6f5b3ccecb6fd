#include "fakes/answers_fake.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>

void fake_begin(struct control *control, const Policy__AuthMethod *methods)
{
    Policy__BeginAuthAnswer answer = POLICY__BEGIN_AUTH_ANSWER__INIT;
    Policy__Methods list = POLICY__METHODS__INIT;

    list.methods = (Policy__AuthMethod *)methods;
    while (methods[list.n_methods] != 0)
        list.n_methods++;
    answer.methods = &list;
    fake_answer(control, RPC_BEGIN_AUTH, &answer.base);
}

void fake_begin_both(struct control *control)
{
    fake_begin(control, (Policy__AuthMethod[]){FAKE_PUBLICKEY, FAKE_PASSWORD, 0});
}

void fake_begin_open(struct control *control)
{
    Policy__BeginAuthAnswer answer = POLICY__BEGIN_AUTH_ANSWER__INIT;

    fake_answer(control, RPC_BEGIN_AUTH, &answer.base);
}

void fake_support(struct control *control, enum rpc rpc, Policy__Support support)
{
    Policy__SupportedAnswer answer = POLICY__SUPPORTED_ANSWER__INIT;

    answer.support = support;
    fake_answer(control, rpc, &answer.base);
}

/* ---- outcomes: the same members in several answer types */

#define ANSWER_WITH(type, TYPE, member, MEMBER, value)                                             \
    {                                                                                              \
        Policy__##type answer = POLICY__##TYPE##__INIT;                                            \
        answer.outcome_case = POLICY__##TYPE##__OUTCOME_##MEMBER;                                  \
        answer.member = (value);                                                                   \
        fake_answer(control, rpc, &answer.base);                                                   \
    }                                                                                              \
    break

static void answer_allow(struct control *control, enum rpc rpc, Policy__Allow *allow)
{
    switch (rpc) {
    case RPC_CONNECTION_MADE:
        ANSWER_WITH(ConnectionMadeAnswer, CONNECTION_MADE_ANSWER, allow, ALLOW, allow);
    case RPC_AUTH_COMPLETED:
        ANSWER_WITH(AuthCompletedAnswer, AUTH_COMPLETED_ANSWER, allow, ALLOW, allow);
    case RPC_VALIDATE_PUBLIC_KEY:
    case RPC_VALIDATE_CA_KEY:
    case RPC_VALIDATE_HOST_PUBLIC_KEY:
    case RPC_VALIDATE_HOST_CA_KEY:
    case RPC_VALIDATE_HOST_BASED_USER:
    case RPC_VALIDATE_GSS_PRINCIPAL:
        ANSWER_WITH(AuthAnswer, AUTH_ANSWER, allow, ALLOW, allow);
    case RPC_VALIDATE_PASSWORD:
    case RPC_CHANGE_PASSWORD:
        ANSWER_WITH(PasswordAnswer, PASSWORD_ANSWER, allow, ALLOW, allow);
    case RPC_GET_KBDINT_CHALLENGE:
    case RPC_VALIDATE_KBDINT_RESPONSE:
        ANSWER_WITH(KbdintAnswer, KBDINT_ANSWER, allow, ALLOW, allow);
    case RPC_PTY_REQUESTED:
    case RPC_ENV_REQUESTED:
    case RPC_X11_REQUESTED:
    case RPC_AGENT_REQUESTED:
        ANSWER_WITH(GrantAnswer, GRANT_ANSWER, allow, ALLOW, allow);
    default:
        fprintf(stderr, "%s has no allow\n", rpc_name(rpc));
        abort();
    }
}

void fake_allow(struct control *control, enum rpc rpc)
{
    fake_allow_with(control, rpc, NULL);
}

void fake_allow_with(struct control *control, enum rpc rpc, Policy__Restrictions *restrictions)
{
    Policy__Allow allow = POLICY__ALLOW__INIT;

    allow.restrictions = restrictions;
    answer_allow(control, rpc, &allow);
}

void fake_allow_for(struct control *control, enum rpc rpc, uint32_t expires_in_s)
{
    Policy__Allow allow = POLICY__ALLOW__INIT;

    allow.lifetime_case = POLICY__ALLOW__LIFETIME_EXPIRES_IN_S;
    allow.expires_in_s = expires_in_s;
    answer_allow(control, rpc, &allow);
}

void fake_deny(struct control *control, enum rpc rpc, const char *message)
{
    Policy__Deny deny = POLICY__DENY__INIT;

    deny.message = (char *)message;
    switch (rpc) {
    case RPC_CONNECTION_MADE:
        ANSWER_WITH(ConnectionMadeAnswer, CONNECTION_MADE_ANSWER, deny, DENY, &deny);
    case RPC_AUTH_COMPLETED:
        ANSWER_WITH(AuthCompletedAnswer, AUTH_COMPLETED_ANSWER, deny, DENY, &deny);
    case RPC_VALIDATE_PUBLIC_KEY:
    case RPC_VALIDATE_CA_KEY:
    case RPC_VALIDATE_HOST_PUBLIC_KEY:
    case RPC_VALIDATE_HOST_CA_KEY:
    case RPC_VALIDATE_HOST_BASED_USER:
    case RPC_VALIDATE_GSS_PRINCIPAL:
        ANSWER_WITH(AuthAnswer, AUTH_ANSWER, deny, DENY, &deny);
    case RPC_VALIDATE_PASSWORD:
    case RPC_CHANGE_PASSWORD:
        ANSWER_WITH(PasswordAnswer, PASSWORD_ANSWER, deny, DENY, &deny);
    case RPC_GET_KBDINT_CHALLENGE:
    case RPC_VALIDATE_KBDINT_RESPONSE:
        ANSWER_WITH(KbdintAnswer, KBDINT_ANSWER, deny, DENY, &deny);
    case RPC_PTY_REQUESTED:
    case RPC_ENV_REQUESTED:
    case RPC_X11_REQUESTED:
    case RPC_AGENT_REQUESTED:
        ANSWER_WITH(GrantAnswer, GRANT_ANSWER, deny, DENY, &deny);
    default:
        fprintf(stderr, "%s has no deny\n", rpc_name(rpc));
        abort();
    }
}

void fake_partial(struct control *control, enum rpc rpc, Policy__AuthMethod remaining,
                  Policy__Restrictions *restrictions)
{
    Policy__PartialSuccess partial = POLICY__PARTIAL_SUCCESS__INIT;

    partial.remaining = &remaining;
    partial.n_remaining = remaining != 0;
    partial.restrictions = restrictions;
    switch (rpc) {
    case RPC_VALIDATE_PUBLIC_KEY:
    case RPC_VALIDATE_CA_KEY:
    case RPC_VALIDATE_HOST_PUBLIC_KEY:
    case RPC_VALIDATE_HOST_CA_KEY:
    case RPC_VALIDATE_HOST_BASED_USER:
    case RPC_VALIDATE_GSS_PRINCIPAL:
        ANSWER_WITH(AuthAnswer, AUTH_ANSWER, partial, PARTIAL, &partial);
    case RPC_GET_KBDINT_CHALLENGE:
    case RPC_VALIDATE_KBDINT_RESPONSE:
        ANSWER_WITH(KbdintAnswer, KBDINT_ANSWER, partial, PARTIAL, &partial);
    default:
        ANSWER_WITH(PasswordAnswer, PASSWORD_ANSWER, partial, PARTIAL, &partial);
    }
}

void fake_challenge(struct control *control, enum rpc rpc, size_t prompts)
{
    Policy__KbdintAnswer answer = POLICY__KBDINT_ANSWER__INIT;
    Policy__Challenge challenge = POLICY__CHALLENGE__INIT;
    Policy__Prompt *all = xcalloc(prompts, sizeof(*all)), **list = xcalloc(prompts, sizeof(*list));

    for (size_t i = 0; i < prompts; i++) {
        policy__prompt__init(&all[i]);
        all[i].text = xasprintf("prompt %zu", i);
        all[i].echo = i % 2 != 0;
        list[i] = &all[i];
    }
    challenge.name = "name";
    challenge.instruction = "instruction";
    challenge.language = "en";
    challenge.prompts = list;
    challenge.n_prompts = prompts;
    answer.outcome_case = POLICY__KBDINT_ANSWER__OUTCOME_CHALLENGE;
    answer.challenge = &challenge;
    fake_answer(control, rpc, &answer.base);
    for (size_t i = 0; i < prompts; i++)
        free(all[i].text);
    free(all);
    free(list);
}

void fake_change_required(struct control *control, enum rpc rpc, const char *prompt)
{
    Policy__PasswordAnswer answer = POLICY__PASSWORD_ANSWER__INIT;
    Policy__PasswordChange change = POLICY__PASSWORD_CHANGE__INIT;

    change.prompt = (char *)prompt;
    change.language = "en";
    answer.outcome_case = POLICY__PASSWORD_ANSWER__OUTCOME_CHANGE_REQUIRED;
    answer.change_required = &change;
    fake_answer(control, rpc, &answer.base);
}

/* ---- sessions */

void fake_accept(struct control *control, enum rpc rpc)
{
    Policy__SessionAnswer answer = POLICY__SESSION_ANSWER__INIT;
    Policy__Accept accept = POLICY__ACCEPT__INIT;

    answer.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_ACCEPT;
    answer.accept = &accept;
    fake_answer(control, rpc, &answer.base);
}

void fake_accept_stream(struct control *control, enum rpc rpc, const char *target)
{
    Policy__SessionAnswer answer = POLICY__SESSION_ANSWER__INIT;
    Policy__StreamEndpoint stream = POLICY__STREAM_ENDPOINT__INIT;

    stream.target = (char *)target;
    answer.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_STREAM;
    answer.stream = &stream;
    fake_answer(control, rpc, &answer.base);
}

void fake_refuse(struct control *control, enum rpc rpc, uint32_t code, const char *reason)
{
    Policy__SessionAnswer answer = POLICY__SESSION_ANSWER__INIT;
    Policy__Refuse refuse = POLICY__REFUSE__INIT;

    refuse.code = code;
    refuse.reason = (char *)reason;
    answer.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_REFUSE;
    answer.refuse = &refuse;
    fake_answer(control, rpc, &answer.base);
}

/* ---- actions */

void fake_push_data(struct stream *stream, struct bytes data, uint32_t extended_type)
{
    Policy__ChannelAction action = POLICY__CHANNEL_ACTION__INIT;
    Policy__ChannelData message = POLICY__CHANNEL_DATA__INIT;

    message.payload.data = (uint8_t *)data.data;
    message.payload.len = data.len;
    message.extended_type = extended_type;
    action.action_case = POLICY__CHANNEL_ACTION__ACTION_DATA;
    action.data = &message;
    fake_stream_push(stream, &action.base);
}

void fake_push_eof(struct stream *stream)
{
    Policy__ChannelAction action = POLICY__CHANNEL_ACTION__INIT;
    Policy__ChannelEof eof = POLICY__CHANNEL_EOF__INIT;

    action.action_case = POLICY__CHANNEL_ACTION__ACTION_EOF;
    action.eof = &eof;
    fake_stream_push(stream, &action.base);
}

void fake_push_exit(struct stream *stream, uint32_t status)
{
    Policy__ChannelAction action = POLICY__CHANNEL_ACTION__INIT;
    Policy__ExitStatus exit = POLICY__EXIT_STATUS__INIT;

    exit.status = status;
    action.action_case = POLICY__CHANNEL_ACTION__ACTION_EXIT_STATUS;
    action.exit_status = &exit;
    fake_stream_push(stream, &action.base);
}

void fake_push_break_answer(struct stream *stream, uint32_t id, bool handled)
{
    Policy__ChannelAction action = POLICY__CHANNEL_ACTION__INIT;
    Policy__BreakAnswer answer = POLICY__BREAK_ANSWER__INIT;

    answer.id = id;
    answer.handled = handled;
    action.action_case = POLICY__CHANNEL_ACTION__ACTION_BREAK_ANSWER;
    action.break_answer = &answer;
    fake_stream_push(stream, &action.base);
}
