/* Which questions are asked, in which order, and what an absent or failing policy means. */
#include "unit/auth/login.h"

#include <string.h>

static void a_password_login_asks_three_questions(void **state)
{
    struct login *l = *state;
    const Policy__ValidatePasswordRequest *question;
    const Policy__AuthCompletedRequest *completed;

    send_none(l, "alice");
    expect_asked(l, RPC_BEGIN_AUTH);
    expect_silence(l);
    fake_begin_both(l->control);
    expect_failure(l, "publickey,password", false);
    send_password(l, "alice", "secret");
    expect_asked(l, RPC_VALIDATE_PASSWORD);
    question = fake_question(l->control, RPC_VALIDATE_PASSWORD);
    assert_string_equal(question->password, "secret");
    assert_string_equal(question->context->user, "alice");
    assert_false(question->context->authenticated);
    assert_int_equal(question->context->n_passed, 0);
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_success(l);
    completed = fake_question(l->control, RPC_AUTH_COMPLETED);
    assert_true(completed->context->authenticated);
    assert_int_equal(completed->context->n_passed, 1);
    assert_int_equal(completed->context->passed[0]->method, FAKE_PASSWORD);
    assert_int_equal(l->completed, 0);
    fake_allow(l->control, RPC_AUTH_COMPLETED);
    assert_int_equal(l->completed, 1);
    assert_true(l->completed_with_answer);
    assert_int_equal(fake_asked(l->control, RPC_COUNT), 3);
    expect_silence(l);
}

static void the_client_waits_while_auth_completed_is_asked(void **state)
{
    struct login *l = *state;

    send_none(l, "alice");
    fake_begin_both(l->control);
    send_password(l, "alice", "secret");
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    assert_int_equal(fake_paused(l->transport), 1);
    fake_fail(l->control, RPC_AUTH_COMPLETED, ABSENT); /* its default allows */
    assert_int_equal(l->completed, 1);
    assert_false(l->completed_with_answer);
    assert_int_equal(fake_paused(l->transport), 0);
}

static void auth_completed_may_still_refuse(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    fake_begin_both(l->control);
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    fake_deny(l->control, RPC_AUTH_COMPLETED, "not today");
    expect_fault(l, 11);
    assert_string_equal(l->fault_reason, "not today");
    assert_int_equal(l->completed, 0);
    assert_int_equal(fake_paused(l->transport), 1); /* nothing more is let through */
}

static void auth_completed_without_an_answer_disconnects(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    fake_begin_both(l->control);
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    fake_fail(l->control, RPC_AUTH_COMPLETED, EXPIRED);
    expect_fault(l, 11);
    assert_int_equal(l->completed, 0);
}

static void supported_is_asked_on_need_and_for_each_list(void **state)
{
    struct login *l = *state;

    send_none(l, "alice");
    fake_begin_open(l->control);
    expect_asked(l, RPC_HOST_BASED_AUTH_SUPPORTED);
    fake_support(l->control, RPC_HOST_BASED_AUTH_SUPPORTED, POLICY__SUPPORT__SUPPORT_NO);
    expect_asked(l, RPC_PUBLIC_KEY_AUTH_SUPPORTED);
    fake_support(l->control, RPC_PUBLIC_KEY_AUTH_SUPPORTED, POLICY__SUPPORT__SUPPORT_NO);
    expect_asked(l, RPC_KBDINT_AUTH_SUPPORTED);
    fake_support(l->control, RPC_KBDINT_AUTH_SUPPORTED, POLICY__SUPPORT__SUPPORT_NO);
    expect_asked(l, RPC_PASSWORD_AUTH_SUPPORTED);
    fake_support(l->control, RPC_PASSWORD_AUTH_SUPPORTED, POLICY__SUPPORT__SUPPORT_YES);
    expect_failure(l, "password", false);
    send_password(l, "alice", "wrong");
    expect_asked(l, RPC_VALIDATE_PASSWORD); /* known by now */
    fake_deny(l->control, RPC_VALIDATE_PASSWORD, "");
    fake_fail(l->control, RPC_HOST_BASED_AUTH_SUPPORTED, ABSENT);
    fake_support(l->control, RPC_PUBLIC_KEY_AUTH_SUPPORTED, POLICY__SUPPORT__SUPPORT_YES);
    fake_support(l->control, RPC_KBDINT_AUTH_SUPPORTED, POLICY__SUPPORT__SUPPORT_NO);
    fake_support(l->control, RPC_PASSWORD_AUTH_SUPPORTED, POLICY__SUPPORT__SUPPORT_NO);
    expect_failure(l, "publickey", false);
    send_password(l, "alice", "secret"); /* no longer offered: nobody is asked */
    expect_asked(l, RPC_HOST_BASED_AUTH_SUPPORTED);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_PASSWORD), 1);
    expect_no_success(l);
}

