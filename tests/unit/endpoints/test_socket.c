/* A socket as a channel's end: bytes both ways, either side ending first, and resets. */
#include "unit/cmocka_unit.h"

#include "base/alloc.h"
#include "endpoints/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct relay {
    struct loop *loop;
    struct endpoint *endpoint;
    int far; /* the other end of its socket */
    struct buf seen;
    size_t room, taken;
    int eofs, ended;
    bool in_order;
};

static size_t on_data(void *owner, struct bytes data, uint32_t extended_type)
{
    struct relay *r = owner;
    size_t len = data.len < r->room ? data.len : r->room;

    assert_int_equal(extended_type, 0);
    assert_int_equal(r->eofs + r->ended, 0);
    buf_put(&r->seen, bytes_of(data.data, len));
    r->room -= len;
    return len;
}

static void on_eof(void *owner)
{
    ((struct relay *)owner)->eofs++;
}

static void on_writable(void *owner, size_t taken)
{
    ((struct relay *)owner)->taken += taken;
}

static void on_ended(void *owner, bool in_order, const char *why)
{
    struct relay *r = owner;

    assert_non_null(why);
    r->ended++;
    r->in_order = in_order;
    r->endpoint->ops->stop(r->endpoint, NULL);
    r->endpoint = NULL;
}

static const struct endpoint_events events = {
    .data = on_data, .eof = on_eof, .writable = on_writable, .ended = on_ended};

static void turn(struct relay *r)
{
    event_base_loop(loop_events(r->loop), EVLOOP_NONBLOCK);
    event_base_loop(loop_events(r->loop), EVLOOP_NONBLOCK);
}

static void begin(struct relay *r, int near, int far)
{
    assert_int_equal(fcntl(near, F_SETFL, O_NONBLOCK), 0);
    r->far = far;
    r->endpoint = endpoint_socket_new(r->loop, &events, r, near);
}

static int setup(void **state)
{
    struct relay *r = xcalloc(1, sizeof(*r));
    int pair[2];

    signal(SIGPIPE, SIG_IGN);
    r->loop = loop_new();
    r->room = SIZE_MAX / 2;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    begin(r, pair[0], pair[1]);
    *state = r;
    return 0;
}

static void end(struct relay *r, const char *error)
{
    if (r->endpoint != NULL)
        r->endpoint->ops->stop(r->endpoint, error);
    r->endpoint = NULL;
    turn(r);
}

static int teardown(void **state)
{
    struct relay *r = *state;

    end(r, NULL);
    close(r->far);
    buf_clear(&r->seen);
    loop_free(&r->loop);
    free(r);
    return 0;
}

static size_t put(struct relay *r, struct bytes data)
{
    return r->endpoint->ops->write(r->endpoint, data, 0);
}

