/* What ProcessEndpoint runs: from the answer to the plan, and the plan's way to the child. */
#include "unit/cmocka_unit.h"

#include "base/alloc.h"
#include "endpoints/process.h"
#include "endpoints/pty.h"
#include "endpoints/signals.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static ProtobufCBinaryData data_of(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
}

static Policy__EnvVar variable(const char *name, const char *value)
{
    Policy__EnvVar var = POLICY__ENV_VAR__INIT;

    var.name = data_of(name);
    var.value = data_of(value);
    return var;
}

/* An answer of one program with one variable, and a session with another one and a terminal. */
struct fixture {
    Policy__ProcessEndpoint answer;
    Policy__SessionStart session;
    Policy__Pty pty;
    ProtobufCBinaryData argv[2];
    Policy__EnvVar own, sent[3], added;
    Policy__EnvVar *own_list[2], *sent_list[3], *added_list[1];
    struct plan plan;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));

    policy__process_endpoint__init(&f->answer);
    policy__session_start__init(&f->session);
    policy__pty__init(&f->pty);
    f->argv[0] = data_of("/bin/echo");
    f->argv[1] = data_of("a b");
    f->answer.argv = f->argv;
    f->answer.n_argv = 2;
    f->answer.user = (char *)"nobody";
    f->own = variable("MINE", "policy");
    f->own_list[0] = f->own_list[1] = &f->own;
    f->answer.environment = f->own_list;
    f->answer.n_environment = 1;
    f->sent[0] = variable("MINE", "client");
    f->sent[1] = variable("TERM", "client");
    f->sent[2] = variable("LANG", "C");
    for (size_t i = 0; i < 3; i++)
        f->sent_list[i] = &f->sent[i];
    f->session.environment = f->sent_list;
    f->session.n_environment = 3;
    f->added = variable("SSH_AUTH_SOCK", "/a");
    f->added_list[0] = &f->added;
    f->pty.term = (char *)"vt220";
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    plan_clear(&f->plan);
    free(f);
    return 0;
}

static void make(struct fixture *f)
{
    const char *why = NULL;

    assert_true(endpoint_process_check(&f->answer, &why));
    plan_clear(&f->plan);
    process_plan(&f->plan, &f->answer, &f->session, f->added_list, 1);
}

static void assert_strings(char *const *strings, const char *const *expected)
{
    size_t i = 0;

    for (; expected[i] != NULL; i++) {
        assert_non_null(strings[i]);
        assert_string_equal(strings[i], expected[i]);
    }
    assert_null(strings[i]);
}

static void test_nothing_of_the_client_is_in_it(void **state)
{
    struct fixture *f = *state;
    const char *const argv[] = {"/bin/echo", "a b", NULL};
    const char *const environment[] = {"MINE=policy", "SSH_AUTH_SOCK=/a", NULL};

    f->session.pty = &f->pty;
    make(f);
    assert_strings(f->plan.argv, argv);
    assert_strings(f->plan.environment, environment);
    assert_true(f->plan.has_terminal);
}

static void test_what_is_kept_never_replaces_what_is_set(void **state)
{
    struct fixture *f = *state;
    const char *const with_pty[] = {"MINE=policy", "SSH_AUTH_SOCK=/a", "TERM=vt220", "LANG=C",
                                    NULL};
    const char *const without[] = {"MINE=policy", "SSH_AUTH_SOCK=/a", "TERM=client", "LANG=C",
                                   NULL};

    f->answer.keep_environment = true;
    f->session.pty = &f->pty;
    make(f);
    assert_strings(f->plan.environment, with_pty);
    f->session.pty = NULL;
    make(f);
    assert_strings(f->plan.environment, without);
    f->own = variable("SSH_AUTH_SOCK", "policy's");
    make(f);
    assert_string_equal(f->plan.environment[0], "SSH_AUTH_SOCK=policy's");
    assert_string_equal(f->plan.environment[1], "MINE=client");
}

static void test_what_is_malformed_refuses(void **state)
{
    static const struct {
        ProtobufCBinaryData name, value;
    } wrong[] = {
        {{0, NULL}, {1, (uint8_t *)"x"}},
        {{3, (uint8_t *)"A=B"}, {1, (uint8_t *)"x"}},
        {{3, (uint8_t *)"A\0B"}, {1, (uint8_t *)"x"}},
        {{1, (uint8_t *)"A"}, {3, (uint8_t *)"x\0y"}},
    };
    struct fixture *f = *state;
    const char *why = NULL;

    for (size_t i = 0; i < COUNT(wrong); i++) {
        f->own.name = wrong[i].name;
        f->own.value = wrong[i].value;
        assert_false(endpoint_process_check(&f->answer, &why));
        assert_non_null(why);
    }
    f->own = variable("A", "");
    assert_true(endpoint_process_check(&f->answer, &why));
    f->answer.directory = (ProtobufCBinaryData){3, (uint8_t *)"/\0x"};
    assert_false(endpoint_process_check(&f->answer, &why));
    f->answer.directory.len = 0;
    f->argv[1] = (ProtobufCBinaryData){2, (uint8_t *)"x\0"};
    assert_false(endpoint_process_check(&f->answer, &why));
    f->argv[1].len = 0; /* an empty argument is one */
    assert_true(endpoint_process_check(&f->answer, &why));
    f->argv[0].len = 0;
    assert_false(endpoint_process_check(&f->answer, &why));
    f->answer.n_argv = 0;
    assert_false(endpoint_process_check(&f->answer, &why));
}

