/* Passwords, banners, and messages that are malformed, early or out of place. */
#include "unit/auth/login.h"

#include <stdlib.h>
#include <string.h>

/* ---- passwords */

static void passwords_out_of_bounds_reach_nobody(void **state)
{
    static char long_password[1025];
    struct bytes bad[] = {BYTES("a\0b"), BYTES("\xff\xfe"), bytes_of(long_password, 1025)};
    struct login *l = *state;

    memset(long_password, 'x', sizeof(long_password));
    for (size_t i = 0; i < 3; i++) {
        send_request(l, "alice", "password", "bS", false, bad[i]);
        if (i == 0)
            fake_begin_both(l->control);
        expect_failure(l, "publickey,password", false);
    }
    expect_idle(l);
    send_request(l, "alice", "password", "bSS", true, BYTES("old"), bad[1]);
    expect_failure(l, "publickey,password", false);
    send_request(l, "alice", "password", "bS", false, bytes_of(long_password, 1024));
    expect_asked(l, RPC_VALIDATE_PASSWORD);
}

static void a_change_of_password_is_its_own_question(void **state)
{
    struct login *l = *state;
    Policy__PasswordAnswer answer = POLICY__PASSWORD_ANSWER__INIT;
    Policy__PasswordChange change = POLICY__PASSWORD_CHANGE__INIT;
    const Policy__ChangePasswordRequest *question;

    change.prompt = "New password:";
    change.language = "en";
    answer.outcome_case = POLICY__PASSWORD_ANSWER__OUTCOME_CHANGE_REQUIRED;
    answer.change_required = &change;
    send_password(l, "alice", "old");
    fake_begin_both(l->control);
    fake_answer(l->control, RPC_VALIDATE_PASSWORD, &answer.base);
    assert_true(fake_sent_is(l->transport, 60, "ss", "New password:", "en"));
    expect_no_success(l);
    send_request(l, "alice", "password", "bss", true, "old", "new");
    expect_asked(l, RPC_CHANGE_PASSWORD);
    question = fake_question(l->control, RPC_CHANGE_PASSWORD);
    assert_string_equal(question->old_password, "old");
    assert_string_equal(question->new_password, "new");
    fake_answer(l->control, RPC_CHANGE_PASSWORD, &answer.base); /* not good enough */
    assert_true(fake_sent_is(l->transport, 60, "ss", "New password:", "en"));
    send_request(l, "alice", "password", "bss", true, "old", "newer");
    fake_allow(l->control, RPC_CHANGE_PASSWORD);
    expect_success(l);
}

/* ---- banners (RFC 4252 section 5.4) */

static Policy__BeginAuthAnswer *with_banner(const char *text)
{
    static Policy__BeginAuthAnswer answer;
    static Policy__Common common;
    static Policy__Banner banner;
    static Policy__Methods methods;

    policy__begin_auth_answer__init(&answer);
    policy__common__init(&common);
    policy__banner__init(&banner);
    policy__methods__init(&methods);
    banner.text = (char *)text;
    common.banner = &banner;
    answer.common = &common;
    answer.methods = &methods;
    return &answer;
}

static void an_early_banner_waits_for_authentication(void **state)
{
    struct login *l = *state;

    auth_banner(l->auth, "hello", "en");
    auth_banner(l->auth, "again\n", NULL);
    expect_silence(l);
    fake_deliver(l->transport, 5, "s", "ssh-userauth");
    assert_true(fake_sent_is(l->transport, 6, "s", "ssh-userauth"));
    expect_silence(l);
    send_none(l, "alice");
    fake_begin_both(l->control);
    assert_true(fake_sent_is(l->transport, 53, "ss", "hello\r\n", "en"));
    expect_banner(l, "again\n");
    expect_failure(l, "publickey,password", false);
}

static void banners_keep_their_order(void **state)
{
    struct login *l = *state;

    auth_banner(l->auth, "first", NULL);
    send_none(l, "alice");
    fake_answer(l->control, RPC_BEGIN_AUTH, &with_banner("second")->base);
    expect_banner(l, "first\r\n");
    expect_banner(l, "second\r\n");
    expect_failure(l, "", false);
}

static void an_empty_banner_is_none(void **state)
{
    struct login *l = *state;

    auth_banner(l->auth, "", NULL);
    send_none(l, "alice");
    fake_answer(l->control, RPC_BEGIN_AUTH, &with_banner("")->base);
    expect_failure(l, "", false);
}

static void words_of_a_denial_come_before_the_failure(void **state)
{
    struct login *l = *state;

    auth_banner(l->auth, "welcome", NULL);
    send_password(l, "alice", "wrong");
    fake_begin_both(l->control);
    fake_deny(l->control, RPC_VALIDATE_PASSWORD, "ask the help desk");
    expect_banner(l, "welcome\r\n");
    expect_banner(l, "ask the help desk\r\n");
    expect_failure(l, "publickey,password", false);
}

static void no_banner_after_success(void **state)
{
    struct login *l = *state;
    Policy__AuthCompletedAnswer answer = POLICY__AUTH_COMPLETED_ANSWER__INIT;
    Policy__Allow allow = POLICY__ALLOW__INIT;

    answer.common = with_banner("too late")->common;
    answer.outcome_case = POLICY__AUTH_COMPLETED_ANSWER__OUTCOME_ALLOW;
    answer.allow = &allow;
    send_password(l, "alice", "secret");
    fake_begin_both(l->control);
    auth_banner(l->auth, "in time", NULL);
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_banner(l, "in time\r\n");
    expect_success(l);
    fake_answer(l->control, RPC_AUTH_COMPLETED, &answer.base);
    assert_int_equal(l->completed, 1);
    expect_silence(l);
}