static void first_need_asks_supported_before_the_credential(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    fake_fail(l->control, RPC_BEGIN_AUTH, ABSENT); /* required, nothing in advance */
    expect_asked(l, RPC_PASSWORD_AUTH_SUPPORTED);
    fake_support(l->control, RPC_PASSWORD_AUTH_SUPPORTED, POLICY__SUPPORT__SUPPORT_YES);
    expect_asked(l, RPC_VALIDATE_PASSWORD);
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_success(l);
}

static void a_method_is_offered_only_on_an_explicit_yes(void **state)
{
    static const Policy__Support no[] = {
        POLICY__SUPPORT__SUPPORT_UNSPECIFIED,
        POLICY__SUPPORT__SUPPORT_NO,
        POLICY__SUPPORT__SUPPORT_TIED_TO_PASSWORD,
    };
    struct login *l = *state;

    send_none(l, "alice");
    fake_begin_open(l->control);
    fake_support(l->control, RPC_HOST_BASED_AUTH_SUPPORTED, no[2]);
    fake_support(l->control, RPC_PUBLIC_KEY_AUTH_SUPPORTED, no[0]);
    fake_fail(l->control, RPC_KBDINT_AUTH_SUPPORTED, UNAVAILABLE);
    fake_fail(l->control, RPC_PASSWORD_AUTH_SUPPORTED, UNAVAILABLE);
    expect_failure(l, "", false);
    for (size_t i = 0; i < 3; i++) {
        send_password(l, "alice", "secret");
        fake_support(l->control, RPC_HOST_BASED_AUTH_SUPPORTED, no[i]);
        fake_support(l->control, RPC_PUBLIC_KEY_AUTH_SUPPORTED, no[i]);
        fake_support(l->control, RPC_KBDINT_AUTH_SUPPORTED, no[i]);
        fake_support(l->control, RPC_PASSWORD_AUTH_SUPPORTED, no[i]);
        expect_failure(l, "", false);
    }
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_PASSWORD), 0);
}

static void methods_not_offered_reach_nobody(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    fake_begin(l->control, (Policy__AuthMethod[]){FAKE_PUBLICKEY, 0});
    expect_failure(l, "publickey", false);
    send_request(l, "alice", "keyboard-interactive", "ss", "", "");
    expect_failure(l, "publickey", false);
    send_request(l, "alice", "hostbased", "s", "x");
    expect_failure(l, "publickey", false);
    send_request(l, "alice", "gssapi-with-mic", "u", 0);
    expect_failure(l, "publickey", false);
    expect_idle(l);
    assert_int_equal(fake_asked(l->control, RPC_COUNT), 1);
    expect_no_success(l);
}

static void an_empty_list_of_methods_offers_none(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    fake_begin(l->control, (Policy__AuthMethod[]){0});
    expect_failure(l, "", false);
    send_signed(l, "alice", KEY_A);
    expect_failure(l, "", false);
    assert_int_equal(fake_asked(l->control, RPC_COUNT), 1);
}

static void not_required_logs_in_with_nothing(void **state)
{
    struct login *l = *state;
    Policy__BeginAuthAnswer answer = POLICY__BEGIN_AUTH_ANSWER__INIT;
    const Policy__AuthCompletedRequest *completed;

    answer.requirement = POLICY__REQUIREMENT__REQUIREMENT_NOT_REQUIRED;
    send_none(l, "guest");
    fake_answer(l->control, RPC_BEGIN_AUTH, &answer.base);
    expect_success(l);
    completed = fake_question(l->control, RPC_AUTH_COMPLETED);
    assert_int_equal(completed->context->passed[0]->method, POLICY__AUTH_METHOD__AUTH_METHOD_NONE);
}

static void not_required_does_not_outdo_required_factors(void **state)
{
    struct login *l = *state;
    Policy__BeginAuthAnswer answer = POLICY__BEGIN_AUTH_ANSWER__INIT;
    Policy__Methods set = POLICY__METHODS__INIT, *sets[] = {&set};
    Policy__AuthMethod password[] = {FAKE_PASSWORD};

    set.methods = password;
    set.n_methods = 1;
    answer.requirement = POLICY__REQUIREMENT__REQUIREMENT_NOT_REQUIRED;
    answer.required = sets;
    answer.n_required = 1;
    send_none(l, "guest");
    fake_answer(l->control, RPC_BEGIN_AUTH, &answer.base);
    expect_failure(l, "password", true);
    expect_no_success(l);
    send_password(l, "guest", "secret"); /* goes on with what is required, not with "none" again */
    expect_asked(l, RPC_VALIDATE_PASSWORD);
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_success(l);
    assert_int_equal(asker_factors(l->asker), 2);
}

