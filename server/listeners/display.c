#include "listeners/private.h"

#include "base/alloc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AUTHORITY_NAME "Xauthority"
#define BACKLOG        16
#define FAMILIES       2 /* IPv4, IPv6 */

struct display {
    struct private_dir dir;
    char *authority;
    unsigned number;
    struct listener *listeners[FAMILIES]; /* NULL: this machine lacks the family */
};

/* ---- the ports */

static socklen_t loopback_address(int family, uint16_t port, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

    *out = (struct sockaddr_storage){0};
    if (family == AF_INET) {
        v4->sin_family = AF_INET;
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        v4->sin_port = htons(port);
        return sizeof(*v4);
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_addr = in6addr_loopback;
    v6->sin6_port = htons(port);
    return sizeof(*v6);
}

/* -1: errno. */
static int listen_on_loopback(int family, uint16_t port)
{
    struct sockaddr_storage at;
    socklen_t len = loopback_address(family, port, &at);
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1, saved;

    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        (family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0) &&
        bind(fd, (struct sockaddr *)&at, len) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/* Both families or none, so that nobody else stands where clients of this display look; one that
 * this machine lacks is left out. False: errno, EADDRINUSE if another number may do. */
static bool listen_as(unsigned number, int fds[FAMILIES])
{
    static const int families[FAMILIES] = {AF_INET, AF_INET6};
    int count = 0, saved;

    for (int i = 0; i < FAMILIES; i++) {
        fds[i] = listen_on_loopback(families[i], (uint16_t)(DISPLAY_PORT + number));
        if (fds[i] >= 0)
            count++;
        else if (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL)
            goto fail;
    }
    if (count > 0)
        return true;
fail:
    saved = errno;
    for (int i = 0; i < FAMILIES; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    errno = saved;
    return false;
}

static bool find_number(unsigned *number, int fds[FAMILIES])
{
    for (*number = DISPLAY_FIRST; *number < DISPLAY_FIRST + DISPLAY_COUNT; ++*number) {
        fds[0] = fds[1] = -1;
        if (listen_as(*number, fds))
            return true;
        if (errno != EADDRINUSE)
            return false;
    }
    return false;
}

/* ---- the authority file (Xau(3), Xsecurity(7)) */

static void put_counted(struct buf *out, struct bytes b)
{
    buf_put_u8(out, (uint8_t)(b.len >> 8));
    buf_put_u8(out, (uint8_t)b.len);
    buf_put(out, b);
}

static void put_record(struct buf *out, uint16_t family, struct bytes address, const char *number,
                       const char *protocol, struct bytes cookie)
{
    buf_put_u8(out, (uint8_t)(family >> 8));
    buf_put_u8(out, (uint8_t)family);
    put_counted(out, address);
    put_counted(out, bytes_of_string(number));
    put_counted(out, bytes_of_string(protocol));
    put_counted(out, cookie);
}

/* Clients look for this host's name (FamilyLocal), since "localhost" is this host; FamilyWild
 * serves those whose idea of that name differs. */
static bool write_authority(const struct display *display, const char *protocol,
                            struct bytes cookie)
{
    char host[HOST_NAME_MAX + 1] = "", number[16];
    struct buf file = {0};
    bool done;

    snprintf(number, sizeof(number), "%u", display->number);
    if (gethostname(host, HOST_NAME_MAX) == 0)
        put_record(&file, 256, bytes_of_string(host), number, protocol, cookie);
    put_record(&file, 65535, (struct bytes){0}, number, protocol, cookie);
    done = private_dir_write(&display->dir, AUTHORITY_NAME, buf_bytes(&file));
    buf_clear_secret(&file);
    return done;
}

/* ---- life */

struct display *display_new(struct loop *loop, const struct local_user *user, const char *protocol,
                            struct bytes cookie, listener_accept_fn *accepted, void *owner)
{
    struct display *display = xcalloc(1, sizeof(*display));
    int fds[FAMILIES], saved;

    display->dir.fd = -1;
    if (!find_number(&display->number, fds)) {
        free(display);
        return NULL;
    }
    for (int i = 0; i < FAMILIES; i++)
        if (fds[i] >= 0)
            display->listeners[i] = listener_new(loop, fds[i], accepted, owner);
    if (private_dir_make(&display->dir)) {
        display->authority = private_dir_file(&display->dir, AUTHORITY_NAME);
        if (write_authority(display, protocol, cookie) &&
            private_dir_give(&display->dir, AUTHORITY_NAME, user))
            return display;
    }
    saved = errno;
    display_free(&display);
    errno = saved;
    return NULL;
}

unsigned display_number(const struct display *display)
{
    return display->number;
}

const char *display_authority(const struct display *display)
{
    return display->authority;
}

void display_stop_listening(struct display *display)
{
    for (int i = 0; i < FAMILIES; i++)
        listener_free(&display->listeners[i]);
}

void display_free(struct display **where)
{
    struct display *display = *where;

    *where = NULL;
    if (display == NULL)
        return;
    display_stop_listening(display);
    private_dir_remove(&display->dir);
    free(display->authority);
    free(display);
}
