/* RFC 4462 section 3: gssapi-with-mic. */
#include "login.h"

#define GSS_RESPONSE 60
#define GSS_TOKEN    61
#define GSS_COMPLETE 63
#define GSS_ERROR    64
#define GSS_ERRTOK   65
#define GSS_MIC      66
#define REQUEST      50

#define GSSAPI POLICY__AUTH_METHOD__AUTH_METHOD_GSSAPI_WITH_MIC
#define SPNEGO BYTES("\x06\x06\x2b\x06\x01\x05\x05\x02")

static const struct gss_settings on;

static int setup(void **state)
{
    int failed = login_setup(state);

    if (failed == 0)
        login_configure(*state, false, &on);
    return failed;
}

#define gss_test(f) cmocka_unit_test_setup_teardown(f, setup, login_teardown)

static void offer(struct login *l, const char *user)
{
    send_request(l, user, "gssapi-with-mic", "uS", 1, GSS_KERBEROS_OID);
}

static void begin(struct login *l)
{
    fake_begin(l->control, (Policy__AuthMethod[]){GSSAPI, FAKE_PASSWORD, 0});
}

static void token(struct login *l, const char *text)
{
    fake_deliver(l->transport, GSS_TOKEN, "s", text);
}

static void mic_of(struct buf *out, const char *user)
{
    wire_put(out, "scsss", FAKE_SESSION_ID, REQUEST, user, "ssh-connection", "gssapi-with-mic");
}

static void send_mic(struct login *l, const char *user)
{
    struct buf mic = {0};

    mic_of(&mic, user);
    fake_deliver(l->transport, GSS_MIC, "S", buf_bytes(&mic));
    buf_clear(&mic);
}

static void expect_response(struct login *l)
{
    assert_true(fake_sent_is(l->transport, GSS_RESPONSE, "S", GSS_KERBEROS_OID));
}

static void expect_reply(struct login *l)
{
    assert_true(fake_sent_is(l->transport, GSS_TOKEN, "s", FAKE_GSS_REPLY));
}

/* Up to the context; the code is still to come. */
static void establish(struct login *l, const char *user, const char *last_token)
{
    offer(l, user);
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
    token(l, last_token);
    fake_help(l->helpers, HELPER_DONE);
    expect_reply(l);
}

static void refused(struct login *l)
{
    expect_failure(l, "gssapi-with-mic,password", false);
    expect_no_success(l);
    expect_idle(l);
    assert_int_equal(fake_jobs(l->helpers), 0);
}

static void a_principal_logs_in(void **state)
{
    struct login *l = *state;
    const Policy__ValidateGssPrincipalRequest *question;
    const Policy__AuthCompletedRequest *completed;

    offer(l, "alice");
    begin(l);
    expect_silence(l); /* the keytab is read first */
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
    token(l, FAKE_GSS_MORE);
    fake_help(l->helpers, HELPER_DONE);
    expect_reply(l);
    token(l, "final:alice@EXAMPLE");
    fake_help(l->helpers, HELPER_DONE);
    expect_reply(l);
    expect_idle(l); /* nothing is asked before the code */
    send_mic(l, "alice");
    expect_idle(l);
    fake_help(l->helpers, HELPER_DONE);
    expect_asked(l, RPC_VALIDATE_GSS_PRINCIPAL);
    question = fake_question(l->control, RPC_VALIDATE_GSS_PRINCIPAL);
    assert_string_equal(question->user_principal, "alice@EXAMPLE");
    assert_string_equal(question->host_principal, FAKE_GSS_ACCEPTOR);
    assert_string_equal(question->context->user, "alice");
    expect_no_success(l);
    fake_allow(l->control, RPC_VALIDATE_GSS_PRINCIPAL);
    expect_success(l);
    completed = fake_question(l->control, RPC_AUTH_COMPLETED);
    assert_int_equal(completed->context->passed[0]->method, GSSAPI);
    assert_string_equal(completed->context->passed[0]->gss_principal, "alice@EXAMPLE");
}

