/* A connected stream socket: X11, agents, forwarded connections. Each side may end before the
 * other. */
#include "endpoints/fdio.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct socket_endpoint {
    struct endpoint base;
    struct loop *loop;
    const struct endpoint_events *events;
    void *owner;
    int fd; /* -1: stopped */
    struct fdio_reader reader;
    struct fdio_writer writer;
    bool no_more_in;  /* the socket's EOF was read */
    bool no_more_out; /* the client's EOF was passed on, or nobody takes more */
};

static struct socket_endpoint *self(struct endpoint *endpoint)
{
    return (struct socket_endpoint *)endpoint;
}

static void end_if_over(struct socket_endpoint *socket)
{
    if (socket->no_more_in && socket->no_more_out)
        socket->events->ended(socket->owner, true, "");
}

/* ---- from the socket */

static void on_read_ended(void *owner, struct fdio_reader *reader, int error)
{
    struct socket_endpoint *socket = owner;

    fdio_reader_clear(reader);
    if (error != 0) {
        socket->events->ended(socket->owner, false, strerror(error));
        return;
    }
    socket->no_more_in = true;
    socket->events->eof(socket->owner);
    end_if_over(socket);
}

static void socket_resume(struct endpoint *endpoint)
{
    fdio_reader_resume(&self(endpoint)->reader);
}

/* ---- to the socket */

static size_t socket_write(struct endpoint *endpoint, struct bytes data, uint32_t extended_type)
{
    (void)extended_type; /* clients have none (RFC 4254 section 5.2) */
    return fdio_writer_write(&self(endpoint)->writer, data);
}

/* Who reads no more may still have said something that is to be read. */
static void on_write_failed(void *owner, struct fdio_writer *writer, int error)
{
    struct socket_endpoint *socket = owner;

    (void)writer;
    (void)error;
    socket->no_more_out = true;
    end_if_over(socket);
}

static void on_eof_passed(void *arg)
{
    struct socket_endpoint *socket = arg;

    if (socket->fd >= 0)
        end_if_over(socket);
}

static void socket_eof(struct endpoint *endpoint)
{
    struct socket_endpoint *socket = self(endpoint);

    shutdown(socket->fd, SHUT_WR);
    if (socket->no_more_out)
        return; /* told already */
    socket->no_more_out = true;
    loop_defer(socket->loop, on_eof_passed, socket);
}

/* ---- life */

/* What was cut off must not look like all there was: a TCP peer is told by a reset. */
static void set_abort(int fd)
{
    static const struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

static void socket_stop(struct endpoint *endpoint, const char *error)
{
    struct socket_endpoint *socket = self(endpoint);

    fdio_reader_clear(&socket->reader);
    fdio_writer_clear(&socket->writer);
    if (error != NULL && !socket->no_more_out)
        set_abort(socket->fd);
    close(socket->fd);
    socket->fd = -1;
    loop_defer(socket->loop, free, socket);
}

static const struct endpoint_ops socket_ops = {
    .name = "socket",
    .write = socket_write,
    .eof = socket_eof,
    .resume = socket_resume,
    .stop = socket_stop,
};

static const struct fdio_events fdio_events = {
    .read_ended = on_read_ended,
    .write_failed = on_write_failed,
};

struct endpoint *endpoint_socket_new(struct loop *loop, const struct endpoint_events *events,
                                     void *owner, int fd)
{
    struct socket_endpoint *socket = xcalloc(1, sizeof(*socket));
    struct fdio_side side = {
        .loop = loop,
        .channel_events = events,
        .channel = owner,
        .events = &fdio_events,
        .owner = socket,
    };

    socket->base.ops = &socket_ops;
    socket->loop = loop;
    socket->events = events;
    socket->owner = owner;
    socket->fd = fd;
    fdio_reader_init(&socket->reader, &side, fd, 0);
    fdio_writer_init(&socket->writer, &side, fd);
    return &socket->base;
}
