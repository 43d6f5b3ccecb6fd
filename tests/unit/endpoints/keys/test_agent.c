/* An agent's client, before agents that the test plays, and before OpenSSH's own. */
#include "unit/cmocka_unit.h"

#include "base/alloc.h"
#include "base/loop.h"
#include "base/reader.h"
#include "endpoints/upstream/agent.h"
#include "transport/transport.h"
#include "unit/endpoints/keys/keys.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 60000

struct side {
    struct loop *loop;
    struct agent *agent;
    int far; /* the agent's end; -1: none */
    int lists, signatures, failures;
    size_t count;
    struct buf keys; /* each a string */
    struct buf signature;
    char *why;
    bool free_inside, sign_inside;
};

static void end_inside(struct side *s)
{
    if (s->free_inside)
        agent_free(&s->agent);
}

static void on_keys(void *owner, const struct agent_key *keys, size_t count)
{
    struct side *s = owner;

    s->lists++;
    s->count = count;
    buf_reset(&s->keys);
    for (size_t i = 0; i < count; i++)
        buf_put_string(&s->keys, keys[i].blob);
    if (s->sign_inside)
        agent_sign(s->agent, keys[0].blob, BYTES("data"), 0);
    end_inside(s);
}

static void on_signature(void *owner, struct bytes signature)
{
    struct side *s = owner;

    s->signatures++;
    buf_reset(&s->signature);
    buf_put(&s->signature, signature);
    end_inside(s);
}

static void on_failed(void *owner, const char *why)
{
    struct side *s = owner;

    assert_int_equal(s->failures++, 0);
    free(s->why);
    s->why = xstrdup(why);
    end_inside(s);
}

static const struct agent_events events = {
    .keys = on_keys, .signature = on_signature, .failed = on_failed};

/* Until something is told. */
static void await(struct side *s)
{
    uint64_t deadline = clock_ms() + PATIENCE_MS;
    int told = s->lists + s->signatures + s->failures;

    while (s->lists + s->signatures + s->failures == told) {
        assert_true(clock_ms() < deadline);
        event_base_loop(loop_events(s->loop), EVLOOP_ONCE);
    }
}

/* Nothing is told by what the agent has said so far. */
static void turn(struct side *s)
{
    for (int i = 0; i < 3; i++)
        event_base_loop(loop_events(s->loop), EVLOOP_NONBLOCK);
}

static void begin(struct side *s, int near)
{
    assert_int_equal(fcntl(near, F_SETFL, O_NONBLOCK), 0);
    s->agent = agent_new(s->loop, near, &events, s);
}

static int setup(void **state)
{
    struct side *s = xcalloc(1, sizeof(*s));
    int pair[2];

    s->loop = loop_new();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    s->far = pair[1];
    begin(s, pair[0]);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct side *s = *state;

    agent_free(&s->agent);
    if (s->far >= 0)
        close(s->far);
    buf_clear(&s->keys);
    buf_clear(&s->signature);
    free(s->why);
    loop_free(&s->loop);
    free(s);
    return 0;
}

/* ---- the agent that the test plays */

static void say_bytes(struct side *s, struct bytes bytes)
{
    assert_int_equal(write(s->far, bytes.data, bytes.len), bytes.len);
}

static void say(struct side *s, const struct buf *message)
{
    struct buf out = {0};

    buf_put_string(&out, buf_bytes(message));
    say_bytes(s, buf_bytes(&out));
    buf_clear(&out);
}

/* What the question is, as soon as it is there. */
static struct buf hear(struct side *s)
{
    uint64_t deadline = clock_ms() + PATIENCE_MS;
    struct buf message = {0};

    for (;;) {
        uint8_t data[65536];
        struct reader r = reader_of(buf_bytes(&message));
        ssize_t len;

        if (message.len >= 4 && reader_u32(&r) == r.left)
            return message;
        assert_true(clock_ms() < deadline);
        event_base_loop(loop_events(s->loop), EVLOOP_NONBLOCK);
        len = recv(s->far, data, sizeof(data), MSG_DONTWAIT);
        if (len > 0)
            buf_put(&message, bytes_of(data, (size_t)len));
    }
}

