/* A session at an upstream: what it begins with, what reaches its program, and how it ends. */
#include "unit/endpoints/upstream_world.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* ---- the beginning */

static void begin(struct user *user, const Policy__SessionStart *session)
{
    struct upstream_world *w = user->world;
    struct buf encoded = {0};

    mux_encode_session(session, &encoded);
    user->opening = mux_open_session(w->mux, buf_bytes(&encoded), &user_events, user,
                                     &user_opened_events, user);
    buf_clear(&encoded);
    expect_sent(w, OPEN, "suuu", "session", 0, FIRST_WINDOW, PACKET);
    expect_quiet(w);
    deliver(w, CONFIRMATION, "uuuu", 0, THEIRS, THEIR_WINDOW, THEIR_PACKET);
    assert_int_equal(user->opened, 1);
}

static void finish(struct user *user)
{
    struct upstream_world *w = user->world;
    struct fake_message message;

    assert_int_equal(w->faults, 0);
    if (user->endpoint != NULL)
        user_stop(user);
    while (fake_sent(w->transport, &message))
        ;
    if (user->closed == 0)
        deliver(w, CH_CLOSE, "u", 0);
    assert_int_equal(w->faults, 0);
    user_clear(user);
}

static void test_terminal_environment_program(void **state)
{
    Policy__WindowSize size = POLICY__WINDOW_SIZE__INIT;
    Policy__TerminalMode modes[2] = {POLICY__TERMINAL_MODE__INIT, POLICY__TERMINAL_MODE__INIT};
    Policy__TerminalMode *mode_list[2] = {&modes[0], &modes[1]};
    Policy__EnvVar variables[2] = {POLICY__ENV_VAR__INIT, POLICY__ENV_VAR__INIT};
    Policy__EnvVar *variable_list[2] = {&variables[0], &variables[1]};
    Policy__Pty pty = POLICY__PTY__INIT;
    Policy__ShellProgram shell = POLICY__SHELL_PROGRAM__INIT;
    Policy__SessionStart session = POLICY__SESSION_START__INIT;
    struct upstream_world *w = *state;
    struct user user;

    size.columns = 80;
    size.rows = 24;
    size.width_px = 640;
    size.height_px = 480;
    modes[0].opcode = 53;
    modes[0].value = 1;
    modes[1].opcode = 128;
    modes[1].value = 38400;
    pty.term = "xterm";
    pty.size = &size;
    pty.modes = mode_list;
    pty.n_modes = 2;
    for (int i = 0; i < 2; i++) {
        variables[i].name = (ProtobufCBinaryData){4, (uint8_t *)(i ? "LC_A" : "LANG")};
        variables[i].value = (ProtobufCBinaryData){3, (uint8_t *)(i ? "a\xff"
                                                                      "b"
                                                                    : "C.U")};
    }
    session.pty = &pty;
    session.environment = variable_list;
    session.n_environment = 2;
    session.program_case = POLICY__SESSION_START__PROGRAM_SHELL;
    session.shell = &shell;
    user_init(&user, w);
    begin(&user, &session);
    expect_sent(w, REQUEST, "usbsuuuuS", THEIRS, "pty-req", true, "xterm", 80, 24, 640, 480,
                BYTES("\x35\0\0\0\1\x80\0\0\x96\0\0"));
    expect_sent(w, REQUEST, "usbss", THEIRS, "env", false, "LANG", "C.U");
    expect_sent(w, REQUEST, "usbss", THEIRS, "env", false, "LC_A",
                "a\xff"
                "b");
    expect_sent(w, REQUEST, "usb", THEIRS, "shell", true);
    expect_quiet(w);
    deliver(w, SUCCESS, "u", 0);
    deliver(w, SUCCESS, "u", 0);
    expect_text(&user.err, "");
    finish(&user);
}

static void test_exec_and_subsystem(void **state)
{
    Policy__SessionStart session = POLICY__SESSION_START__INIT;
    Policy__SubsystemProgram subsystem = POLICY__SUBSYSTEM_PROGRAM__INIT;
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_exec(&user, 0);
    finish(&user);
    subsystem.name = (ProtobufCBinaryData){4, (uint8_t *)"sftp"};
    session.program_case = POLICY__SESSION_START__PROGRAM_SUBSYSTEM;
    session.subsystem = &subsystem;
    user_init(&user, w);
    begin(&user, &session);
    expect_sent(w, REQUEST, "usbs", THEIRS, "subsystem", true, "sftp");
    finish(&user);
}

