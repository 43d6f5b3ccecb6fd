#include "unit/auth/login.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SERVICE_REQUEST = 5,
    SERVICE_ACCEPT,
    REQUEST = 50,
    FAILURE,
    SUCCESS,
    BANNER,
    PK_OK = 60,
    INFO_REQUEST = 60,
    INFO_RESPONSE
};

static bool on_message(void *owner, uint8_t type, struct bytes message)
{
    struct login *l = owner;

    return auth_message(l->auth, type, message);
}

static void on_ended(void *owner, const struct transport_end *end)
{
    (void)owner;
    (void)end;
}

static const struct transport_events transport_events = {.message = on_message, .ended = on_ended};

static void on_disconnect(void *owner, uint32_t code, const char *reason, const char *language)
{
    (void)owner;
    (void)code;
    (void)reason;
    (void)language;
}

static void on_banner(void *owner, const char *text, const char *language)
{
    struct login *l = owner;

    auth_banner(l->auth, text, language);
}

static const struct asker_events asker_events = {on_disconnect, on_banner};

static void on_completed(void *owner, const Policy__AuthCompletedAnswer *answer)
{
    struct login *l = owner;

    l->completed++;
    l->completed_with_answer = answer != NULL;
}

static void on_fault(void *owner, uint32_t code, const char *reason)
{
    struct login *l = owner;

    l->faults++;
    l->fault_code = code;
    snprintf(l->fault_reason, sizeof(l->fault_reason), "%s", reason);
}

static const struct auth_events auth_events = {on_completed, on_fault};

static char *host_name(const char *ip)
{
    assert_string_equal(ip, "192.0.2.7");
    return xstrdup(LOGIN_HOST);
}

/* With a service that is accepted, as login_setup(). */
void login_configure(struct login *l, bool trust_claimed_host, const struct gss_settings *gss)
{
    struct auth_settings settings = {
        .max_failures = 6,
        .max_requests = 40,
        .hostbased_trust_claimed_host = trust_claimed_host,
        .gss = gss,
        .help = {l->loop, l->helpers, host_name},
    };

    auth_free(&l->auth);
    l->auth = auth_new(l->transport, l->asker, &l->grant, "192.0.2.7", &settings, &auth_events, l);
    fake_deliver(l->transport, SERVICE_REQUEST, "s", "ssh-userauth");
    assert_true(fake_sent_is(l->transport, SERVICE_ACCEPT, "s", "ssh-userauth"));
}

int login_setup_new(void **state)
{
    struct auth_settings settings = {.max_failures = 6, .max_requests = 40};
    struct login *l = xcalloc(1, sizeof(*l));
    struct address peer = {.ip = "192.0.2.7", .port = 4711};

    log_set_level(LOG_ERROR);
    l->loop = loop_new();
    l->control = fake_control_new();
    l->helpers = helpers_new(1, 1);
    settings.help = (struct auth_help){l->loop, l->helpers, host_name};
    l->transport = fake_transport_new(&transport_events, l);
    l->asker = asker_new(l->control, l->loop, &asker_events, l);
    asker_set_addresses(l->asker, &peer, &peer);
    l->auth = auth_new(l->transport, l->asker, &l->grant, "192.0.2.7", &settings, &auth_events, l);
    *state = l;
    return 0;
}

int login_setup(void **state)
{
    struct login *l;

    login_setup_new(state);
    l = *state;
    fake_deliver(l->transport, SERVICE_REQUEST, "s", "ssh-userauth");
    return fake_sent_is(l->transport, SERVICE_ACCEPT, "s", "ssh-userauth") ? 0 : -1;
}

void login_restart(struct login *l, const struct auth_settings *settings)
{
    auth_free(&l->auth);
    l->auth = auth_new(l->transport, l->asker, &l->grant, "192.0.2.7", settings, &auth_events, l);
    fake_deliver(l->transport, SERVICE_REQUEST, "s", "ssh-userauth");
    assert_true(fake_sent_is(l->transport, SERVICE_ACCEPT, "s", "ssh-userauth"));
}

int login_teardown(void **state)
{
    struct login *l = *state;
    int faults = l->faults;

    auth_free(&l->auth);
    assert_int_equal(l->faults, faults);
    grant_clear(&l->grant);
    asker_free(&l->asker);
    transport_free(&l->transport);
    fake_control_free(&l->control);
    helpers_free(&l->helpers);
    assert_int_equal(fake_gss_alive(), 0);
    loop_free(&l->loop);
    free(l);
    return 0;
}