static void ask_for_keys(struct side *s)
{
    struct buf heard;

    agent_list(s->agent);
    assert_int_equal(s->lists + s->failures, 0);
    heard = hear(s);
    assert_int_equal(heard.len, 5);
    assert_memory_equal(heard.data, "\0\0\0\1\x0b", 5);
    buf_clear(&heard);
}

static void ask_for_signature(struct side *s)
{
    static const uint8_t wanted[] = "\0\0\0\x14\x0d\0\0\0\3key\0\0\0\4data\0\0\0\4";
    struct buf heard;

    agent_sign(s->agent, BYTES("key"), BYTES("data"), AGENT_RSA_SHA2_512);
    heard = hear(s);
    assert_int_equal(heard.len, sizeof(wanted) - 1);
    assert_memory_equal(heard.data, wanted, heard.len);
    buf_clear(&heard);
}

/* So many keys "k0", "k1", ... with comments, and `claimed` in front. */
static struct buf list_of(uint32_t claimed, unsigned count)
{
    struct buf message = {0};

    buf_put_u8(&message, 12);
    buf_put_u32(&message, claimed);
    for (unsigned i = 0; i < count; i++) {
        char *name = xasprintf("k%u", i);

        buf_put_cstring(&message, name);
        buf_put_cstring(&message, "comment");
        free(name);
    }
    return message;
}

/* ---- what a good agent says */

static void keys_come_in_order(void **state)
{
    struct side *s = *state;
    struct buf message = list_of(2, 2);

    ask_for_keys(s);
    say(s, &message);
    await(s);
    assert_int_equal(s->lists, 1);
    assert_int_equal(s->count, 2);
    assert_memory_equal(s->keys.data, "\0\0\0\2k0\0\0\0\2k1", 12);
    buf_clear(&message);
}

static void an_agent_may_have_none(void **state)
{
    struct side *s = *state;

    ask_for_keys(s);
    say_bytes(s, BYTES("\0\0\0\5\x0c\0\0\0\0"));
    await(s);
    assert_int_equal(s->lists, 1);
    assert_int_equal(s->count, 0);
    s->lists = 0;
    ask_for_keys(s);
    say_bytes(s, BYTES("\0\0\0\1\5"));
    await(s);
    assert_int_equal(s->lists, 1);
    assert_int_equal(s->count, 0);
}

static void of_too_many_the_first_are_used(void **state)
{
    struct side *s = *state;
    struct buf message = list_of(AGENT_KEYS_MAX + 44, AGENT_KEYS_MAX + 44);

    ask_for_keys(s);
    say(s, &message);
    await(s);
    assert_int_equal(s->count, AGENT_KEYS_MAX);
    assert_memory_equal(s->keys.data + s->keys.len - 8, "\0\0\0\4k255", 8);
    buf_clear(&message);
}

static void signatures_are_given_or_refused(void **state)
{
    struct side *s = *state;

    ask_for_signature(s);
    say_bytes(s, BYTES("\0\0\0\x08\x0e\0\0\0\3sig"));
    await(s);
    assert_int_equal(s->signature.len, 3);
    assert_memory_equal(s->signature.data, "sig", 3);
    ask_for_signature(s);
    say_bytes(s, BYTES("\0\0\0\1\5"));
    await(s);
    assert_int_equal(s->signatures, 2);
    assert_int_equal(s->signature.len, 0);
}

static void answers_may_come_in_pieces(void **state)
{
    static const uint8_t answer[] = "\0\0\0\x08\x0e\0\0\0\3sig";
    struct side *s = *state;

    ask_for_signature(s);
    for (size_t i = 0; i < sizeof(answer) - 1; i++) {
        assert_int_equal(s->signatures, 0);
        say_bytes(s, bytes_of(answer + i, 1));
        turn(s);
    }
    assert_int_equal(s->signatures, 1);
}

