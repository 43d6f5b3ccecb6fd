/*
 * RFC 4462 section 3: gssapi-with-mic, with Kerberos 5, and section 4: gssapi-keyex, where the key
 * exchange has made the context already. The library's calls run on a helper, one
 * after the other; the policy is asked about the principal once the client's message integrity code
 * over this very request is good. An exchange without one proves nothing about this session and is
 * refused.
 */
#include "auth/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define LIBRARY_DEADLINE_MS 10000
#define MECHANISMS_MAX      64
#define MECHANISM_MAX_BYTES 128
#define TOKENS_MAX          8 /* Kerberos needs one */

enum gss_state {
    GSS_ACQUIRING,
    GSS_TOKENS,   /* until the context stands */
    GSS_MIC,      /* it does: only the code is missing */
    GSS_GIVEN_UP, /* the client has; it goes on with another request */
};

struct gssapi {
    enum gss_state state;
    struct gss_exchange *exchange; /* NULL while a helper has it */
    struct gss_exchange **home;    /* gssapi-keyex: where it goes back to */
    unsigned tokens;
};

static void gssapi_free(void *dialogue)
{
    struct gssapi *g = dialogue;

    if (g->home != NULL)
        *g->home = g->exchange;
    else
        gss_exchange_free(&g->exchange);
    free(g);
}

static void fail_exchange(struct auth *auth, const char *why)
{
    const struct gssapi *g = auth->request.dialogue;

    log_warn(asker_connection_id(auth->asker), "gssapi_failed", log_str("why", why),
             log_str("library", g->exchange ? gss_exchange_error(g->exchange) : NULL));
    auth_fail(auth, why);
}

/* ---- the library, on a helper. The exchange goes there and comes back. */

struct gss_task {
    struct helper_task task;
    struct gss_exchange *exchange;
    const struct gss_settings *settings; /* to acquire */
    struct buf input, mic;               /* a token; or what was signed, and its code */
    struct buf reply;
    bool good;
    enum gss_step step;
};

static void task_free(struct helper_task *task)
{
    struct gss_task *work = (struct gss_task *)task;

    gss_exchange_free(&work->exchange);
    buf_clear(&work->input);
    buf_clear(&work->mic);
    buf_clear(&work->reply);
    free(work);
}

static void work_acquire(struct helper_task *task)
{
    struct gss_task *work = (struct gss_task *)task;

    work->good = gss_exchange_acquire(work->exchange, work->settings);
}

static void work_accept(struct helper_task *task)
{
    struct gss_task *work = (struct gss_task *)task;

    work->step = gss_exchange_accept(work->exchange, buf_bytes(&work->input), &work->reply);
}

static void work_verify(struct helper_task *task)
{
    struct gss_task *work = (struct gss_task *)task;

    work->good =
        gss_exchange_verify(work->exchange, buf_bytes(&work->input), buf_bytes(&work->mic));
}

static struct gss_task *task_new(struct auth *auth, void (*work)(struct helper_task *task))
{
    struct gssapi *g = auth->request.dialogue;
    struct gss_task *task = xcalloc(1, sizeof(*task));

    task->task = (struct helper_task){work, task_free};
    task->settings = auth->settings.gss;
    task->exchange = g->exchange;
    g->exchange = NULL;
    return task;
}

static void run_task(struct auth *auth, struct gss_task *task, helper_fn *done)
{
    auth->helping = helpers_run(auth->settings.help.helpers, auth->settings.help.loop,
                                LIBRARY_DEADLINE_MS, &task->task, done, auth);
}

/* NULL: the request has failed. */
static struct gss_task *take_back(struct auth *auth, enum helper_outcome outcome,
                                  struct helper_task *task)
{
    struct gssapi *g = auth->request.dialogue;
    struct gss_task *work = (struct gss_task *)task;

    auth->helping = NULL;
    if (outcome != HELPER_DONE) {
        fail_exchange(auth, outcome == HELPER_EXPIRED ? "the library gave no answer in time"
                                                      : "too many exchanges at once");
        return NULL;
    }
    g->exchange = work->exchange;
    work->exchange = NULL;
    return work;
}

/* ---- the policy */

/* The default: "alice" is "alice@" and our own realm. What the name would mean to Kerberos is not
 * guessed at. */
