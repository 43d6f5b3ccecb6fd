/* Logging in elsewhere by password, and servers that misbehave. */
#include "unit/endpoints/login_world.h"

/* ---- passwords */

static void a_password_goes_once_the_service_is_there(void **state)
{
    struct login_world *s = *state;

    login_start_password(s);
    fake_deliver(s->t, 7, "u", 0u);
    assert_int_equal(fake_sent_waiting(s->t), 0);
    login_accept_service(s);
    login_expect_password(s);
    fake_deliver(s->t, 53, "ss", "Welcome\r\n", "");
    fake_deliver(s->t, 52, "");
    login_expect_end(s, 0, NULL);
    assert_string_equal(s->how, "password");
}

static void a_wrong_password_is_denied(void **state)
{
    struct login_world *s = *state;

    login_start_password(s);
    login_accept_service(s);
    login_expect_password(s);
    fake_deliver(s->t, 51, "sb", "publickey,password", 0);
    login_expect_end(s, 14, "permission denied (publickey,password)");
}

static void what_the_server_says_is_clean(void **state)
{
    struct login_world *s = *state;

    login_start_password(s);
    login_accept_service(s);
    login_expect_password(s);
    fake_deliver(s->t, 51, "sb", "a\x1b]0;b\n,\xff", 0);
    login_expect_end(s, 14, "permission denied (a?]0;b?,?)");
}

static void a_second_factor_is_not_had(void **state)
{
    struct login_world *s = *state;

    login_start_password(s);
    login_accept_service(s);
    login_expect_password(s);
    fake_deliver(s->t, 51, "sb", "publickey", 1);
    login_expect_end(s, 14, "it wants more than this credential (publickey)");
}

static void an_expired_password_is_not_changed(void **state)
{
    struct login_world *s = *state;

    login_start_password(s);
    login_accept_service(s);
    login_expect_password(s);
    fake_deliver(s->t, 60, "ss", "New password", "");
    login_expect_end(s, 14, "the password has expired and must be changed first");
}

static void to_kbdint(struct login_world *s)
{
    login_start_password(s);
    login_accept_service(s);
    login_expect_password(s);
    fake_deliver(s->t, 51, "sb", "publickey,keyboard-interactive", 0);
    assert_true(
        fake_sent_is(s->t, 50, "sssss", "alice", "ssh-connection", "keyboard-interactive", "", ""));
}

static void the_one_hidden_question_is_answered(void **state)
{
    struct login_world *s = *state;

    to_kbdint(s);
    fake_deliver(s->t, 60, "sssusb", "", "Hello", "", 1u, "Password: ", 0);
    assert_true(fake_sent_is(s->t, 61, "us", 1u, "tiger"));
    fake_deliver(s->t, 60, "sssu", "", "Your password is old", "", 0u);
    assert_true(fake_sent_is(s->t, 61, "u", 0u));
    fake_deliver(s->t, 52, "");
    login_expect_end(s, 0, NULL);
    assert_string_equal(s->how, "keyboard-interactive");
}

static void a_wrong_response_is_denied(void **state)
{
    struct login_world *s = *state;

    to_kbdint(s);
    fake_deliver(s->t, 60, "sssusb", "", "", "", 1u, "Password: ", 0);
    assert_true(fake_sent_is(s->t, 61, "us", 1u, "tiger"));
    fake_deliver(s->t, 51, "sb", "publickey,keyboard-interactive", 0);
    login_expect_end(s, 14, "permission denied (publickey,keyboard-interactive)");
}

static void a_visible_question_gets_no_password(void **state)
{
    struct login_world *s = *state;

    to_kbdint(s);
    fake_deliver(s->t, 60, "sssusb", "", "", "", 1u, "Name: ", 1);
    login_expect_end(s, 14, "it asks for more than a password");
}

static void two_questions_get_no_password(void **state)
{
    struct login_world *s = *state;

    to_kbdint(s);
    fake_deliver(s->t, 60, "sssusbsb", "", "", "", 2u, "Password: ", 0, "Code: ", 0);
    login_expect_end(s, 14, "it asks for more than a password");
}

static void the_password_is_a_response_once(void **state)
{
    struct login_world *s = *state;

    to_kbdint(s);
    fake_deliver(s->t, 60, "sssusb", "", "", "", 1u, "Password: ", 0);
    assert_true(fake_sent_is(s->t, 61, "us", 1u, "tiger"));
    fake_deliver(s->t, 60, "sssusb", "", "", "", 1u, "Code: ", 0);
    login_expect_end(s, 14, "it asks for more than a password");
}

