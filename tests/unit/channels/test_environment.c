/* Environment variables and forced commands: what the login set is not the client's to change. */
#include "unit/channels/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void send_env(struct client *c, const char *name, const char *value)
{
    send_channel_request(c, 0, "env", true, "ss", name, value);
}

/* The environment of the program as "A=1 B=2 ". */
static void expect_environment(struct client *c, const char *text)
{
    struct stream *stream = fake_stream(c->control, 0);
    const Policy__SessionStart *start;
    struct buf found = {0};

    assert_non_null(stream);
    start = fake_stream_sent(stream)->opened->session;
    for (size_t i = 0; i < start->n_environment; i++) {
        const Policy__EnvVar *var = start->environment[i];

        wire_put(&found, "RcRc", bytes_of(var->name.data, var->name.len), '=',
                 bytes_of(var->value.data, var->value.len), ' ');
    }
    buf_put_u8(&found, 0);
    assert_string_equal((char *)found.data, text);
    buf_clear(&found);
}

static void start_exec(struct client *c)
{
    send_exec(c, 0, "run");
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    expect_sent(c, SUCCESS, "u", PEER);
}

static void variables_that_were_allowed_arrive_in_order(void **state)
{
    struct client *c = *state;
    const Policy__EnvRequestedRequest *question;

    open_session(c, PEER, 0);
    send_env(c, "B", "1");
    question = fake_question(c->control, RPC_ENV_REQUESTED);
    assert_int_equal(question->variable->name.len, 1);
    fake_allow(c->control, RPC_ENV_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
    send_env(c, "A", "2");
    fake_deny(c->control, RPC_ENV_REQUESTED, "");
    expect_sent(c, FAILURE, "u", PEER);
    send_env(c, "C", "");
    fake_allow(c->control, RPC_ENV_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
    send_env(c, "B", "3"); /* again: replaced in its place */
    fake_allow(c->control, RPC_ENV_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
    start_exec(c);
    expect_environment(c, "B=3 C= ");
}

static void an_absent_handler_allows_harmless_names_only(void **state)
{
    static const struct {
        const char *name;
        bool ok;
    } rows[] = {
        {"TERM", true},      {"LANG", true},        {"LC_ALL", true},    {"LC_", false},
        {"LCX", false},      {"LD_PRELOAD", false}, {"PATH", false},     {"lang", false},
        {"LANGUAGE", false}, {"TERMCAP", false},    {"BASH_ENV", false},
    };
    struct client *c = *state;

    open_session(c, PEER, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        send_env(c, rows[i].name, "x");
        fake_fail(c->control, RPC_ENV_REQUESTED, ABSENT);
        expect_sent(c, rows[i].ok ? SUCCESS : FAILURE, "u", PEER);
    }
    start_exec(c);
    expect_environment(c, "TERM=x LANG=x LC_ALL=x ");
}

static void no_answer_sets_nothing(void **state)
{
    struct client *c = *state;
    Policy__Restrictions r = POLICY__RESTRICTIONS__INIT;

    open_session(c, PEER, 0);
    for (int i = 0; i < 4; i++) {
        send_env(c, "LANG", "C");
        if (i == 0)
            fake_fail(c->control, RPC_ENV_REQUESTED, UNAVAILABLE);
        else if (i == 1)
            fake_fail(c->control, RPC_ENV_REQUESTED, EXPIRED);
        else if (i == 2)
            fake_answer_wire(c->control, RPC_ENV_REQUESTED, BYTES(""));
        else
            fake_allow_with(c->control, RPC_ENV_REQUESTED, &r);
        expect_sent(c, FAILURE, "u", PEER);
    }
    start_exec(c);
    expect_environment(c, "");
}

static void names_and_values_must_be_sane(void **state)
{
    static const struct {
        struct bytes name, value;
    } rows[] = {
        {{(const uint8_t *)"", 0}, {(const uint8_t *)"x", 1}},
        {{(const uint8_t *)"A=B", 3}, {(const uint8_t *)"x", 1}},
        {{(const uint8_t *)"A\0B", 3}, {(const uint8_t *)"x", 1}},
        {{(const uint8_t *)"A", 1}, {(const uint8_t *)"x\0y", 3}},
    };
    struct client *c = *state;

    open_session(c, PEER, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        send_channel_request(c, 0, "env", true, "SS", rows[i].name, rows[i].value);
        expect_sent(c, FAILURE, "u", PEER);
    }
    assert_int_equal(fake_asked(c->control, RPC_ENV_REQUESTED), 0);
}

static void entries_are_limited(void **state)
{
    struct client *c = *state;
    char name[16];

    open_session(c, PEER, 0);
    for (int i = 0; i < 256; i++) {
        snprintf(name, sizeof(name), "LC_%d", i);
        send_env(c, name, "x");
        fake_allow(c->control, RPC_ENV_REQUESTED);
        expect_sent(c, SUCCESS, "u", PEER);
    }
    send_env(c, "ONE_MORE", "x");
    expect_sent(c, FAILURE, "u", PEER);
    assert_int_equal(fake_pending(c->control), 0);
}

static void bytes_are_limited(void **state)
{
    struct client *c = *state;
    char *value = calloc(1, ENV_MAX_BYTES + 1);
    struct bytes most = bytes_of(value, ENV_MAX_BYTES - 1);

    memset(value, 'x', ENV_MAX_BYTES);
    open_session(c, PEER, 0);
    send_channel_request(c, 0, "env", true, "sS", "A", bytes_of(value, ENV_MAX_BYTES));
    expect_sent(c, FAILURE, "u", PEER);
    send_channel_request(c, 0, "env", true, "sS", "A", most);
    fake_allow(c->control, RPC_ENV_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
    send_env(c, "B", "");
    fake_allow(c->control, RPC_ENV_REQUESTED);
    expect_sent(c, FAILURE, "u", PEER); /* allowed, and yet too much */
    send_env(c, "A", "small");
    fake_allow(c->control, RPC_ENV_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
    send_env(c, "B", "");
    fake_allow(c->control, RPC_ENV_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
    free(value);
}

static void what_the_login_set_cannot_be_replaced(void **state)
{
    struct client *c = *state;

    assert_true(env_put(&c->environment, BYTES("ROLE"), BYTES("guest")));
    client_start(c);
    open_session(c, PEER, 0);
    send_env(c, "ROLE", "admin");
    expect_sent(c, FAILURE, "u", PEER);
    send_env(c, "SSH_ORIGINAL_COMMAND", "forged");
    expect_sent(c, FAILURE, "u", PEER);
    assert_int_equal(fake_asked(c->control, RPC_ENV_REQUESTED), 0);
    start_exec(c);
    expect_environment(c, "ROLE=guest ");
}

/* ---- forced commands */

static void force(struct client *c, const char *command)
{
    c->rules.forced = true;
    c->rules.forced_command = bytes_of_string(command);
    client_start(c);
    open_session(c, PEER, 0);
}

static void a_forced_command_replaces_every_program(void **state)
{
    static const struct {
        const char *request;
        bool has_command;
        const char *environment;
    } rows[] = {
        {"exec", true, "SSH_ORIGINAL_COMMAND=rm "},
        {"subsystem", true, "SSH_ORIGINAL_COMMAND=rm "},
        {"shell", false, ""},
    };
    struct client *c = *state;

    for (size_t i = 0; i < 3; i++) {
        const Policy__ExecRequestedRequest *question;

        force(c, "backup");
        if (rows[i].has_command)
            send_channel_request(c, 0, rows[i].request, true, "s", "rm");
        else
            send_channel_request(c, 0, rows[i].request, true, "");
        question = fake_question(c->control, RPC_EXEC_REQUESTED);
        assert_non_null(question);
        assert_memory_equal(question->command.data, "backup", 6);
        assert_int_equal(question->original_case,
                         POLICY__EXEC_REQUESTED_REQUEST__ORIGINAL_ORIGINAL_COMMAND);
        assert_int_equal(question->original_command.len, rows[i].has_command ? 2 : 0);
        fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
        expect_sent(c, SUCCESS, "u", PEER);
        expect_environment(c, rows[i].environment);
        channels_free(&c->channels, NULL);
        client_turn(c);
    }
}

static void a_refused_forced_command_leaves_nothing_behind(void **state)
{
    struct client *c = *state;

    force(c, "backup");
    send_exec(c, 0, "rm");
    fake_refuse(c->control, RPC_EXEC_REQUESTED, 0, "");
    expect_sent(c, FAILURE, "u", PEER);
    send_channel_request(c, 0, "shell", true, "");
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    expect_sent(c, SUCCESS, "u", PEER);
    expect_environment(c, "");
}

/* Not even a policy that allows everything lets the client choose the code that runs. */
static void beside_a_forced_command_nothing_that_loads_code_is_asked_about(void **state)
{
    static const char *const names[] = {
        "LD_PRELOAD",      "LD_LIBRARY_PATH", "LD_AUDIT",     "BASH_ENV", "ENV", "BASH_FUNC_ls%%",
        "GIT_SSH_COMMAND", "PYTHONPATH",      "PERL5OPT",     "PATH",     "IFS", "GLIBC_TUNABLES",
        "GCONV_PATH",      "SHELLOPTS",       "NODE_OPTIONS", "HOME",
    };
    struct client *c = *state;

    force(c, "backup");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        send_channel_request(c, 0, "env", true, "ss", names[i], "x");
        expect_sent(c, FAILURE, "u", PEER);
    }
    assert_int_equal(fake_asked(c->control, RPC_ENV_REQUESTED), 0);
    send_channel_request(c, 0, "env", true, "ss", "GIT_PROTOCOL", "version=2");
    expect_asked(c, RPC_ENV_REQUESTED);
}

/* A forced command that does not learn what was asked for would take it for a shell. */
static void a_command_that_cannot_be_told_is_refused(void **state)
{
    struct client *c = *state;
    char name[16];

    force(c, "backup");
    send_channel_request(c, 0, "exec", true, "S", BYTES("a\0b"));
    expect_sent(c, FAILURE, "u", PEER);
    for (int i = 0; i < 256; i++) {
        snprintf(name, sizeof(name), "LC_%d", i);
        send_env(c, name, "x");
        fake_allow(c->control, RPC_ENV_REQUESTED);
        expect_sent(c, SUCCESS, "u", PEER);
    }
    send_exec(c, 0, "rm");
    expect_sent(c, FAILURE, "u", PEER);
    assert_int_equal(fake_asked(c->control, RPC_EXEC_REQUESTED), 0);
    assert_int_equal(fake_pending(c->control), 0);
}

static void an_overlong_command_is_refused(void **state)
{
    struct client *c = *state;
    char *command = calloc(1, 256 * 1024 + 1);

    memset(command, 'x', 256 * 1024 + 1);
    client_start(c);
    open_session(c, PEER, 0);
    send_channel_request(c, 0, "exec", true, "S", bytes_of(command, 256 * 1024 + 1));
    expect_sent(c, FAILURE, "u", PEER);
    send_channel_request(c, 0, "exec", true, "S", bytes_of(command, 256 * 1024));
    expect_asked(c, RPC_EXEC_REQUESTED);
    free(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(variables_that_were_allowed_arrive_in_order),
        client_test(an_absent_handler_allows_harmless_names_only),
        client_test(no_answer_sets_nothing),
        client_test(names_and_values_must_be_sane),
        client_test(entries_are_limited),
        client_test(bytes_are_limited),
        client_later_test(what_the_login_set_cannot_be_replaced),
        client_later_test(a_forced_command_replaces_every_program),
        client_later_test(a_refused_forced_command_leaves_nothing_behind),
        client_later_test(beside_a_forced_command_nothing_that_loads_code_is_asked_about),
        client_later_test(a_command_that_cannot_be_told_is_refused),
        client_later_test(an_overlong_command_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
