/* The lane of USERAUTH requests (RFC 4252 section 5). */
#include "auth/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define LANE_MAX_MESSAGES 8
#define LANE_MAX_BYTES    65536

const struct auth_method auth_methods[] = {
    {"gssapi-keyex", NULL, POLICY__AUTH_METHOD__AUTH_METHOD_GSSAPI_KEYEX, RPC_COUNT,
     gssapi_keyex_run, NULL},
    {"gssapi-with-mic", NULL, POLICY__AUTH_METHOD__AUTH_METHOD_GSSAPI_WITH_MIC, RPC_COUNT,
     gssapi_run, gssapi_message},
    {"hostbased", NULL, POLICY__AUTH_METHOD__AUTH_METHOD_HOSTBASED, RPC_HOST_BASED_AUTH_SUPPORTED,
     hostbased_run, NULL},
    {"publickey", "publickey-hostbound-v00@openssh.com", POLICY__AUTH_METHOD__AUTH_METHOD_PUBLICKEY,
     RPC_PUBLIC_KEY_AUTH_SUPPORTED, publickey_run, NULL},
    {"keyboard-interactive", NULL, POLICY__AUTH_METHOD__AUTH_METHOD_KEYBOARD_INTERACTIVE,
     RPC_KBDINT_AUTH_SUPPORTED, kbdint_run, kbdint_message},
    {"password", NULL, POLICY__AUTH_METHOD__AUTH_METHOD_PASSWORD, RPC_PASSWORD_AUTH_SUPPORTED,
     password_run, NULL},
};
const size_t auth_methods_count = sizeof(auth_methods) / sizeof(auth_methods[0]);

uint32_t auth_live_methods(const struct auth *auth)
{
    uint32_t mask = 0;

    for (size_t i = 0; i < auth_methods_count; i++)
        mask |= METHOD_BIT(auth_methods[i].method);
    return mask & ~auth->disabled;
}

uint32_t auth_unasked_methods(void)
{
    uint32_t mask = 0;

    for (size_t i = 0; i < auth_methods_count; i++)
        if (auth_methods[i].supported == RPC_COUNT)
            mask |= METHOD_BIT(auth_methods[i].method);
    return mask;
}

const struct auth_method *auth_method_row(Policy__AuthMethod method)
{
    for (size_t i = 0; i < auth_methods_count; i++)
        if (auth_methods[i].method == method)
            return &auth_methods[i];
    return NULL;
}

static const struct auth_method *method_by_name(struct bytes name)
{
    for (size_t i = 0; i < auth_methods_count; i++) {
        const struct auth_method *method = &auth_methods[i];

        if (bytes_are(name, method->name) || (method->alias && bytes_are(name, method->alias)))
            return method;
    }
    return NULL;
}

static void request_clear(struct auth_request *request)
{
    free(request->user);
    buf_clear(&request->name);
    buf_clear_secret(&request->rest);
    if (request->certificate == NULL)
        public_key_free(&request->key);
    certificate_free(&request->certificate);
    grant_clear(&request->credential);
    if (request->dialogue != NULL)
        request->dialogue_free(request->dialogue);
    *request = (struct auth_request){0};
}

void auth_fault(struct auth *auth, uint32_t code, const char *reason)
{
    if (auth->state == AUTH_FAULTY)
        return;
    auth->state = AUTH_FAULTY;
    auth_delay_stop(auth);
    decision_cancel(&auth->asking);
    helper_cancel(&auth->helping);
    lane_clear(&auth->lane);
    auth->events->fault(auth->owner, code, reason);
}

bool auth_is_over(struct auth *auth)
{
    if (auth->state != AUTH_FAULTY && !transport_is_open(auth->transport)) {
        auth->state = AUTH_FAULTY;
        lane_clear(&auth->lane);
    }
    return auth->state == AUTH_FAULTY;
}

/* The lane is not resumed from within its own run(): a request that ended at once is found there.
 */
static void leave_lane(struct auth *auth)
{
    if (auth->running)
        auth->running = false;
    else
        lane_resume(&auth->lane);
}

void auth_request_end(struct auth *auth)
{
    auth->dialogue_pipelined = false;
    request_clear(&auth->request);
    leave_lane(auth);
}

void auth_wait_for_client(struct auth *auth)
{
    auth->dialogue_open = true;
    leave_lane(auth);
}

