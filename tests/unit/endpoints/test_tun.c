/* A device as a channel's end; a socket that keeps messages apart stands in for it. */
#include "unit/cmocka_unit.h"

#include "base/alloc.h"
#include "endpoints/tun.h"

#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct link {
    struct loop *loop;
    struct endpoint *endpoint;
    int far; /* the device's other side */
    struct buf seen;
    int packets, ended;
    size_t room, taken;
    bool in_order;
};

static size_t on_data(void *owner, struct bytes packet, uint32_t extended_type)
{
    struct link *l = owner;

    assert_int_equal(extended_type, 0);
    buf_put(&l->seen, packet);
    l->packets++;
    l->room--;
    return packet.len;
}

static size_t on_room(void *owner)
{
    return ((struct link *)owner)->room;
}

static void on_writable(void *owner, size_t taken)
{
    ((struct link *)owner)->taken += taken;
}

static void on_ended(void *owner, bool in_order, const char *why)
{
    struct link *l = owner;

    assert_non_null(why);
    l->ended++;
    l->in_order = in_order;
    l->endpoint->ops->stop(l->endpoint, NULL);
    l->endpoint = NULL;
}

static const struct endpoint_events events = {
    .data = on_data, .room = on_room, .writable = on_writable, .ended = on_ended};

static void turn(struct link *l)
{
    event_base_loop(loop_events(l->loop), EVLOOP_NONBLOCK);
    event_base_loop(loop_events(l->loop), EVLOOP_NONBLOCK);
}

static int setup(void **state)
{
    struct link *l = xcalloc(1, sizeof(*l));
    int pair[2];

    l->loop = loop_new();
    l->room = 1000;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    l->far = pair[1];
    l->endpoint = endpoint_tun_new(l->loop, &events, l, pair[0]);
    *state = l;
    return 0;
}

static int teardown(void **state)
{
    struct link *l = *state;

    if (l->endpoint != NULL)
        l->endpoint->ops->stop(l->endpoint, NULL);
    turn(l);
    close(l->far);
    buf_clear(&l->seen);
    loop_free(&l->loop);
    free(l);
    return 0;
}

static void packets_pass_one_by_one(void **state)
{
    struct link *l = *state;
    char got[64];

    assert_int_equal(l->endpoint->ops->write(l->endpoint, BYTES("one"), 0), 3);
    assert_int_equal(l->endpoint->ops->write(l->endpoint, BYTES("three"), 0), 5);
    assert_int_equal(l->taken, 0); /* not from inside */
    assert_int_equal(read(l->far, got, sizeof(got)), 3);
    assert_int_equal(read(l->far, got, sizeof(got)), 5);
    assert_int_equal(write(l->far, "back", 4), 4);
    assert_int_equal(write(l->far, "again", 5), 5);
    turn(l);
    assert_int_equal(l->taken, 8);
    assert_int_equal(l->packets, 2);
    assert_true(bytes_equal(buf_bytes(&l->seen), BYTES("backagain")));
    assert_int_equal(l->ended, 0);
}

static void nothing_is_read_without_room(void **state)
{
    struct link *l = *state;

    l->room = 1;
    assert_int_equal(write(l->far, "a", 1), 1);
    assert_int_equal(write(l->far, "b", 1), 1);
    turn(l);
    assert_int_equal(l->packets, 1);
    turn(l);
    assert_int_equal(l->packets, 1);
    l->room = 5;
    l->endpoint->ops->resume(l->endpoint);
    turn(l);
    assert_int_equal(l->packets, 2);
}

static void what_the_device_refuses_is_lost(void **state)
{
    struct link *l = *state;
    char packet[1000] = {0};

    for (int i = 0; i < 5000; i++) /* more than it holds */
        assert_int_equal(l->endpoint->ops->write(l->endpoint, bytes_of(packet, sizeof(packet)), 0),
                         sizeof(packet));
    turn(l);
    assert_int_equal(l->taken, 5000 * sizeof(packet));
    assert_int_equal(l->ended, 0);
}

static void the_clients_eof_ends_it(void **state)
{
    struct link *l = *state;

    l->endpoint->ops->write(l->endpoint, BYTES("last"), 0);
    l->endpoint->ops->eof(l->endpoint);
    assert_int_equal(l->ended, 0);
    turn(l);
    assert_int_equal(l->ended, 1);
    assert_true(l->in_order);
}

static void it_may_be_stopped_while_news_are_due(void **state)
{
    struct link *l = *state;

    l->endpoint->ops->write(l->endpoint, BYTES("last"), 0);
    l->endpoint->ops->stop(l->endpoint, "gone");
    l->endpoint = NULL;
    turn(l);
    assert_int_equal(l->taken, 0);
    assert_int_equal(l->ended, 0);
}

/* Whether or not this machine lets us have devices. */
static void a_device_is_ours_or_the_system_says_why_not(void **state)
{
    char name[TUN_NAME_BYTES] = "";
    const char *why = NULL;
    int fd = tun_open(true, NULL, name, &why);

    (void)state;
    assert_true(fd >= 0 ? strncmp(name, "tap", 3) == 0 : why != NULL);
    if (fd >= 0)
        assert_int_not_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    if (fd >= 0)
        close(fd);
}

#define link_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        link_test(packets_pass_one_by_one),
        link_test(nothing_is_read_without_room),
        link_test(what_the_device_refuses_is_lost),
        link_test(the_clients_eof_ends_it),
        link_test(it_may_be_stopped_while_news_are_due),
        cmocka_unit_test(a_device_is_ours_or_the_system_says_why_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
