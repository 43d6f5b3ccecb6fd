/* The client's agent, for the daemon's own use as an SSH client. */
#include "unit/channels/client.h"

#include "channels/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define SIDE 40u /* the client's number of a channel of ours */

static void grant(struct client *c, uint32_t id)
{
    send_channel_request(c, id, "auth-agent-req@openssh.com", true, "");
    expect_asked(c, RPC_AGENT_REQUESTED);
    fake_allow(c->control, RPC_AGENT_REQUESTED);
    expect_sent(c, SUCCESS, "u", PEER + id);
}

static void expect_none(struct client *c)
{
    assert_int_equal(channel_open_agent(c->channels), -1);
    expect_nothing(c);
}

/* The channel of that number is offered. */
static int expect_one(struct client *c, uint32_t id)
{
    int fd = channel_open_agent(c->channels);

    assert_true(fd >= 0);
    assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    expect_sent(c, OPEN, "suuu", "auth-agent@openssh.com", id, WINDOW, PACKET);
    return fd;
}

static void expect_read(int fd, const char *text)
{
    char got[64];
    ssize_t len = read(fd, got, sizeof(got));

    assert_int_equal(len, strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static void expect_open_and_silent(int fd)
{
    char got;

    assert_int_equal(read(fd, &got, 1), -1);
    assert_int_equal(errno, EAGAIN);
}

static void it_is_not_there_unless_granted(void **state)
{
    struct client *c = *state;

    expect_none(c);
    open_session(c, PEER, 0);
    expect_none(c);
    send_channel_request(c, 0, "auth-agent-req@openssh.com", true, "");
    expect_asked(c, RPC_AGENT_REQUESTED);
    expect_none(c); /* the policy is asked */
    fake_deny(c->control, RPC_AGENT_REQUESTED, "no");
    expect_sent(c, FAILURE, "u", PEER);
    expect_none(c);
}

static void bytes_go_both_ways(void **state)
{
    struct client *c = *state;
    int fd;

    open_session(c, PEER, 0);
    grant(c, 0);
    fd = expect_one(c, 1);
    assert_int_equal(write(fd, "question", 8), 8); /* at once */
    client_turn(c);
    expect_nothing(c);
    fake_deliver(c->transport, CONFIRMATION, "uuuu", 1, SIDE, PEER_ROOM, PEER_PACKET);
    client_turn(c);
    expect_sent(c, DATA, "us", SIDE, "question");
    fake_deliver(c->transport, DATA, "us", 1, "answer");
    expect_read(fd, "answer");
    close(fd);
    client_turn(c);
    expect_sent(c, CH_EOF, "u", SIDE);
    fake_deliver(c->transport, CH_EOF, "u", 1);
    client_turn(c);
    expect_sent(c, CH_CLOSE, "u", SIDE);
}

static void any_session_may_have_asked(void **state)
{
    struct client *c = *state;

    open_session(c, PEER, 0);
    open_session(c, PEER + 1, 1);
    grant(c, 1);
    close(expect_one(c, 2));
    close(expect_one(c, 3));
}

static void it_hangs_up_if_the_client_refuses(void **state)
{
    struct client *c = *state;
    int fd;

    open_session(c, PEER, 0);
    grant(c, 0);
    fd = expect_one(c, 1);
    expect_open_and_silent(fd);
    fake_deliver(c->transport, OPEN_FAILURE, "uuss", 1, 2, "no agent", "");
    expect_read(fd, "");
    close(fd);
}

static void it_hangs_up_with_the_channel_and_the_connection(void **state)
{
    struct client *c = *state;
    int fd, second;

    open_session(c, PEER, 0);
    grant(c, 0);
    fd = expect_one(c, 1);
    second = expect_one(c, 2);
    fake_deliver(c->transport, CONFIRMATION, "uuuu", 1, SIDE, PEER_ROOM, PEER_PACKET);
    client_turn(c);
    fake_deliver(c->transport, CH_CLOSE, "u", 1);
    client_turn(c);
    expect_read(fd, "");
    expect_open_and_silent(second);
    channels_free(&c->channels, NULL);
    expect_read(second, "");
    close(fd);
    close(second);
}

static void the_grant_ends_with_its_session(void **state)
{
    struct client *c = *state;
    int fd;

    open_session(c, PEER, 0);
    grant(c, 0);
    fd = expect_one(c, 1);
    fake_deliver(c->transport, CH_CLOSE, "u", 0);
    expect_sent(c, CH_CLOSE, "u", PEER);
    expect_none(c);
    expect_open_and_silent(fd); /* what was open stays */
    close(fd);
}

static void the_login_may_take_it_back(void **state)
{
    struct client *c = *state;
    int fd;

    open_session(c, PEER, 0);
    grant(c, 0);
    fd = expect_one(c, 1);
    fake_deliver(c->transport, CONFIRMATION, "uuuu", 1, SIDE, PEER_ROOM, PEER_PACKET);
    client_turn(c);
    c->rules.no_agent = true;
    channels_tighten(c->channels, &c->rules);
    client_turn(c);
    expect_sent(c, CH_EOF, "u", SIDE);
    expect_sent(c, CH_CLOSE, "u", SIDE);
    expect_read(fd, "");
    expect_none(c);
    close(fd);
}

/* Before the client has taken the channel, too. */
static void it_may_be_taken_back_while_it_is_offered(void **state)
{
    struct client *c = *state;
    int fd;

    open_session(c, PEER, 0);
    grant(c, 0);
    fd = expect_one(c, 1);
    c->rules.no_agent = true;
    channels_tighten(c->channels, &c->rules);
    fake_deliver(c->transport, CONFIRMATION, "uuuu", 1, SIDE, PEER_ROOM, PEER_PACKET);
    client_turn(c);
    expect_sent(c, CH_EOF, "u", SIDE);
    expect_sent(c, CH_CLOSE, "u", SIDE);
    expect_read(fd, "");
    close(fd);
}

static void it_counts_among_the_channels(void **state)
{
    struct client *c = *state;

    channels_set_limits(c->channels, 1, 2);
    open_session(c, PEER, 0);
    grant(c, 0);
    close(expect_one(c, 1));
    expect_none(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(it_is_not_there_unless_granted),
        client_test(bytes_go_both_ways),
        client_test(any_session_may_have_asked),
        client_test(it_hangs_up_if_the_client_refuses),
        client_test(it_hangs_up_with_the_channel_and_the_connection),
        client_test(the_grant_ends_with_its_session),
        client_test(the_login_may_take_it_back),
        client_test(it_may_be_taken_back_while_it_is_offered),
        client_test(it_counts_among_the_channels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