static bool is_own_principal(const struct auth *auth, const struct gss_exchange *exchange)
{
    const char *user = auth->request.user;
    const char *client = gss_exchange_client(exchange);
    const char *realm = strrchr(gss_exchange_acceptor(exchange), '@');
    size_t len = strlen(user);

    return len > 0 && strpbrk(user, "@/\\") == NULL && realm != NULL && realm[1] != '\0' &&
           strncmp(client, user, len) == 0 && strcmp(client + len, realm) == 0;
}

static void accept_principal(struct auth *auth, const Policy__AuthAnswer *answer)
{
    const struct gssapi *g = auth->request.dialogue;
    Policy__Factor factor = POLICY__FACTOR__INIT;

    factor.method = auth->request.method->method;
    factor.gss_principal = (char *)gss_exchange_client(g->exchange);
    log_info(asker_connection_id(auth->asker), "principal_accepted",
             log_str("principal", factor.gss_principal));
    auth_accept(auth, &factor, answer);
}

static void on_verdict(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct auth *auth = owner;
    const struct gssapi *g = auth->request.dialogue;
    const Policy__AuthAnswer *answer = (const Policy__AuthAnswer *)message;

    auth->asking = NULL;
    if (outcome == ABSENT && is_own_principal(auth, g->exchange))
        accept_principal(auth, NULL);
    else if (outcome == ANSWERED && auth_answer_is_yes(answer))
        accept_principal(auth, answer);
    else
        auth_refuse(auth, outcome, answer);
}

static void ask_about_principal(struct auth *auth)
{
    Policy__ValidateGssPrincipalRequest question = POLICY__VALIDATE_GSS_PRINCIPAL_REQUEST__INIT;
    const struct gssapi *g = auth->request.dialogue;

    question.user_principal = (char *)gss_exchange_client(g->exchange);
    question.host_principal = (char *)gss_exchange_acceptor(g->exchange);
    auth->asking =
        asker_ask(auth->asker, RPC_VALIDATE_GSS_PRINCIPAL, &question.base, 0, on_verdict, auth);
}

/* ---- messages */

static void send_string(struct auth *auth, uint8_t type, struct bytes string)
{
    struct buf message = {0};

    auth_flush_banners(auth);
    buf_put_u8(&message, type);
    buf_put_string(&message, string);
    transport_send(auth->transport, buf_bytes(&message));
    buf_clear(&message);
}

static bool parse_string(struct auth *auth, struct bytes message, struct bytes *out)
{
    struct reader r = reader_of(message);

    *out = reader_string(&r);
    if (reader_end(&r) && out->len <= GSS_TOKEN_MAX)
        return true;
    auth_fault(auth, DISCONNECT_PROTOCOL_ERROR, "Malformed GSSAPI message");
    return false;
}

static void on_verified(void *owner, enum helper_outcome outcome, struct helper_task *task)
{
    struct auth *auth = owner;
    struct gss_task *work = take_back(auth, outcome, task);

    if (work == NULL)
        return;
    if (work->good)
        ask_about_principal(auth);
    else
        fail_exchange(auth, "the message integrity code is wrong");
}

/* RFC 4462 sections 3.5 and 4 */
static void recv_mic(struct auth *auth, struct bytes message)
{
    struct gss_task *task;
    struct bytes mic;

    if (!parse_string(auth, message, &mic))
        return;
    task = task_new(auth, work_verify);
    buf_put(&task->mic, mic);
    buf_put_string(&task->input, transport_session_id(auth->transport));
    buf_put_u8(&task->input, MSG_USERAUTH_REQUEST);
    buf_put_cstring(&task->input, auth->request.user);
    buf_put_cstring(&task->input, "ssh-connection");
    buf_put_string(&task->input, buf_bytes(&auth->request.name));
    run_task(auth, task, on_verified);
}

static void on_accepted(void *owner, enum helper_outcome outcome, struct helper_task *task)
{
    struct auth *auth = owner;
    struct gss_task *work = take_back(auth, outcome, task);
    struct gssapi *g = auth->request.dialogue;

    if (work == NULL)
        return;
    if (work->reply.len > 0)
        send_string(auth,
                    work->step == GSS_STEP_FAILED ? MSG_USERAUTH_GSSAPI_ERRTOK
                                                  : MSG_USERAUTH_GSSAPI_TOKEN,
                    buf_bytes(&work->reply));
    if (work->step == GSS_STEP_FAILED) {
        fail_exchange(auth, "the token was not accepted");
        return;
    }
    g->state = work->step == GSS_STEP_DONE ? GSS_MIC : GSS_TOKENS;
    auth_wait_for_client(auth);
}