static void test_refused_terminal(void **state)
{
    Policy__SessionStart session = POLICY__SESSION_START__INIT;
    Policy__ShellProgram shell = POLICY__SHELL_PROGRAM__INIT;
    Policy__Pty pty = POLICY__PTY__INIT;
    struct upstream_world *w = *state;
    struct fake_message message;
    struct user user;

    session.pty = &pty;
    session.program_case = POLICY__SESSION_START__PROGRAM_SHELL;
    session.shell = &shell;
    user_init(&user, w);
    begin(&user, &session);
    while (fake_sent(w->transport, &message))
        ;
    deliver(w, FAILURE, "u", 0);
    expect_text(&user.err, "The upstream server refused a terminal.\r\n");
    deliver(w, SUCCESS, "u", 0);
    deliver(w, DATA, "us", 0, "$ ");
    expect_text(&user.out, "$ ");
    assert_int_equal(user.ended, 0);
    finish(&user);
}

static void test_refused_program(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_exec(&user, 0);
    user.room = 4; /* the client has room for so much */
    deliver(w, FAILURE, "u", 0);
    expect_sent(w, CH_CLOSE, "u", THEIRS);
    assert_int_equal(user.statuses + user.ended, 0);
    assert_int_equal(user_write(&user, BYTES("nobody reads this")), 17);
    deliver(w, DATA, "us", 0, "?");
    deliver(w, CH_CLOSE, "u", 0);
    user_resume(&user, 1000);
    expect_text(&user.err, "The upstream server refused to run the program.\r\n");
    expect_text(&user.out, "");
    assert_int_equal(user.statuses, 1);
    assert_int_equal(user.status, 255);
    assert_int_equal(user.ended, 1);
    assert_true(user.in_order);
    expect_quiet(w);
    finish(&user);
}

/* ---- to the program */

static void test_requests_to_the_program(void **state)
{
    Policy__WindowSize size = POLICY__WINDOW_SIZE__INIT;
    struct upstream_world *w = *state;
    struct user user;
    struct endpoint *e;

    user_init(&user, w);
    open_exec(&user, 0);
    e = user.endpoint;
    size.columns = 100;
    size.rows = 50;
    e->ops->window_change(e, &size);
    expect_sent(w, REQUEST, "usbuuuu", THEIRS, "window-change", false, 100, 50, 0, 0);
    e->ops->signal(e, "TERM");
    expect_sent(w, REQUEST, "usbs", THEIRS, "signal", false, "TERM");
    e->ops->break_request(e, 7, 500, true);
    expect_sent(w, REQUEST, "usbu", THEIRS, "break", true, 500);
    e->ops->break_request(e, 8, 1000, false);
    expect_sent(w, REQUEST, "usbu", THEIRS, "break", false, 1000);
    deliver(w, SUCCESS, "u", 0); /* of exec */
    assert_int_equal(user.breaks, 0);
    deliver(w, SUCCESS, "u", 0);
    assert_int_equal(user.breaks, 1);
    assert_int_equal(user.break_id, 7);
    assert_true(user.break_handled);
    e->ops->break_request(e, 9, 0, true);
    deliver(w, FAILURE, "u", 0);
    assert_int_equal(user.break_id, 9);
    assert_false(user.break_handled);
    deliver(w, FAILURE, "u", 0); /* of nothing: no harm */
    assert_int_equal(user.ended, 0);
    finish(&user);
}

/* While nothing can be sent only the last size is kept. */
static void test_requests_without_room(void **state)
{
    Policy__WindowSize size = POLICY__WINDOW_SIZE__INIT;
    struct upstream_world *w = *state;
    struct user user;
    struct endpoint *e;

    user_init(&user, w);
    open_exec(&user, 0);
    e = user.endpoint;
    fake_set_room(w->transport, 0);
    for (size.columns = 1; size.columns <= 3; size.columns++)
        e->ops->window_change(e, &size);
    e->ops->signal(e, "TERM");
    e->ops->break_request(e, 7, 500, true);
    e->ops->unwanted(e);
    expect_quiet(w);
    fake_set_room(w->transport, 1000);
    expect_sent(w, REQUEST, "usbuuuu", THEIRS, "window-change", false, 3, 0, 0, 0);
    expect_quiet(w);
    finish(&user);
}

/* Nobody answers: what is waited for is bounded. */
static void test_breaks_without_answers(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_exec(&user, 0);
    for (uint32_t i = 0; i < 100; i++)
        user.endpoint->ops->break_request(user.endpoint, i, 500, true);
    assert_int_equal(fake_sent_waiting(w->transport), 15);
    finish(&user);
}

