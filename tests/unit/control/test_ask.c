/* Questions to a policy in this process: each end, each once. */
#include "fixture.h"

#include "base/alloc.h"

#include "../cmocka_unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));

    fixture_init(fixture);
    fixture->settings.rpc_deadline_ms[RPC_BEGIN_AUTH] = 200;
    fixture->settings.rpc_required[RPC_CHANGE_PASSWORD] = true;
    fixture->settings.token = "t0ken";
    fixture->settings.max_in_flight = 20000;
    fixture_open(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    free(*state);
    return 0;
}

static void script_bytes(struct fixture *fixture, const char *rpc, struct bytes answer)
{
    policy_server_set(fixture->policy, rpc,
                      (struct script){.kind = SCRIPT_ANSWER, .answer = answer});
}

static void script_status(struct fixture *fixture, const char *rpc, grpc_status_code status,
                          const char *text)
{
    policy_server_set(fixture->policy, rpc,
                      (struct script){.kind = SCRIPT_STATUS, .status = status, .text = text});
}

static void ask(struct fixture *fixture, enum rpc rpc, struct heard *heard)
{
    Policy__BeginAuthRequest begin = POLICY__BEGIN_AUTH_REQUEST__INIT;
    Policy__ConnectionMadeRequest made = POLICY__CONNECTION_MADE_REQUEST__INIT;
    Policy__ChangePasswordRequest change = POLICY__CHANGE_PASSWORD_REQUEST__INIT;
    Policy__SupportedRequest supported = POLICY__SUPPORTED_REQUEST__INIT;
    ProtobufCMessage *request = rpc == RPC_BEGIN_AUTH        ? &begin.base
                                : rpc == RPC_CONNECTION_MADE ? &made.base
                                : rpc == RPC_CHANGE_PASSWORD ? &change.base
                                                             : &supported.base;

    heard_clear(heard);
    asker_ask(fixture->asker, rpc, request, 0, heard_answer, heard);
    assert_int_equal(heard->count, 0); /* never from inside */
    fixture_until(fixture, &heard->count, 1);
}

static void answered(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};

    policy_server_set(fixture->policy, "ValidatePassword",
                      (struct script){.kind = SCRIPT_ECHO_PASSWORD});
    fixture_ask_password(fixture, "hunter2", &heard);
    assert_int_equal(heard.outcome, ANSWERED);
    assert_string_equal(heard.text, "hunter2");
    fixture_run_ms(fixture, 20);
    assert_int_equal(heard.count, 1);
    assert_int_equal(control_counts(fixture->control, RPC_VALIDATE_PASSWORD).ended[ANSWERED], 1);
    assert_true(control_is_connected(fixture->control));
    heard_clear(&heard);
}

static void absent_is_remembered(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};

    while (!control_is_connected(fixture->control))
        fixture_run_ms(fixture, 2);
    for (int i = 0; i < 3; i++) {
        ask(fixture, RPC_PASSWORD_AUTH_SUPPORTED, &heard);
        assert_int_equal(heard.outcome, ABSENT);
    }
    assert_int_equal(policy_server_calls(fixture->policy, "PasswordAuthSupported"), 1);
    /* whose default allows is asked each time */
    for (int i = 0; i < 3; i++) {
        ask(fixture, RPC_CONNECTION_MADE, &heard);
        assert_int_equal(heard.outcome, ABSENT);
    }
    assert_int_equal(policy_server_calls(fixture->policy, "ConnectionMade"), 3);
    /* and a required one refuses */
    ask(fixture, RPC_CHANGE_PASSWORD, &heard);
    assert_int_equal(heard.outcome, UNAVAILABLE);
    ask(fixture, RPC_CHANGE_PASSWORD, &heard);
    assert_int_equal(heard.outcome, UNAVAILABLE);
    heard_clear(&heard);
}

static void restart_policy(struct fixture *fixture, unsigned down_ms)
{
    struct heard heard = {0};

    policy_server_stop(&fixture->policy);
    for (unsigned end = 0; control_is_connected(fixture->control) && end < 1000; end++)
        fixture_run_ms(fixture, 5);
    assert_false(control_is_connected(fixture->control));
    ask(fixture, RPC_CONNECTION_MADE, &heard);
    assert_int_equal(heard.outcome, UNAVAILABLE);
    fixture_run_ms(fixture, down_ms);
    heard_clear(&heard);
    fixture->policy = policy_server_start(fixture->target, NULL, NULL, NULL);
}