/* CVE-2026-59851: a principal is good for its own name only, unless the policy says otherwise. */
static void test_t20_the_default_is_the_principals_own_name(void **state)
{
    static const struct {
        const char *user, *token;
        bool allowed;
    } rows[] = {
        {"alice", "final:alice@EXAMPLE", true},
        {"root", "final:alice@EXAMPLE", false},
        {"alice", "final:alice@OTHER", false},
        {"alice", "final:alice@EXAMPLE.ORG", false},
        {"alice", "final:alice@EXAMPLE@EXAMPLE", false},
        {"alice", "final:alice", false},
        {"alice", "final:alice/admin@EXAMPLE", false},
        {"alice/admin", "final:alice/admin@EXAMPLE", false},
        {"alice@EXAMPLE", "final:alice@EXAMPLE", false},
        {"ALICE", "final:alice@EXAMPLE", false},
        {"alic", "final:alice@EXAMPLE", false},
        {"", "final:@EXAMPLE", false},
        {"host\\/x", "final:host\\/x@EXAMPLE", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct login *l;
        void *fresh;

        setup(&fresh);
        l = fresh;
        establish(l, rows[i].user, rows[i].token);
        send_mic(l, rows[i].user);
        fake_help(l->helpers, HELPER_DONE);
        fake_fail(l->control, RPC_VALIDATE_GSS_PRINCIPAL, ABSENT);
        if (rows[i].allowed)
            expect_success(l);
        else
            refused(l);
        login_teardown(&fresh);
    }
}

static void test_t20_another_name_is_the_policys_to_allow(void **state)
{
    struct login *l = *state;

    establish(l, "root", "final:alice@EXAMPLE");
    send_mic(l, "root");
    fake_help(l->helpers, HELPER_DONE);
    fake_allow(l->control, RPC_VALIDATE_GSS_PRINCIPAL);
    expect_success(l);
}

static void test_t20_not_configured_is_not_offered(void **state)
{
    struct login *l = *state;

    login_configure(l, false, NULL);
    offer(l, "alice");
    begin(l); /* whatever the policy says */
    expect_failure(l, "password", false);
    offer(l, "alice");
    expect_failure(l, "password", false);
    token(l, "final:alice@EXAMPLE");
    assert_int_equal(fake_not_understood(l->transport), 1);
    assert_int_equal(fake_jobs(l->helpers), 0);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_GSS_PRINCIPAL), 0);
}

static void test_t20_a_policy_that_does_not_name_it_refuses_it(void **state)
{
    struct login *l = *state;

    offer(l, "alice");
    fake_begin(l->control, (Policy__AuthMethod[]){FAKE_PASSWORD, 0});
    expect_failure(l, "password", false);
    assert_int_equal(fake_jobs(l->helpers), 0);
}

static void no_supported_handler_is_asked(void **state)
{
    struct login *l = *state;

    offer(l, "alice");
    fake_begin_open(l->control);
    expect_idle(l);
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
}

static void no_answer_is_no(void **state)
{
    struct login *l = *state;
    static const enum outcome outcomes[] = {UNAVAILABLE, EXPIRED};

    for (size_t i = 0; i < 2; i++) {
        struct login *fresh;

        setup(state);
        fresh = *state;
        establish(fresh, "alice", "final:alice@EXAMPLE");
        send_mic(fresh, "alice");
        fake_help(fresh->helpers, HELPER_DONE);
        fake_fail(fresh->control, RPC_VALIDATE_GSS_PRINCIPAL, outcomes[i]);
        expect_banner(fresh, "Login is not possible now: the policy service gave no answer.\r\n");
        refused(fresh);
        login_teardown(state);
    }
    *state = l;
}

static void a_code_for_something_else_is_refused(void **state)
{
    struct login *l = *state;

    establish(l, "root", "final:alice@EXAMPLE");
    send_mic(l, "alice"); /* of another request */
    fake_help(l->helpers, HELPER_DONE);
    refused(l);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_GSS_PRINCIPAL), 0);
}

static void a_code_before_the_context_is_refused(void **state)
{
    struct login *l = *state;

    offer(l, "alice");
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
    send_mic(l, "alice");
    refused(l);
    offer(l, "alice");
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
    token(l, FAKE_GSS_MORE);
    fake_help(l->helpers, HELPER_DONE);
    expect_reply(l);
    send_mic(l, "alice");
    refused(l);
}

static void an_exchange_without_a_code_is_refused(void **state)
{
    struct login *l = *state;

    establish(l, "alice", "final:alice@EXAMPLE");
    fake_deliver(l->transport, GSS_COMPLETE, "");
    refused(l);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_GSS_PRINCIPAL), 0);
}

static void a_bad_token_is_answered_and_refused(void **state)
{
    struct login *l = *state;

    offer(l, "alice");
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
    token(l, "junk");
    fake_help(l->helpers, HELPER_DONE);
    assert_true(fake_sent_is(l->transport, GSS_ERRTOK, "s", FAKE_GSS_ERROR));
    refused(l);
}

static void tokens_are_counted(void **state)
{
    struct login *l = *state;

    offer(l, "alice");
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
    for (int i = 0; i < 8; i++) {
        token(l, FAKE_GSS_MORE);
        fake_help(l->helpers, HELPER_DONE);
        expect_reply(l);
    }
    token(l, FAKE_GSS_MORE);
    refused(l);
}

