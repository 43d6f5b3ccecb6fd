/* Partial success, required sets, user names, order of pipelined requests, limits. */
#include "unit/auth/login.h"

#include <stdlib.h>
#include <string.h>

#define PARTIAL_CHANGE 2 /* DISCONNECT_PROTOCOL_ERROR */

static void begin_requiring(struct login *l, size_t count, const Policy__AuthMethod sets[][3])
{
    Policy__BeginAuthAnswer answer = POLICY__BEGIN_AUTH_ANSWER__INIT;
    Policy__Methods offered = POLICY__METHODS__INIT, messages[4], *pointers[4];
    Policy__AuthMethod both[] = {FAKE_PUBLICKEY, FAKE_PASSWORD};

    offered.methods = both;
    offered.n_methods = 2;
    answer.methods = &offered;
    for (size_t i = 0; i < count; i++) {
        policy__methods__init(&messages[i]);
        messages[i].methods = (Policy__AuthMethod *)sets[i];
        while (messages[i].n_methods < 3 && (int)sets[i][messages[i].n_methods] >= 0)
            messages[i].n_methods++;
        pointers[i] = &messages[i];
    }
    answer.required = pointers;
    answer.n_required = count;
    fake_answer(l->control, RPC_BEGIN_AUTH, &answer.base);
}

#define END ((Policy__AuthMethod)-1)

static void partial_success_leaves_the_remaining_methods(void **state)
{
    struct login *l = *state;

    send_signed(l, "alice", KEY_A);
    fake_begin_both(l->control);
    fake_partial(l->control, RPC_VALIDATE_PUBLIC_KEY, FAKE_PASSWORD, NULL);
    expect_failure(l, "password", true);
    expect_no_success(l);
    send_password(l, "alice", "secret");
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_success(l);
    assert_int_equal(asker_factors(l->asker), 2);
}

static void the_same_factor_does_not_count_twice(void **state)
{
    struct login *l = *state;

    send_signed(l, "alice", KEY_A);
    fake_begin_both(l->control);
    fake_partial(l->control, RPC_VALIDATE_PUBLIC_KEY, FAKE_PASSWORD, NULL);
    expect_failure(l, "password", true);
    send_signed(l, "alice", KEY_B);
    expect_failure(l, "password", false);
    send_probe(l, "alice", KEY_B);
    expect_failure(l, "password", false);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_PUBLIC_KEY), 1);
    expect_no_success(l);
}

static void a_partial_success_that_leaves_nothing_ends_the_connection(void **state)
{
    static const Policy__AuthMethod nothing[] = {0, FAKE_PUBLICKEY,
                                                 POLICY__AUTH_METHOD__AUTH_METHOD_NONE};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        send_signed(l, "alice", KEY_A);
        fake_begin_both(l->control);
        fake_partial(l->control, RPC_VALIDATE_PUBLIC_KEY, nothing[i], NULL);
        expect_fault(l, 14);
        expect_no_success(l);
        login_teardown(&fresh);
    }
}

static void required_sets_outdo_a_single_allow(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    begin_requiring(l, 1, (const Policy__AuthMethod[][3]){{FAKE_PUBLICKEY, FAKE_PASSWORD, END}});
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_failure(l, "publickey", true);
    expect_no_success(l);
    send_signed(l, "alice", KEY_A);
    fake_allow(l->control, RPC_VALIDATE_PUBLIC_KEY);
    expect_success(l);
}

static void one_whole_set_is_enough(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    begin_requiring(l, 2,
                    (const Policy__AuthMethod[][3]){{FAKE_PUBLICKEY, FAKE_PASSWORD, END},
                                                    {FAKE_PASSWORD, END}});
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_success(l);
}

static void a_factor_outside_the_set_leaves_the_set_to_be_passed(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    begin_requiring(l, 1, (const Policy__AuthMethod[][3]){{FAKE_PUBLICKEY, END}});
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_failure(l, "publickey", true);
    send_signed(l, "alice", KEY_A);
    fake_allow(l->control, RPC_VALIDATE_PUBLIC_KEY);
    expect_success(l);
}

