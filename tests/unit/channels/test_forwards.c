/* X11 and agent forwarding (RFC 4254 section 6.3): what is granted, and the sockets for it. */
#include "unit/channels/client.h"

#include "base/alloc.h"
#include "channels/internal.h"
#include "fakes/helpers_fake.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define COOKIE     "00112233445566778899aabbccddeeff"
#define MAGIC      "MIT-MAGIC-COOKIE-1"
#define SIDE       40u /* the client's number of a channel of ours */
#define NAME_BYTES 512

static void ask_x11(struct client *c, bool single)
{
    send_channel_request(c, 0, "x11-req", true, "bssu", single, MAGIC, COOKIE, 2);
}

static void grant_x11(struct client *c, bool single)
{
    ask_x11(c, single);
    expect_asked(c, RPC_X11_REQUESTED);
    fake_allow(c->control, RPC_X11_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
}

static void grant_agent(struct client *c)
{
    send_channel_request(c, 0, "auth-agent-req@openssh.com", true, "");
    expect_asked(c, RPC_AGENT_REQUESTED);
    fake_allow(c->control, RPC_AGENT_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER);
}

/* ---- the questions */

static void the_policy_is_asked_exactly_this(void **state)
{
    struct client *c = *state;
    const Policy__X11RequestedRequest *question;

    open_session(c, PEER, 0);
    ask_x11(c, true);
    expect_asked(c, RPC_X11_REQUESTED);
    question = fake_question(c->control, RPC_X11_REQUESTED);
    assert_int_equal(question->channel, 0);
    assert_true(question->x11->single_connection);
    assert_string_equal(question->x11->auth_protocol, MAGIC);
    assert_string_equal(question->x11->auth_cookie, COOKIE);
    assert_int_equal(question->x11->screen, 2);
    expect_nothing(c);
}

static const struct grant_row {
    const char *request;
    enum rpc rpc;
} rows[] = {{"x11-req", RPC_X11_REQUESTED}, {"auth-agent-req@openssh.com", RPC_AGENT_REQUESTED}};

static void ask(struct client *c, size_t row)
{
    if (row == 0)
        ask_x11(c, false);
    else
        send_channel_request(c, 0, rows[row].request, true, "");
}

static void only_an_explicit_yes_grants(void **state)
{
    struct client *c = *state;
    static Policy__Restrictions restrictions = POLICY__RESTRICTIONS__INIT;
    struct stream *stream;
    const Policy__ChannelEvent *event;

    open_session(c, PEER, 0);
    for (size_t row = 0; row < 2; row++)
        for (int i = 0; i < 7; i++) {
            ask(c, row);
            expect_asked(c, rows[row].rpc);
            if (i < 3)
                fake_fail(c->control, rows[row].rpc,
                          i == 0   ? ABSENT
                          : i == 1 ? UNAVAILABLE
                                   : EXPIRED);
            else if (i == 3)
                fake_deny(c->control, rows[row].rpc, "no");
            else if (i == 4)
                fake_answer_wire(c->control, rows[row].rpc, BYTES(""));
            else if (i == 5) /* conditions that could not be kept */
                fake_allow_with(c->control, rows[row].rpc, &restrictions);
            else
                fake_allow_for(c->control, rows[row].rpc, 60);
            expect_sent(c, FAILURE, "u", PEER);
        }
    send_exec(c, 0, "run");
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    expect_sent(c, SUCCESS, "u", PEER);
    stream = fake_stream(c->control, 0);
    event = fake_stream_sent(stream);
    assert_null(event->opened->session->x11);
    assert_false(event->opened->session->agent_granted);
}

static void the_login_may_forbid_both(void **state)
{
    struct client *c = *state;

    c->rules.no_x11 = c->rules.no_agent = true;
    client_start(c);
    open_session(c, PEER, 0);
    for (size_t row = 0; row < 2; row++) {
        ask(c, row);
        expect_sent(c, FAILURE, "u", PEER);
    }
    assert_int_equal(fake_pending(c->control), 0);
}

static void once_and_before_the_program(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    grant_x11(c, false);
    grant_agent(c);
    for (size_t row = 0; row < 2; row++) {
        ask(c, row);
        expect_sent(c, FAILURE, "u", PEER);
    }
    client_restart(c);
    open_exec(c, PEER, 0);
    for (size_t row = 0; row < 2; row++) {
        ask(c, row);
        expect_sent(c, FAILURE, "u", PEER);
    }
    assert_int_equal(fake_pending(c->control), 0);
}

static void a_stream_is_told_what_was_granted(void **state)
{
    struct client *c = *state;
    const Policy__SessionStart *start;

    open_session(c, PEER, 0);
    grant_x11(c, true);
    grant_agent(c);
    send_exec(c, 0, "run");
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    expect_sent(c, SUCCESS, "u", PEER);
    start = fake_stream_sent(fake_stream(c->control, 0))->opened->session;
    assert_string_equal(start->x11->auth_cookie, COOKIE);
    assert_true(start->x11->single_connection);
    assert_int_equal(start->x11->screen, 2);
    assert_true(start->agent_granted);
    assert_int_equal(start->n_environment, 0);
}

static void fields_that_are_no_x11_are_refused(void **state)
{
    static const struct {
        struct bytes protocol, cookie;
        uint32_t screen;
    } bad[] = {
        {{(const uint8_t *)"", 0}, {(const uint8_t *)"00", 2}, 0},
        {{(const uint8_t *)"A B", 3}, {(const uint8_t *)"00", 2}, 0},
        {{(const uint8_t *)"A\nB", 3}, {(const uint8_t *)"00", 2}, 0},
        {{(const uint8_t *)"A\0B", 3}, {(const uint8_t *)"00", 2}, 0},
        {{(const uint8_t *)"A", 1}, {(const uint8_t *)"", 0}, 0},
        {{(const uint8_t *)"A", 1}, {(const uint8_t *)"0", 1}, 0},
        {{(const uint8_t *)"A", 1}, {(const uint8_t *)"0g", 2}, 0},
        {{(const uint8_t *)"A", 1}, {(const uint8_t *)"0\0", 2}, 0},
        {{(const uint8_t *)"A", 1}, {(const uint8_t *)"00\n0", 4}, 0},
        {{(const uint8_t *)"A", 1}, {(const uint8_t *)"00", 2}, 256},
        {{(const uint8_t *)"A", 1}, {(const uint8_t *)"00", 2}, 0xffffffff},
    };
    static char zeros[1025];
    struct client *c = *state;

    open_session(c, PEER, 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        send_channel_request(c, 0, "x11-req", true, "bSSu", false, bad[i].protocol, bad[i].cookie,
                             bad[i].screen);
        expect_sent(c, FAILURE, "u", PEER);
    }
    memset(zeros, '0', 1024);
    send_channel_request(c, 0, "x11-req", true, "bssu", false, MAGIC, zeros, 0);
    expect_sent(c, FAILURE, "u", PEER);
    send_channel_request(c, 0, "x11-req", true, "bssu", false, zeros, "00", 0);
    expect_sent(c, FAILURE, "u", PEER);
    assert_int_equal(fake_asked(c->control, RPC_X11_REQUESTED), 0);
    send_channel_request(c, 0, "auth-agent-req@openssh.com", true, "c", 0);
    expect_fault(c);
    for (int i = 0; i < 2; i++) {
        client_restart(c);
        open_session(c, PEER, 0);
        send_channel_request(c, 0, "x11-req", true, i ? "bssuc" : "bss", false, MAGIC, COOKIE, 0,
                             0);
        expect_fault(c);
    }
}

/* ---- the sockets, for a program on this machine */

static const char *variable(const struct env_list *env, const char *name)
{
    static char value[NAME_BYTES];

    for (size_t i = 0; i < env->count; i++)
        if (bytes_are(bytes_of(env->vars[i]->name.data, env->vars[i]->name.len), name)) {
            snprintf(value, sizeof(value), "%.*s", (int)env->vars[i]->value.len,
                     (const char *)env->vars[i]->value.data);
            return value;
        }
    return NULL;
}

/* `env` is a copy: it outlives the session. */
static void open_forwards(struct client *c, struct env_list *env)
{
    struct local_user me = {geteuid(), getegid()};
    struct session *session = c->channels->table[0]->session;

    session_open_forwards(c->channels->table[0], &me);
    for (size_t i = 0; i < session->provided.count; i++) {
        const Policy__EnvVar *var = session->provided.vars[i];

        env_put(env, bytes_of(var->name.data, var->name.len),
                bytes_of(var->value.data, var->value.len));
    }
}

static unsigned display_in(const struct env_list *env)
{
    const char *where = variable(env, "DISPLAY");
    unsigned number, screen;

    assert_non_null(where);
    assert_int_equal(sscanf(where, "localhost:%u.%u", &number, &screen), 2);
    assert_int_equal(screen, 2);
    return number;
}

/* -1: nobody listens. */
static int connect_display(unsigned number, uint16_t *from)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)(6000 + number)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof(at);

    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
        close(fd);
        return -1;
    }
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *from = ntohs(at.sin_port);
    return fd;
}