/* A client whose context stands after one message need not wait for the reply. */
static void token_and_code_may_come_together(void **state)
{
    struct login *l = *state;

    offer(l, "alice");
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
    token(l, "final:alice@EXAMPLE");
    send_mic(l, "alice");
    assert_int_equal(fake_not_understood(l->transport), 0);
    fake_help(l->helpers, HELPER_DONE);
    expect_reply(l);
    fake_help(l->helpers, HELPER_DONE);
    fake_allow(l->control, RPC_VALIDATE_GSS_PRINCIPAL);
    expect_success(l);
}

static void what_comes_too_late_is_dropped(void **state)
{
    struct login *l = *state;

    offer(l, "alice");
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
    token(l, "junk");
    send_mic(l, "alice");
    send_password(l, "alice", "secret");
    fake_help(l->helpers, HELPER_DONE);
    assert_true(fake_sent_is(l->transport, GSS_ERRTOK, "s", FAKE_GSS_ERROR));
    expect_failure(l, "gssapi-with-mic,password", false);
    expect_asked(l, RPC_VALIDATE_PASSWORD);
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_success(l);
}

static void messages_before_the_response_are_none(void **state)
{
    struct login *l = *state;

    offer(l, "alice");
    token(l, "final:alice@EXAMPLE");
    begin(l);
    token(l, "final:alice@EXAMPLE");
    assert_int_equal(fake_not_understood(l->transport), 2);
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
    expect_silence(l);
}

static void a_new_request_ends_the_exchange(void **state)
{
    struct login *l = *state;

    establish(l, "alice", "final:alice@EXAMPLE");
    send_password(l, "alice", "secret");
    send_mic(l, "alice"); /* of nothing now */
    assert_int_equal(fake_not_understood(l->transport), 1);
    expect_asked(l, RPC_VALIDATE_PASSWORD);
    fake_deny(l->control, RPC_VALIDATE_PASSWORD, "");
    refused(l);
}

static void a_client_that_gives_up_gets_no_reply(void **state)
{
    struct login *l = *state;

    offer(l, "alice");
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
    token(l, FAKE_GSS_MORE);
    fake_help(l->helpers, HELPER_DONE);
    expect_reply(l);
    fake_deliver(l->transport, GSS_ERRTOK, "s", "sorry");
    expect_silence(l);
    token(l, "final:alice@EXAMPLE"); /* and comes back */
    refused(l);
}

static void only_kerberos_is_spoken(void **state)
{
    struct login *l = *state;

    send_request(l, "alice", "gssapi-with-mic", "uS", 1, SPNEGO);
    begin(l);
    refused(l);
    send_request(l, "alice", "gssapi-with-mic", "uSS", 2, SPNEGO, GSS_KERBEROS_OID);
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
}

static void malformed_messages_end_the_connection(void **state)
{
    static const uint32_t counts[] = {0, 2, 65, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        struct login *l;
        void *fresh;

        setup(&fresh);
        l = fresh;
        if (i < 4) {
            send_request(l, "alice", "gssapi-with-mic", "uS", counts[i], GSS_KERBEROS_OID);
            begin(l);
        } else {
            offer(l, "alice");
            begin(l);
            fake_help(l->helpers, HELPER_DONE);
            fake_deliver(l->transport, GSS_TOKEN, "u", 9);
        }
        expect_fault(l, 2);
        login_teardown(&fresh);
    }
}

static void without_a_key_nothing_is_offered(void **state)
{
    static const struct gss_settings no_keytab = {.keytab = FAKE_GSS_NO_KEYTAB};
    struct login *l = *state;

    login_configure(l, false, &no_keytab);
    offer(l, "alice");
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    refused(l);
}

static void a_library_that_hangs_is_a_no(void **state)
{
    struct login *l = *state;

    offer(l, "alice");
    begin(l);
    fake_help(l->helpers, HELPER_EXPIRED);
    refused(l);
    offer(l, "alice");
    fake_help(l->helpers, HELPER_REFUSED);
    refused(l);
    offer(l, "alice");
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
    token(l, "final:alice@EXAMPLE");
    fake_help(l->helpers, HELPER_EXPIRED);
    refused(l);
}

static void the_end_of_a_connection_takes_the_exchange_back(void **state)
{
    struct login *l = *state;

    offer(l, "alice");
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    expect_response(l);
    token(l, "final:alice@EXAMPLE");
    assert_int_equal(fake_gss_alive(), 1);
    auth_free(&l->auth);
    assert_int_equal(fake_jobs(l->helpers), 0);
    assert_int_equal(fake_gss_alive(), 0);
}

/* ---- gssapi-keyex */

#define KEYEX POLICY__AUTH_METHOD__AUTH_METHOD_GSSAPI_KEYEX

