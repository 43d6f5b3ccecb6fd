/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The costly step of a key exchange, about a millisecond of computing, is taken by one connection
 * in each turn of the loop; the others stand in line, in the order in which their messages came. So
 * who is logged in waits for one handshake at most, however many clients want keys at once.
 */
#include "transport/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

static void take_turn(struct transport_server *server);

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    take_turn(arg);
}

/* The next turn of the loop. A zero timer lets I/O that is ready go first. */
static void end_of_turn(struct transport_server *server)
{
    static const struct timeval now = {0, 0};

    if (server->handshake_turn == NULL)
        server->handshake_turn = event_new(loop_events(server->loop), -1, 0, on_turn, server);
    if (server->handshake_turn == NULL || event_add(server->handshake_turn, &now) < 0)
        abort(); /* out of memory */
    server->handshake_spent = true;
}

/* Nobody reads while in line, so nobody has noticed. Computing for those who ask and run is what a
 * flood wants. */
static bool has_left(struct transport *t)
{
    char byte;
    ssize_t got = recv(t->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
        return false;
    connection_end(t, TRANSPORT_END_EOF, 0, "the peer closed the connection");
    return true;
}

static void take_turn(struct transport_server *server)
{
    struct transport *t;

    server->handshake_spent = false;
    while ((t = TAILQ_FIRST(&server->handshakes)) != NULL) {
        handshakes_leave(t);
        if (!connection_is_open(t) || has_left(t))
            continue;
        end_of_turn(server);
        input_go_on(t);
        return;
    }
}

bool handshakes_may_begin(struct transport *t)
{
    struct transport_server *server = t->server;

    if (!server->handshake_spent) {
        end_of_turn(server);
        return true;
    }
    t->in_line = true;
    TAILQ_INSERT_TAIL(&server->handshakes, t, line);
    return false;
}

void handshakes_leave(struct transport *t)
{
    if (t->in_line)
        TAILQ_REMOVE(&t->server->handshakes, t, line);
    t->in_line = false;
}
