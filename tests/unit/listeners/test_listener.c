#include "unit/cmocka_unit.h"

#include "listeners/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
}

static int client(uint16_t port)
{
    struct sockaddr_in to = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

/* Somebody else's listener. */
static int other_listener(uint16_t *port, bool shared)
{
    struct sockaddr_in at = loopback(0);
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    if (shared)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static void a_busy_port_is_noticed(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct listener_ports ports = {0};
        char *error = NULL;
        char text[32];
        uint16_t port;
        int other = other_listener(&port, i & 1); /* also one that would share with us */

        snprintf(text, sizeof(text), "127.0.0.1:%u", port);
        assert_false(listener_bind(&ports, text, i & 2 ? 1 : 4, &error));
        assert_string_equal(error, strerror(EADDRINUSE));
        assert_int_equal(ports.count, 0);
        free(error);
        close(other);
        assert_true(listener_bind(&ports, text, 4, &error));
        assert_int_equal(ports.ports[0].address.port, port);
        /* Our own second attempt is a busy port as well. */
        assert_false(listener_bind(&ports, text, 4, &error));
        free(error);
        listener_ports_clear(&ports);
    }
}

static void port_0_is_one_port_for_all(void **state)
{
    struct listener_ports ports = {0};
    char *error = NULL;

    (void)state;
    assert_true(listener_bind(&ports, "*:0", 3, &error));
    assert_true(ports.count >= 1); /* v6 may be missing here */
    for (size_t i = 0; i < ports.count; i++) {
        assert_int_equal(ports.ports[i].count, 3);
        assert_int_not_equal(ports.ports[i].address.port, 0);
        assert_int_equal(ports.ports[i].address.port, ports.ports[0].address.port);
        for (size_t k = 0; k < 3; k++) {
            struct sockaddr_storage own;
            socklen_t len = sizeof(own);
            struct address address;

            assert_int_equal(getsockname(ports.ports[i].fds[k], (struct sockaddr *)&own, &len), 0);
            address = address_of((struct sockaddr *)&own);
            assert_int_equal(address.port, ports.ports[0].address.port);
            assert_true(fcntl(ports.ports[i].fds[k], F_GETFL) & O_NONBLOCK);
            assert_true(fcntl(ports.ports[i].fds[k], F_GETFD) & FD_CLOEXEC);
        }
    }
    listener_ports_clear(&ports);
    assert_null(ports.ports);
}

static void several_texts_add_up(void **state)
{
    struct listener_ports ports = {0};
    char *error = NULL;

    (void)state;
    assert_true(listener_bind(&ports, "127.0.0.1:0", 1, &error));
    assert_true(listener_bind(&ports, "127.0.0.1:0", 1, &error));
    assert_int_equal(ports.count, 2);
    assert_int_not_equal(ports.ports[0].address.port, ports.ports[1].address.port);
    assert_false(listener_bind(&ports, "127.0.0.1", 1, &error));
    assert_non_null(strstr(error, "no port"));
    free(error);
    assert_false(listener_bind(&ports, "192.0.2.77:0", 1, &error)); /* not ours: RFC 5737 */
    assert_string_equal(error, strerror(EADDRNOTAVAIL));
    free(error);
    assert_int_equal(ports.count, 2);
    listener_ports_clear(&ports);
}

/* ---- accepting */

struct guests {
    struct loop *loop;
    struct listener_ports ports;
    struct listener *listener;
    int expected, count;
    int fds[64];
    struct address peer, local;
};

static void on_accepted(void *owner, int fd, const struct address *peer,
                        const struct address *local)
{
    struct guests *guests = owner;

    guests->peer = *peer;
    guests->local = *local;
    guests->fds[guests->count++] = fd;
    if (guests->count == guests->expected)
        loop_stop(guests->loop);
}

static void open_house(struct guests *guests, int expected)
{
    char *error = NULL;

    *guests = (struct guests){.loop = loop_new(), .expected = expected};
    assert_true(listener_bind(&guests->ports, "127.0.0.1:0", 1, &error));
    guests->listener =
        listener_new(guests->loop, guests->ports.ports[0].fds[0], on_accepted, guests);
    guests->ports.ports[0].fds[0] = -1;
}

static void close_house(struct guests *guests)
{
    for (int i = 0; i < guests->count; i++)
        close(guests->fds[i]);
    listener_free(&guests->listener);
    assert_null(guests->listener);
    listener_ports_clear(&guests->ports);
    loop_free(&guests->loop);
}

static void connections_are_handed_over(void **state)
{
    struct guests guests;
    uint16_t port;
    int fds[40];
    int on = 0;
    socklen_t len = sizeof(on);

    (void)state;
    open_house(&guests, 40); /* more than one turn takes */
    port = guests.ports.ports[0].address.port;
    for (int i = 0; i < 40; i++)
        fds[i] = client(port);
    loop_run(guests.loop);
    assert_int_equal(guests.count, 40);
    assert_string_equal(guests.peer.ip, "127.0.0.1");
    assert_int_not_equal(guests.peer.port, 0);
    assert_string_equal(guests.local.ip, "127.0.0.1");
    assert_int_equal(guests.local.port, port);
    assert_true(fcntl(guests.fds[0], F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(guests.fds[0], F_GETFD) & FD_CLOEXEC);
    assert_int_equal(getsockopt(guests.fds[0], IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
    assert_true(on);
    for (int i = 0; i < 40; i++)
        close(fds[i]);
    close_house(&guests);
}

/* ---- no descriptors left */

static void on_release(evutil_socket_t fd, short what, void *arg)
{
    struct rlimit *limit = arg;

    (void)fd;
    (void)what;
    setrlimit(RLIMIT_NOFILE, limit);
}

struct late_client {
    int fd;
    uint16_t port;
};

static void on_late_client(evutil_socket_t fd, short what, void *arg)
{
    struct late_client *late = arg;
    struct sockaddr_in to = loopback(late->port);

    (void)fd;
    (void)what;
    assert_int_equal(connect(late->fd, (struct sockaddr *)&to, sizeof(to)), 0);
}

static double cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* From here on no descriptor can be opened; those that are open stay. */
static void forbid_descriptors(struct rlimit *before)
{
    struct rlimit tight;
    int lowest_free = dup(STDERR_FILENO);

    close(lowest_free);
    getrlimit(RLIMIT_NOFILE, before);
    tight = *before;
    tight.rlim_cur = (rlim_t)lowest_free;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
}

static void without_descriptors_it_waits_quietly(void **state)
{
    struct timeval release = {0, 400000}, later = {0, 500000};
    struct late_client late = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct rlimit limit;
    struct guests guests;
    double cpu;
    char byte;
    int early;

    (void)state;
    open_house(&guests, 1);
    late.port = guests.ports.ports[0].address.port;
    early = client(late.port);
    event_base_once(loop_events(guests.loop), -1, EV_TIMEOUT, on_release, &limit, &release);
    event_base_once(loop_events(guests.loop), -1, EV_TIMEOUT, on_late_client, &late, &later);
    forbid_descriptors(&limit);
    cpu = cpu_seconds();
    loop_run(guests.loop);
    assert_true(cpu_seconds() - cpu < 0.1); /* it did not spin until the release */
    assert_int_equal(guests.count, 1);
    /* Who came before was let go with a clean end. */
    assert_int_equal(read(early, &byte, 1), 0);
    close(early);
    close(late.fd);
    close_house(&guests);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_busy_port_is_noticed),
        cmocka_unit_test(port_0_is_one_port_for_all),
        cmocka_unit_test(several_texts_add_up),
        cmocka_unit_test(connections_are_handed_over),
        cmocka_unit_test(without_descriptors_it_waits_quietly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
