#include "listeners/listener.h"

#include "base/alloc.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG      512
#define PORT_0_TRIES 16

static bool set_option(int fd, int level, int option)
{
    const int on = 1;

    return setsockopt(fd, level, option, &on, sizeof(on)) == 0;
}

/* -1: errno says why. TCP_NODELAY is inherited by what is accepted: one system call a connection
 * less. */
static int open_socket(const struct socket_address *at, bool shared)
{
    int family = at->addr.ss_family;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int saved;

    if (fd < 0)
        return -1;
    if (set_option(fd, SOL_SOCKET, SO_REUSEADDR) && set_option(fd, IPPROTO_TCP, TCP_NODELAY) &&
        (!shared || set_option(fd, SOL_SOCKET, SO_REUSEPORT)) &&
        (family != AF_INET6 || set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY)) &&
        bind(fd, (const struct sockaddr *)&at->addr, at->len) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static void port_clear(struct listener_port *port)
{
    for (size_t i = 0; i < port->count; i++)
        if (port->fds[i] >= 0)
            close(port->fds[i]);
    free(port->fds);
    *port = (struct listener_port){0};
}

/* A socket of our own that does not share finds anyone who listens there, also one who would share
 * with us: with SO_REUSEPORT alone a second daemon would silently take half of the connections. It
 * also picks the port if that is 0. */
static bool probe(struct socket_address *at, int *fd)
{
    *fd = open_socket(at, false);
    return *fd >= 0 && getsockname(*fd, (struct sockaddr *)&at->addr, &at->len) == 0;
}

static bool open_port(struct listener_port *port, struct socket_address *at, size_t workers)
{
    int saved;

    *port = (struct listener_port){.fds = xcalloc(workers, sizeof(int)), .count = 1};
    if (!probe(at, &port->fds[0]))
        goto fail;
    port->address = address_of((const struct sockaddr *)&at->addr);
    if (workers == 1)
        return true;
    close(port->fds[0]);
    for (port->count = 0; port->count < workers; port->count++) {
        port->fds[port->count] = open_socket(at, true);
        if (port->fds[port->count] < 0)
            goto fail;
    }
    return true;
fail:
    saved = errno;
    port_clear(port);
    errno = saved;
    return false;
}

static void set_port(struct socket_address *at, uint16_t port)
{
    if (at->addr.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&at->addr)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)&at->addr)->sin_port = htons(port);
}

/* Opens all addresses on one port. A family that this machine lacks is left out, as long as one is
 * there. */
static bool open_all(struct listener_ports *out, const struct socket_address *all, size_t count,
                     size_t workers)
{
    uint16_t chosen = 0;
    int missing = 0;

    out->ports = xcalloc(count, sizeof(*out->ports));
    out->count = 0;
    for (size_t i = 0; i < count; i++) {
        struct socket_address at = all[i];

        if (chosen != 0)
            set_port(&at, chosen);
        if (open_port(&out->ports[out->count], &at, workers)) {
            chosen = out->ports[out->count++].address.port;
            continue;
        }
        if (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL) {
            missing = errno;
            listener_ports_clear(out);
            errno = missing;
            return false;
        }
        missing = errno;
    }
    if (out->count == 0) {
        listener_ports_clear(out);
        errno = missing;
        return false;
    }
    return true;
}

static bool asks_for_port_0(const struct socket_address *at)
{
    return address_of((const struct sockaddr *)&at->addr).port == 0;
}

bool listener_bind(struct listener_ports *ports, const char *text, size_t workers, char **error)
{
    struct socket_address all[ADDRESS_ALL_MAX];
    struct listener_ports opened = {0};
    const char *why;
    size_t count = address_parse_all(text, all, &why);
    int tries = count > 1 && asks_for_port_0(&all[0]) ? PORT_0_TRIES : 1;

    if (count == 0) {
        *error = xstrdup(why);
        return false;
    }
    /* The port that the kernel picked for one family may be taken in the other: pick again. */
    while (!open_all(&opened, all, count, workers))
        if (--tries == 0 || errno != EADDRINUSE) {
            *error = xstrdup(strerror(errno));
            return false;
        }
    ports->ports = xrealloc(ports->ports, (ports->count + opened.count) * sizeof(*ports->ports));
    memcpy(ports->ports + ports->count, opened.ports, opened.count * sizeof(*opened.ports));
    ports->count += opened.count;
    free(opened.ports);
    return true;
}

void listener_ports_clear(struct listener_ports *ports)
{
    for (size_t i = 0; i < ports->count; i++)
        port_clear(&ports->ports[i]);
    free(ports->ports);
    *ports = (struct listener_ports){0};
}