/* Longer than a socket takes at once, both ways. */
static void long_messages_pass(void **state)
{
    struct side *s = *state;
    struct buf data = {0}, message = {0}, out = {0}, heard;
    int small = 4096;
    size_t done = 0;

    setsockopt(s->far, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    fcntl(s->far, F_SETFL, O_NONBLOCK);
    while (data.len < 1000000)
        buf_put(&data, BYTES("0123456789"));
    agent_sign(s->agent, BYTES("key"), buf_bytes(&data), 0);
    heard = hear(s);
    assert_int_equal(heard.len, 4 + 1 + 4 + 3 + 4 + data.len + 4);
    buf_put_u8(&message, 14);
    buf_put_string(&message, bytes_of(data.data, AGENT_MESSAGE_MAX - 5));
    buf_put_string(&out, buf_bytes(&message));
    while (s->signatures == 0) {
        ssize_t len = write(s->far, out.data + done, out.len - done);

        assert_true(len >= 0 || errno == EAGAIN);
        done += len > 0 ? (size_t)len : 0;
        turn(s);
    }
    assert_int_equal(s->signature.len, AGENT_MESSAGE_MAX - 5);
    buf_clear(&data);
    buf_clear(&message);
    buf_clear(&out);
    buf_clear(&heard);
}

static void the_next_question_may_be_asked_inside_the_answer(void **state)
{
    struct side *s = *state;
    struct buf message = list_of(1, 1), heard;

    s->sign_inside = true;
    ask_for_keys(s);
    say(s, &message);
    await(s);
    heard = hear(s);
    assert_int_equal(heard.data[4], 13);
    say_bytes(s, BYTES("\0\0\0\x08\x0e\0\0\0\3sig"));
    await(s);
    assert_int_equal(s->signatures, 1);
    buf_clear(&heard);
    buf_clear(&message);
}

static void it_may_be_freed_inside_its_events(void **state)
{
    struct side *s = *state;
    struct buf message = list_of(1, 1);
    int pair[2];

    s->free_inside = true;
    ask_for_keys(s);
    say(s, &message);
    await(s);
    assert_null(s->agent);
    for (int failing = 0; failing < 2; failing++) {
        close(s->far);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        s->far = pair[1];
        begin(s, pair[0]);
        ask_for_signature(s);
        say_bytes(s, failing ? BYTES("\0\0\0\0") : BYTES("\0\0\0\x08\x0e\0\0\0\3sig"));
        await(s);
        assert_null(s->agent);
    }
    assert_int_equal(s->signatures, 1);
    assert_int_equal(s->failures, 1);
    buf_clear(&message);
}

/* ---- what a bad one says */

static void expect_failure(struct side *s)
{
    await(s);
    assert_int_equal(s->failures, 1);
    assert_true(strlen(s->why) > 10);
    agent_list(s->agent); /* nothing follows */
    turn(s);
    assert_int_equal(s->lists + s->signatures, 0);
}

static void bad_lists_are_failures(void **state)
{
    static const struct bytes answers[] = {
        {(const uint8_t *)"\0\0\0\0", 4},
        {(const uint8_t *)"\0\4\0\1", 4},
        {(const uint8_t *)"\xff\xff\xff\xff", 4},
        {(const uint8_t *)"\0\0\0\1\x0c", 5},
        {(const uint8_t *)"\0\0\0\1\x06", 5},
        {(const uint8_t *)"\0\0\0\1\x0b", 5},
        {(const uint8_t *)"\0\0\0\2\x05\0", 6},
        {(const uint8_t *)"\0\0\0\5\x0e\0\0\0\0", 9},
        {(const uint8_t *)"\0\0\0\5\x0c\0\0\0\1", 9},
        {(const uint8_t *)"\0\0\0\5\x0c\xff\xff\xff\xff", 9},
        {(const uint8_t *)"\0\0\0\6\x0c\0\0\0\0x", 10},
        {(const uint8_t *)"\0\0\0\x0a\x0c\0\0\0\1\0\0\0\1k", 14},
        {(const uint8_t *)"\0\0\0\x0d\x0c\0\0\0\1\0\0\0\0\0\0\0\0", 17},
        {(const uint8_t *)"\0\0\0\x0e\x0c\0\0\0\1\0\0\0\1k\0\0\0\1", 18},
        {(const uint8_t *)"\0\0\0\x0f\x0c\0\0\0\1\0\0\0\1k\0\0\0\0x", 19},
        {(const uint8_t *)"\0\0\0\5\x0c\0\0\0\0\0", 10},
        {(const uint8_t *)"\0\0\0\5\x0c\0\0\0\0\0\0\0\5\x0c\0\0\0\0", 18},
    };

    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct side *s;

        setup(state);
        s = *state;
        ask_for_keys(s);
        say_bytes(s, answers[i]);
        expect_failure(s);
        teardown(state);
    }
}