static void send_keyex(struct login *l, const char *user, const char *signed_user)
{
    struct buf mic = {0};

    wire_put(&mic, "scsss", FAKE_SESSION_ID, REQUEST, signed_user, "ssh-connection",
             "gssapi-keyex");
    send_request(l, user, "gssapi-keyex", "S", buf_bytes(&mic));
    buf_clear(&mic);
}

static void begin_keyex(struct login *l)
{
    fake_begin(l->control, (Policy__AuthMethod[]){KEYEX, FAKE_PASSWORD, 0});
}

static void the_key_exchanges_context_logs_in(void **state)
{
    struct login *l = *state;
    const Policy__AuthCompletedRequest *completed;

    fake_gss_key_exchange("alice@EXAMPLE");
    send_keyex(l, "alice", "alice");
    begin_keyex(l);
    expect_idle(l); /* the code first */
    fake_help(l->helpers, HELPER_DONE);
    expect_asked(l, RPC_VALIDATE_GSS_PRINCIPAL);
    fake_fail(l->control, RPC_VALIDATE_GSS_PRINCIPAL, ABSENT);
    expect_success(l);
    completed = fake_question(l->control, RPC_AUTH_COMPLETED);
    assert_int_equal(completed->context->passed[0]->method, KEYEX);
}

/* The context outlives a request, but not one whose library hangs. */
static void test_t20_keyex_needs_its_code_and_its_name(void **state)
{
    struct login *l = *state;

    fake_gss_key_exchange("alice@EXAMPLE");
    send_keyex(l, "root", "alice"); /* a code of another request */
    begin_keyex(l);
    fake_help(l->helpers, HELPER_DONE);
    expect_failure(l, "gssapi-keyex,password", false);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_GSS_PRINCIPAL), 0);
    send_keyex(l, "root", "root");
    fake_help(l->helpers, HELPER_DONE);
    fake_fail(l->control, RPC_VALIDATE_GSS_PRINCIPAL, ABSENT); /* alice is not root */
    expect_failure(l, "gssapi-keyex,password", false);
    send_keyex(l, "root", "root");
    fake_help(l->helpers, HELPER_EXPIRED);
    expect_failure(l, "gssapi-keyex,password", false);
    send_keyex(l, "root", "root");
    expect_failure(l, "gssapi-keyex,password", false);
    expect_no_success(l);
}

static void test_t20_without_its_key_exchange_it_is_not_offered(void **state)
{
    struct login *l = *state;

    send_keyex(l, "alice", "alice");
    begin_keyex(l);
    expect_failure(l, "password", false);
    assert_int_equal(fake_jobs(l->helpers), 0);
}

static void the_next_user_has_the_context_as_well(void **state)
{
    struct login *l = *state;

    fake_gss_key_exchange("alice@EXAMPLE");
    send_keyex(l, "root", "root");
    begin_keyex(l);
    fake_help(l->helpers, HELPER_DONE);
    fake_fail(l->control, RPC_VALIDATE_GSS_PRINCIPAL, ABSENT);
    expect_failure(l, "gssapi-keyex,password", false);
    send_keyex(l, "alice", "alice");
    begin_keyex(l);
    fake_help(l->helpers, HELPER_DONE);
    fake_fail(l->control, RPC_VALIDATE_GSS_PRINCIPAL, ABSENT);
    expect_success(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        gss_test(a_principal_logs_in),
        gss_test(test_t20_the_default_is_the_principals_own_name),
        gss_test(test_t20_another_name_is_the_policys_to_allow),
        gss_test(test_t20_not_configured_is_not_offered),
        gss_test(test_t20_a_policy_that_does_not_name_it_refuses_it),
        gss_test(no_supported_handler_is_asked),
        gss_test(no_answer_is_no),
        gss_test(a_code_for_something_else_is_refused),
        gss_test(a_code_before_the_context_is_refused),
        gss_test(an_exchange_without_a_code_is_refused),
        gss_test(a_bad_token_is_answered_and_refused),
        gss_test(tokens_are_counted),
        gss_test(token_and_code_may_come_together),
        gss_test(what_comes_too_late_is_dropped),
        gss_test(messages_before_the_response_are_none),
        gss_test(a_new_request_ends_the_exchange),
        gss_test(a_client_that_gives_up_gets_no_reply),
        gss_test(only_kerberos_is_spoken),
        gss_test(malformed_messages_end_the_connection),
        gss_test(without_a_key_nothing_is_offered),
        gss_test(a_library_that_hangs_is_a_no),
        gss_test(the_end_of_a_connection_takes_the_exchange_back),
        gss_test(the_key_exchanges_context_logs_in),
        gss_test(test_t20_keyex_needs_its_code_and_its_name),
        gss_test(test_t20_without_its_key_exchange_it_is_not_offered),
        gss_test(the_next_user_has_the_context_as_well),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
