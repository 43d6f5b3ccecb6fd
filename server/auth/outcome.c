/* How a request ends: success, partial success, failure with the list of methods (RFC 4252
 * sections 5.1 and 5.4). */
#include "auth/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

static const char *const no_answer_text =
    "Login is not possible now: the policy service gave no answer.";

#define HELD_BANNERS_MAX_BYTES (64 * 1024)

/* ---- banners */

static void put_banner(struct buf *out, const char *text, const char *language)
{
    char *line = xasprintf("%s%s", text, text[strlen(text) - 1] == '\n' ? "" : "\r\n");

    buf_put_u8(out, MSG_USERAUTH_BANNER);
    buf_put_cstring(out, line);
    buf_put_cstring(out, language ? language : "");
    free(line);
}

void auth_flush_banners(struct auth *auth)
{
    struct reader r = reader_of(buf_bytes(&auth->banner));

    while (r.left > 0)
        transport_send(auth->transport, reader_string(&r));
    buf_clear(&auth->banner);
}

/* What was kept back goes first. */
void auth_send_banner(struct auth *auth, const char *text, const char *language)
{
    struct buf message = {0};

    auth_flush_banners(auth);
    if (text[0] == '\0')
        return;
    put_banner(&message, text, language);
    transport_send(auth->transport, buf_bytes(&message));
    buf_clear(&message);
}

/* Goes with the reply, whose time must not show when the policy answered. */
static void hold_banner(struct auth *auth, const char *text, const char *language)
{
    struct buf message = {0};

    if (text[0] == '\0' || auth->banner.len > HELD_BANNERS_MAX_BYTES)
        return;
    put_banner(&message, text, language);
    buf_put_string(&auth->banner, buf_bytes(&message));
    buf_clear(&message);
}

/* Kept back until a request is answered: some clients take nothing before (RFC 4252 section 5.4).
 */
void auth_banner(struct auth *auth, const char *text, const char *language)
{
    if (auth->state == AUTH_SERVICE && auth->requests > 0)
        auth_send_banner(auth, text, language);
    else if (auth->state == AUTH_NEW || auth->state == AUTH_SERVICE)
        hold_banner(auth, text, language);
}

/* ---- failure */

static void send_failure(struct auth *auth)
{
    uint32_t mask = auth->remaining ? auth->remaining : auth_offered(auth);
    struct buf list = {0}, message = {0};

    for (size_t i = 0; i < auth_methods_count; i++) {
        if ((mask & METHOD_BIT(auth_methods[i].method)) == 0)
            continue;
        if (list.len > 0)
            buf_put_u8(&list, ',');
        buf_put(&list, bytes_of_string(auth_methods[i].name));
    }
    buf_put_u8(&message, MSG_USERAUTH_FAILURE);
    buf_put_string(&message, buf_bytes(&list));
    buf_put_bool(&message, auth->partial);
    auth_flush_banners(auth);
    transport_send(auth->transport, buf_bytes(&message));
    buf_clear(&list);
    buf_clear(&message);
    auth_request_end(auth);
}

static void disconnect_failed(struct auth *auth)
{
    auth_flush_banners(auth);
    auth_fault(auth, DISCONNECT_NO_MORE_AUTH_METHODS, "Too many authentication failures");
}

/* The questions before were part of what took time. "none" is no guess at anything. */
static void reply_in_time(struct auth *auth)
{
    bool final = auth->failures >= auth->settings.max_failures;
    void (*reply)(struct auth *) = final ? disconnect_failed : send_failure;

    if (bytes_are(buf_bytes(&auth->request.name), "none"))
        reply(auth);
    else
        auth_delay(auth, reply);
}

static void list_methods(struct auth *auth);

static void on_listed(void *owner, enum outcome outcome, const ProtobufCMessage *answer)
{
    struct auth *auth = owner;

    auth->asking = NULL;
    auth_note_support(auth, &auth_methods[auth->listing++], outcome, answer);
    list_methods(auth);
}

/* Asks the Supported handlers one after the other for each list, unless the list is fixed. */
static void list_methods(struct auth *auth)
{
    while (auth->listing < auth_methods_count &&
           (auth_methods[auth->listing].supported == RPC_COUNT ||
            auth_is_given(auth, &auth_methods[auth->listing])))
        auth->listing++;
    if (auth->methods_fixed || auth->remaining != 0 || auth->listing == auth_methods_count)
        reply_in_time(auth);
    else
        auth_ask_supported(auth, &auth_methods[auth->listing], on_listed);
}