static void absent_is_forgotten_with_the_link(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};

    ask(fixture, RPC_PASSWORD_AUTH_SUPPORTED, &heard);
    assert_int_equal(heard.outcome, ABSENT);
    restart_policy(fixture, 0);
    script_bytes(fixture, "PasswordAuthSupported", BYTES("\x10\x01"));
    for (int i = 0; i < 400 && !control_is_connected(fixture->control); i++)
        fixture_run_ms(fixture, 5);
    ask(fixture, RPC_PASSWORD_AUTH_SUPPORTED, &heard);
    assert_int_equal(heard.outcome, ANSWERED);
    heard_clear(&heard);
}

static void policy_comes_back(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};
    uint64_t back;

    ask(fixture, RPC_CONNECTION_MADE, &heard);
    restart_policy(fixture, 3000);
    back = clock_ms();
    do
        ask(fixture, RPC_CONNECTION_MADE, &heard);
    while (heard.outcome != ABSENT && clock_ms() < back + 5000);
    assert_true(clock_ms() - back <= 2000);
    heard_clear(&heard);
}

static void first_question_waits_for_the_connection(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};

    script_bytes(fixture, "ConnectionMade", BYTES("\x12\x00"));
    ask(fixture, RPC_CONNECTION_MADE, &heard); /* the loop has not run before */
    assert_int_equal(heard.outcome, ANSWERED);
    assert_string_equal(heard.text, "allow");
    heard_clear(&heard);
}

static void every_bad_status_is_unavailable(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};

    for (int status = 1; status <= 16; status++) {
        script_status(fixture, "ConnectionMade", (grpc_status_code)status, "no\nway \xff");
        ask(fixture, RPC_CONNECTION_MADE, &heard);
        assert_int_equal(heard.outcome, status == GRPC_STATUS_UNIMPLEMENTED       ? ABSENT
                                        : status == GRPC_STATUS_DEADLINE_EXCEEDED ? EXPIRED
                                                                                  : UNAVAILABLE);
    }
    script_status(fixture, "ConnectionMade", GRPC_STATUS_OK, NULL); /* without an answer */
    ask(fixture, RPC_CONNECTION_MADE, &heard);
    assert_int_equal(heard.outcome, UNAVAILABLE);
    heard_clear(&heard);
}

static void malformed_is_unavailable(void **state)
{
    static const struct bytes answers[] = {
        {(const uint8_t *)"", 0},
        {(const uint8_t *)"\x12", 1},
        {(const uint8_t *)"\x12\x00\x1a\x00", 4},
        {(const uint8_t *)"\x12\x00\xf8\x06\x01", 5},
        {(const uint8_t *)"\x1a\x03\x0a\x01\xff", 5},
    };
    struct fixture *fixture = *state;
    struct heard heard = {0};
    uint8_t *large = xcalloc(1, 70000);

    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        script_bytes(fixture, "ConnectionMade", answers[i]);
        ask(fixture, RPC_CONNECTION_MADE, &heard);
        assert_int_equal(heard.outcome, UNAVAILABLE);
    }
    /* well-formed, but over 64 KiB: deny with a long message */
    memset(large, 'x', 70000);
    memcpy(large, "\x1a\xec\xa2\x04\x0a\xe8\xa2\x04", 8);
    script_bytes(fixture, "ConnectionMade", bytes_of(large, 8 + 69992));
    ask(fixture, RPC_CONNECTION_MADE, &heard);
    assert_int_equal(heard.outcome, UNAVAILABLE);
    free(large);
    heard_clear(&heard);
}

/* Over what gRPC takes at all: its RESOURCE_EXHAUSTED. */
static void huge_is_unavailable(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};
    size_t len = 4 << 20;
    uint8_t *huge = xcalloc(1, len);

    script_bytes(fixture, "ConnectionMade", bytes_of(huge, len));
    ask(fixture, RPC_CONNECTION_MADE, &heard);
    assert_int_equal(heard.outcome, UNAVAILABLE);
    free(huge);
    heard_clear(&heard);
}

/* gRPC calls a compression that it does not take UNIMPLEMENTED; that must not bring in a default
 * that allows. */
