/*
 * Connecting out, for ForwardEndpoint: a name is resolved once, off the loop; its addresses are
 * tried side by side (RFC 8305); what the configuration denies is never connected to, whatever a
 * name resolves to.
 */
#ifndef PARLEY_ENDPOINTS_DIAL_H
#define PARLEY_ENDPOINTS_DIAL_H

#include "base/helpers.h"
#include "base/loop.h"
#include "base/network.h"

#include <stddef.h>

struct dial_settings {
    struct helpers *helpers; /* for name resolution */
    const struct network *denied;
    size_t denied_count;
    uint32_t timeout_ms; /* from dial_new() to the connection; 0: 30,000 */
};

struct dial_target {
    const char *path; /* of a Unix socket; NULL: host and port */
    const char *host; /* a name, or an address in its one common form */
    uint16_t port;
    const char *source_address; /* NULL or "": the kernel's choice */
    uint32_t timeout_ms;        /* 0: as the settings say */
};

/* Once unless cancelled, never from inside dial_new(). The handle ends with it. fd: connected and
 * non-blocking, the callee's; -1: `why` says what went wrong, in words for the client. */
typedef void dial_fn(void *owner, int fd, const char *why);

struct dial;

/* Copies the target, borrows the rest. Never NULL. */
struct dial *dial_new(struct loop *loop, const struct dial_settings *settings,
                      const struct dial_target *target, dial_fn *done, void *owner);
/* Silent; nulls the handle; NULL inside is fine. */
void dial_cancel(struct dial **dial);

/* "127.1", "0x7f000001", "2130706433": the resolver would take them for addresses, where the policy
 * may have seen a name. What is decided and what is done must be the same: they are not dialled. */
bool dial_is_odd_address(const char *host);

#endif
