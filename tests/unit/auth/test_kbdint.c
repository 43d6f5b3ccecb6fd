/* RFC 4256: what is asked, what the user is asked, and what never reaches the policy. */
#include "unit/auth/login.h"

#include <stdlib.h>
#include <string.h>

#define ALL                                                                                        \
    (Policy__AuthMethod[])                                                                         \
    {                                                                                              \
        FAKE_PUBLICKEY, FAKE_KBDINT, FAKE_PASSWORD, 0                                              \
    }

static void begin_all(struct login *l)
{
    fake_begin(l->control, ALL);
}

static void begin_tied(struct login *l, const Policy__AuthMethod *methods)
{
    Policy__BeginAuthAnswer answer = POLICY__BEGIN_AUTH_ANSWER__INIT;
    Policy__Methods list = POLICY__METHODS__INIT;

    list.methods = (Policy__AuthMethod *)methods;
    while (methods[list.n_methods] != 0)
        list.n_methods++;
    answer.methods = &list;
    answer.tie_kbdint_to_password = true;
    fake_answer(l->control, RPC_BEGIN_AUTH, &answer.base);
}

/* The dialogue's first challenge is with the client. */
static void begin_dialogue(struct login *l, size_t prompts)
{
    send_kbdint(l, "alice");
    if (fake_pending_rpc(l->control, 0) == RPC_BEGIN_AUTH)
        begin_all(l);
    fake_challenge(l->control, RPC_GET_KBDINT_CHALLENGE, prompts);
    expect_challenge(l, prompts);
    expect_idle(l);
}

/* ---- a dialogue */

static void a_series_of_challenges_ends_in_an_allow(void **state)
{
    struct login *l = *state;
    const Policy__GetKbdintChallengeRequest *first;
    const Policy__ValidateKbdintResponseRequest *question;
    const Policy__AuthCompletedRequest *completed;

    send_request(l, "alice", "keyboard-interactive", "ss", "de", "totp,pam");
    begin_all(l);
    expect_asked(l, RPC_GET_KBDINT_CHALLENGE);
    first = fake_question(l->control, RPC_GET_KBDINT_CHALLENGE);
    assert_string_equal(first->language, "de");
    assert_string_equal(first->submethods, "totp,pam");
    fake_challenge(l->control, RPC_GET_KBDINT_CHALLENGE, 2);
    expect_challenge(l, 2);
    send_responses(l, 2, "pa\xc3\xa4");
    expect_asked(l, RPC_VALIDATE_KBDINT_RESPONSE);
    question = fake_question(l->control, RPC_VALIDATE_KBDINT_RESPONSE);
    assert_int_equal(question->n_responses, 2);
    assert_string_equal(question->responses[1], "pa\xc3\xa4");
    fake_challenge(l->control, RPC_VALIDATE_KBDINT_RESPONSE, 0); /* only something to read */
    expect_challenge(l, 0);
    send_responses(l, 0, NULL);
    question = fake_question(l->control, RPC_VALIDATE_KBDINT_RESPONSE);
    assert_int_equal(question->n_responses, 0);
    fake_challenge(l->control, RPC_VALIDATE_KBDINT_RESPONSE, 1);
    expect_challenge(l, 1);
    expect_no_success(l);
    send_responses(l, 1, "");
    fake_allow(l->control, RPC_VALIDATE_KBDINT_RESPONSE);
    expect_success(l);
    completed = fake_question(l->control, RPC_AUTH_COMPLETED);
    assert_int_equal(completed->context->n_passed, 1);
    assert_int_equal(completed->context->passed[0]->method, FAKE_KBDINT);
}

static void outcomes_at_once(void **state)
{
    struct login *l = *state;

    send_kbdint(l, "alice");
    begin_all(l);
    fake_deny(l->control, RPC_GET_KBDINT_CHALLENGE, "not on Sundays");
    expect_banner(l, "not on Sundays\r\n");
    expect_failure(l, "publickey,keyboard-interactive,password", false);
    send_kbdint(l, "alice");
    fake_fail(l->control, RPC_GET_KBDINT_CHALLENGE, ABSENT);
    expect_failure(l, "publickey,keyboard-interactive,password", false);
    send_kbdint(l, "alice");
    fake_partial(l->control, RPC_GET_KBDINT_CHALLENGE, FAKE_PASSWORD, NULL);
    expect_failure(l, "password", true);
    send_kbdint(l, "alice");
    expect_failure(l, "password", false);
    expect_idle(l);
    expect_no_success(l);
}

static void an_allow_at_once_logs_in(void **state)
{
    struct login *l = *state;

    send_kbdint(l, "alice");
    begin_all(l);
    fake_allow(l->control, RPC_GET_KBDINT_CHALLENGE);
    expect_success(l);
}

