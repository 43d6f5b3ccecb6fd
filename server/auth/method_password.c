/* RFC 4252 section 8: password, and its change. */
#include "auth/internal.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* The client answers with a password request that has the change flag. */
static void ask_for_change(struct auth *auth, const Policy__PasswordChange *change)
{
    struct buf message = {0};

    auth_flush_banners(auth);
    buf_put_u8(&message, MSG_USERAUTH_PASSWD_CHANGEREQ);
    buf_put_cstring(&message, change->prompt);
    buf_put_cstring(&message, change->language);
    transport_send(auth->transport, buf_bytes(&message));
    buf_clear(&message);
    auth_request_end(auth);
}

static void on_verdict(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct auth *auth = owner;
    const Policy__PasswordAnswer *answer = (const Policy__PasswordAnswer *)message;
    Policy__Factor factor = POLICY__FACTOR__INIT;

    auth->asking = NULL; /* the handle ends with its callback */
    if (outcome != ANSWERED) {
        auth_no_answer(auth, outcome);
        return;
    }
    factor.method = POLICY__AUTH_METHOD__AUTH_METHOD_PASSWORD;
    switch (answer->outcome_case) {
    case POLICY__PASSWORD_ANSWER__OUTCOME_ALLOW:
        auth_succeed(auth, &factor, answer->allow);
        break;
    case POLICY__PASSWORD_ANSWER__OUTCOME_PARTIAL:
        auth_partly(auth, &factor, answer->partial);
        break;
    case POLICY__PASSWORD_ANSWER__OUTCOME_CHANGE_REQUIRED:
        ask_for_change(auth, answer->change_required);
        break;
    case POLICY__PASSWORD_ANSWER__OUTCOME_DENY:
        auth_deny(auth, answer->deny);
        break;
    default:
        auth_no_answer(auth, UNAVAILABLE);
    }
}

void auth_ask_password(struct auth *auth, struct bytes password, answer_fn *done)
{
    Policy__ValidatePasswordRequest question = POLICY__VALIDATE_PASSWORD_REQUEST__INIT;

    question.password = bytes_to_string(password);
    auth->asking = asker_ask(auth->asker, RPC_VALIDATE_PASSWORD, &question.base, 0, done, auth);
    secret_free(question.password);
    buf_clear_secret(&auth->request.rest); /* not kept for as long as the policy thinks */
}

static void ask_change(struct auth *auth, struct bytes old, struct bytes new)
{
    Policy__ChangePasswordRequest question = POLICY__CHANGE_PASSWORD_REQUEST__INIT;

    question.old_password = bytes_to_string(old);
    question.new_password = bytes_to_string(new);
    auth->asking = asker_ask(auth->asker, RPC_CHANGE_PASSWORD, &question.base, 0, on_verdict, auth);
    secret_free(question.old_password);
    secret_free(question.new_password);
    buf_clear_secret(&auth->request.rest);
}

bool auth_secret_is_acceptable(struct bytes secret)
{
    return secret.len <= PASSWORD_MAX_BYTES && text_is_clean(secret);
}

void password_run(struct auth *auth)
{
    struct reader r = reader_of(buf_bytes(&auth->request.rest));
    bool change = reader_bool(&r);
    struct bytes password = reader_string(&r);
    struct bytes new = change ? reader_string(&r) : (struct bytes){0};

    if (!reader_end(&r))
        auth_fault(auth, DISCONNECT_PROTOCOL_ERROR, "Malformed password request");
    else if (!auth_secret_is_acceptable(password) || !auth_secret_is_acceptable(new))
        auth_fail(auth, "password is too long, not UTF-8, or holds a NUL");
    else if (change)
        ask_change(auth, password, new);
    else
        auth_ask_password(auth, password, on_verdict);
}
