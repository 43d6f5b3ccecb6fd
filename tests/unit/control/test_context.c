/* What questions carry of their connection, and what answers do to it. */
#include "asking.h"

#include "base/alloc.h"

#include "../cmocka_unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Policy__ValidatePasswordRequest *last_password_request(struct fixture *fixture)
{
    struct buf wire = policy_server_last_request(fixture->policy, "ValidatePassword");
    Policy__ValidatePasswordRequest *request =
        policy__validate_password_request__unpack(NULL, wire.len, wire.data);

    assert_non_null(request);
    buf_clear(&wire);
    return request;
}

static void facts_travel(void **state)
{
    struct fixture *fixture = *state;
    struct asker *asker = fixture->asker;
    struct heard heard = {0};
    const struct address peer = {"192.0.2.7", 4022}, local = {"192.0.2.1", 22};
    Policy__Factor factor = POLICY__FACTOR__INIT;
    Policy__ValidatePasswordRequest *request;
    char *metadata, *expected;

    asker_set_addresses(asker, &peer, &local);
    asker_set_client_version(asker, "SSH-2.0-Test");
    asker_set_session_id(asker, BYTES("\x00\x01"));
    asker_set_user(asker, BYTES("alice"));
    factor.method = POLICY__AUTH_METHOD__AUTH_METHOD_PUBLICKEY;
    asker_add_factor(asker, &factor);
    assert_int_equal(asker_factors(asker), 1);
    policy_server_set(fixture->policy, "ValidatePassword",
                      (struct script){.kind = SCRIPT_ECHO_PASSWORD});
    fixture_ask_password(fixture, "x", &heard);
    request = last_password_request(fixture);
    assert_string_equal(request->context->connection_id, asker_connection_id(asker));
    assert_int_equal(strlen(request->context->question_id), 32);
    assert_string_equal(request->context->daemon, "test");
    assert_int_equal(request->context->contract_revision, 1);
    assert_string_equal(request->context->peer->ip, "192.0.2.7");
    assert_int_equal(request->context->local->port, 22);
    assert_string_equal(request->context->client_version, "SSH-2.0-Test");
    assert_string_equal(request->context->user, "alice");
    assert_int_equal(request->context->n_passed, 1);
    assert_int_equal(request->context->session_id.len, 2);
    metadata = policy_server_last_metadata(fixture->policy, "ValidatePassword");
    expected = xasprintf("traceparent=00-%s-%.16s-01\n", asker_connection_id(asker),
                         request->context->question_id);
    assert_non_null(strstr(metadata, expected));
    assert_non_null(strstr(metadata, "authorization=Bearer t0ken\n"));
    policy__validate_password_request__free_unpacked(request, NULL);
    /* another user: the factors are gone */
    asker_set_user(asker, BYTES("bob"));
    assert_int_equal(asker_factors(asker), 0);
    assert_string_equal(asker_context(asker)->user, "bob");
    free(metadata);
    free(expected);
    heard_clear(&heard);
}

/* ConnectionMade: allow, with a new state. */
static void say_state(struct fixture *fixture, const char *rpc, const char *text, int flags)
{
    Policy__ConnectionMadeRequest made = POLICY__CONNECTION_MADE_REQUEST__INIT;
    Policy__BeginAuthRequest begin = POLICY__BEGIN_AUTH_REQUEST__INIT;
    bool connection = strcmp(rpc, "ConnectionMade") == 0;
    size_t len = strlen(text);
    uint8_t wire[64] = {0x0a, (uint8_t)(len + 2), 0x0a, (uint8_t)len};
    struct heard heard = {0};

    memcpy(wire + 4, text, len);
    memcpy(wire + 4 + len, "\x12\x00", 2);
    script_bytes(fixture, rpc, bytes_of(wire, 4 + len + (connection ? 2 : 0)));
    asker_ask(fixture->asker, connection ? RPC_CONNECTION_MADE : RPC_BEGIN_AUTH,
              connection ? &made.base : &begin.base, flags, heard_answer, &heard);
    fixture_until(fixture, &heard.count, 1);
    assert_int_equal(heard.outcome, ANSWERED);
    heard_clear(&heard);
}

static void assert_state(struct fixture *fixture, const char *text)
{
    Policy__Context *context = asker_context(fixture->asker);

    assert_true(bytes_are(bytes_of(context->state.data, context->state.len), text));
}

