/* Sockets that only one session's program may use: who can reach them, and what they leave behind.
 */
#include "unit/cmocka_unit.h"

#include "base/alloc.h"
#include "listeners/private.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOMEBODY 54321 /* a user that this machine does not have */

struct world {
    struct loop *loop;
    char tmp[64]; /* TMPDIR */
    int accepted, last;
};

static void on_accepted(void *owner, int fd, const struct address *peer,
                        const struct address *local)
{
    struct world *w = owner;

    (void)peer;
    (void)local;
    w->accepted++;
    if (w->last >= 0)
        close(w->last);
    w->last = fd;
}

static int setup(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));

    w->loop = loop_new();
    w->last = -1;
    strcpy(w->tmp, "/tmp/parley-test-XXXXXX");
    assert_non_null(mkdtemp(w->tmp));
    assert_int_equal(chmod(w->tmp, 01777), 0);
    setenv("TMPDIR", w->tmp, 1);
    *state = w;
    return 0;
}

static size_t left_behind(const struct world *w)
{
    DIR *dir = opendir(w->tmp);
    size_t count = 0;

    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count - 2;
}

static int teardown(void **state)
{
    struct world *w = *state;

    assert_int_equal(left_behind(w), 0);
    if (w->last >= 0)
        close(w->last);
    assert_int_equal(rmdir(w->tmp), 0);
    unsetenv("TMPDIR");
    loop_free(&w->loop);
    free(w);
    return 0;
}

static struct local_user me(void)
{
    return (struct local_user){geteuid(), getegid()};
}

static void turn(struct world *w)
{
    event_base_loop(loop_events(w->loop), EVLOOP_NONBLOCK);
}

static int connect_unix(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(at.sun_path, path);
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
        return fd;
    close(fd);
    return -1;
}

static int connect_display(unsigned number, const char *ip)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)(DISPLAY_PORT + number))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, ip, &at.sin_addr);
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
        return fd;
    close(fd);
    return -1;
}

static void expect_closed(int fd)
{
    char c;

    assert_true(read(fd, &c, 1) <= 0);
    close(fd);
}

static void expect_mode(const char *path, mode_t mode, uid_t uid)
{
    struct stat found;

    assert_int_equal(lstat(path, &found), 0);
    assert_int_equal(found.st_mode & 07777, mode);
    assert_int_equal(found.st_uid, uid);
}

static char *directory_of(const char *path)
{
    return xstrndup(path, (size_t)(strrchr(path, '/') - path));
}

/* ---- the Unix socket */

static void only_its_user_finds_it(void **state)
{
    struct world *w = *state;
    struct local_user user = me();
    struct private_socket *socket = private_socket_new(w->loop, &user, on_accepted, w);
    char *dir, *path;
    int fd;

    assert_non_null(socket);
    path = xstrdup(private_socket_path(socket));
    dir = directory_of(path);
    expect_mode(dir, 0700, user.uid);
    expect_mode(path, 0600, user.uid);
    fd = connect_unix(path);
    assert_true(fd >= 0);
    turn(w);
    assert_int_equal(w->accepted, 1);
    private_socket_free(&socket);
    assert_null(socket);
    assert_int_equal(left_behind(w), 0);
    assert_int_equal(connect_unix(path), -1);
    close(fd);
    free(path);
    free(dir);
}

static bool may_be_another(void)
{
    return geteuid() == 0;
}

/* As this user in a process of its own: did the socket answer with anything but an end? */
static bool reaches_as(uid_t uid, const char *path, struct world *w)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
            _exit(2);
        _exit(connect_unix(path) >= 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    turn(w);
    return WEXITSTATUS(status) == 0;
}

