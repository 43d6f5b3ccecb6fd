/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Where libssh's output goes. The session has no descriptor: what it would write to its socket is
 * appended to the connection's buffer instead. The library hands us only its private socket, so the
 * buffer is found through a thread-local that is set around every call into libssh.
 */
#ifndef PARLEY_TRANSPORT_OUTPUT_H
#define PARLEY_TRANSPORT_OUTPUT_H

struct evbuffer;

struct libssh_output {
    const void *socket; /* session->socket */
    struct evbuffer *buffer;
};

/* Returns what was set before, to be restored after the call. */
struct libssh_output libssh_output_to(struct libssh_output next);

#endif