static void unspecified_requirement_is_required(void **state)
{
    struct login *l = *state;

    send_none(l, "alice");
    fake_answer_wire(l->control, RPC_BEGIN_AUTH, BYTES(""));
    expect_asked(l, RPC_HOST_BASED_AUTH_SUPPORTED);
    expect_no_success(l);
}

/* No answer is no, at every question of a login (rule 2). */
static void no_answer_never_logs_in(void **state)
{
    static const enum outcome outcomes[] = {ABSENT, UNAVAILABLE, EXPIRED};

    (void)state;
    for (size_t i = 0; i < 3; i++)
        for (int stage = 0; stage < 4; stage++) {
            struct login *l;
            void *fresh;

            login_setup(&fresh);
            l = fresh;
            if (stage == 3)
                send_signed(l, "alice", KEY_A);
            else
                send_password(l, "alice", "secret");
            if (stage == 0)
                fake_fail(l->control, RPC_BEGIN_AUTH, outcomes[i]);
            else if (stage == 1)
                fake_begin_open(l->control);
            else
                fake_begin_both(l->control);
            if (stage == 1)
                fake_fail(l->control, RPC_PASSWORD_AUTH_SUPPORTED, outcomes[i]);
            if (stage == 2)
                fake_fail(l->control, RPC_VALIDATE_PASSWORD, outcomes[i]);
            if (stage == 3)
                fake_fail(l->control, RPC_VALIDATE_PUBLIC_KEY, outcomes[i]);
            expect_no_success(l);
            if (stage == 0 && outcomes[i] != ABSENT)
                expect_fault(l, 11);
            if (stage >= 2) {
                if (outcomes[i] != ABSENT)
                    expect_banner(
                        l, "Login is not possible now: the policy service gave no answer.\r\n");
                expect_failure(l, "publickey,password", false);
            }
            login_teardown(&fresh);
        }
}

static void empty_answers_never_log_in(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    fake_begin_both(l->control);
    fake_answer_wire(l->control, RPC_VALIDATE_PASSWORD, BYTES(""));
    expect_banner(l, "Login is not possible now: the policy service gave no answer.\r\n");
    expect_failure(l, "publickey,password", false);
    send_signed(l, "alice", KEY_A);
    fake_answer_wire(l->control, RPC_VALIDATE_PUBLIC_KEY, BYTES(""));
    expect_no_success(l);
}

static void an_empty_auth_completed_is_no(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    fake_begin_both(l->control);
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    fake_answer_wire(l->control, RPC_AUTH_COMPLETED, BYTES(""));
    expect_fault(l, 11);
    assert_int_equal(l->completed, 0);
}

/* T5: the peer broke the protocol while the policy thought; the rooms live to the end of the turn.
 */
static void an_answer_to_who_is_gone_leads_nowhere(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        send_password(l, "alice", "secret");
        send_password(l, "alice", "secret");
        if (i > 0)
            fake_begin_both(l->control);
        fake_end(l->transport, TRANSPORT_END_PROTOCOL, 2, "message 90 is not allowed now");
        if (i == 0)
            fake_begin_open(l->control);
        else if (i == 1)
            fake_allow(l->control, RPC_VALIDATE_PASSWORD);
        else if (i == 2)
            fake_deny(l->control, RPC_VALIDATE_PASSWORD, "");
        else
            fake_partial(l->control, RPC_VALIDATE_PASSWORD, FAKE_PUBLICKEY, NULL);
        expect_idle(l);
        expect_no_success(l);
        expect_silence(l);
        login_teardown(&fresh);
    }
}

static void freeing_while_asking_is_silent(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    auth_free(&l->auth);
    assert_int_equal(fake_cancelled(l->control), 1);
    expect_silence(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        login_test(a_password_login_asks_three_questions),
        login_test(the_client_waits_while_auth_completed_is_asked),
        login_test(auth_completed_may_still_refuse),
        login_test(auth_completed_without_an_answer_disconnects),
        login_test(supported_is_asked_on_need_and_for_each_list),
        login_test(first_need_asks_supported_before_the_credential),
        login_test(a_method_is_offered_only_on_an_explicit_yes),
        login_test(methods_not_offered_reach_nobody),
        login_test(an_empty_list_of_methods_offers_none),
        login_test(not_required_logs_in_with_nothing),
        login_test(not_required_does_not_outdo_required_factors),
        login_test(unspecified_requirement_is_required),
        cmocka_unit_test(no_answer_never_logs_in),
        login_test(empty_answers_never_log_in),
        login_test(an_empty_auth_completed_is_no),
        cmocka_unit_test(an_answer_to_who_is_gone_leads_nowhere),
        login_test(freeing_while_asking_is_silent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
