/* OpenSSH's known_hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), from an answer. Pure. */
#ifndef PARLEY_ENDPOINTS_UPSTREAM_KNOWN_HOSTS_H
#define PARLEY_ENDPOINTS_UPSTREAM_KNOWN_HOSTS_H

#include "base/bytes.h"

enum known_host {
    KNOWN_HOST_TRUSTED,
    KNOWN_HOST_UNKNOWN,     /* no line is about this host, or none has a key of this type */
    KNOWN_HOST_CHANGED,     /* another key of this type is the known one */
    KNOWN_HOST_REVOKED,     /* @revoked: the key, or the authority that signed it */
    KNOWN_HOST_CERTIFICATE, /* signed by a known authority, but not good: *why */
};

/* Is `blob` (a key, or a host certificate) the host's? A certificate counts only by a
 * @cert-authority line, a key only by a plain one. A line that cannot be read trusts nobody; one
 * that begins with @revoked and cannot be read makes every key KNOWN_HOST_REVOKED. *why: static
 * text for the log and the user, always set unless trusted. Port 22 is matched by the bare name,
 * others by "[name]:port" and by that alone; the name in lower case, an IPv6 address in its
 * canonical form. One of a certificate's principals must be the name itself. */
enum known_host known_hosts_check(struct bytes text, const char *host, uint16_t port,
                                  struct bytes blob, uint64_t seconds_since_1970, const char **why);

/* What to ask the server to prove, as transport_connect() takes it: the algorithms of the keys and
 * authorities that lines about this host have, in our order of preference. Owned; NULL: none. */
char *known_hosts_algorithms(struct bytes text, const char *host, uint16_t port);

#endif