static void recv_token(struct auth *auth, struct bytes message)
{
    struct gssapi *g = auth->request.dialogue;
    struct gss_task *task;
    struct bytes token;

    if (!parse_string(auth, message, &token))
        return;
    if (++g->tokens > TOKENS_MAX) {
        fail_exchange(auth, "too many tokens");
        return;
    }
    task = task_new(auth, work_accept);
    buf_put(&task->input, token);
    run_task(auth, task, on_accepted);
}

/* The client's library refused our token. It goes on with another request, and expects no answer to
 * this (RFC 4462 section 3.9). */
static void recv_error_token(struct auth *auth)
{
    struct gssapi *g = auth->request.dialogue;

    log_warn(asker_connection_id(auth->asker), "gssapi_failed",
             log_str("why", "the client did not accept our token"));
    g->state = GSS_GIVEN_UP;
    auth_wait_for_client(auth);
}

void gssapi_message(struct auth *auth, uint8_t type, struct bytes message)
{
    const struct gssapi *g = auth->request.dialogue;

    if (type == MSG_USERAUTH_GSSAPI_TOKEN && g->state == GSS_TOKENS)
        recv_token(auth, message);
    else if (type == MSG_USERAUTH_GSSAPI_MIC && g->state == GSS_MIC)
        recv_mic(auth, message);
    else if (type == MSG_USERAUTH_GSSAPI_ERRTOK && g->state != GSS_GIVEN_UP)
        recv_error_token(auth);
    else if (type == MSG_USERAUTH_GSSAPI_EXCHANGE_COMPLETE)
        fail_exchange(auth, "an exchange without a message integrity code");
    else
        fail_exchange(auth, "a message that does not fit the exchange");
}

/* ---- the request */

/* Every name must be well-formed, so that a client never gets further than its first lie. */
static bool wants_kerberos(struct auth *auth, bool *kerberos)
{
    struct reader r = reader_of(buf_bytes(&auth->request.rest));
    uint32_t count = reader_u32(&r);

    *kerberos = false;
    if (count == 0 || count > MECHANISMS_MAX)
        return false;
    for (uint32_t i = 0; i < count && reader_ok(&r); i++) {
        struct bytes oid = reader_string(&r);

        if (oid.len > MECHANISM_MAX_BYTES)
            return false;
        *kerberos = *kerberos || bytes_equal(oid, GSS_KERBEROS_OID);
    }
    return reader_end(&r);
}

static void on_acquired(void *owner, enum helper_outcome outcome, struct helper_task *task)
{
    struct auth *auth = owner;
    struct gss_task *work = take_back(auth, outcome, task);
    struct gssapi *g = auth->request.dialogue;

    if (work == NULL)
        return;
    if (!work->good) {
        fail_exchange(auth, "no key to accept with");
        return;
    }
    g->state = GSS_TOKENS;
    send_string(auth, MSG_USERAUTH_GSSAPI_RESPONSE, GSS_KERBEROS_OID);
    auth_pipeline_dialogue(auth);
    auth_wait_for_client(auth);
}

void gssapi_run(struct auth *auth)
{
    struct gssapi *g;
    bool kerberos;

    if (!wants_kerberos(auth, &kerberos)) {
        auth_fault(auth, DISCONNECT_PROTOCOL_ERROR, "Malformed gssapi-with-mic request");
        return;
    }
    if (!kerberos) {
        auth_fail(auth, "no mechanism but Kerberos 5 is accepted here");
        return;
    }
    g = xcalloc(1, sizeof(*g));
    g->exchange = gss_exchange_new();
    auth->request.dialogue = g;
    auth->request.dialogue_free = gssapi_free;
    run_task(auth, task_new(auth, work_acquire), on_acquired);
}

/* ---- gssapi-keyex */

void gssapi_keyex_run(struct auth *auth)
{
    struct gssapi *g;

    if (auth->keyex == NULL) { /* a helper kept the last request's */
        auth_fail(auth, "the key exchange's context is gone");
        return;
    }
    g = xcalloc(1, sizeof(*g));
    g->state = GSS_MIC;
    g->exchange = auth->keyex;
    g->home = &auth->keyex;
    auth->keyex = NULL;
    auth->request.dialogue = g;
    auth->request.dialogue_free = gssapi_free;
    recv_mic(auth, buf_bytes(&auth->request.rest));
}