static void no_answer_is_no(void **state)
{
    static const enum outcome outcomes[] = {UNAVAILABLE, EXPIRED};

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        struct login *l;
        void *fresh;
        enum rpc rpc = i % 2 ? RPC_VALIDATE_KBDINT_RESPONSE : RPC_GET_KBDINT_CHALLENGE;

        login_setup(&fresh);
        l = fresh;
        send_kbdint(l, "alice");
        begin_all(l);
        if (i % 2) {
            fake_challenge(l->control, RPC_GET_KBDINT_CHALLENGE, 1);
            expect_challenge(l, 1);
            send_responses(l, 1, "x");
        }
        if (i < 4)
            fake_fail(l->control, rpc, outcomes[i / 2]);
        else
            fake_answer_wire(l->control, rpc, BYTES(""));
        expect_banner(l, "Login is not possible now: the policy service gave no answer.\r\n");
        expect_failure(l, "publickey,keyboard-interactive,password", false);
        expect_no_success(l);
        login_teardown(&fresh);
    }
}

static void kept_banners_come_before_the_prompts(void **state)
{
    struct login *l = *state;

    auth_banner(l->auth, "welcome", NULL);
    send_kbdint(l, "alice");
    begin_all(l);
    fake_challenge(l->control, RPC_GET_KBDINT_CHALLENGE, 1);
    expect_banner(l, "welcome\r\n");
    expect_challenge(l, 1);
}

/* ---- T16: counts, and responses that nobody asked for */

static void wrong_counts_reach_nobody(void **state)
{
    static const uint32_t counts[][2] = {{1, 0},  {1, 2},   {2, 1},          {0, 1},
                                         {0, 64}, {64, 65}, {1, 0xffffffff}, {1, 0x40000001}};

    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        begin_dialogue(l, counts[i][0]);
        if (counts[i][1] < 100)
            send_responses(l, counts[i][1], "x");
        else
            fake_deliver(l->transport, 61, "us", counts[i][1], "x");
        expect_failure(l, "publickey,keyboard-interactive,password", false);
        assert_int_equal(fake_asked(l->control, RPC_VALIDATE_KBDINT_RESPONSE), 0);
        expect_silence(l);
        login_teardown(&fresh);
    }
}

static void malformed_responses_are_faults(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"", 0},
        {"\0\0\0", 3},
        {"\0\0\0\1", 4},
        {"\0\0\0\1\0\0\0\2x", 9},
        {"\0\0\0\1\0\0\0\1xy", 10},
        {"\0\0\0\1\xff\xff\xff\xffx", 9},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        begin_dialogue(l, 1);
        fake_deliver_bytes(l->transport, 61, bytes_of(bad[i].bytes, bad[i].len));
        expect_fault(l, 2);
        assert_int_equal(fake_asked(l->control, RPC_VALIDATE_KBDINT_RESPONSE), 0);
        login_teardown(&fresh);
    }
}

static void malformed_requests_are_faults(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        static const char *const formats[] = {"s", "u", "sss"};
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        if (i == 1)
            send_request(l, "alice", "keyboard-interactive", formats[i], 7);
        else
            send_request(l, "alice", "keyboard-interactive", formats[i], "", "", "");
        begin_all(l);
        expect_fault(l, 2);
        login_teardown(&fresh);
    }
}

static void unsolicited_responses_are_not_understood(void **state)
{
    struct login *l = *state;

    send_responses(l, 1, "early");
    assert_int_equal(fake_not_understood(l->transport), 1);
    begin_dialogue(l, 1);
    send_responses(l, 1, "x");
    expect_asked(l, RPC_VALIDATE_KBDINT_RESPONSE);
    send_responses(l, 1, "once more");
    assert_int_equal(fake_not_understood(l->transport), 2);
    fake_deny(l->control, RPC_VALIDATE_KBDINT_RESPONSE, "");
    expect_failure(l, "publickey,keyboard-interactive,password", false);
    send_responses(l, 1, "late");
    assert_int_equal(fake_not_understood(l->transport), 3);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_KBDINT_RESPONSE), 1);
    expect_no_success(l);
}

static void other_messages_of_a_dialogue_are_faults(void **state)
{
    struct login *l = *state;

    begin_dialogue(l, 1);
    fake_deliver(l->transport, 62, "us", 1, "x");
    expect_fault(l, 2);
}

