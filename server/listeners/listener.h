/*
 * Listeners: every accepting socket. A port is bound once for all workers (SO_REUSEPORT: the kernel
 * spreads connections), then each worker accepts from its own socket on its own loop.
 */
#ifndef PARLEY_LISTENERS_LISTENER_H
#define PARLEY_LISTENERS_LISTENER_H

#include "base/address.h"
#include "base/loop.h"

#include <stddef.h>

/* One bound and listening address. */
struct listener_port {
    struct address address; /* with the real port if 0 was asked for */
    int *fds;               /* one for each worker; -1 where listener_new() has taken it */
    size_t count;
};

struct listener_ports {
    struct listener_port *ports;
    size_t count;
};

/* Binds HOST:PORT, [V6]:PORT or *:PORT (v4 and v6) for so many workers and appends to `ports`.
 * False with *error set (owned by the caller, without the address) if it cannot; a port that anyone
 * listens on already counts as busy, even if that one would share it. May resolve names and block:
 * start-up only. */
bool listener_bind(struct listener_ports *ports, const char *text, size_t workers, char **error);
/* Closes what no listener has taken. */
void listener_ports_clear(struct listener_ports *ports);

/* A connection, non-blocking and close-on-exec; the callee owns the descriptor. On the loop; not
 * the place to free the listener. */
typedef void listener_accept_fn(void *owner, int fd, const struct address *peer,
                                const struct address *local);

struct listener;

/* Takes the descriptor, which listens; accepts from the loop's next turn on. May be called before
 * the loop runs, from the thread that will start it. Never NULL. */
struct listener *listener_new(struct loop *loop, int fd, listener_accept_fn *accepted, void *owner);
void listener_free(struct listener **listener);

#endif