/* ---- messages out of place */

static void nothing_goes_before_the_service(void **state)
{
    struct login *l = *state;

    send_none(l, "alice");
    expect_fault(l, 2);
    assert_int_equal(fake_asked(l->control, RPC_COUNT), 0);
}

static void other_services_are_refused(void **state)
{
    struct login *l = *state;

    fake_deliver(l->transport, 50, "sss", "alice", "ssh-userauth", "none");
    expect_fault(l, 7);
}

static void only_ssh_userauth_is_served(void **state)
{
    struct login *l = *state;

    fake_deliver(l->transport, 5, "s", "ssh-connection");
    expect_fault(l, 7);
}

/* T6: what only a server sends. */
static void a_peer_cannot_assert_success(void **state)
{
    static const uint8_t types[] = {51, 52, 53, 60, 61, 62, 79};
    struct login *l = *state;

    for (size_t i = 0; i < sizeof(types); i++)
        fake_deliver(l->transport, types[i], "sb", "", true);
    assert_int_equal(fake_not_understood(l->transport), sizeof(types));
    expect_no_success(l);
    expect_idle(l);
}

static void after_a_fault_nothing_is_heard(void **state)
{
    struct login *l = *state;

    fake_deliver(l->transport, 50, "", NULL);
    expect_fault(l, 2);
    send_password(l, "alice", "secret");
    expect_fault(l, 2);
    assert_int_equal(fake_asked(l->control, RPC_COUNT), 0);
}

/* Cut everywhere, and one byte too long: a fault or a failure, and never a question about a
 * credential. */
static void try_cut(const struct buf *whole, size_t len, bool begun)
{
    struct login *l;
    struct buf message = {0};
    void *fresh;

    login_setup(&fresh);
    l = fresh;
    if (begun) {
        send_none(l, "alice");
        fake_begin_both(l->control);
        expect_failure(l, "publickey,password", false);
    }
    buf_put(&message, bytes_of(whole->data, len < whole->len ? len : whole->len));
    if (len > whole->len)
        buf_put_u8(&message, 'x');
    fake_deliver_bytes(l->transport, 50, buf_bytes(&message));
    if (!begun && l->faults == 0)
        fake_begin_both(l->control);
    assert_int_equal(fake_pending(l->control), 0);
    assert_int_equal(l->faults, 1);
    expect_no_success(l);
    buf_clear(&message);
    login_teardown(&fresh);
}

static void cut_everywhere(const struct buf *whole, size_t head)
{
    for (int begun = 0; begun < 2; begun++)
        for (size_t len = 0; len <= whole->len + 1; len++)
            if (len != whole->len && len != head)
                try_cut(whole, len, begun != 0);
}

static void malformed_requests_of_every_length_are_faults(void **state)
{
    struct buf password = {0}, change = {0}, probe = {0}, proof = {0};

    (void)state;
    wire_put(&password, "sssbs", "alice", "ssh-connection", "password", false, "secret");
    wire_put(&change, "sssbss", "alice", "ssh-connection", "password", true, "old", "new");
    wire_put(&probe, "sssbss", "alice", "ssh-connection", "publickey", false, "ssh-ed25519", KEY_A);
    wire_put(&proof, "sssbsss", "alice", "ssh-connection", "publickey", true, "ssh-ed25519", KEY_A,
             "signature");
    cut_everywhere(&password, SIZE_MAX);
    cut_everywhere(&change, SIZE_MAX);
    cut_everywhere(&probe, SIZE_MAX);
    cut_everywhere(&proof, SIZE_MAX);
    buf_clear(&password);
    buf_clear(&change);
    buf_clear(&probe);
    buf_clear(&proof);
}

static void lengths_beyond_the_message_are_faults(void **state)
{
    static const uint32_t lengths[] = {0x7fffffff, 0x80000000, 0xffffffff, 6};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        fake_deliver(l->transport, 50, "uR", lengths[i], BYTES("alice"));
        expect_fault(l, 2);
        login_teardown(&fresh);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        login_test(passwords_out_of_bounds_reach_nobody),
        login_test(a_change_of_password_is_its_own_question),
        cmocka_unit_test_setup_teardown(an_early_banner_waits_for_authentication, login_setup_new,
                                        login_teardown),
        login_test(banners_keep_their_order),
        login_test(an_empty_banner_is_none),
        login_test(words_of_a_denial_come_before_the_failure),
        login_test(no_banner_after_success),
        cmocka_unit_test_setup_teardown(nothing_goes_before_the_service, login_setup_new,
                                        login_teardown),
        login_test(other_services_are_refused),
        cmocka_unit_test_setup_teardown(only_ssh_userauth_is_served, login_setup_new,
                                        login_teardown),
        login_test(a_peer_cannot_assert_success),
        login_test(after_a_fault_nothing_is_heard),
        cmocka_unit_test(malformed_requests_of_every_length_are_faults),
        cmocka_unit_test(lengths_beyond_the_message_are_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