static void secrets_out_of_bounds_reach_nobody(void **state)
{
    static char long_response[1025];
    struct bytes bad[] = {BYTES("a\0b"), BYTES("\xff\xfe"), bytes_of(long_response, 1025)};

    (void)state;
    memset(long_response, 'x', sizeof(long_response));
    for (size_t i = 0; i < 3; i++) {
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        begin_dialogue(l, 2);
        fake_deliver(l->transport, 61, "usS", 2, "good", bad[i]);
        expect_failure(l, "publickey,keyboard-interactive,password", false);
        expect_idle(l);
        begin_dialogue(l, 2);
        fake_deliver(l->transport, 61, "usS", 2, "good", bytes_of(long_response, 1024));
        expect_asked(l, RPC_VALIDATE_KBDINT_RESPONSE);
        login_teardown(&fresh);
    }
}

/* Ten thousand devices (CVE-2015-5600), and what is no text. */
static void hints_out_of_bounds_reach_nobody(void **state)
{
    static char devices[50000];
    struct bytes bad[] = {bytes_of(devices, sizeof(devices)), bytes_of(devices, 1025),
                          BYTES("p\0m"), BYTES("\xff")};
    struct login *l = *state;

    memset(devices, ',', sizeof(devices));
    send_kbdint(l, "alice");
    begin_all(l);
    fake_deny(l->control, RPC_GET_KBDINT_CHALLENGE, "");
    expect_failure(l, "publickey,keyboard-interactive,password", false);
    for (size_t i = 0; i < 4; i++) {
        send_request(l, "alice", "keyboard-interactive", "sS", "", bad[i]);
        expect_failure(l, "publickey,keyboard-interactive,password", false);
    }
    assert_int_equal(fake_asked(l->control, RPC_GET_KBDINT_CHALLENGE), 1);
    send_request(l, "alice", "keyboard-interactive", "Ss", bad[0], "");
    expect_fault(l, 14); /* the sixth failure */
}

static void too_many_prompts_are_not_shown(void **state)
{
    struct login *l = *state;

    begin_dialogue(l, 64);
    send_responses(l, 64, "x");
    fake_challenge(l->control, RPC_VALIDATE_KBDINT_RESPONSE, 65);
    expect_failure(l, "publickey,keyboard-interactive,password", false);
    send_responses(l, 65, "x");
    assert_int_equal(fake_not_understood(l->transport), 1);
    expect_idle(l);
}

static void a_dialogue_without_end_ends(void **state)
{
    struct login *l = *state;

    begin_dialogue(l, 0);
    for (int i = 1; i < 40; i++) {
        send_responses(l, 0, NULL);
        fake_challenge(l->control, RPC_VALIDATE_KBDINT_RESPONSE, 0);
        expect_challenge(l, 0);
    }
    send_responses(l, 0, NULL);
    expect_fault(l, 14);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_KBDINT_RESPONSE), 39);
}

/* ---- a new request */

static void a_new_request_ends_the_dialogue(void **state)
{
    struct login *l = *state;

    begin_dialogue(l, 1);
    send_password(l, "alice", "secret");
    expect_asked(l, RPC_VALIDATE_PASSWORD);
    send_responses(l, 1, "x");
    assert_int_equal(fake_not_understood(l->transport), 1);
    fake_deny(l->control, RPC_VALIDATE_PASSWORD, "");
    expect_failure(l, "publickey,keyboard-interactive,password", false); /* one reply only */
    expect_silence(l);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_KBDINT_RESPONSE), 0);
}

static void a_pipelined_request_waits_for_the_challenge(void **state)
{
    struct login *l = *state;

    send_kbdint(l, "alice");
    begin_all(l);
    send_password(l, "alice", "secret");
    expect_asked(l, RPC_GET_KBDINT_CHALLENGE);
    fake_challenge(l->control, RPC_GET_KBDINT_CHALLENGE, 1);
    expect_challenge(l, 1); /* and is ended by what was waiting behind it */
    expect_asked(l, RPC_VALIDATE_PASSWORD);
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_success(l);
}

static void another_name_ends_the_dialogue_and_starts_over(void **state)
{
    struct login *l = *state;
    const Policy__BeginAuthRequest *question;

    begin_dialogue(l, 1);
    send_kbdint(l, "bob");
    expect_asked(l, RPC_BEGIN_AUTH);
    question = fake_question(l->control, RPC_BEGIN_AUTH);
    assert_string_equal(question->context->user, "bob");
    send_responses(l, 1, "alice's");
    assert_int_equal(fake_not_understood(l->transport), 1);
}

static void freeing_in_a_dialogue_is_silent(void **state)
{
    struct login *l = *state;

    begin_dialogue(l, 3);
    auth_free(&l->auth);
    expect_silence(l);
}

/* ---- the tie to the password */

