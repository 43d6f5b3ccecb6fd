/*
 * RFC 4256: keyboard-interactive. The policy says what to ask the user, as often as it likes within
 * the connection's bound of requests; or the method is tied to the password: one hidden prompt,
 * whose response is validated as a password.
 */
#include "auth/internal.h"

#include "base/alloc.h"

#include <stdlib.h>

#define HINT_MAX_BYTES 1024 /* of the language tag and of the submethods (CVE-2015-5600) */
#define PROMPTS_MAX    64   /* of one challenge: clients take no more than about so many */

struct dialogue {
    bool tied;
    uint32_t prompts; /* of the last INFO_REQUEST: so many responses must come */
};

static struct dialogue *dialogue_of(struct auth *auth)
{
    if (auth->request.dialogue == NULL) {
        auth->request.dialogue = xcalloc(1, sizeof(struct dialogue));
        auth->request.dialogue_free = free;
    }
    return auth->request.dialogue;
}

/* ---- asking the user */

static void send_info_request(struct auth *auth, const Policy__Challenge *challenge)
{
    struct buf message = {0};

    auth_flush_banners(auth);
    buf_put_u8(&message, MSG_USERAUTH_INFO_REQUEST);
    buf_put_cstring(&message, challenge->name);
    buf_put_cstring(&message, challenge->instruction);
    buf_put_cstring(&message, challenge->language);
    buf_put_u32(&message, (uint32_t)challenge->n_prompts);
    for (size_t i = 0; i < challenge->n_prompts; i++) {
        buf_put_cstring(&message, challenge->prompts[i]->text);
        buf_put_bool(&message, challenge->prompts[i]->echo);
    }
    transport_send(auth->transport, buf_bytes(&message));
    buf_clear(&message);
}

static void ask_user(struct auth *auth, const Policy__Challenge *challenge)
{
    if (challenge->n_prompts > PROMPTS_MAX) {
        auth_fail(auth, "the policy's challenge has too many prompts");
        return;
    }
    dialogue_of(auth)->prompts = (uint32_t)challenge->n_prompts;
    send_info_request(auth, challenge);
    auth_wait_for_client(auth);
}

static void ask_for_password(struct auth *auth)
{
    Policy__Challenge challenge = POLICY__CHALLENGE__INIT;
    Policy__Prompt prompt = POLICY__PROMPT__INIT, *prompts[] = {&prompt};

    /* Both would be the same secret, and no second factor. */
    if (auth->passed & METHOD_BIT(POLICY__AUTH_METHOD__AUTH_METHOD_PASSWORD)) {
        auth_fail(auth, "tied to the password, which has been passed already");
        return;
    }
    prompt.text = "Password: ";
    challenge.prompts = prompts;
    challenge.n_prompts = 1;
    dialogue_of(auth)->tied = true;
    ask_user(auth, &challenge);
}

/* ---- verdicts */

static void on_verdict(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct auth *auth = owner;
    const Policy__KbdintAnswer *answer = (const Policy__KbdintAnswer *)message;
    Policy__Factor factor = POLICY__FACTOR__INIT;

    auth->asking = NULL;
    if (outcome != ANSWERED) {
        auth_no_answer(auth, outcome);
        return;
    }
    factor.method = POLICY__AUTH_METHOD__AUTH_METHOD_KEYBOARD_INTERACTIVE;
    switch (answer->outcome_case) {
    case POLICY__KBDINT_ANSWER__OUTCOME_ALLOW:
        auth_succeed(auth, &factor, answer->allow);
        break;
    case POLICY__KBDINT_ANSWER__OUTCOME_PARTIAL:
        auth_partly(auth, &factor, answer->partial);
        break;
    case POLICY__KBDINT_ANSWER__OUTCOME_CHALLENGE:
        ask_user(auth, answer->challenge);
        break;
    case POLICY__KBDINT_ANSWER__OUTCOME_DENY:
        auth_deny(auth, answer->deny);
        break;
    default:
        auth_no_answer(auth, UNAVAILABLE);
    }
}

static void on_password_verdict(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct auth *auth = owner;
    const Policy__PasswordAnswer *answer = (const Policy__PasswordAnswer *)message;
    Policy__Factor factor = POLICY__FACTOR__INIT;

    auth->asking = NULL;
    if (outcome != ANSWERED) {
        auth_no_answer(auth, outcome);
        return;
    }
    factor.method = POLICY__AUTH_METHOD__AUTH_METHOD_KEYBOARD_INTERACTIVE;
    switch (answer->outcome_case) {
    case POLICY__PASSWORD_ANSWER__OUTCOME_ALLOW:
        auth_succeed(auth, &factor, answer->allow);
        break;
    case POLICY__PASSWORD_ANSWER__OUTCOME_PARTIAL:
        auth_partly(auth, &factor, answer->partial);
        break;
    case POLICY__PASSWORD_ANSWER__OUTCOME_CHANGE_REQUIRED: /* there is no message for it here */
        auth_fail(auth, "the password must be changed, which needs the method password");
        break;
    case POLICY__PASSWORD_ANSWER__OUTCOME_DENY:
        auth_deny(auth, answer->deny);
        break;
    default:
        auth_no_answer(auth, UNAVAILABLE);
    }
}

