/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/output.h"

#include <assert.h>
#include <event2/buffer.h>
#include <stdbool.h>
#include <stdint.h>

/* The linker puts this in the place of libssh's own socket writer (--wrap, cmake/libssh.cmake). */
int __wrap_ssh_socket_write(void *socket, const void *data, uint32_t len);

static _Thread_local struct libssh_output current;

struct libssh_output libssh_output_to(struct libssh_output next)
{
    struct libssh_output before = current;

    current = next;
    return before;
}

int __wrap_ssh_socket_write(void *socket, const void *data, uint32_t len)
{
    /* libssh writes only inside a call of ours, and only for the session that the call is about.
     * Were it otherwise, one connection's packets would go to another: an error is better. */
    bool expected = current.buffer != NULL && current.socket == socket;

    assert(expected);
    return expected && evbuffer_add(current.buffer, data, len) == 0 ? 0 : -1;
}