static void bad_signatures_are_failures(void **state)
{
    static const struct bytes answers[] = {
        {(const uint8_t *)"\0\0\0\1\x0e", 5},
        {(const uint8_t *)"\0\0\0\1\x06", 5},
        {(const uint8_t *)"\0\0\0\5\x0e\0\0\0\0", 9},
        {(const uint8_t *)"\0\0\0\5\x0e\0\0\0\1", 9},
        {(const uint8_t *)"\0\0\0\7\x0e\0\0\0\1xy", 11},
        {(const uint8_t *)"\0\0\0\5\x0c\0\0\0\0", 9},
        {(const uint8_t *)"\0\0\0\6\x05\0\0\0\1x", 10},
        {(const uint8_t *)"\0\0\0\1\5\0\0\0\1\5", 10},
    };

    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct side *s;

        setup(state);
        s = *state;
        ask_for_signature(s);
        say_bytes(s, answers[i]);
        expect_failure(s);
        teardown(state);
    }
}

static void who_speaks_unasked_fails(void **state)
{
    struct side *s = *state;

    say_bytes(s, BYTES("\0\0\0\1\5"));
    expect_failure(s);
}

static void who_answers_before_the_question_fails(void **state)
{
    struct side *s = *state;

    say_bytes(s, BYTES("\0\0\0\5\x0c\0\0\0\0"));
    agent_list(s->agent);
    expect_failure(s);
}

static void who_hangs_up_fails(void **state)
{
    struct side *s = *state;

    ask_for_keys(s);
    say_bytes(s, BYTES("\0\0\0\5\x0c"));
    turn(s);
    close(s->far);
    s->far = -1;
    expect_failure(s);
}

static void who_hangs_up_before_the_question_fails(void **state)
{
    struct side *s = *state;

    close(s->far);
    s->far = -1;
    agent_list(s->agent);
    expect_failure(s);
}

static void who_hangs_up_inside_the_question_fails(void **state)
{
    struct side *s = *state;
    struct buf data = {0};

    while (data.len < 4000000)
        buf_put(&data, BYTES("0123456789"));
    agent_sign(s->agent, BYTES("key"), buf_bytes(&data), 0);
    turn(s);
    assert_int_equal(s->failures, 0);
    close(s->far);
    s->far = -1;
    expect_failure(s);
    buf_clear(&data);
}

static void freeing_is_silent(void **state)
{
    struct side *s = *state;

    ask_for_keys(s);
    agent_free(&s->agent);
    agent_free(&s->agent);
    turn(s);
    assert_int_equal(recv(s->far, &(char){0}, 1, 0), 0); /* it is closed */
    assert_int_equal(s->lists + s->failures, 0);
}

/* ---- OpenSSH's */

struct real {
    struct keys keys;
    pid_t pid;
};

/* Ends with us, whatever becomes of the test. */
static pid_t spawn_agent(const char *socket_path, int output)
{
    pid_t us = getpid(), pid = fork();

    if (pid != 0)
        return pid;
    dup2(output, STDOUT_FILENO);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == us)
        execlp("ssh-agent", "ssh-agent", "-D", "-s", "-a", socket_path, (char *)NULL);
    _exit(127);
}