static void test_root_must_be_named(void **state)
{
    struct fixture *f = *state;
    const char *why = NULL;

    f->answer.user = (char *)"";
    assert_int_equal(endpoint_process_check(&f->answer, &why), geteuid() != 0);
}

static void test_a_plan_arrives_as_it_was(void **state)
{
    struct fixture *f = *state;
    struct plan copy = {0};
    struct buf encoded = {0};
    char *groups[] = {(char *)"one", (char *)"two"};

    f->answer.groups = groups;
    f->answer.n_groups = 2;
    f->answer.directory = data_of("/tmp");
    f->answer.max_processes = 7;
    f->answer.max_memory_bytes = 0x123456789abcdef0;
    make(f);
    plan_encode(&f->plan, &encoded);
    assert_true(plan_decode(&copy, buf_bytes(&encoded)));
    assert_strings(copy.argv, (const char *const *)f->plan.argv);
    assert_strings(copy.environment, (const char *const *)f->plan.environment);
    assert_strings(copy.groups, (const char *const *)f->plan.groups);
    assert_string_equal(copy.directory, "/tmp");
    assert_string_equal(copy.user, "nobody");
    assert_int_equal(copy.max_processes, 7);
    assert_true(copy.max_memory_bytes == 0x123456789abcdef0);
    assert_int_equal(copy.parent, getpid());
    plan_clear(&copy);
    for (size_t len = 0; len < encoded.len; len++) { /* every shorter one is malformed */
        assert_false(plan_decode(&copy, bytes_of(encoded.data, len)));
        plan_clear(&copy);
    }
    buf_put_u8(&encoded, 0);
    assert_false(plan_decode(&copy, buf_bytes(&encoded)));
    plan_clear(&copy);
    buf_clear(&encoded);
}

static void test_counts_beyond_the_bytes_ask_for_no_memory(void **state)
{
    static const uint8_t many[] = {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0};
    struct plan plan = {0};

    (void)state;
    assert_false(plan_decode(&plan, bytes_of(many, sizeof(many))));
    plan_clear(&plan);
}

/* ---- terminals and signals */

static void test_modes(void **state)
{
    struct termios modes = {0};

    (void)state;
    pty_apply_mode(&modes, 1, 3);
    pty_apply_mode(&modes, 3, 255);
    assert_int_equal(modes.c_cc[VINTR], 3);
    assert_int_equal(modes.c_cc[VERASE], _POSIX_VDISABLE);
    pty_apply_mode(&modes, 53, 1);
    pty_apply_mode(&modes, 36, 7); /* any value but 0 */
    assert_int_equal(modes.c_lflag, ECHO);
    assert_int_equal(modes.c_iflag, ICRNL);
    pty_apply_mode(&modes, 53, 0);
    assert_int_equal(modes.c_lflag, 0);
    pty_apply_mode(&modes, 91, 1); /* CS8, then CS7 off: as clients send a usual terminal */
    pty_apply_mode(&modes, 90, 0);
    assert_int_equal(modes.c_cflag & CSIZE, CS8);
    pty_apply_mode(&modes, 129, 38400);
    assert_int_equal(cfgetospeed(&modes), B38400);
    pty_apply_mode(&modes, 129, 12345); /* none of that speed */
    assert_int_equal(cfgetospeed(&modes), B38400);
}

static void test_signals_have_the_names_of_the_rfc(void **state)
{
    (void)state;
    assert_int_equal(signal_by_name("TERM"), SIGTERM);
    assert_int_equal(signal_by_name("USR2"), SIGUSR2);
    assert_int_equal(signal_by_name("SIGTERM"), 0);
    assert_int_equal(signal_by_name("STOP"), 0);
    assert_int_equal(signal_by_name(""), 0);
    assert_string_equal(signal_name(SIGSEGV), "SEGV");
    assert_string_equal(signal_name(SIGBUS), "SIG@openssh.com");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_of_the_client_is_in_it),
        TEST(test_what_is_kept_never_replaces_what_is_set),
        TEST(test_what_is_malformed_refuses),
        TEST(test_root_must_be_named),
        TEST(test_a_plan_arrives_as_it_was),
        cmocka_unit_test(test_counts_beyond_the_bytes_ask_for_no_memory),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_signals_have_the_names_of_the_rfc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