static void compressed_is_unavailable(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};
    Policy__ConnectionMadeAnswer answer = POLICY__CONNECTION_MADE_ANSWER__INIT;
    Policy__Deny reason = POLICY__DENY__INIT;
    char text[4096] = {0};
    struct bytes deny;

    memset(text, 'x', sizeof(text) - 1);
    reason.message = text;
    answer.outcome_case = POLICY__CONNECTION_MADE_ANSWER__OUTCOME_DENY;
    answer.deny = &reason;
    deny = packed(&answer.base);
    policy_server_set(fixture->policy, "ConnectionMade",
                      (struct script){.kind = SCRIPT_ANSWER, .answer = deny, .compressed = true});
    ask(fixture, RPC_CONNECTION_MADE, &heard);
    assert_int_equal(heard.outcome, UNAVAILABLE);
    free((void *)deny.data);
    heard_clear(&heard);
}

static void a_mebibyte_of_keys(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};
    Policy__BeginAuthAnswer answer = POLICY__BEGIN_AUTH_ANSWER__INIT;
    struct bytes wire;

    answer.authorized_keys.len = 1 << 20;
    answer.authorized_keys.data = xcalloc(1, 1 << 20);
    wire = packed(&answer.base);
    script_bytes(fixture, "BeginAuth", wire);
    ask(fixture, RPC_BEGIN_AUTH, &heard);
    assert_int_equal(heard.outcome, ANSWERED);
    free(answer.authorized_keys.data);
    free((void *)wire.data);
    heard_clear(&heard);
}

static void expired(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};
    uint64_t start = clock_ms();

    policy_server_set(fixture->policy, "BeginAuth", (struct script){.kind = SCRIPT_HANG});
    ask(fixture, RPC_BEGIN_AUTH, &heard);
    assert_int_equal(heard.outcome, EXPIRED);
    assert_in_range(clock_ms() - start, 195, 1000);
    heard_clear(&heard);
}

static void cancelled_is_silent(void **state)
{
    struct fixture *fixture = *state;
    Policy__BeginAuthRequest begin = POLICY__BEGIN_AUTH_REQUEST__INIT;
    struct heard heard = {0};
    struct decision *decision;

    policy_server_set(fixture->policy, "BeginAuth", (struct script){.kind = SCRIPT_HANG});
    decision = asker_ask(fixture->asker, RPC_BEGIN_AUTH, &begin.base, 0, heard_answer, &heard);
    decision_cancel(&decision);
    assert_null(decision);
    decision_cancel(&decision);
    decision = asker_ask(fixture->asker, RPC_BEGIN_AUTH, &begin.base, 0, heard_answer, &heard);
    fixture_run_ms(fixture, 30);
    decision_cancel(&decision);
    /* answered by the policy, its letter not delivered yet */
    script_bytes(fixture, "BeginAuth", BYTES(""));
    decision = asker_ask(fixture->asker, RPC_BEGIN_AUTH, &begin.base, 0, heard_answer, &heard);
    for (uint64_t end = clock_ms() + 50; clock_ms() < end;)
        ;
    decision_cancel(&decision);
    /* remembered as absent, not told yet */
    script_status(fixture, "ConnectionMade", GRPC_STATUS_UNIMPLEMENTED, NULL);
    fixture_run_ms(fixture, 50);
    assert_int_equal(heard.count, 0);
    assert_int_equal(control_counts(fixture->control, RPC_BEGIN_AUTH).cancelled, 3);
}

static void broken_question_is_unavailable(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};

    fixture_ask_password(fixture, "\xff", &heard);
    assert_int_equal(heard.outcome, UNAVAILABLE);
    assert_int_equal(policy_server_calls(fixture->policy, "ValidatePassword"), 0);
    heard_clear(&heard);
}

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
    ask(fixture, RPC_BEGIN_AUTH, &heard);
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

/* ---- many at once: no crossing */

#define MANY 10000

struct one {
    struct fixture *fixture;
    struct decision *decision;
    unsigned number;
    bool cancelled;
    unsigned ends;
};

static unsigned ended, crossed, failed;

static void on_one(void *owner, enum outcome outcome, const ProtobufCMessage *answer)
{
    struct one *one = owner;
    char expected[16];

    one->decision = NULL;
    one->ends++;
    ended++;
    snprintf(expected, sizeof(expected), "%u", one->number);
    if (outcome != ANSWERED)
        failed++;
    else if (strcmp(((const Policy__PasswordAnswer *)answer)->deny->message, expected) != 0)
        crossed++;
    /* Others are cancelled from within a callback. */
    one += 1 + random_below(100);
    if (one->decision != NULL && random_below(4) == 0) {
        one->cancelled = true;
        decision_cancel(&one->decision);
        ended++;
    }
}