static int connect_agent(const struct env_list *env)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(at.sun_path, sizeof(at.sun_path), "%s", variable(env, "SSH_AUTH_SOCK"));
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
        return fd;
    close(fd);
    return -1;
}

static void expect_read(int fd, const char *text)
{
    char got[64];
    ssize_t len = read(fd, got, sizeof(got));

    assert_int_equal(len, strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static void an_x11_client_reaches_the_ssh_client(void **state)
{
    struct client *c = *state;
    struct env_list env = {0};
    uint16_t port, second_port;
    int fd, second;

    open_session(c, PEER, 0);
    grant_x11(c, false);
    open_forwards(c, &env);
    assert_int_equal(access(variable(&env, "XAUTHORITY"), R_OK), 0);
    assert_null(variable(&env, "SSH_AUTH_SOCK"));
    fd = connect_display(display_in(&env), &port);
    assert_true(fd >= 0);
    client_turn(c);
    expect_sent(c, OPEN, "suuusu", "x11", 1, WINDOW, PACKET, "127.0.0.1", port);
    assert_int_equal(write(fd, "hello", 5), 5);
    client_turn(c);
    expect_nothing(c); /* the client has not taken it yet */
    fake_deliver(c->transport, CONFIRMATION, "uuuu", 1, SIDE, PEER_ROOM, PEER_PACKET);
    client_turn(c);
    expect_sent(c, DATA, "us", SIDE, "hello");
    fake_deliver(c->transport, DATA, "us", 1, "welcome");
    expect_read(fd, "welcome");
    second = connect_display(display_in(&env), &second_port);
    client_turn(c);
    expect_sent(c, OPEN, "suuusu", "x11", 2, WINDOW, PACKET, "127.0.0.1", second_port);
    fake_deliver(c->transport, OPEN_FAILURE, "uuss", 2, 1, "no", "");
    expect_read(second, "");
    close(second);
    close(fd);
    client_turn(c);
    expect_sent(c, CH_EOF, "u", SIDE);
    fake_deliver(c->transport, CH_EOF, "u", 1);
    client_turn(c);
    expect_sent(c, CH_CLOSE, "u", SIDE);
    env_clear(&env);
}

static void a_single_connection_is_one(void **state)
{
    struct client *c = *state;
    struct env_list env = {0};
    uint16_t port;
    int first, second;

    open_session(c, PEER, 0);
    grant_x11(c, true);
    open_forwards(c, &env);
    first = connect_display(display_in(&env), &port);
    second = connect_display(display_in(&env), &port);
    assert_true(first >= 0 && second >= 0);
    client_turn(c);
    client_turn(c);
    assert_int_equal(fake_sent_waiting(c->transport), 1);
    expect_read(second, "");
    assert_int_equal(connect_display(display_in(&env), &port), -1);
    assert_int_equal(access(variable(&env, "XAUTHORITY"), R_OK), 0); /* it is still to be read */
    close(first);
    close(second);
    channels_free(&c->channels, NULL);
    assert_int_not_equal(access(variable(&env, "XAUTHORITY"), R_OK), 0);
    env_clear(&env);
}

static void an_agents_client_reaches_the_ssh_client(void **state)
{
    struct client *c = *state;
    struct env_list env = {0};
    int fd;

    open_session(c, PEER, 0);
    grant_agent(c);
    open_forwards(c, &env);
    assert_null(variable(&env, "DISPLAY"));
    fd = connect_agent(&env);
    assert_true(fd >= 0);
    client_turn(c);
    expect_sent(c, OPEN, "suuu", "auth-agent@openssh.com", 1, WINDOW, PACKET);
    fake_deliver(c->transport, CONFIRMATION, "uuuu", 1, SIDE, PEER_ROOM, PEER_PACKET);
    fake_deliver(c->transport, DATA, "us", 1, "answer");
    expect_read(fd, "answer");
    close(fd);
    env_clear(&env);
}

static void what_was_not_granted_has_no_socket(void **state)
{
    struct client *c = *state;
    struct env_list env = {0};

    open_session(c, PEER, 0);
    open_forwards(c, &env);
    assert_int_equal(env.count, 0);
    env_clear(&env);
}

/* The listeners end with the session; a connection that it had stays. */
static void sockets_end_with_their_session(void **state)
{
    struct client *c = *state;
    struct env_list env = {0};
    struct stat found;
    uint16_t port;
    int fd;

    open_session(c, PEER, 0);
    grant_x11(c, false);
    grant_agent(c);
    open_forwards(c, &env);
    fd = connect_agent(&env);
    client_turn(c);
    expect_sent(c, OPEN, "suuu", "auth-agent@openssh.com", 1, WINDOW, PACKET);
    fake_deliver(c->transport, CONFIRMATION, "uuuu", 1, SIDE, PEER_ROOM, PEER_PACKET);
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    expect_sent(c, CH_CLOSE, "u", PEER);
    assert_int_equal(connect_agent(&env), -1);
    assert_int_equal(connect_display(display_in(&env), &port), -1);
    assert_int_equal(stat(variable(&env, "XAUTHORITY"), &found), -1);
    client_turn(c);
    fake_deliver(c->transport, DATA, "us", 1, "answer");
    expect_read(fd, "answer");
    close(fd);
    env_clear(&env);
}

/* ---- the program's user, whom a helper looks up */

static int started;

static void start(struct channel *channel, const Policy__SessionAnswer *answer)
{
    assert_int_equal(answer->endpoint_case, POLICY__SESSION_ANSWER__ENDPOINT_PROCESS);
    assert_int_equal(channel->state, CHANNEL_OPEN);
    started++;
}

/* Begins the program of channel 0 as this user. */
static void prepare(struct client *c, const char *user)
{
    Policy__SessionAnswer answer = POLICY__SESSION_ANSWER__INIT;
    Policy__ProcessEndpoint process = POLICY__PROCESS_ENDPOINT__INIT;

    started = 0;
    process.user = (char *)user;
    answer.endpoint_case = POLICY__SESSION_ANSWER__ENDPOINT_PROCESS;
    answer.process = &process;
    session_prepare(c->channels->table[0], &answer, start);
}

static struct client *with_helpers(void **state)
{
    struct client *c = *state;

    c->settings.helpers = helpers_new(1, 10);
    client_start(c);
    open_session(c, PEER, 0);
    return c;
}

/* What the program will find in its environment. */
static const struct env_list *look_up(struct client *c, enum helper_outcome outcome)
{
    assert_int_equal(started, 0);
    assert_int_equal(fake_jobs(c->settings.helpers), 1);
    fake_help(c->settings.helpers, outcome);
    assert_int_equal(started, 1);
    return &c->channels->table[0]->session->provided;
}

static void end_helpers(struct client *c)
{
    channels_free(&c->channels, NULL);
    client_turn(c);
    helpers_free(&c->settings.helpers);
}

static void the_user_is_looked_up(void **state)
{
    struct client *c = with_helpers(state);
    const struct passwd *me = getpwuid(geteuid());

    if (me == NULL)
        skip(); /* a container's user may be a mere number */
    prepare(c, me->pw_name);
    assert_int_equal(started, 1); /* nothing was granted: nobody needs to know */
    grant_agent(c);
    prepare(c, me->pw_name);
    assert_non_null(variable(look_up(c, HELPER_DONE), "SSH_AUTH_SOCK"));
    end_helpers(c);
}

static void a_user_who_is_not_found_has_no_socket(void **state)
{
    static const enum helper_outcome outcomes[] = {HELPER_DONE, HELPER_EXPIRED, HELPER_REFUSED};
    struct client *c = with_helpers(state);

    grant_agent(c);
    for (int i = 0; i < 3; i++) {
        prepare(c, "no-such-user-here");
        assert_int_equal(look_up(c, outcomes[i])->count, 0);
    }
    end_helpers(c);
}

static void our_own_user_needs_no_looking_up(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    grant_agent(c);
    prepare(c, "");
    assert_int_equal(started, 1);
    assert_non_null(variable(&c->channels->table[0]->session->provided, "SSH_AUTH_SOCK"));
    session_close_forwards(c->channels->table[0]);
    assert_int_equal(c->channels->table[0]->session->provided.count, 0);
    prepare(c, "somebody"); /* and without helpers nobody is */
    assert_int_equal(started, 1);
    assert_int_equal(c->channels->table[0]->session->provided.count, 0);
}

static void a_session_may_end_meanwhile(void **state)
{
    struct client *c = with_helpers(state);

    grant_agent(c);
    prepare(c, "no-such-user-here");
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    expect_sent(c, CH_CLOSE, "u", PEER);
    end_helpers(c);
    assert_int_equal(started, 0);
}

static void too_many_connections_are_closed(void **state)
{
    struct client *c = *state;
    struct env_list env = {0};
    int fds[8];

    open_session(c, PEER, 0);
    grant_agent(c);
    open_forwards(c, &env);
    for (int i = 0; i < 8; i++)
        assert_true((fds[i] = connect_agent(&env)) >= 0);
    client_turn(c);
    assert_int_equal(fake_sent_waiting(c->transport), 5); /* of 6 channels, one is the session */
    for (int i = 5; i < 8; i++)
        expect_read(fds[i], "");
    channels_free(&c->channels, NULL);
    for (int i = 0; i < 8; i++) {
        expect_read(fds[i], "");
        close(fds[i]);
    }
    env_clear(&env);
}

static void a_socket_that_cannot_be_is_left_out(void **state)
{
    struct client *c = *state;
    struct env_list env = {0};

    setenv("TMPDIR", "/nowhere/at/all", 1);
    open_session(c, PEER, 0);
    grant_x11(c, false);
    grant_agent(c);
    open_forwards(c, &env);
    assert_int_equal(env.count, 0);
    unsetenv("TMPDIR");
    env_clear(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(the_policy_is_asked_exactly_this),
        client_test(only_an_explicit_yes_grants),
        client_later_test(the_login_may_forbid_both),
        client_test(once_and_before_the_program),
        client_test(a_stream_is_told_what_was_granted),
        client_test(fields_that_are_no_x11_are_refused),
        client_test(an_x11_client_reaches_the_ssh_client),
        client_test(a_single_connection_is_one),
        client_test(an_agents_client_reaches_the_ssh_client),
        client_test(what_was_not_granted_has_no_socket),
        client_test(sockets_end_with_their_session),
        client_later_test(the_user_is_looked_up),
        client_later_test(a_user_who_is_not_found_has_no_socket),
        client_test(our_own_user_needs_no_looking_up),
        client_later_test(a_session_may_end_meanwhile),
        client_test(too_many_connections_are_closed),
        client_test(a_socket_that_cannot_be_is_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
