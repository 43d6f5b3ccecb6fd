/* The lines of a known_hosts text: whom each is about, and what it says. Pure. */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_KNOWN_HOSTS_LINES_H
#define PARLEY_ENDPOINTS_UPSTREAM_KNOWN_HOSTS_LINES_H

#include "base/bytes.h"

#define KNOWN_HOSTS_PORT 22 /* the one that a name stands for without saying so */

enum marker { MARKER_NONE, MARKER_AUTHORITY, MARKER_REVOKED };

/* One that is about the host asked for. */
struct known_line {
    enum marker marker;
    struct buf blob; /* a key, perhaps of a type that we do not know */
};

typedef void known_line_fn(void *arg, const struct known_line *line);

/* Calls back for each line about the host of that name. False: all keys are to be taken for
 * revoked. */
bool known_lines_each(struct bytes text, struct bytes name, known_line_fn *each, void *arg);
/* As OpenSSH looks it up: in lower case, an IPv6 address in its canonical form. Owned; NULL: no
 * host has such a name. */
char *known_lines_name(const char *host, uint16_t port);

#endif