static void a_tied_dialogue_validates_a_password(void **state)
{
    struct login *l = *state;
    const Policy__ValidatePasswordRequest *question;
    const Policy__AuthCompletedRequest *completed;

    send_kbdint(l, "alice");
    begin_tied(l, (Policy__AuthMethod[]){FAKE_KBDINT, 0});
    expect_password_prompt(l);
    expect_idle(l);
    send_responses(l, 1, "secret");
    expect_asked(l, RPC_VALIDATE_PASSWORD);
    question = fake_question(l->control, RPC_VALIDATE_PASSWORD);
    assert_string_equal(question->password, "secret");
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_success(l);
    completed = fake_question(l->control, RPC_AUTH_COMPLETED);
    assert_int_equal(completed->context->passed[0]->method, FAKE_KBDINT);
    assert_int_equal(fake_asked(l->control, RPC_GET_KBDINT_CHALLENGE), 0);
}

static void a_tied_dialogue_wants_one_response(void **state)
{
    struct login *l = *state;

    for (uint32_t count = 0; count < 4; count++) {
        send_kbdint(l, "alice");
        if (count == 0)
            begin_tied(l, ALL);
        expect_password_prompt(l);
        if (count != 1)
            send_responses(l, count, "secret");
        else
            fake_deliver(l->transport, 61, "uS", 1, BYTES("s\0t"));
        expect_failure(l, "publickey,keyboard-interactive,password", false);
    }
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_PASSWORD), 0);
}

static void a_change_of_password_fails_a_tied_dialogue(void **state)
{
    struct login *l = *state;

    send_kbdint(l, "alice");
    begin_tied(l, ALL);
    expect_password_prompt(l);
    send_responses(l, 1, "secret");
    fake_change_required(l->control, RPC_VALIDATE_PASSWORD, "Change it");
    expect_failure(l, "publickey,keyboard-interactive,password", false);
    send_kbdint(l, "alice");
    expect_password_prompt(l);
    send_responses(l, 1, "secret");
    fake_fail(l->control, RPC_VALIDATE_PASSWORD, ABSENT);
    expect_failure(l, "publickey,keyboard-interactive,password", false);
    send_kbdint(l, "alice");
    expect_password_prompt(l);
    send_responses(l, 1, "secret");
    fake_deny(l->control, RPC_VALIDATE_PASSWORD, "locked");
    expect_banner(l, "locked\r\n");
    expect_failure(l, "publickey,keyboard-interactive,password", false);
}

/* {kbdint, password} answers of the Supported handlers; -1: absent. */
static void support(struct login *l, enum rpc rpc, int answer)
{
    if (answer < 0)
        fake_fail(l->control, rpc, ABSENT);
    else
        fake_support(l->control, rpc, (Policy__Support)answer);
}