static void log_attempt(struct auth *auth, const char *outcome, const char *why)
{
    log_info(asker_connection_id(auth->asker), "auth_attempt",
             log_str("user", asker_user(auth->asker)),
             log_bytes("method", buf_bytes(&auth->request.name)), log_str("outcome", outcome),
             log_str("why", why), log_u64("failures", auth->failures));
}

/* why NULL: the "none" request that clients open with, which is no attempt if it comes first. */
static void fail(struct auth *auth, const char *why)
{
    if (auth_is_over(auth))
        return;
    if (why != NULL || auth->requests > 1)
        auth->failures++;
    if (why != NULL)
        log_attempt(auth, "failure", why);
    auth->partial = false;
    auth->listing = 0;
    if (auth->failures >= auth->settings.max_failures)
        reply_in_time(auth);
    else
        list_methods(auth);
}

void auth_fail(struct auth *auth, const char *why)
{
    if (why != NULL)
        auth->blamed = true;
    fail(auth, why);
}

void auth_deny(struct auth *auth, const Policy__Deny *deny)
{
    hold_banner(auth, deny->message, NULL);
    auth_fail(auth, "denied by the policy");
}

void auth_no_answer(struct auth *auth, enum outcome outcome)
{
    if (outcome != ABSENT)
        hold_banner(auth, no_answer_text, NULL);
    auth->blamed = auth->blamed || outcome == ABSENT; /* that handler's default is a no */
    fail(auth, outcome_name(outcome));
}

/* ---- success */

/* What BeginAuthAnswer.required still wants: 0 if one of its sets is passed whole. An empty set is
 * never passed. */
static uint32_t still_required(const struct auth *auth)
{
    uint32_t wanted = 0;

    for (size_t i = 0; i < auth->required_count; i++) {
        uint32_t set = auth->required[i];

        if (set != 0 && (set & ~auth->passed) == 0)
            return 0;
        wanted |= set & ~auth->passed;
    }
    return wanted;
}

static bool required_met(const struct auth *auth)
{
    for (size_t i = 0; i < auth->required_count; i++)
        if (auth->required[i] != 0 && (auth->required[i] & ~auth->passed) == 0)
            return true;
    return auth->required_count == 0;
}

/* Adds the factor and its restrictions; false, with all of it taken back, if the sum cannot be
 * kept. */
static bool pass_factor(struct auth *auth, Policy__Factor *factor, const Policy__Allow *allow,
                        const Policy__Restrictions *restrictions)
{
    struct grant mark = *auth->grant;
    const char *refusal;

    if (auth_is_over(auth))
        return false;
    if (allow != NULL)
        grant_add_allow(auth->grant, allow);
    grant_add(auth->grant, restrictions);
    grant_add_all(auth->grant, &auth->request.credential);
    refusal = grant_refusal(auth->grant, auth->peer_ip);
    if (refusal != NULL) {
        grant_rollback(auth->grant, &mark);
        auth_fail(auth, refusal);
        return false;
    }
    auth->passed |= METHOD_BIT(factor->method);
    if (factor->method == POLICY__AUTH_METHOD__AUTH_METHOD_PUBLICKEY)
        auth->grant->unverified_key = !auth->request.facts.user_verified;
    asker_add_factor(auth->asker, factor);
    return true;
}

static void go_on_with(struct auth *auth, uint32_t remaining)
{
    remaining &= auth_live_methods(auth) & ~auth->passed;
    if (remaining == 0) {
        auth_fault(auth, DISCONNECT_NO_MORE_AUTH_METHODS,
                   "More authentication is needed than this server offers");
        return;
    }
    log_attempt(auth, "partial", NULL);
    auth->remaining = remaining;
    auth->partial = true;
    send_failure(auth);
}

static uint32_t remaining_of(const Policy__PartialSuccess *partial)
{
    uint32_t mask = 0;

    for (size_t i = 0; i < partial->n_remaining; i++)
        mask |= METHOD_BIT(partial->remaining[i]);
    return mask;
}