void auth_pipeline_dialogue(struct auth *auth)
{
    auth->dialogue_pipelined = true;
}

/* ---- USERAUTH_REQUEST */

/* A changed name starts over; after a partial success it would mix two people's factors (RFC 4252
 * section 5). */
static bool take_user(struct auth *auth, const char *user)
{
    if (auth->begun && strcmp(asker_user(auth->asker), user) == 0)
        return true;
    if (auth->remaining != 0) {
        auth_fault(auth, DISCONNECT_PROTOCOL_ERROR, "Change of user name after a partial success");
        return false;
    }
    if (auth->begun)
        grant_drop_user(auth->grant);
    else
        grant_begin_user(auth->grant);
    auth->begun = false;
    asker_set_user(auth->asker, bytes_of_string(user));
    return true;
}

static bool parse_request(struct auth *auth, struct bytes message)
{
    struct reader r = reader_of(message);
    struct bytes user = reader_string(&r);
    struct bytes service = reader_string(&r);
    struct bytes method = reader_string(&r);
    struct bytes rest = reader_rest(&r);

    if (!reader_end(&r)) {
        auth_fault(auth, DISCONNECT_PROTOCOL_ERROR, "Malformed authentication request");
        return false;
    }
    if (user.len > USER_NAME_MAX_BYTES || !text_is_clean(user)) {
        auth_fault(auth, DISCONNECT_ILLEGAL_USER_NAME, "Illegal user name");
        return false;
    }
    if (!bytes_are(service, "ssh-connection")) {
        auth_fault(auth, DISCONNECT_SERVICE_NOT_AVAILABLE, "Service not available");
        return false;
    }
    auth->request.user = bytes_to_string(user);
    auth->request.method = method_by_name(method);
    buf_put(&auth->request.name, method);
    buf_put(&auth->request.rest, rest);
    return true;
}

/* What the client says in a dialogue counts as well, or a dialogue would have no end. */
static bool count_request(struct auth *auth)
{
    if (++auth->requests <= auth->settings.max_requests)
        return true;
    auth_fault(auth, DISCONNECT_NO_MORE_AUTH_METHODS, "Too many authentication requests");
    return false;
}

static void recv_userauth_request(struct auth *auth, struct bytes message)
{
    if (auth->dialogue_open) {
        auth->dialogue_open = auth->dialogue_pipelined = false;
        request_clear(&auth->request);
    }
    if (!count_request(auth))
        return;
    if (!parse_request(auth, message) || !take_user(auth, auth->request.user))
        return;
    if (auth->begun)
        auth_dispatch(auth);
    else
        auth_begin(auth);
}

static void recv_dialogue(struct auth *auth, uint8_t type, struct bytes message)
{
    auth->dialogue_open = false;
    if (count_request(auth))
        auth->request.method->message(auth, type, message);
}

static enum lane_step on_lane(void *owner, uint8_t type, struct bytes message)
{
    struct auth *auth = owner;
    bool waits;

    if (auth->state != AUTH_SERVICE)
        return LANE_DONE; /* success came first: later requests are ignored (RFC 4252 section 5.1)
                           */
    if (type != MSG_USERAUTH_REQUEST && !auth->dialogue_open)
        return LANE_DONE; /* pipelined, for a dialogue that has ended meanwhile */
    auth->running = true;
    auth->request_us = clock_us();
    if (type == MSG_USERAUTH_REQUEST)
        recv_userauth_request(auth, message);
    else
        recv_dialogue(auth, type, message);
    waits = auth->running && auth->state == AUTH_SERVICE;
    auth->running = false;
    return waits ? LANE_WAIT : LANE_DONE;
}

static void on_lane_pressure(void *owner, bool full)
{
    struct auth *auth = owner;

    if (full)
        transport_pause(auth->transport);
    else
        transport_resume(auth->transport);
}

static void on_supported(void *owner, enum outcome outcome, const ProtobufCMessage *answer)
{
    struct auth *auth = owner;

    auth->asking = NULL;
    auth_note_support(auth, auth_to_ask(auth, auth->request.method), outcome, answer);
    auth_dispatch(auth);
}