static void ten_thousand_shuffled_answers(void **state)
{
    struct fixture *fixture = *state;
    struct one *ones = xcalloc(MANY + 101, sizeof(*ones));
    unsigned cancelled = 0;

    ended = crossed = failed = 0;
    policy_server_set(fixture->policy, "ValidatePassword",
                      (struct script){.kind = SCRIPT_ECHO_PASSWORD, .delay_ms = 1000});
    for (unsigned i = 0; i < MANY; i++) {
        Policy__ValidatePasswordRequest request = POLICY__VALIDATE_PASSWORD_REQUEST__INIT;
        char text[16];

        snprintf(text, sizeof(text), "%u", i);
        request.password = text;
        ones[i].number = i;
        ones[i].decision =
            asker_ask(fixture->asker, RPC_VALIDATE_PASSWORD, &request.base, 0, on_one, &ones[i]);
        if (i > 50 && random_below(5) == 0) {
            struct one *victim = &ones[i - random_below(50)];

            if (victim->decision != NULL) {
                victim->cancelled = true;
                decision_cancel(&victim->decision);
                ended++;
            }
        }
    }
    fixture_until(fixture, &ended, MANY);
    fixture_run_ms(fixture, 100);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(ones[i].ends, ones[i].cancelled ? 0 : 1);
        cancelled += ones[i].cancelled;
    }
    assert_int_equal(crossed, 0);
    assert_int_equal(failed, 0);
    assert_true(cancelled > MANY / 10);
    assert_int_equal(control_counts(fixture->control, RPC_VALIDATE_PASSWORD).cancelled, cancelled);
    free(ones);
}

static void too_many_in_flight(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    Policy__BeginAuthRequest begin = POLICY__BEGIN_AUTH_REQUEST__INIT;
    struct decision *decisions[4];
    struct heard heard = {0};

    (void)state;
    fixture_init(fixture);
    fixture->settings.max_in_flight = 3;
    fixture_open(fixture);
    policy_server_set(fixture->policy, "BeginAuth", (struct script){.kind = SCRIPT_HANG});
    for (int i = 0; i < 4; i++)
        decisions[i] =
            asker_ask(fixture->asker, RPC_BEGIN_AUTH, &begin.base, 0, heard_answer, &heard);
    fixture_until(fixture, &heard.count, 1);
    assert_int_equal(heard.outcome, UNAVAILABLE);
    for (int i = 0; i < 3; i++)
        decision_cancel(&decisions[i]);
    fixture_close(fixture);
    free(fixture);
}

/* Cancelled ones are still under way when everything goes. */
static void free_with_calls_under_way(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    Policy__BeginAuthRequest begin = POLICY__BEGIN_AUTH_REQUEST__INIT;
    Policy__ConnectionLostRequest lost = POLICY__CONNECTION_LOST_REQUEST__INIT;
    struct heard heard = {0};

    (void)state;
    fixture_init(fixture);
    fixture_open(fixture);
    policy_server_set(fixture->policy, "BeginAuth", (struct script){.kind = SCRIPT_HANG});
    policy_server_set(fixture->policy, "ConnectionLost", (struct script){.kind = SCRIPT_HANG});
    for (int i = 0; i < 100; i++) {
        struct decision *decision =
            asker_ask(fixture->asker, RPC_BEGIN_AUTH, &begin.base, 0, heard_answer, &heard);

        asker_report(fixture->asker, RPC_CONNECTION_LOST, &lost.base);
        decision_cancel(&decision);
    }
    fixture_close(fixture);
    free(fixture);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(answered),
        TEST(absent_is_remembered),
        TEST(absent_is_forgotten_with_the_link),
        TEST(policy_comes_back),
        TEST(first_question_waits_for_the_connection),
        TEST(every_bad_status_is_unavailable),
        TEST(malformed_is_unavailable),
        TEST(huge_is_unavailable),
        TEST(compressed_is_unavailable),
        TEST(a_mebibyte_of_keys),
        TEST(expired),
        TEST(cancelled_is_silent),
        TEST(broken_question_is_unavailable),
        TEST(facts_travel),
        TEST(state_rules),
        TEST(state_of_another_user_is_dropped),
        TEST(banner_comes_before_the_answer),
        TEST(disconnect_ends_silently),
        TEST(report_changes_nothing),
        TEST(ten_thousand_shuffled_answers),
        cmocka_unit_test(too_many_in_flight),
        cmocka_unit_test(free_with_calls_under_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