static void sets_that_cannot_be_passed_let_nobody_in(void **state)
{
    static const Policy__AuthMethod sets[][1][3] = {
        {{END, END, END}},                   /* empty */
        {{(Policy__AuthMethod)0, END, END}}, /* unspecified */
        {{FAKE_PASSWORD, (Policy__AuthMethod)0, END}},
        {{FAKE_PASSWORD, POLICY__AUTH_METHOD__AUTH_METHOD_NONE, END}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        send_password(l, "alice", "secret");
        begin_requiring(l, 1, sets[i]);
        fake_allow(l->control, RPC_VALIDATE_PASSWORD);
        expect_no_success(l);
        expect_fault(l, 14);
        login_teardown(&fresh);
    }
}

static void required_holds_over_partial_answers_too(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    begin_requiring(l, 1,
                    (const Policy__AuthMethod[][3]){
                        {FAKE_PASSWORD, POLICY__AUTH_METHOD__AUTH_METHOD_GSSAPI_WITH_MIC, END}});
    fake_partial(l->control, RPC_VALIDATE_PASSWORD, FAKE_PUBLICKEY, NULL);
    expect_failure(l, "publickey", true);
    send_signed(l, "alice", KEY_A);
    fake_allow(l->control, RPC_VALIDATE_PUBLIC_KEY);
    expect_no_success(l);
    expect_fault(l, 14);
}

/* ---- user names */

static void another_user_begins_anew(void **state)
{
    struct login *l = *state;
    Policy__Restrictions tight = POLICY__RESTRICTIONS__INIT;
    const Policy__ValidatePasswordRequest *question;

    tight.no_pty = true;
    grant_add(&l->grant, &tight); /* from ConnectionMade: stays */
    send_password(l, "alice", "secret");
    fake_begin_both(l->control);
    fake_deny(l->control, RPC_VALIDATE_PASSWORD, "");
    expect_failure(l, "publickey,password", false);
    send_password(l, "bob", "secret");
    expect_asked(l, RPC_BEGIN_AUTH);
    fake_begin(l->control, (Policy__AuthMethod[]){FAKE_PASSWORD, 0});
    question = fake_question(l->control, RPC_VALIDATE_PASSWORD);
    assert_string_equal(question->context->user, "bob");
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_success(l);
    assert_true(grant_no_pty(&l->grant));
    assert_string_equal(asker_user(l->asker), "bob");
}

static void not_required_of_one_user_is_not_anothers(void **state)
{
    struct login *l = *state;
    Policy__BeginAuthAnswer answer = POLICY__BEGIN_AUTH_ANSWER__INIT;
    Policy__Common common = POLICY__COMMON__INIT;

    /* guest needs nothing, but his login does not come about */
    Policy__Restrictions elsewhere = POLICY__RESTRICTIONS__INIT;
    Policy__Patterns nowhere = POLICY__PATTERNS__INIT;

    elsewhere.source_addresses = &nowhere;
    grant_add(&l->grant, &elsewhere);
    answer.common = &common;
    answer.requirement = POLICY__REQUIREMENT__REQUIREMENT_NOT_REQUIRED;
    send_none(l, "guest");
    fake_answer(l->control, RPC_BEGIN_AUTH, &answer.base);
    expect_asked(l, RPC_HOST_BASED_AUTH_SUPPORTED);
    fake_fail(l->control, RPC_HOST_BASED_AUTH_SUPPORTED, ABSENT);
    fake_fail(l->control, RPC_PUBLIC_KEY_AUTH_SUPPORTED, ABSENT);
    fake_fail(l->control, RPC_KBDINT_AUTH_SUPPORTED, ABSENT);
    fake_fail(l->control, RPC_PASSWORD_AUTH_SUPPORTED, ABSENT);
    expect_failure(l, "", false);
    send_none(l, "root");
    fake_begin_both(l->control);
    expect_failure(l, "publickey,password", false);
    expect_no_success(l);
}

static void a_change_after_partial_success_disconnects(void **state)
{
    struct login *l = *state;

    send_signed(l, "alice", KEY_A);
    fake_begin_both(l->control);
    fake_partial(l->control, RPC_VALIDATE_PUBLIC_KEY, FAKE_PASSWORD, NULL);
    expect_failure(l, "password", true);
    send_password(l, "bob", "secret");
    expect_fault(l, PARTIAL_CHANGE);
    expect_no_success(l);
}

static void names_are_compared_exactly(void **state)
{
    struct login *l = *state;

    send_none(l, "alice");
    fake_begin_both(l->control);
    send_none(l, "Alice");
    expect_asked(l, RPC_BEGIN_AUTH);
    fake_begin_both(l->control);
    send_none(l, "Alice ");
    expect_asked(l, RPC_BEGIN_AUTH);
    fake_begin_both(l->control);
    send_none(l, "");
    expect_asked(l, RPC_BEGIN_AUTH);
    assert_string_equal(asker_user(l->asker), "");
}

static void illegal_names_reach_nobody(void **state)
{
    static char long_name[1025];
    struct bytes names[] = {BYTES("root\0x"), BYTES("\xff"), BYTES("\xc0\x80"),
                            BYTES("\xed\xa0\x80"), bytes_of(long_name, 1025)};

    (void)state;
    memset(long_name, 'a', sizeof(long_name));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        fake_deliver(l->transport, 50, "Sss", names[i], "ssh-connection", "none");
        expect_fault(l, 15);
        assert_int_equal(fake_asked(l->control, RPC_COUNT), 0);
        login_teardown(&fresh);
    }
}

static void the_longest_name_is_legal(void **state)
{
    struct login *l = *state;
    char name[1025];

    memset(name, 'a', 1024);
    name[1024] = '\0';
    send_none(l, name);
    expect_asked(l, RPC_BEGIN_AUTH);
}

/* ---- pipelining (RFC 4252 section 5.1) */