/* ---- the client */

void send_request(struct login *l, const char *user, const char *method, const char *format, ...)
{
    struct buf message = {0};
    va_list args;

    wire_put(&message, "sss", user, "ssh-connection", method);
    va_start(args, format);
    wire_vput(&message, format, args);
    va_end(args);
    fake_deliver_bytes(l->transport, REQUEST, buf_bytes(&message));
    buf_clear(&message);
}

void send_none(struct login *l, const char *user)
{
    send_request(l, user, "none", "");
}

void send_password(struct login *l, const char *user, const char *password)
{
    send_request(l, user, "password", "bs", false, password);
}

void send_kbdint(struct login *l, const char *user)
{
    send_request(l, user, "keyboard-interactive", "ss", "", "");
}

void send_responses(struct login *l, uint32_t count, const char *response)
{
    struct buf message = {0};

    wire_put(&message, "u", count);
    for (uint32_t i = 0; i < count; i++)
        wire_put(&message, "s", response);
    fake_deliver_bytes(l->transport, INFO_RESPONSE, buf_bytes(&message));
    buf_clear(&message);
}

void send_probe(struct login *l, const char *user, const char *key)
{
    send_request(l, user, "publickey", "bss", false, "ssh-ed25519", key);
}

void signed_data(struct buf *out, const char *user, const char *algorithm, const char *key)
{
    wire_put(out, "scsssbss", FAKE_SESSION_ID, REQUEST, user, "ssh-connection", "publickey", true,
             algorithm, key);
}

void send_signed_as(struct login *l, const char *user, const char *key, const char *algorithm)
{
    struct buf data = {0}, signature = {0};

    signed_data(&data, user, algorithm, key);
    fake_sign(&signature, bytes_of_string(key), algorithm, buf_bytes(&data));
    send_request(l, user, "publickey", "bssS", true, algorithm, key, buf_bytes(&signature));
    buf_clear(&data);
    buf_clear(&signature);
}

void send_signed(struct login *l, const char *user, const char *key)
{
    send_signed_as(l, user, key, "ssh-ed25519");
}

/* ---- what must be */

void expect_failure(struct login *l, const char *methods, bool partial)
{
    assert_true(fake_sent_is(l->transport, FAILURE, "sb", methods, partial));
}

void expect_banner(struct login *l, const char *text)
{
    assert_true(fake_sent_is(l->transport, BANNER, "ss", text, ""));
}

void expect_success(struct login *l)
{
    assert_true(fake_sent_is(l->transport, SUCCESS, ""));
    assert_true(auth_is_done(l->auth));
    assert_int_equal(fake_pending_rpc(l->control, 0), RPC_AUTH_COMPLETED);
}

void expect_no_success(struct login *l)
{
    assert_false(fake_auth_success_sent(l->transport));
    assert_false(auth_is_done(l->auth));
    assert_int_equal(l->completed, 0);
}

void expect_pk_ok(struct login *l, const char *algorithm, const char *key)
{
    assert_true(fake_sent_is(l->transport, PK_OK, "ss", algorithm, key));
}

void expect_password_prompt(struct login *l)
{
    assert_true(
        fake_sent_is(l->transport, INFO_REQUEST, "sssusb", "", "", "", 1, "Password: ", false));
}

void expect_challenge(struct login *l, size_t prompts)
{
    struct buf all = {0};

    for (size_t i = 0; i < prompts; i++) {
        char text[32];

        snprintf(text, sizeof(text), "prompt %zu", i);
        wire_put(&all, "sb", text, i % 2 != 0);
    }
    assert_true(fake_sent_is(l->transport, INFO_REQUEST, "sssuR", "name", "instruction", "en",
                             (uint32_t)prompts, buf_bytes(&all)));
    buf_clear(&all);
}

void expect_silence(struct login *l)
{
    assert_int_equal(fake_sent_waiting(l->transport), 0);
    assert_int_equal(l->faults, 0);
}

void expect_fault(struct login *l, uint32_t code)
{
    assert_int_equal(l->faults, 1);
    assert_int_equal(l->fault_code, code);
    assert_int_equal(fake_pending(l->control), 0);
}

void expect_asked(struct login *l, enum rpc rpc)
{
    assert_int_equal(fake_pending(l->control), 1);
    assert_string_equal(rpc_name(fake_pending_rpc(l->control, 0)), rpc_name(rpc));
}

void expect_idle(struct login *l)
{
    assert_int_equal(fake_pending(l->control), 0);
}