static void another_user_gets_his_own(void **state)
{
    struct world *w = *state;
    struct local_user somebody = {SOMEBODY, SOMEBODY};
    struct private_socket *socket;
    char *dir;

    if (!may_be_another()) {
        socket = private_socket_new(w->loop, &somebody, on_accepted, w);
        assert_null(socket);
        assert_int_equal(errno, EPERM);
        return;
    }
    socket = private_socket_new(w->loop, &somebody, on_accepted, w);
    assert_non_null(socket);
    dir = directory_of(private_socket_path(socket));
    expect_mode(dir, 0700, SOMEBODY);
    expect_mode(private_socket_path(socket), 0600, SOMEBODY);
    assert_true(reaches_as(SOMEBODY, private_socket_path(socket), w));
    assert_int_equal(w->accepted, 1);
    assert_false(reaches_as(SOMEBODY + 1, private_socket_path(socket), w));
    assert_int_equal(chmod(dir, 0777), 0); /* even if its user opens the door */
    assert_int_equal(chmod(private_socket_path(socket), 0666), 0);
    reaches_as(SOMEBODY + 1, private_socket_path(socket), w);
    assert_int_equal(w->accepted, 1);
    free(dir);
    private_socket_free(&socket);
}

static void put_file(const char *dir, const char *name)
{
    char *path = xasprintf("%s/%s", dir, name);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
    free(path);
}

static void what_its_user_left_goes_too(void **state)
{
    struct world *w = *state;
    struct local_user user = me();
    struct private_socket *socket = private_socket_new(w->loop, &user, on_accepted, w);
    char *dir = directory_of(private_socket_path(socket));

    put_file(dir, "Xauthority-c");
    put_file(dir, ".hidden");
    private_socket_free(&socket);
    assert_int_equal(left_behind(w), 0);
    free(dir);
}

/* The directory belongs to its user, who may put a symbolic link in its place. */
static void a_link_in_its_place_leads_nowhere(void **state)
{
    struct world *w = *state;
    struct local_user user = me();
    struct private_socket *socket = private_socket_new(w->loop, &user, on_accepted, w);
    char *dir = directory_of(private_socket_path(socket));
    char *precious = xasprintf("%s/precious", w->tmp), *moved = xasprintf("%s/moved", w->tmp);
    char *file = xasprintf("%s/agent", precious);

    assert_int_equal(mkdir(precious, 0700), 0);
    put_file(precious, "agent");
    assert_int_equal(rename(dir, moved), 0);
    assert_int_equal(symlink(precious, dir), 0);
    private_socket_free(&socket);
    assert_int_equal(unlink(file), 0); /* it is still there */
    assert_int_equal(rmdir(precious), 0);
    assert_int_equal(unlink(dir), 0);
    assert_int_equal(rmdir(moved), 0); /* emptied */
    free(dir);
    free(precious);
    free(moved);
    free(file);
}

static void a_path_too_long_is_refused(void **state)
{
    struct world *w = *state;
    struct local_user user = me();
    char *name = xasprintf("%s/%080d", w->tmp, 0);

    assert_int_equal(mkdir(name, 0700), 0);
    setenv("TMPDIR", name, 1);
    assert_null(private_socket_new(w->loop, &user, on_accepted, w));
    assert_int_equal(errno, ENAMETOOLONG);
    assert_int_equal(rmdir(name), 0); /* nothing is left in it */
    setenv("TMPDIR", "/nowhere/at/all", 1);
    assert_null(private_socket_new(w->loop, &user, on_accepted, w));
    assert_int_equal(errno, ENOENT);
    free(name);
}

/* ---- the display */

static struct display *new_display(struct world *w)
{
    struct local_user user = me();

    return display_new(w->loop, &user, "MIT-MAGIC-COOKIE-1", BYTES("\1\2\3\377"), on_accepted, w);
}