/* ---- responses */

static void ask_validate(struct auth *auth, const struct bytes *responses, uint32_t count)
{
    Policy__ValidateKbdintResponseRequest question = POLICY__VALIDATE_KBDINT_RESPONSE_REQUEST__INIT;
    char *copies[PROMPTS_MAX];

    for (uint32_t i = 0; i < count; i++)
        copies[i] = bytes_to_string(responses[i]);
    question.responses = copies;
    question.n_responses = count;
    auth->asking =
        asker_ask(auth->asker, RPC_VALIDATE_KBDINT_RESPONSE, &question.base, 0, on_verdict, auth);
    for (uint32_t i = 0; i < count; i++)
        secret_free(copies[i]);
}

static void recv_info_response(struct auth *auth, struct bytes message)
{
    struct dialogue *dialogue = dialogue_of(auth);
    struct bytes responses[PROMPTS_MAX];
    struct reader r = reader_of(message);
    uint32_t count = reader_u32(&r);
    bool acceptable = true;

    if (reader_ok(&r) && count != dialogue->prompts) {
        auth_fail(auth, "not as many responses as there were prompts");
        return;
    }
    for (uint32_t i = 0; i < count && reader_ok(&r); i++) {
        responses[i] = reader_string(&r);
        acceptable = acceptable && auth_secret_is_acceptable(responses[i]);
    }
    if (!reader_end(&r))
        auth_fault(auth, DISCONNECT_PROTOCOL_ERROR, "Malformed keyboard-interactive response");
    else if (!acceptable)
        auth_fail(auth, "a response is too long, not UTF-8, or holds a NUL");
    else if (dialogue->tied)
        auth_ask_password(auth, responses[0], on_password_verdict);
    else
        ask_validate(auth, responses, count);
}

void kbdint_message(struct auth *auth, uint8_t type, struct bytes message)
{
    if (type == MSG_USERAUTH_INFO_RESPONSE)
        recv_info_response(auth, message);
    else
        auth_fault(auth, DISCONNECT_PROTOCOL_ERROR, "Not a keyboard-interactive response");
}

/* ---- the request */

static void ask_challenge(struct auth *auth, struct bytes language, struct bytes submethods)
{
    Policy__GetKbdintChallengeRequest question = POLICY__GET_KBDINT_CHALLENGE_REQUEST__INIT;

    question.language = bytes_to_string(language);
    question.submethods = bytes_to_string(submethods);
    auth->asking =
        asker_ask(auth->asker, RPC_GET_KBDINT_CHALLENGE, &question.base, 0, on_verdict, auth);
    free(question.language);
    free(question.submethods);
}

static void on_tie_known(void *owner, enum outcome outcome, const ProtobufCMessage *answer)
{
    struct auth *auth = owner;

    auth->asking = NULL;
    auth_note_support(auth, auth->request.method, outcome, answer);
    if (outcome == UNAVAILABLE || outcome == EXPIRED)
        auth_no_answer(auth, outcome);
    else
        kbdint_run(auth);
}

static bool hint_is_acceptable(struct bytes hint)
{
    return hint.len <= HINT_MAX_BYTES && text_is_clean(hint);
}

void kbdint_run(struct auth *auth)
{
    struct reader r = reader_of(buf_bytes(&auth->request.rest));
    struct bytes language = reader_string(&r);
    struct bytes submethods = reader_string(&r);

    if (!reader_end(&r))
        auth_fault(auth, DISCONNECT_PROTOCOL_ERROR, "Malformed keyboard-interactive request");
    else if (!hint_is_acceptable(language) || !hint_is_acceptable(submethods))
        auth_fail(auth, "language or submethods are too long, not UTF-8, or hold a NUL");
    else if ((auth->known & METHOD_BIT(auth->request.method->method)) == 0)
        /* after a partial success, which named the method: is it tied? */
        auth_ask_supported(auth, auth->request.method, on_tie_known);
    else if (auth->kbdint_tied)
        ask_for_password(auth);
    else
        ask_challenge(auth, language, submethods);
}