static void start_agent(struct real *real)
{
    char *path;
    char said;
    int output[2];

    keys_make(&real->keys, "ssh-keygen -q -N '' -t ed25519 -C e -f e; "
                           "ssh-keygen -q -N '' -t rsa -b 2048 -C r -f r; "
                           "ssh-keygen -q -N '' -t ecdsa -C c -f c; "
                           "ssh-keygen -q -I id -s e -n me c.pub");
    path = keys_path(&real->keys, "socket");
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    real->pid = spawn_agent(path, output[1]);
    assert_true(real->pid > 0);
    close(output[1]);
    assert_int_equal(read(output[0], &said, 1), 1); /* its variables: it listens */
    close(output[0]);
    free(path);
    keys_run(&real->keys, "SSH_AUTH_SOCK=\"$PWD/socket\" ssh-add -q e r c");
}

static void stop_agent(struct real *real)
{
    assert_int_equal(kill(real->pid, SIGTERM), 0);
    assert_int_equal(waitpid(real->pid, NULL, 0), real->pid);
    keys_remove(&real->keys);
}

static void connect_to(struct side *s, const struct real *real)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char *path = keys_path(&real->keys, "socket");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    assert_true(strlen(path) < sizeof(at.sun_path));
    memcpy(at.sun_path, path, strlen(path));
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    agent_free(&s->agent);
    begin(s, fd);
    free(path);
}

static void expect_signature(struct side *s, struct bytes blob, const char *algorithm,
                             uint32_t flags)
{
    struct public_key *key = public_key_parse(blob);

    assert_non_null(key);
    agent_sign(s->agent, blob, BYTES("data to sign"), flags);
    await(s);
    assert_int_equal(s->failures, 0);
    assert_true(public_key_verify(key, bytes_of_string(algorithm), buf_bytes(&s->signature),
                                  BYTES("data to sign"), NULL));
    public_key_free(&key);
}

static void openssh_lists_and_signs(void **state)
{
    struct side *s = *state;
    struct real real;
    struct reader r;
    struct bytes blobs[4];
    struct buf stranger = {0};

    start_agent(&real);
    connect_to(s, &real);
    agent_list(s->agent);
    await(s);
    assert_int_equal(s->failures, 0);
    assert_int_equal(s->count, 4); /* and a certificate */
    r = reader_of(buf_bytes(&s->keys));
    for (size_t i = 0; i < 4; i++)
        blobs[i] = reader_string(&r);
    expect_signature(s, blobs[0], "ssh-ed25519", 0);
    expect_signature(s, blobs[1], "rsa-sha2-256", AGENT_RSA_SHA2_256);
    expect_signature(s, blobs[1], "rsa-sha2-512", AGENT_RSA_SHA2_512);
    expect_signature(s, blobs[2], "ecdsa-sha2-nistp256", 0);
    assert_true(certificate_is_claimed(blobs[3]));
    agent_sign(s->agent, blobs[3], BYTES("data to sign"), 0);
    await(s);
    assert_true(s->signature.len > 0);
    buf_put(&stranger, blobs[0]);
    stranger.data[stranger.len - 1] ^= 1;
    agent_sign(s->agent, buf_bytes(&stranger), BYTES("data"), 0);
    await(s);
    assert_int_equal(s->signature.len, 0); /* refused */
    buf_clear(&stranger);
    stop_agent(&real);
    await(s);
    assert_string_equal(s->why, "the agent hung up");
}

#define WITH_AGENT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_AGENT(keys_come_in_order),
        WITH_AGENT(an_agent_may_have_none),
        WITH_AGENT(of_too_many_the_first_are_used),
        WITH_AGENT(signatures_are_given_or_refused),
        WITH_AGENT(answers_may_come_in_pieces),
        WITH_AGENT(long_messages_pass),
        WITH_AGENT(the_next_question_may_be_asked_inside_the_answer),
        WITH_AGENT(it_may_be_freed_inside_its_events),
        cmocka_unit_test(bad_lists_are_failures),
        cmocka_unit_test(bad_signatures_are_failures),
        WITH_AGENT(who_speaks_unasked_fails),
        WITH_AGENT(who_answers_before_the_question_fails),
        WITH_AGENT(who_hangs_up_fails),
        WITH_AGENT(who_hangs_up_before_the_question_fails),
        WITH_AGENT(who_hangs_up_inside_the_question_fails),
        WITH_AGENT(freeing_is_silent),
        WITH_AGENT(openssh_lists_and_signs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