static void state_rules(void **state)
{
    struct fixture *fixture = *state;

    assert_state(fixture, "");
    say_state(fixture, "ConnectionMade", "base", 0);
    assert_state(fixture, "base");
    asker_set_user(fixture->asker, BYTES("alice"));
    assert_state(fixture, "base");
    say_state(fixture, "BeginAuth", "alice's", 0);
    assert_state(fixture, "alice's");
    say_state(fixture, "BeginAuth", "probed", ASK_PROBE);
    assert_state(fixture, "alice's");
    asker_set_user(fixture->asker, BYTES("alice")); /* not a new name */
    assert_state(fixture, "alice's");
    asker_set_user(fixture->asker, BYTES("bob"));
    assert_state(fixture, "base");
    say_state(fixture, "BeginAuth", "", 0); /* set, and empty */
    assert_state(fixture, "");
    asker_set_user(fixture->asker, BYTES("carol"));
    assert_state(fixture, "base");
}

/* The answer to a question about alice arrives when bob is the name. */
static void state_of_another_user_is_dropped(void **state)
{
    struct fixture *fixture = *state;
    Policy__BeginAuthRequest begin = POLICY__BEGIN_AUTH_REQUEST__INIT;
    struct heard heard = {0};

    asker_set_user(fixture->asker, BYTES("alice"));
    script_bytes(fixture, "BeginAuth", BYTES("\x0a\x03\x0a\x01s"));
    asker_ask(fixture->asker, RPC_BEGIN_AUTH, &begin.base, 0, heard_answer, &heard);
    asker_set_user(fixture->asker, BYTES("bob"));
    fixture_until(fixture, &heard.count, 1);
    assert_int_equal(heard.outcome, ANSWERED);
    assert_state(fixture, "");
    heard_clear(&heard);
}

#define BANNER     "\x0a\x06\x1a\x04\x0a\x02hi"
#define DISCONNECT "\x0a\x08\x12\x06\x08\x02\x12\x02go"

static void banner_comes_before_the_answer(void **state)
{
    struct fixture *fixture = *state;
    Policy__BeginAuthRequest begin = POLICY__BEGIN_AUTH_REQUEST__INIT;
    struct heard heard = {0};
    struct decision *decision;

    script_bytes(fixture, "BeginAuth", BYTES(BANNER));
    ask_and_wait(fixture, RPC_BEGIN_AUTH, &heard);
    assert_int_equal(fixture->banners, 1);
    assert_string_equal(fixture->banner, "hi");
    heard_clear(&heard);
    /* cancelled from inside it */
    decision = asker_ask(fixture->asker, RPC_BEGIN_AUTH, &begin.base, 0, heard_answer, &heard);
    fixture->cancel_on_event = &decision;
    fixture_until(fixture, &fixture->banners, 2);
    fixture_run_ms(fixture, 20);
    assert_int_equal(heard.count, 0);
}

static void disconnect_ends_silently(void **state)
{
    struct fixture *fixture = *state;
    Policy__BeginAuthRequest begin = POLICY__BEGIN_AUTH_REQUEST__INIT;
    struct heard heard = {0};
    struct decision *first, *second, *third;

    script_bytes(fixture, "BeginAuth", BYTES(DISCONNECT));
    first = asker_ask(fixture->asker, RPC_BEGIN_AUTH, &begin.base, 0, heard_answer, &heard);
    fixture_until(fixture, &fixture->disconnects, 1);
    assert_string_equal(fixture->disconnect, "2 go");
    decision_cancel(&first); /* later */
    second = asker_ask(fixture->asker, RPC_BEGIN_AUTH, &begin.base, 0, heard_answer, &heard);
    fixture->cancel_on_event = &second;
    fixture_until(fixture, &fixture->disconnects, 2);
    assert_null(second);
    fixture->cancel_on_event = NULL;
    third = asker_ask(fixture->asker, RPC_BEGIN_AUTH, &begin.base, 0, heard_answer, &heard);
    fixture_until(fixture, &fixture->disconnects, 3);
    (void)third; /* never: asker_free() frees it */
    assert_int_equal(heard.count, 0);
}

static void report_changes_nothing(void **state)
{
    struct fixture *fixture = *state;
    Policy__ConnectionLostRequest lost = POLICY__CONNECTION_LOST_REQUEST__INIT;

    script_bytes(fixture, "ConnectionLost", BYTES(DISCONNECT));
    asker_report(fixture->asker, RPC_CONNECTION_LOST, &lost.base);
    fixture_run_ms(fixture, 100);
    assert_int_equal(fixture->disconnects, 0);
    assert_int_equal(policy_server_calls(fixture->policy, "ConnectionLost"), 1);
    assert_int_equal(control_counts(fixture->control, RPC_CONNECTION_LOST).ended[ANSWERED], 1);
    asker_report(fixture->asker, RPC_CONNECTION_LOST, &lost.base); /* outlives the asker */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ASKING_TEST(facts_travel),
        ASKING_TEST(state_rules),
        ASKING_TEST(state_of_another_user_is_dropped),
        ASKING_TEST(banner_comes_before_the_answer),
        ASKING_TEST(disconnect_ends_silently),
        ASKING_TEST(report_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