static void test_unwanted_output(void **state)
{
    static const char *const versions[] = {"SSH-2.0-OpenSSH_9.2", "SSH-2.0-Parley_0.1.0",
                                           "SSH-2.0-dropbear"};
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_exec(&user, 0);
    for (int i = 0; i < 3; i++) {
        fake_set_client_version(w->transport, versions[i]);
        user.endpoint->ops->unwanted(user.endpoint);
        if (i < 2)
            expect_sent(w, REQUEST, "usb", THEIRS, "eow@openssh.com", false);
        expect_quiet(w);
    }
    finish(&user);
}

/* ---- from the program */

static void test_output_and_exit_status(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_exec(&user, 0);
    deliver(w, SUCCESS, "u", 0);
    deliver(w, DATA, "us", 0, "out");
    deliver(w, EXTENDED, "uus", 0, 1, "err");
    deliver(w, EXTENDED, "uus", 0, 2, "?");
    deliver(w, EXTENDED, "uus", 0, 0, "?");
    deliver(w, CH_EOF, "u", 0);
    deliver(w, REQUEST, "usbu", 0, "exit-status", false, 3);
    deliver(w, REQUEST, "usbu", 0, "exit-status", false, 0); /* the first counts */
    deliver(w, CH_CLOSE, "u", 0);
    expect_sent(w, CH_CLOSE, "u", THEIRS);
    expect_text(&user.out, "out");
    expect_text(&user.err, "err");
    assert_int_equal(user.eofs, 1);
    assert_int_equal(user.statuses, 1);
    assert_int_equal(user.status, 3);
    assert_true(user.in_order);
    finish(&user);
}

static void test_exit_signal(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_exec(&user, 0);
    deliver(w, REQUEST, "usbsbss", 0, "exit-signal", false, "SEGV", true, "core dumped", "en");
    deliver(w, CH_CLOSE, "u", 0);
    assert_string_equal(user.signal, "SEGV 1 core dumped en");
    assert_int_equal(user.statuses, 0);
    assert_true(user.in_order);
    finish(&user);
    user_init(&user, w);
    open_exec(&user, 0);
    deliver(w, REQUEST, "usbsbss", 0, "exit-signal", true, "TERM", false, "\xff", "\xff");
    expect_sent(w, SUCCESS, "u", THEIRS);
    assert_string_equal(user.signal, "TERM 0  ");
    finish(&user);
}

static void test_exit_waits_for_what_is_held(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_exec(&user, 0);
    user.room = 2;
    deliver(w, DATA, "us", 0, "out");
    deliver(w, EXTENDED, "uus", 0, 1, "err");
    deliver(w, REQUEST, "usbu", 0, "exit-status", false, 0);
    deliver(w, CH_EOF, "u", 0);
    deliver(w, CH_CLOSE, "u", 0);
    assert_int_equal(user.statuses + user.eofs + user.ended, 0);
    user_resume(&user, 2);
    expect_text(&user.out, "out");
    expect_text(&user.err, "e");
    assert_int_equal(user.statuses + user.eofs + user.ended, 0);
    user_resume(&user, 2);
    expect_text(&user.err, "err");
    assert_int_equal(user.statuses, 1);
    assert_int_equal(user.eofs, 1);
    assert_int_equal(user.ended, 1);
    finish(&user);
}

/* A client that has sent its own EOF closes the channel on ours. */
static void test_eof_lets_the_exit_status_pass(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_exec(&user, 0);
    user.endpoint->ops->eof(user.endpoint);
    deliver(w, CH_EOF, "u", 0);
    world_wait(w, 300);
    assert_int_equal(user.eofs, 0);
    deliver(w, REQUEST, "usbu", 0, "exit-status", false, 3);
    assert_int_equal(user.status, 3);
    assert_int_equal(user.eofs, 1);
    finish(&user);
    user_init(&user, w);
    open_exec(&user, 0);
    deliver(w, CH_EOF, "u", 0);
    assert_int_equal(user.eofs, 0);
    world_wait(w, 300); /* the program goes on without output */
    assert_int_equal(user.eofs, 1);
    finish(&user);
}

static void test_close_without_exit(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_exec(&user, 0);
    deliver(w, CH_EOF, "u", 0);
    deliver(w, CH_CLOSE, "u", 0);
    assert_int_equal(user.statuses, 0);
    assert_int_equal(user.ended, 1);
    assert_false(user.in_order);
    finish(&user);
}

