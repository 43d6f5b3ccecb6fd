#include "listeners/remote.h"

#include "base/alloc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG      128
#define SOCKETS_MAX  2
#define PORT_0_TRIES 16

struct remote_listener {
    struct listener *listeners[SOCKETS_MAX];
    size_t count;
    uint16_t port;
    char *path; /* owned; NULL: TCP */
    dev_t device;
    ino_t inode; /* of the path, when it was made */
};

uint16_t remote_listener_port(const struct remote_listener *remote)
{
    return remote->port;
}

/* ---- TCP */

struct place {
    struct socket_address at[SOCKETS_MAX];
    size_t count;
};

static void add_v4(struct place *place, in_addr_t address)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&place->at[place->count].addr;

    *v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = address};
    place->at[place->count++].len = sizeof(*v4);
}

static void add_v6(struct place *place, struct in6_addr address)
{
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&place->at[place->count].addr;

    *v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = address};
    place->at[place->count++].len = sizeof(*v6);
}

static bool find_place(const char *host, struct place *place)
{
    struct in_addr v4;
    struct in6_addr v6;

    *place = (struct place){0};
    if (host[0] == '\0' || strcmp(host, "localhost") == 0) {
        add_v4(place, htonl(INADDR_LOOPBACK));
        add_v6(place, in6addr_loopback);
    } else if (strcmp(host, "*") == 0) {
        add_v4(place, htonl(INADDR_ANY));
        add_v6(place, in6addr_any);
    } else if (inet_pton(AF_INET, host, &v4) == 1) {
        add_v4(place, v4.s_addr);
    } else if (inet_pton(AF_INET6, host, &v6) == 1) {
        add_v6(place, v6);
    }
    return place->count > 0;
}

static void set_port(struct socket_address *at, uint16_t port)
{
    if (at->addr.ss_family == AF_INET)
        ((struct sockaddr_in *)&at->addr)->sin_port = htons(port);
    else
        ((struct sockaddr_in6 *)&at->addr)->sin6_port = htons(port);
}

/* -1: errno. */
static int listen_at(struct socket_address *at)
{
    int on = 1, saved;
    int fd = socket(at->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* accepted ones inherit it */
    if (at->addr.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&at->addr, at->len) == 0 && listen(fd, BACKLOG) == 0 &&
        getsockname(fd, (struct sockaddr *)&at->addr, &at->len) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static void close_all(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* A machine without IPv6 (or IPv4) listens on what it has. */
static bool is_absent(int error)
{
    return error == EAFNOSUPPORT || error == EADDRNOTAVAIL;
}

/* All at one port, or none: errno. */
static bool listen_at_all(struct place *place, uint16_t *port, int fds[SOCKETS_MAX])
{
    size_t open = 0;
    uint16_t chosen = *port;

    for (size_t i = 0; i < place->count; i++) {
        set_port(&place->at[i], chosen);
        fds[i] = listen_at(&place->at[i]);
        if (fds[i] >= 0) {
            chosen = address_of((struct sockaddr *)&place->at[i].addr).port;
            open++;
        } else if (!is_absent(errno) || (open == 0 && i + 1 == place->count)) {
            int saved = errno;

            close_all(fds, i);
            errno = saved;
            return false;
        }
    }
    *port = chosen;
    return true;
}

static struct remote_listener *listener_of(struct loop *loop, const int *fds, size_t count,
                                           listener_accept_fn *accepted, void *owner)
{
    struct remote_listener *remote = xcalloc(1, sizeof(*remote));

    for (size_t i = 0; i < count; i++)
        if (fds[i] >= 0)
            remote->listeners[remote->count++] = listener_new(loop, fds[i], accepted, owner);
    return remote;
}

struct remote_listener *remote_listener_tcp(struct loop *loop, const char *host, uint16_t port,
                                            listener_accept_fn *accepted, void *owner,
                                            const char **why)
{
    int fds[SOCKETS_MAX], tries = port == 0 ? PORT_0_TRIES : 1;
    struct remote_listener *remote;
    struct place place;
    uint16_t chosen;

    if (!find_place(host, &place)) {
        *why = "not an address to listen on";
        return NULL;
    }
    do { /* what is free on one family may be taken on the other */
        chosen = port;
        if (listen_at_all(&place, &chosen, fds)) {
            remote = listener_of(loop, fds, place.count, accepted, owner);
            remote->port = chosen;
            return remote;
        }
    } while (errno == EADDRINUSE && --tries > 0);
    *why = strerror(errno);
    return NULL;
}

/* ---- a path */

/* True: it is a socket, and nobody listens on it. */
static bool is_stale(const struct sockaddr_un *at)
{
    struct stat info;
    int fd;
    bool stale;

    if (lstat(at->sun_path, &info) < 0 || !S_ISSOCK(info.st_mode))
        return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    stale = connect(fd, (const struct sockaddr *)at, sizeof(*at)) < 0 && errno == ECONNREFUSED;
    close(fd);
    return stale;
}

/* The mode is the socket's before it has a name; the umask, which is the process's, only narrows
 * it until chmod(). */
static bool bind_path(int fd, const struct sockaddr_un *at, unsigned mode)
{
    if (fchmod(fd, mode) < 0)
        return false;
    if (bind(fd, (const struct sockaddr *)at, sizeof(*at)) < 0) {
        if (errno != EADDRINUSE || !is_stale(at))
            return false;
        if (unlink(at->sun_path) < 0 || bind(fd, (const struct sockaddr *)at, sizeof(*at)) < 0)
            return false;
    }
    return chmod(at->sun_path, mode) == 0 && listen(fd, BACKLOG) == 0;
}

struct remote_listener *remote_listener_path(struct loop *loop, const char *path, unsigned mode,
                                             listener_accept_fn *accepted, void *owner,
                                             const char **why)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct remote_listener *remote;
    struct stat info;
    int fd;

    if (path[0] == '\0' || strlen(path) >= sizeof(at.sun_path)) {
        *why = "not the path of a socket";
        return NULL;
    }
    strcpy(at.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || !bind_path(fd, &at, mode) || lstat(path, &info) < 0) {
        *why = strerror(errno);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    remote = listener_of(loop, &fd, 1, accepted, owner);
    remote->path = xstrdup(path);
    remote->device = info.st_dev;
    remote->inode = info.st_ino;
    return remote;
}

void remote_listener_free(struct remote_listener **where)
{
    struct remote_listener *remote = *where;
    struct stat info;

    *where = NULL;
    if (remote == NULL)
        return;
    for (size_t i = 0; i < remote->count; i++)
        listener_free(&remote->listeners[i]);
    if (remote->path != NULL && lstat(remote->path, &info) == 0 && info.st_dev == remote->device &&
        info.st_ino == remote->inode)
        unlink(remote->path);
    free(remote->path);
    free(remote);
}