static void expect_far(struct relay *r, const char *text)
{
    char got[64];
    ssize_t len = read(r->far, got, sizeof(got));

    assert_int_equal(len, strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

/* A connected pair over TCP on loopback. */
static void use_tcp(struct relay *r)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int far = socket(AF_INET, SOCK_STREAM, 0);

    end(r, NULL);
    close(r->far);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    assert_int_equal(connect(far, (struct sockaddr *)&at, len), 0);
    begin(r, accept(listener, NULL, NULL), far);
    close(listener);
}

static void bytes_pass_both_ways(void **state)
{
    struct relay *r = *state;

    assert_int_equal(put(r, BYTES("there")), 5);
    expect_far(r, "there");
    assert_int_equal(write(r->far, "back", 4), 4);
    turn(r);
    assert_true(bytes_equal(buf_bytes(&r->seen), BYTES("back")));
    assert_int_equal(r->taken, 5);
    assert_int_equal(r->ended, 0);
}

static void the_socket_may_end_first(void **state)
{
    struct relay *r = *state;

    assert_int_equal(write(r->far, "last", 4), 4);
    shutdown(r->far, SHUT_WR);
    turn(r);
    assert_true(bytes_equal(buf_bytes(&r->seen), BYTES("last")));
    assert_int_equal(r->eofs, 1);
    assert_int_equal(r->ended, 0);
    assert_int_equal(put(r, BYTES("more")), 4);
    expect_far(r, "more");
    r->endpoint->ops->eof(r->endpoint);
    assert_int_equal(r->ended, 0); /* not from inside */
    expect_far(r, "");
    turn(r);
    assert_int_equal(r->ended, 1);
    assert_true(r->in_order);
}

static void the_client_may_end_first(void **state)
{
    struct relay *r = *state;

    assert_int_equal(put(r, BYTES("last")), 4);
    r->endpoint->ops->eof(r->endpoint);
    expect_far(r, "last");
    expect_far(r, "");
    assert_int_equal(write(r->far, "more", 4), 4);
    turn(r);
    assert_true(bytes_equal(buf_bytes(&r->seen), BYTES("more")));
    assert_int_equal(r->ended, 0);
    shutdown(r->far, SHUT_WR);
    turn(r);
    assert_int_equal(r->eofs, 1);
    assert_int_equal(r->ended, 1);
    assert_true(r->in_order);
}

static void who_reads_no_more_may_still_speak(void **state)
{
    struct relay *r = *state;

    assert_int_equal(write(r->far, "last", 4), 4);
    shutdown(r->far, SHUT_RD);
    assert_int_equal(put(r, BYTES("lost")), 4); /* swallowed, its window comes back */
    turn(r);
    assert_int_equal(r->taken, 4);
    assert_true(bytes_equal(buf_bytes(&r->seen), BYTES("last")));
    assert_int_equal(r->ended, 0);
    shutdown(r->far, SHUT_WR);
    turn(r);
    assert_int_equal(r->ended, 1);
}

static void a_slow_side_stops_the_other(void **state)
{
    static const uint8_t xs[1024 * 1024];
    struct relay *r = *state;
    size_t taken = put(r, bytes_of(xs, sizeof(xs)));

    assert_true(taken < sizeof(xs));
    assert_int_equal(put(r, bytes_of(xs, 1)), 0);
    r->room = 3;
    assert_int_equal(write(r->far, "more than that", 14), 14);
    turn(r);
    assert_int_equal(r->seen.len, 3);
    r->room = 100;
    r->endpoint->ops->resume(r->endpoint);
    assert_true(bytes_equal(buf_bytes(&r->seen), BYTES("more than that")));
}

static void a_reset_is_an_error(void **state)
{
    static const struct linger at_once = {1, 0};
    struct relay *r = *state;

    use_tcp(r);
    setsockopt(r->far, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(r->far);
    r->far = -1;
    turn(r);
    assert_int_equal(r->ended, 1);
    assert_false(r->in_order);
    assert_int_equal(r->eofs, 0);
}

static void what_is_cut_off_is_reset(void **state)
{
    struct relay *r = *state;
    char c;

    use_tcp(r);
    end(r, "the connection is lost");
    assert_int_equal(read(r->far, &c, 1), -1);
    assert_int_equal(errno, ECONNRESET);
    close(r->far);
    r->far = -1;
    use_tcp(r);
    r->endpoint->ops->eof(r->endpoint); /* all that the client had to say was passed on */
    end(r, "the connection is lost");
    assert_int_equal(read(r->far, &c, 1), 0);
}

static void it_may_stop_while_an_end_is_on_its_way(void **state)
{
    struct relay *r = *state;

    shutdown(r->far, SHUT_WR);
    turn(r);
    assert_int_equal(r->eofs, 1);
    r->endpoint->ops->eof(r->endpoint);
    end(r, NULL);
    assert_int_equal(r->ended, 0);
}

int main(void)
{
#define relay_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        relay_test(bytes_pass_both_ways),        relay_test(the_socket_may_end_first),
        relay_test(the_client_may_end_first),    relay_test(who_reads_no_more_may_still_speak),
        relay_test(a_slow_side_stops_the_other), relay_test(a_reset_is_an_error),
        relay_test(what_is_cut_off_is_reset),    relay_test(it_may_stop_while_an_end_is_on_its_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