static void the_tie_follows_the_password(void **state)
{
    enum { NO = 2, YES = 1, TIED = 3, ABSENT_HANDLER = -1, UNSET = 0 };
    static const struct {
        int kbdint, password;
        const char *listed;
    } rows[] = {
        {YES, YES, "keyboard-interactive,password"},
        {YES, NO, "keyboard-interactive"},
        {TIED, YES, "keyboard-interactive,password"},
        {TIED, NO, ""},
        {TIED, ABSENT_HANDLER, ""},
        {ABSENT_HANDLER, YES, "keyboard-interactive,password"},
        {ABSENT_HANDLER, TIED, ""},
        {ABSENT_HANDLER, ABSENT_HANDLER, ""},
        {NO, YES, "password"},
        {UNSET, YES, "password"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        send_none(l, "alice");
        fake_begin_open(l->control);
        support(l, RPC_HOST_BASED_AUTH_SUPPORTED, NO);
        support(l, RPC_PUBLIC_KEY_AUTH_SUPPORTED, NO);
        support(l, RPC_KBDINT_AUTH_SUPPORTED, rows[i].kbdint);
        support(l, RPC_PASSWORD_AUTH_SUPPORTED, rows[i].password);
        expect_failure(l, rows[i].listed, false);
        send_kbdint(l, "alice");
        if (strstr(rows[i].listed, "keyboard") == NULL)
            expect_asked(l, RPC_HOST_BASED_AUTH_SUPPORTED); /* refused: the next list */
        else if (rows[i].kbdint == YES)
            expect_asked(l, RPC_GET_KBDINT_CHALLENGE);
        else
            expect_password_prompt(l);
        login_teardown(&fresh);
    }
}

static void first_need_of_a_tie_asks_about_both(void **state)
{
    struct login *l = *state;

    send_kbdint(l, "alice");
    fake_begin_open(l->control);
    expect_asked(l, RPC_KBDINT_AUTH_SUPPORTED);
    fake_fail(l->control, RPC_KBDINT_AUTH_SUPPORTED, ABSENT);
    expect_asked(l, RPC_PASSWORD_AUTH_SUPPORTED);
    fake_support(l->control, RPC_PASSWORD_AUTH_SUPPORTED, POLICY__SUPPORT__SUPPORT_YES);
    expect_password_prompt(l);
    expect_idle(l);
}

static void no_answer_about_a_tie_is_no(void **state)
{
    struct login *l = *state;

    send_kbdint(l, "alice");
    fake_begin_open(l->control);
    fake_fail(l->control, RPC_KBDINT_AUTH_SUPPORTED, EXPIRED);
    expect_asked(l, RPC_HOST_BASED_AUTH_SUPPORTED); /* refused: the list of the failure */
    expect_silence(l);
}

/* ---- several factors */

static void after_a_partial_success_the_tie_is_asked_about(void **state)
{
    struct login *l = *state;

    send_signed(l, "alice", KEY_A);
    fake_begin_open(l->control);
    fake_support(l->control, RPC_PUBLIC_KEY_AUTH_SUPPORTED, POLICY__SUPPORT__SUPPORT_YES);
    fake_partial(l->control, RPC_VALIDATE_PUBLIC_KEY, FAKE_KBDINT, NULL);
    expect_failure(l, "keyboard-interactive", true);
    send_kbdint(l, "alice");
    expect_asked(l, RPC_KBDINT_AUTH_SUPPORTED);
    fake_fail(l->control, RPC_KBDINT_AUTH_SUPPORTED, UNAVAILABLE);
    expect_banner(l, "Login is not possible now: the policy service gave no answer.\r\n");
    expect_failure(l, "keyboard-interactive", false);
}

static void a_password_is_not_two_factors(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    begin_tied(l, ALL);
    fake_partial(l->control, RPC_VALIDATE_PASSWORD, FAKE_KBDINT, NULL);
    expect_failure(l, "keyboard-interactive", true);
    send_kbdint(l, "alice");
    expect_failure(l, "keyboard-interactive", false);
    expect_idle(l);
    expect_no_success(l);
}

static void a_dialogue_is_a_second_factor(void **state)
{
    struct login *l = *state;
    const Policy__GetKbdintChallengeRequest *question;

    send_password(l, "alice", "secret");
    begin_all(l);
    fake_partial(l->control, RPC_VALIDATE_PASSWORD, FAKE_KBDINT, NULL);
    expect_failure(l, "keyboard-interactive", true);
    send_kbdint(l, "alice");
    question = fake_question(l->control, RPC_GET_KBDINT_CHALLENGE);
    assert_int_equal(question->context->n_passed, 1);
    fake_challenge(l->control, RPC_GET_KBDINT_CHALLENGE, 1);
    expect_challenge(l, 1);
    send_responses(l, 1, "123456");
    fake_allow(l->control, RPC_VALIDATE_KBDINT_RESPONSE);
    expect_success(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        login_test(a_series_of_challenges_ends_in_an_allow),
        login_test(outcomes_at_once),
        login_test(an_allow_at_once_logs_in),
        cmocka_unit_test(no_answer_is_no),
        login_test(kept_banners_come_before_the_prompts),
        cmocka_unit_test(wrong_counts_reach_nobody),
        cmocka_unit_test(malformed_responses_are_faults),
        cmocka_unit_test(malformed_requests_are_faults),
        login_test(unsolicited_responses_are_not_understood),
        login_test(other_messages_of_a_dialogue_are_faults),
        cmocka_unit_test(secrets_out_of_bounds_reach_nobody),
        login_test(hints_out_of_bounds_reach_nobody),
        login_test(too_many_prompts_are_not_shown),
        login_test(a_dialogue_without_end_ends),
        login_test(a_new_request_ends_the_dialogue),
        login_test(a_pipelined_request_waits_for_the_challenge),
        login_test(another_name_ends_the_dialogue_and_starts_over),
        login_test(freeing_in_a_dialogue_is_silent),
        login_test(a_tied_dialogue_validates_a_password),
        login_test(a_tied_dialogue_wants_one_response),
        login_test(a_change_of_password_fails_a_tied_dialogue),
        cmocka_unit_test(the_tie_follows_the_password),
        login_test(first_need_of_a_tie_asks_about_both),
        login_test(no_answer_about_a_tie_is_no),
        login_test(after_a_partial_success_the_tie_is_asked_about),
        login_test(a_password_is_not_two_factors),
        login_test(a_dialogue_is_a_second_factor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