/* The user is told why, after what the program said. */
static void test_lost_connection(void **state)
{
    struct upstream_world *w = *state;
    struct user user, ended;

    user_init(&user, w);
    open_exec(&user, 0);
    user_init(&ended, w);
    open_exec(&ended, 1);
    user.room = ended.room = 0;
    deliver(w, EXTENDED, "uus", 0, 1, "half a li");
    deliver(w, DATA, "us", 1, "all there is");
    deliver(w, REQUEST, "usbu", 1, "exit-status", false, 0);
    deliver(w, CH_CLOSE, "u", 1);
    mux_free(&w->mux, "host: the connection was lost");
    assert_int_equal(user.ended + ended.ended, 0);
    user_resume(&user, 1000);
    expect_text(&user.err, "half a lihost: the connection was lost\r\n");
    assert_int_equal(user.statuses, 0);
    assert_false(user.in_order);
    user_resume(&ended, 1000);
    expect_text(&ended.out, "all there is");
    expect_text(&ended.err, "");
    assert_int_equal(ended.statuses, 1);
    assert_true(ended.in_order);
    user_clear(&user);
    user_clear(&ended);
}

static void test_other_requests(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_exec(&user, 0);
    deliver(w, REQUEST, "usb", 0, "keepalive@openssh.com", true);
    expect_sent(w, FAILURE, "u", THEIRS);
    deliver(w, REQUEST, "usb", 0, "keepalive@openssh.com", false);
    deliver(w, REQUEST, "usbss", 0, "env", true, "A", "B");
    expect_sent(w, FAILURE, "u", THEIRS);
    deliver(w, REQUEST, "usbb", 0, "xon-xoff", false, true);
    assert_int_equal(user.flow, 1);
    deliver(w, REQUEST, "usbb", 0, "xon-xoff", true, false);
    expect_sent(w, SUCCESS, "u", THEIRS);
    assert_int_equal(user.flow, -1);
    expect_quiet(w);
    finish(&user);
}

static void test_end_of_write(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_exec(&user, 0);
    fake_set_room(w->transport, 0);
    assert_int_equal(user_write(&user, BYTES("abc")), 0);
    deliver(w, REQUEST, "usb", 0, "eow@openssh.com", false);
    deliver(w, REQUEST, "usb", 0, "eow@openssh.com", false);
    assert_int_equal(user.deaf, 1);
    assert_int_equal(user.writables, 1);
    assert_int_equal(user_write(&user, BYTES("abc")), 3);
    world_turn(w);
    assert_int_equal(user.taken, 3);
    expect_quiet(w);
    finish(&user);
}

static void test_requests_of_sessions_elsewhere(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_direct(&user, 0);
    deliver(w, REQUEST, "usbu", 0, "exit-status", true, 0);
    expect_sent(w, FAILURE, "u", THEIRS);
    deliver(w, REQUEST, "usb", 0, "eow@openssh.com", false);
    assert_int_equal(user.statuses + user.deaf, 0);
    finish(&user);
}

static void test_malformed_requests(void **state)
{
    static const struct {
        const char *name;
        struct bytes fields;
    } rows[] = {
        {"exit-status", {(const uint8_t *)"\0\0", 2}},
        {"exit-status", {(const uint8_t *)"\0\0\0\1x", 5}},
        {"exit-signal", {(const uint8_t *)"\0\0\0\1", 4}},
        {"exit-signal", {(const uint8_t *)"\0\0\0\1\xff\0\0\0\0\0\0\0\0\0", 14}},
        {"exit-signal", {(const uint8_t *)"\0\0\0\1A\0\0\0\0\0\0\0\0\0x", 15}},
        {"xon-xoff", {NULL, 0}},
        {"xon-xoff", {(const uint8_t *)"\1\1", 2}},
        {"eow@openssh.com", {(const uint8_t *)"x", 1}},
    };
    struct upstream_world *w;
    struct user user;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        w = *state;
        user_init(&user, w);
        open_exec(&user, 0);
        deliver(w, REQUEST, "usbR", 0, rows[i].name, true, rows[i].fields);
        expect_fault(w);
        assert_int_equal(user.statuses + user.flow + user.deaf + user.signal[0], 0);
        mux_free(&w->mux, "broken");
        user_clear(&user);
        world_teardown(state);
        world_setup(state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_terminal_environment_program),
        world_test(test_exec_and_subsystem),
        world_test(test_refused_terminal),
        world_test(test_refused_program),
        world_test(test_requests_to_the_program),
        world_test(test_requests_without_room),
        world_test(test_breaks_without_answers),
        world_test(test_unwanted_output),
        world_test(test_output_and_exit_status),
        world_test(test_exit_signal),
        world_test(test_exit_waits_for_what_is_held),
        world_test(test_eof_lets_the_exit_status_pass),
        world_test(test_close_without_exit),
        world_test(test_lost_connection),
        world_test(test_other_requests),
        world_test(test_end_of_write),
        world_test(test_requests_of_sessions_elsewhere),
        world_test(test_malformed_requests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