static void a_display_is_on_loopback_only(void **state)
{
    struct world *w = *state;
    struct display *display = new_display(w), *second;
    unsigned number;
    int fd;

    assert_non_null(display);
    number = display_number(display);
    assert_true(number >= DISPLAY_FIRST && number < DISPLAY_FIRST + DISPLAY_COUNT);
    fd = connect_display(number, "127.0.0.1");
    assert_true(fd >= 0);
    turn(w);
    assert_int_equal(w->accepted, 1);
    close(fd);
    assert_int_equal(connect_display(number, "127.0.0.2"), -1); /* loopback's other addresses */
    second = new_display(w);
    assert_true(display_number(second) > number);
    display_free(&second);
    display_stop_listening(display);
    assert_int_equal(connect_display(number, "127.0.0.1"), -1);
    assert_int_equal(access(display_authority(display), R_OK), 0);
    display_free(&display);
    assert_int_equal(left_behind(w), 0);
}

/* Somebody who holds one address of a number could read what is meant for the display. */
static void a_number_that_is_half_taken_is_left_alone(void **state)
{
    struct world *w = *state;
    struct display *first = new_display(w), *display;
    unsigned number = display_number(first);
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    int on = 1, fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    display_free(&first);
    at.sin6_port = htons((uint16_t)(DISPLAY_PORT + number));
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 1) < 0) {
        if (fd >= 0)
            close(fd);
        skip(); /* no IPv6 here */
    }
    display = new_display(w);
    assert_true(display_number(display) != number);
    display_free(&display);
    close(fd);
}

static void the_authority_file_holds_the_cookie(void **state)
{
    struct world *w = *state;
    struct display *display = new_display(w);
    uint8_t got[512], expected[512];
    char number[16], host[256] = "";
    size_t number_len, host_len, len = 0;
    char *dir;
    FILE *file;

    assert_non_null(display);
    dir = directory_of(display_authority(display));
    expect_mode(dir, 0700, geteuid());
    expect_mode(display_authority(display), 0600, geteuid());
    number_len = (size_t)snprintf(number, sizeof(number), "%u", display_number(display));
    gethostname(host, sizeof(host) - 1);
    host_len = strlen(host);
    for (int i = 0; i < 2; i++) {
        memcpy(expected + len, i == 0 ? "\1\0\0" : "\377\377\0", 3);
        expected[len + 3] = (uint8_t)(i == 0 ? host_len : 0);
        len += 4;
        if (i == 0)
            memcpy(expected + len, host, host_len);
        len += i == 0 ? host_len : 0;
        expected[len++] = 0;
        expected[len++] = (uint8_t)number_len;
        memcpy(expected + len, number, number_len);
        len += number_len;
        memcpy(expected + len, "\0\22MIT-MAGIC-COOKIE-1\0\4\1\2\3\377", 26);
        len += 26;
    }
    file = fopen(display_authority(display), "rb");
    assert_non_null(file);
    assert_int_equal(fread(got, 1, sizeof(got), file), len);
    fclose(file);
    assert_memory_equal(got, expected, len);
    free(dir);
    display_free(&display);
}

static void nothing_is_left_of_what_failed(void **state)
{
    struct world *w = *state;
    struct local_user somebody = {SOMEBODY, SOMEBODY};
    struct display *display;
    unsigned number;
    int fd;

    setenv("TMPDIR", "/nowhere/at/all", 1);
    assert_null(new_display(w));
    setenv("TMPDIR", w->tmp, 1);
    display = new_display(w);
    number = display_number(display);
    display_free(&display);
    if (!may_be_another())
        assert_null(
            display_new(w->loop, &somebody, "MIT-MAGIC-COOKIE-1", BYTES("x"), on_accepted, w));
    fd = connect_display(number, "127.0.0.1");
    if (fd >= 0)
        expect_closed(fd);
    turn(w);
    assert_int_equal(w->accepted, 0);
}

int main(void)
{
#define private_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        private_test(only_its_user_finds_it),
        private_test(another_user_gets_his_own),
        private_test(what_its_user_left_goes_too),
        private_test(a_link_in_its_place_leads_nowhere),
        private_test(a_path_too_long_is_refused),
        private_test(a_display_is_on_loopback_only),
        private_test(a_number_that_is_half_taken_is_left_alone),
        private_test(the_authority_file_holds_the_cookie),
        private_test(nothing_is_left_of_what_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
