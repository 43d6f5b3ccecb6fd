/* CHANNEL_REQUEST: order of replies, pty, environment, programs, forced commands (RFC 4254 section
 * 6). */
#include "unit/channels/client.h"

#include <stdlib.h>
#include <string.h>

/* ---- the lane */

static void replies_keep_the_order_of_requests(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    send_channel_request(c, 0, "pty-req", true, "suuuus", "vt100", 80, 24, 0, 0, "");
    send_channel_request(c, 0, "nonsense", true, "");
    send_channel_request(c, 0, "env", true, "ss", "LANG", "C");
    send_channel_request(c, 0, "shell", true, "");
    expect_asked(c, RPC_PTY_REQUESTED);
    expect_nothing(c);
    fake_allow(c->control, RPC_PTY_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
    expect_sent(c, FAILURE, "u", PEER);
    expect_asked(c, RPC_ENV_REQUESTED);
    fake_deny(c->control, RPC_ENV_REQUESTED, "no");
    expect_sent(c, FAILURE, "u", PEER);
    expect_asked(c, RPC_SHELL_REQUESTED);
    fake_accept_stream(c->control, RPC_SHELL_REQUESTED, "");
    expect_sent(c, SUCCESS, "u", PEER);
    expect_nothing(c);
}

static void lanes_of_two_channels_do_not_wait_for_each_other(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    open_session(c, PEER + 1, 1);
    send_exec(c, 0, "slow");
    send_channel_request(c, 1, "nonsense", true, "");
    expect_sent(c, FAILURE, "u", PEER + 1);
    expect_asked(c, RPC_EXEC_REQUESTED);
}

static void without_want_reply_there_is_none(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    send_channel_request(c, 0, "nonsense", false, "");
    send_channel_request(c, 0, "env", false, "ss", "LANG", "C");
    fake_fail(c->control, RPC_ENV_REQUESTED, ABSENT);
    send_channel_request(c, 0, "shell", false, "");
    fake_accept_stream(c->control, RPC_SHELL_REQUESTED, "");
    assert_int_equal(fake_streams(c->control), 1);
    expect_nothing(c);
}

static void a_full_lane_pauses_the_peer(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    send_exec(c, 0, "slow");
    for (int i = 0; i < 40; i++)
        send_channel_request(c, 0, "nonsense", true, "");
    assert_int_equal(fake_paused(c->transport), 1);
    assert_int_equal(fake_undelivered(c->transport), 8);
    fake_refuse(c->control, RPC_EXEC_REQUESTED, 0, "");
    assert_int_equal(fake_paused(c->transport), 0);
    client_turn(c);
    for (int i = 0; i < 41; i++)
        expect_sent(c, FAILURE, "u", PEER);
    expect_nothing(c);
}

static void closing_a_full_lane_lets_the_peer_go_on(void **state)
{
    struct client *c = *state;
    struct stream *stream = open_exec(c, PEER, 0);

    send_channel_request(c, 0, "break", true, "u", 0);
    for (int i = 0; i < 40; i++)
        send_channel_request(c, 0, "nonsense", true, "");
    assert_int_equal(fake_paused(c->transport), 1);
    fake_stream_end(stream, UNAVAILABLE, "gone");
    assert_int_equal(fake_paused(c->transport), 0);
}

static void malformed_requests_are_faults(void **state)
{
    static const struct {
        const char *name, *fields;
        size_t len;
    } rows[] = {
        {"pty-req", "\0\0\0\1x\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\6\1\0\0\0\3\0", 31},
        {"env", "\0\0\0\1x\0\0\0\1y", 10},
        {"exec", "\0\0\0\1x", 5},
        {"subsystem", "\0\0\0\1x", 5},
        {"window-change", "\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0\0", 16},
        {"signal", "\0\0\0\3INT", 7},
        {"break", "\0\0\0\1", 4},
        {"shell", "", 0},
    };
    struct client *c = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (size_t len = 0; len <= rows[i].len + 1; len++) {
            struct buf fields = {0};

            if (len == rows[i].len)
                continue;
            open_session(c, PEER, 0);
            buf_put(&fields, bytes_of(rows[i].fields, len < rows[i].len ? len : rows[i].len));
            if (len > rows[i].len)
                buf_put_u8(&fields, 0);
            send_channel_request(c, 0, rows[i].name, true, "R", buf_bytes(&fields));
            expect_fault(c);
            assert_int_equal(fake_pending(c->control), 0);
            buf_clear(&fields);
            client_restart(c);
        }
    open_session(c, PEER, 0);
    fake_deliver(c->transport, REQUEST, "us", 0, "exec"); /* no want_reply */
    expect_fault(c);
}

static void an_end_of_write_needs_a_program(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    send_channel_request(c, 0, "eow@openssh.com", true, ""); /* there is no program */
    expect_sent(c, FAILURE, "u", PEER);
    assert_int_equal(fake_pending(c->control), 0);
}

/* ---- programs */

static void a_second_program_is_refused(void **state)
{
    static const char *const names[] = {"exec", "subsystem"};
    struct client *c = *state;

    open_exec(c, PEER, 0);
    for (size_t i = 0; i < 2; i++) {
        send_channel_request(c, 0, names[i], true, "s", "again");
        expect_sent(c, FAILURE, "u", PEER);
    }
    send_channel_request(c, 0, "shell", true, "");
    expect_sent(c, FAILURE, "u", PEER);
    send_channel_request(c, 0, "env", true, "ss", "LANG", "C");
    expect_sent(c, FAILURE, "u", PEER);
    send_channel_request(c, 0, "pty-req", true, "suuuus", "vt100", 80, 24, 0, 0, "");
    expect_sent(c, FAILURE, "u", PEER);
    assert_int_equal(fake_streams(c->control), 1);
    assert_int_equal(fake_pending(c->control), 0);
}

static void commands_arrive_exactly(void **state)
{
    struct client *c = *state;
    const Policy__ExecRequestedRequest *question;
    const Policy__ChannelEvent *event;
    struct bytes command = BYTES(" ls\0-l \xff\n");

    open_session(c, PEER, 0);
    send_channel_request(c, 0, "exec", true, "S", command);
    question = fake_question(c->control, RPC_EXEC_REQUESTED);
    assert_true(bytes_equal(command, bytes_of(question->command.data, question->command.len)));
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    event = fake_stream_sent(fake_stream(c->control, 0));
    assert_true(bytes_equal(command, bytes_of(event->opened->session->exec->command.data,
                                              event->opened->session->exec->command.len)));
}

static void a_program_needs_an_endpoint(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0); /* SessionRequested only accepted */
    send_channel_request(c, 0, "shell", true, "");
    fake_accept(c->control, RPC_SHELL_REQUESTED);
    expect_sent(c, FAILURE, "u", PEER);
    send_channel_request(c, 0, "shell", true, "");
    fake_fail(c->control, RPC_SHELL_REQUESTED, ABSENT);
    expect_sent(c, FAILURE, "u", PEER);
    send_channel_request(c, 0, "shell", true, "");
    fake_accept_stream(c->control, RPC_SHELL_REQUESTED, "not-configured");
    expect_sent(c, EXTENDED, "uus", PEER, 1, "the stream target is not configured\r\n");
    expect_sent(c, FAILURE, "u", PEER);
    assert_int_equal(fake_streams(c->control), 0);
    expect_nothing(c);
}

