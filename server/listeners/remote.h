/*
 * Sockets that listen for one client of ours (ssh -R; RFC 4254 section 7.1, OpenSSH PROTOCOL
 * section 2.4): they go with its connection.
 */
#ifndef PARLEY_LISTENERS_REMOTE_H
#define PARLEY_LISTENERS_REMOTE_H

#include "listeners/listener.h"

struct remote_listener;

/* host: "" or "localhost" (loopback, v4 and v6), "*" (every address), or an address. Port 0: the
 * same free one for all of them. NULL: *why is static text or of strerror(). */
struct remote_listener *remote_listener_tcp(struct loop *loop, const char *host, uint16_t port,
                                            listener_accept_fn *accepted, void *owner,
                                            const char **why);
/* A Unix socket of that file mode. One that is there already is replaced if nobody answers on it;
 * anything else that is there stays, and is in the way. */
struct remote_listener *remote_listener_path(struct loop *loop, const char *path, unsigned mode,
                                             listener_accept_fn *accepted, void *owner,
                                             const char **why);
uint16_t remote_listener_port(const struct remote_listener *remote);
/* Removes its path if it is still its own. Not from inside accepted(). */
void remote_listener_free(struct remote_listener **remote);

#endif
