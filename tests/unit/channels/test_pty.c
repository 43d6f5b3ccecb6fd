/* Terminals and signals of a session (RFC 4254 sections 6.2, 6.7 to 6.9). */
#include "unit/channels/client.h"

#include <stdlib.h>
#include <string.h>

/* ---- pty */

static void a_pty_reaches_the_program(void **state)
{
    static const char modes[] = "\1\0\0\0\3\x80\0\0\x25\x80\x9f\0\0\0\1\0ignored";
    struct client *c = *state;
    const Policy__PtyRequestedRequest *question;
    const Policy__SessionStart *start;
    struct stream *stream;
    const Policy__ChannelEvent *event;

    open_session(c, PEER, 0);
    send_channel_request(c, 0, "pty-req", true, "suuuuS", "xterm-256color", 80, 24, 640, 480,
                         bytes_of(modes, sizeof(modes) - 1));
    question = fake_question(c->control, RPC_PTY_REQUESTED);
    assert_string_equal(question->pty->term, "xterm-256color");
    assert_int_equal(question->pty->n_modes, 3);
    assert_int_equal(question->pty->modes[1]->opcode, 128);
    assert_int_equal(question->pty->modes[1]->value, 9600);
    assert_int_equal(question->pty->modes[2]->opcode, 159);
    fake_allow(c->control, RPC_PTY_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
    send_channel_request(c, 0, "window-change", false, "uuuu", 100, 30, 0, 0);
    send_channel_request(c, 0, "shell", true, "");
    fake_accept_stream(c->control, RPC_SHELL_REQUESTED, "");
    expect_sent(c, SUCCESS, "u", PEER);
    stream = fake_stream(c->control, 0);
    start = fake_stream_sent(stream)->opened->session;
    assert_int_equal(start->program_case, POLICY__SESSION_START__PROGRAM_SHELL);
    assert_int_equal(start->pty->size->columns, 100); /* as it is by now */
    assert_int_equal(start->pty->n_modes, 3);
    send_channel_request(c, 0, "window-change", true, "uuuu", 120, 40, 1, 2);
    expect_sent(c, SUCCESS, "u", PEER);
    event = fake_stream_sent(stream);
    assert_int_equal(event->window_change->rows, 40);
    assert_int_equal(event->window_change->height_px, 2);
}

static void pty_answers(void **state)
{
    struct client *c = *state;
    Policy__Restrictions r = POLICY__RESTRICTIONS__INIT;

    for (int i = 0; i < 7; i++) {
        open_session(c, PEER, 0);
        send_channel_request(c, 0, "pty-req", true, "suuuus", "vt100", 80, 24, 0, 0, "");
        if (i == 0)
            fake_fail(c->control, RPC_PTY_REQUESTED, ABSENT); /* its default allows */
        else if (i == 1)
            fake_deny(c->control, RPC_PTY_REQUESTED, "no");
        else if (i == 2)
            fake_fail(c->control, RPC_PTY_REQUESTED, UNAVAILABLE);
        else if (i == 3)
            fake_fail(c->control, RPC_PTY_REQUESTED, EXPIRED);
        else if (i == 4)
            fake_answer_wire(c->control, RPC_PTY_REQUESTED, BYTES(""));
        else if (i == 5)
            fake_allow_with(c->control, RPC_PTY_REQUESTED, &r); /* we could not keep them */
        else
            fake_allow_for(c->control, RPC_PTY_REQUESTED, 60);
        expect_sent(c, i == 0 ? SUCCESS : FAILURE, "u", PEER);
        send_channel_request(c, 0, "shell", true, "");
        fake_accept_stream(c->control, RPC_SHELL_REQUESTED, "");
        expect_sent(c, SUCCESS, "u", PEER);
        assert_int_equal(fake_stream_sent(fake_stream(c->control, 0))->opened->session->pty != NULL,
                         i == 0);
        client_restart(c);
    }
}

static void only_one_pty_and_only_where_the_login_allows(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    send_channel_request(c, 0, "window-change", true, "uuuu", 1, 2, 3, 4);
    expect_sent(c, FAILURE, "u", PEER);
    send_channel_request(c, 0, "pty-req", true, "suuuus", "vt52", 80, 24, 0, 0, "");
    fake_allow(c->control, RPC_PTY_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
    send_channel_request(c, 0, "pty-req", true, "suuuus", "vt100", 80, 24, 0, 0, "");
    expect_sent(c, FAILURE, "u", PEER);
    c->rules.no_pty = true;
    client_restart(c);
    open_session(c, PEER, 0);
    send_channel_request(c, 0, "pty-req", true, "suuuus", "vt100", 80, 24, 0, 0, "");
    expect_sent(c, FAILURE, "u", PEER);
    assert_int_equal(fake_asked(c->control, RPC_PTY_REQUESTED), 1);
}

static void terminal_names_must_be_clean(void **state)
{
    struct client *c = *state;
    static char name[257];
    struct bytes bad[] = {BYTES("vt\0"), BYTES("\xff"), bytes_of(name, 257)};

    memset(name, 'v', sizeof(name));
    open_session(c, PEER, 0);
    for (size_t i = 0; i < 3; i++) {
        send_channel_request(c, 0, "pty-req", true, "SuuuuS", bad[i], 80, 24, 0, 0, BYTES(""));
        expect_sent(c, FAILURE, "u", PEER);
    }
    assert_int_equal(fake_asked(c->control, RPC_PTY_REQUESTED), 0);
}

static void terminal_modes_are_parsed_as_a_table(void **state)
{
    static const struct {
        const char *encoded;
        size_t len;
        int modes; /* -1: a fault */
    } rows[] = {
        {"", 0, 0},
        {"\0", 1, 0},
        {"\0\1", 2, 0},
        {"\xa0", 1, 0},
        {"\xff\1\2", 3, 0},
        {"\1", 1, -1},
        {"\1\0\0\0", 4, -1},
        {"\1\0\0\0\1", 5, 1},
        {"\1\0\0\0\1\2", 6, -1},
        {"\1\0\0\0\1\1\0\0\0\2", 10, 2},
        {"\x9f\xff\xff\xff\xff\0", 6, 1},
    };
    struct client *c = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        open_session(c, PEER, 0);
        send_channel_request(c, 0, "pty-req", true, "suuuuS", "vt100", 80, 24, 0, 0,
                             bytes_of(rows[i].encoded, rows[i].len));
        assert_int_equal(c->faults, rows[i].modes < 0);
        if (rows[i].modes >= 0) {
            const Policy__PtyRequestedRequest *q = fake_question(c->control, RPC_PTY_REQUESTED);

            assert_int_equal(q->pty->n_modes, rows[i].modes);
        }
        client_restart(c);
    }
}

static void too_many_terminal_modes_are_a_fault(void **state)
{
    struct client *c = *state;
    char modes[5 * 161];

    for (size_t i = 0; i < sizeof(modes); i++)
        modes[i] = 1;
    open_session(c, PEER, 0);
    send_channel_request(c, 0, "pty-req", true, "suuuuS", "vt100", 80, 24, 0, 0,
                         bytes_of(modes, sizeof(modes)));
    expect_fault(c);
}

/* ---- signals */

static void signals_reach_the_program_only(void **state)
{
    struct client *c = *state;
    struct stream *stream;
    const Policy__ChannelEvent *event;

    open_session(c, PEER, 0);
    send_channel_request(c, 0, "signal", true, "s", "INT");
    expect_sent(c, FAILURE, "u", PEER);
    client_restart(c);
    stream = open_exec(c, PEER, 0);
    send_channel_request(c, 0, "signal", true, "s", "INT");
    expect_sent(c, SUCCESS, "u", PEER);
    event = fake_stream_sent(stream);
    assert_string_equal(event->signal->name, "INT");
    send_channel_request(c, 0, "signal", true, "s", "");
    expect_sent(c, FAILURE, "u", PEER);
    send_channel_request(c, 0, "signal", true, "S", BYTES("I\0T"));
    expect_sent(c, FAILURE, "u", PEER);
    send_channel_request(c, 0, "signal", true, "S", BYTES("\xff"));
    expect_sent(c, FAILURE, "u", PEER);
    expect_no_event(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(a_pty_reaches_the_program),
        client_test(pty_answers),
        client_test(only_one_pty_and_only_where_the_login_allows),
        client_test(terminal_names_must_be_clean),
        client_test(terminal_modes_are_parsed_as_a_table),
        client_test(too_many_terminal_modes_are_a_fault),
        client_test(signals_reach_the_program_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