static void rounds_are_counted(void **state)
{
    struct login_world *s = *state;

    to_kbdint(s);
    for (int i = 0; i < 8; i++) {
        fake_deliver(s->t, 60, "sssu", "", "", "", 0u);
        assert_true(fake_sent_is(s->t, 61, "u", 0u));
    }
    fake_deliver(s->t, 60, "sssu", "", "", "", 0u);
    login_expect_end(s, 14, "it asks without end");
}

static void a_malformed_question_is_a_fault(void **state)
{
    struct login_world *s = *state;

    to_kbdint(s);
    fake_deliver(s->t, 60, "sssusb", "", "", "", 0xffffffffu, "Password: ", 0);
    login_expect_end(s, 2, "it broke the protocol: a malformed question");
}

/* ---- servers that misbehave */

/* Before the service was accepted, nothing of this can be meant; no credential follows. */
static void nothing_comes_before_the_service(void **state)
{
    static const uint8_t types[] = {51, 52, 60};

    for (size_t i = 0; i < sizeof(types); i++) {
        struct login_world *s = *state;

        login_start_password(s);
        fake_deliver(s->t, types[i], "sb", "password", 0);
        login_expect_end(s, 2, "it broke the protocol: an answer to nothing");
        login_accept_service(s);
        assert_int_equal(fake_sent_waiting(s->t), 0);
        assert_int_equal(login_world_tear_down(state), 0);
        assert_int_equal(login_world_set_up(state), 0);
    }
}

static void another_service_gets_no_credential(void **state)
{
    struct login_world *s = *state;

    login_start_password(s);
    fake_deliver(s->t, 6, "s", "ssh-connection");
    login_expect_end(s, 2, "it broke the protocol: another service than was asked for");
}

static void the_service_is_accepted_once(void **state)
{
    struct login_world *s = *state;

    login_start_password(s);
    login_accept_service(s);
    login_expect_password(s);
    login_accept_service(s);
    login_expect_end(s, 2, "it broke the protocol: a service that was not asked for");
}

static void an_old_server_does_not_name_the_service(void **state)
{
    struct login_world *s = *state;

    login_start_password(s);
    fake_deliver(s->t, 6, "");
    login_expect_password(s);
}

static void extensions_must_be_whole(void **state)
{
    struct login_world *s = *state;

    login_start_password(s);
    fake_deliver(s->t, 7, "us", 1u, "server-sig-algs");
    login_expect_end(s, 2, "it broke the protocol: malformed extensions");
}

static void refusals_must_be_whole(void **state)
{
    struct login_world *s = *state;

    login_start_password(s);
    login_accept_service(s);
    login_expect_password(s);
    fake_deliver(s->t, 51, "s", "password");
    login_expect_end(s, 2, "it broke the protocol: a malformed refusal");
}

static void successes_must_be_whole(void **state)
{
    struct login_world *s = *state;

    login_start_password(s);
    login_accept_service(s);
    login_expect_password(s);
    fake_deliver(s->t, 52, "s", "more");
    login_expect_end(s, 2, "it broke the protocol: a malformed success");
}

static void what_is_not_known_is_not_understood(void **state)
{
    struct login_world *s = *state;

    login_start_password(s);
    fake_deliver(s->t, 54, "");
    fake_deliver(s->t, 61, "");
    assert_int_equal(fake_not_understood(s->t), 2);
    login_accept_service(s);
    login_expect_password(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        login_test(a_password_goes_once_the_service_is_there),
        login_test(a_wrong_password_is_denied),
        login_test(what_the_server_says_is_clean),
        login_test(a_second_factor_is_not_had),
        login_test(an_expired_password_is_not_changed),
        login_test(the_one_hidden_question_is_answered),
        login_test(a_wrong_response_is_denied),
        login_test(a_visible_question_gets_no_password),
        login_test(two_questions_get_no_password),
        login_test(the_password_is_a_response_once),
        login_test(rounds_are_counted),
        login_test(a_malformed_question_is_a_fault),
        login_test(nothing_comes_before_the_service),
        login_test(another_service_gets_no_credential),
        login_test(the_service_is_accepted_once),
        login_test(an_old_server_does_not_name_the_service),
        login_test(extensions_must_be_whole),
        login_test(refusals_must_be_whole),
        login_test(successes_must_be_whole),
        login_test(what_is_not_known_is_not_understood),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