void auth_dispatch(struct auth *auth)
{
    const struct auth_method *method = auth->request.method;
    uint32_t bit = method ? METHOD_BIT(method->method) : 0;

    if (auth_is_over(auth))
        return;
    if (auth->not_required && auth->remaining == 0) {
        Policy__Factor factor = POLICY__FACTOR__INIT;

        factor.method = POLICY__AUTH_METHOD__AUTH_METHOD_NONE;
        auth_succeed(auth, &factor, NULL);
    } else if (method == NULL) {
        auth_fail(auth,
                  bytes_are(buf_bytes(&auth->request.name), "none") ? NULL : "unknown method");
    } else if (auth->remaining != 0 && (auth->remaining & bit) == 0) {
        auth_fail(auth, "not among the methods that remain");
    } else if (auth->remaining == 0 && auth_to_ask(auth, method) != NULL) {
        auth_ask_supported(auth, auth_to_ask(auth, method), on_supported);
    } else if (auth->remaining == 0 && (auth_offered(auth) & bit) == 0) {
        auth_fail(auth, "method not offered");
    } else {
        method->run(auth);
    }
}

/* ---- the room's door */

struct auth *auth_new(struct transport *transport, struct asker *asker, struct grant *grant,
                      const char *peer_ip, const struct auth_settings *settings,
                      const struct auth_events *events, void *owner)
{
    struct auth *auth = xcalloc(1, sizeof(*auth));

    auth->transport = transport;
    auth->asker = asker;
    auth->grant = grant;
    auth->peer_ip = peer_ip;
    auth->settings = *settings;
    auth->events = events;
    auth->owner = owner;
    auth->started_ms = clock_ms();
    lane_init(&auth->lane, on_lane, on_lane_pressure, auth, LANE_MAX_MESSAGES, LANE_MAX_BYTES);
    return auth;
}

static void recv_service_request(struct auth *auth, struct bytes message)
{
    struct reader r = reader_of(message);
    struct bytes service = reader_string(&r);
    struct buf reply = {0};

    if (!reader_end(&r) || !bytes_are(service, "ssh-userauth")) {
        auth_fault(auth, DISCONNECT_SERVICE_NOT_AVAILABLE, "Service not available");
        return;
    }
    buf_put_u8(&reply, MSG_SERVICE_ACCEPT);
    buf_put_string(&reply, service);
    transport_send(auth->transport, buf_bytes(&reply));
    buf_clear(&reply);
    if (auth->state == AUTH_NEW)
        auth->state = AUTH_SERVICE;
}

/* An answer to a question that has not been asked is none. */
static bool takes_dialogue(const struct auth *auth, uint8_t type)
{
    if (type < MSG_USERAUTH_DIALOGUE_FIRST || type > MSG_USERAUTH_DIALOGUE_LAST ||
        auth->state != AUTH_SERVICE)
        return false;
    return auth->dialogue_pipelined || (auth->dialogue_open && lane_is_idle(&auth->lane));
}

bool auth_message(struct auth *auth, uint8_t type, struct bytes message)
{
    if (type == MSG_SERVICE_REQUEST) {
        recv_service_request(auth, message);
        return true;
    }
    if (takes_dialogue(auth, type)) {
        lane_push(&auth->lane, type, message);
        return true;
    }
    if (type != MSG_USERAUTH_REQUEST)
        return false;
    if (auth->state == AUTH_NEW)
        auth_fault(auth, DISCONNECT_PROTOCOL_ERROR, "Authentication request before the service");
    else if (auth->state == AUTH_SERVICE)
        lane_push(&auth->lane, type, message);
    return true;
}

bool auth_has_failed(const struct auth *auth)
{
    return auth->blamed;
}

bool auth_is_asking(const struct auth *auth)
{
    return auth->asking != NULL || auth->helping != NULL;
}

bool auth_is_done(const struct auth *auth)
{
    return auth->state == AUTH_COMPLETING || auth->state == AUTH_DONE;
}

void auth_free(struct auth **where)
{
    struct auth *auth = *where;

    *where = NULL;
    if (auth == NULL)
        return;
    auth_delay_stop(auth);
    decision_cancel(&auth->asking);
    helper_cancel(&auth->helping);
    lane_clear(&auth->lane);
    request_clear(&auth->request);
    buf_clear(&auth->banner);
    key_lists_clear(&auth->lists);
    free(auth->peer_name);
    gss_exchange_free(&auth->keyex);
    free(auth->required);
    free(auth);
}