void auth_partly(struct auth *auth, Policy__Factor *factor, const Policy__PartialSuccess *partial)
{
    uint32_t remaining = remaining_of(partial);

    if (auth->request.more_needed)
        remaining &= auth->request.remaining;
    if (pass_factor(auth, factor, NULL, partial->restrictions))
        go_on_with(auth, remaining);
}

void auth_succeed(struct auth *auth, Policy__Factor *factor, const Policy__Allow *allow)
{
    bool more_needed = auth->request.more_needed;
    uint32_t left = auth->request.remaining;

    if (!pass_factor(auth, factor, allow, NULL))
        return;
    if (more_needed) {
        go_on_with(auth, left);
    } else if (required_met(auth)) {
        log_attempt(auth, "success", NULL);
        auth_complete(auth);
    } else {
        go_on_with(auth, still_required(auth));
    }
}

/* ---- answers to questions about a credential */

bool auth_answer_is_yes(const Policy__AuthAnswer *answer)
{
    return answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_ALLOW ||
           answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_PARTIAL;
}

void auth_note_yes(struct auth *auth, const Policy__AuthAnswer *answer)
{
    struct auth_request *request = &auth->request;

    if (answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_ALLOW) {
        grant_add_allow(&request->credential, answer->allow);
        return;
    }
    grant_add(&request->credential, answer->partial->restrictions);
    request->more_needed = true;
    request->remaining = remaining_of(answer->partial);
}

void auth_accept(struct auth *auth, Policy__Factor *factor, const Policy__AuthAnswer *answer)
{
    if (answer != NULL && answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_PARTIAL)
        auth_partly(auth, factor, answer->partial);
    else
        auth_succeed(auth, factor, answer ? answer->allow : NULL);
}

void auth_refuse(struct auth *auth, enum outcome outcome, const Policy__AuthAnswer *answer)
{
    if (outcome == ANSWERED && answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_DENY)
        auth_deny(auth, answer->deny);
    else
        auth_no_answer(auth, outcome == ANSWERED ? UNAVAILABLE : outcome);
}

/* ---- after the last factor */

static void on_completed(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct auth *auth = owner;
    const Policy__AuthCompletedAnswer *answer = (const Policy__AuthCompletedAnswer *)message;
    const char *refusal;

    auth->asking = NULL;
    if (outcome == UNAVAILABLE || outcome == EXPIRED) {
        auth_fault(auth, DISCONNECT_BY_APPLICATION, no_answer_text);
        return;
    }
    if (outcome == ANSWERED &&
        answer->outcome_case != POLICY__AUTH_COMPLETED_ANSWER__OUTCOME_ALLOW) {
        const char *text = answer->deny->message;

        auth->blamed = true;
        auth_fault(auth, DISCONNECT_BY_APPLICATION, text[0] ? text : "Login refused");
        return;
    }
    if (outcome == ANSWERED)
        grant_add_allow(auth->grant, answer->allow);
    refusal = grant_refusal(auth->grant, auth->peer_ip);
    if (refusal != NULL) {
        auth_fault(auth, DISCONNECT_BY_APPLICATION, refusal);
        return;
    }
    auth->state = AUTH_DONE;
    log_info(asker_connection_id(auth->asker), "login", log_str("user", asker_user(auth->asker)),
             log_u64("requests", auth->requests), log_u64("ms", clock_ms() - auth->started_ms));
    auth->events->completed(auth->owner, outcome == ANSWERED ? answer : NULL);
    transport_resume(auth->transport);
}

/* What the client sends from now on waits unread until the answer is in: nothing of it can reach
 * anyone before. */
void auth_complete(struct auth *auth)
{
    Policy__AuthCompletedRequest question = POLICY__AUTH_COMPLETED_REQUEST__INIT;
    Policy__Restrictions sum;
    Policy__EnvVar **environment;

    auth_flush_banners(auth);
    auth->state = AUTH_COMPLETING;
    key_lists_clear(&auth->lists); /* a session may live for long */
    asker_set_authenticated(auth->asker);
    transport_send_auth_success(auth->transport);
    transport_pause(auth->transport);
    grant_summary(auth->grant, &sum, &environment);
    question.restrictions = &sum;
    auth->asking =
        asker_ask(auth->asker, RPC_AUTH_COMPLETED, &question.base, 0, on_completed, auth);
    free(environment);
    auth_request_end(auth);
}