static void pipelined_requests_wait_their_turn(void **state)
{
    struct login *l = *state;
    const Policy__ValidatePasswordRequest *question;

    send_none(l, "alice");
    send_password(l, "alice", "one");
    send_password(l, "bob", "two");
    expect_asked(l, RPC_BEGIN_AUTH);
    fake_begin_both(l->control);
    expect_failure(l, "publickey,password", false);
    expect_asked(l, RPC_VALIDATE_PASSWORD);
    question = fake_question(l->control, RPC_VALIDATE_PASSWORD);
    assert_string_equal(question->password, "one");
    assert_string_equal(question->context->user, "alice");
    fake_deny(l->control, RPC_VALIDATE_PASSWORD, "");
    expect_failure(l, "publickey,password", false);
    expect_asked(l, RPC_BEGIN_AUTH);
    fake_begin_both(l->control);
    question = fake_question(l->control, RPC_VALIDATE_PASSWORD);
    assert_string_equal(question->password, "two");
    assert_string_equal(question->context->user, "bob");
}

static void what_follows_a_success_is_ignored(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    send_password(l, "root", "secret");
    send_none(l, "root");
    fake_begin_both(l->control);
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_success(l);
    fake_allow(l->control, RPC_AUTH_COMPLETED);
    assert_string_equal(asker_user(l->asker), "alice");
    send_none(l, "root");
    expect_silence(l);
    expect_idle(l);
    assert_int_equal(fake_asked(l->control, RPC_COUNT), 3);
    assert_int_equal(l->completed, 1);
}

static void a_full_lane_pauses_the_peer(void **state)
{
    struct login *l = *state;

    send_none(l, "alice");
    for (int i = 0; i < 20; i++)
        send_none(l, "alice");
    assert_int_equal(fake_paused(l->transport), 1);
    assert_int_equal(fake_undelivered(l->transport), 12);
    fake_begin_both(l->control);
    expect_fault(l, 14); /* the sixth failure */
    assert_int_equal(fake_paused(l->transport), 0);
}

/* ---- limits */

static void six_failures_end_the_connection(void **state)
{
    struct login *l = *state;

    send_none(l, "alice"); /* the question that clients open with is no attempt */
    fake_begin_both(l->control);
    expect_failure(l, "publickey,password", false);
    for (int i = 0; i < 5; i++) {
        send_password(l, "alice", "wrong");
        fake_deny(l->control, RPC_VALIDATE_PASSWORD, "");
        expect_failure(l, "publickey,password", false);
    }
    assert_int_equal(l->faults, 0);
    send_password(l, "alice", "wrong");
    fake_deny(l->control, RPC_VALIDATE_PASSWORD, "");
    expect_fault(l, 14);
    assert_int_equal(fake_sent_waiting(l->transport), 0);
}

static void every_kind_of_failure_counts(void **state)
{
    struct login *l = *state;

    send_probe(l, "alice", KEY_A);
    fake_begin_both(l->control);
    fake_deny(l->control, RPC_VALIDATE_PUBLIC_KEY, ""); /* a refused probe */
    send_request(l, "alice", "publickey", "bsss", true, "ssh-ed25519", KEY_A, "bad");
    send_none(l, "alice"); /* a second "none" */
    send_request(l, "alice", "unknown", "");
    send_request(l, "alice", "publickey", "bss", false, "ssh-dss", KEY_A);
    assert_int_equal(l->faults, 0);
    send_password(l, "bob", "x"); /* another name does not start over */
    fake_begin_both(l->control);
    fake_fail(l->control, RPC_VALIDATE_PASSWORD, UNAVAILABLE);
    expect_fault(l, 14);
}

static void forty_requests_are_the_most(void **state)
{
    struct login *l = *state;

    for (int i = 0; i < 40; i++) {
        send_probe(l, "alice", KEY_A);
        if (i == 0)
            fake_begin_both(l->control);
        fake_allow(l->control, RPC_VALIDATE_PUBLIC_KEY);
        expect_pk_ok(l, "ssh-ed25519", KEY_A);
    }
    send_probe(l, "alice", KEY_A);
    expect_fault(l, 14);
    expect_no_success(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        login_test(partial_success_leaves_the_remaining_methods),
        login_test(the_same_factor_does_not_count_twice),
        cmocka_unit_test(a_partial_success_that_leaves_nothing_ends_the_connection),
        login_test(required_sets_outdo_a_single_allow),
        login_test(one_whole_set_is_enough),
        login_test(a_factor_outside_the_set_leaves_the_set_to_be_passed),
        cmocka_unit_test(sets_that_cannot_be_passed_let_nobody_in),
        login_test(required_holds_over_partial_answers_too),
        login_test(another_user_begins_anew),
        login_test(not_required_of_one_user_is_not_anothers),
        login_test(a_change_after_partial_success_disconnects),
        login_test(names_are_compared_exactly),
        cmocka_unit_test(illegal_names_reach_nobody),
        login_test(the_longest_name_is_legal),
        login_test(pipelined_requests_wait_their_turn),
        login_test(what_follows_a_success_is_ignored),
        login_test(a_full_lane_pauses_the_peer),
        login_test(six_failures_end_the_connection),
        login_test(every_kind_of_failure_counts),
        login_test(forty_requests_are_the_most),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