static void answer_process(struct client *c, enum rpc rpc, const char *program)
{
    Policy__SessionAnswer answer = POLICY__SESSION_ANSWER__INIT;
    Policy__ProcessEndpoint process = POLICY__PROCESS_ENDPOINT__INIT;
    ProtobufCBinaryData argv[] = {{strlen(program), (uint8_t *)program}};

    process.argv = argv;
    process.n_argv = 1;
    process.user = (char *)"nobody";
    answer.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_PROCESS;
    answer.process = &process;
    fake_answer(c->control, rpc, &answer.base);
}

static void a_process_needs_a_program(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    send_exec(c, 0, "run");
    answer_process(c, RPC_EXEC_REQUESTED, "");
    expect_sent(c, EXTENDED, "uus", PEER, 1, "no program was named to run\r\n");
    expect_sent(c, FAILURE, "u", PEER);
}

/* What was chosen with the session knows nothing of the command: it would be a way around it. */
static void a_process_chosen_before_never_takes_the_place_of_a_forced_command(void **state)
{
    struct client *c = *state;

    c->rules.forced = true;
    c->rules.forced_command = BYTES("backup");
    client_start(c);
    open_asked(c, PEER);
    answer_process(c, RPC_SESSION_REQUESTED, "/bin/true");
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    send_exec(c, 0, "sh");
    fake_accept(c->control, RPC_EXEC_REQUESTED);
    expect_sent(c, FAILURE, "u", PEER);
    send_channel_request(c, 0, "shell", true, "");
    fake_fail(c->control, RPC_EXEC_REQUESTED, ABSENT);
    expect_sent(c, FAILURE, "u", PEER);
}

static void the_sessions_endpoint_serves_its_programs(void **state)
{
    struct client *c = *state;

    fake_add_target(c->control, "recorder");
    open_asked(c, PEER);
    fake_accept_stream(c->control, RPC_SESSION_REQUESTED, "recorder");
    expect_sent(c, CONFIRMATION, "uuuu", PEER, 0, WINDOW, PACKET);
    send_channel_request(c, 0, "subsystem", true, "s", "sftp");
    fake_fail(c->control, RPC_SUBSYSTEM_REQUESTED, ABSENT);
    expect_sent(c, SUCCESS, "u", PEER);
    assert_string_equal(fake_stream_target(fake_stream(c->control, 0)), "recorder");
}

static void no_answer_refuses_the_program_and_says_so(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    for (int i = 0; i < 3; i++) {
        send_exec(c, 0, "run");
        if (i == 0)
            fake_fail(c->control, RPC_EXEC_REQUESTED, UNAVAILABLE);
        else if (i == 1)
            fake_fail(c->control, RPC_EXEC_REQUESTED, EXPIRED);
        else
            fake_answer_wire(c->control, RPC_EXEC_REQUESTED, BYTES(""));
        expect_sent(c, EXTENDED, "uus", PEER, 1, "The policy service gave no answer.\r\n");
        expect_sent(c, FAILURE, "u", PEER);
    }
    send_exec(c, 0, "run");
    fake_refuse(c->control, RPC_EXEC_REQUESTED, 0, "not on Sundays");
    expect_sent(c, EXTENDED, "uus", PEER, 1, "not on Sundays\r\n");
    expect_sent(c, FAILURE, "u", PEER);
    assert_int_equal(fake_streams(c->control), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(replies_keep_the_order_of_requests),
        client_test(lanes_of_two_channels_do_not_wait_for_each_other),
        client_test(without_want_reply_there_is_none),
        client_test(a_full_lane_pauses_the_peer),
        client_test(closing_a_full_lane_lets_the_peer_go_on),
        client_test(malformed_requests_are_faults),
        client_test(an_end_of_write_needs_a_program),
        client_test(a_second_program_is_refused),
        client_test(commands_arrive_exactly),
        client_test(a_program_needs_an_endpoint),
        client_test(a_process_needs_a_program),
        client_later_test(a_process_chosen_before_never_takes_the_place_of_a_forced_command),
        client_test(the_sessions_endpoint_serves_its_programs),
        client_test(no_answer_refuses_the_program_and_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
