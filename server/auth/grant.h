/*
 * What the answers of a login granted: every restriction and lifetime that came with an allow,
 * gathered. Lists must all match, every "no" counts, two different forced commands refuse
 * (common.proto, Restrictions).
 *
 * What came before the first user name (ConnectionMade) stays when the name changes; the rest is
 * dropped.
 */
#ifndef PARLEY_AUTH_GRANT_H
#define PARLEY_AUTH_GRANT_H

#include "control/control.h"

struct grant {
    Policy__Restrictions **list; /* owned copies */
    size_t count, of_connection; /* all; those from before the first user name */
    uint64_t expires_at_ms;      /* clock_ms(); 0: never */
    uint64_t connection_expires_at_ms;
    bool unverified_key; /* a key was accepted that did not verify its user (PIN, finger) */
};

void grant_clear(struct grant *grant);
void grant_begin_user(
    struct grant *grant); /* what has been gathered so far belongs to the connection */
void grant_drop_user(struct grant *grant); /* the user name changed */
/* Takes back all that was added since `mark` was made by copying the struct. */
void grant_rollback(struct grant *grant, const struct grant *mark);
void grant_add(struct grant *grant, const Policy__Restrictions *restrictions); /* NULL is fine */
/* For the whole connection, whatever becomes of the user name. */
void grant_tighten(struct grant *grant, const Policy__Restrictions *restrictions);
void grant_add_allow(struct grant *grant,
                     const Policy__Allow *allow); /* restrictions and lifetime */

/* Copies what the other holds: a credential's own restrictions, once it is accepted. */
void grant_add_all(struct grant *grant, const struct grant *from);

/* Can all of it be kept, for a client at this address? NULL if so, else why not: static text. */
const char *grant_refusal(const struct grant *grant, const char *peer_ip);

bool grant_no_pty(const struct grant *grant);
bool grant_no_x11(const struct grant *grant);
bool grant_no_agent(const struct grant *grant);
bool grant_no_forwarding(const struct grant *grant); /* of ports and Unix sockets, either way */
bool grant_verify_required(const struct grant *grant);
bool grant_touch_not_required(const struct grant *grant); /* all of it says so */
/* The forced command; false if none is. */
bool grant_forced_command(const struct grant *grant, struct bytes *command);
/* Calls fn for every variable that the grant sets, in order. */
void grant_environment(const struct grant *grant,
                       void (*fn)(void *arg, struct bytes name, struct bytes value), void *arg);
/* The sum of it as one message, for AuthCompletedRequest; lists as the last answer set them.
 * Borrows from the grant; free *environment after use. */
void grant_summary(const struct grant *grant, Policy__Restrictions *out,
                   Policy__EnvVar ***environment);

/* Does the address match the list (addresses or CIDR, '!' negates and wins)? An entry that cannot
 * be parsed matches nothing and, negated, refuses. */
bool grant_source_matches(const Policy__Patterns *patterns, const char *ip);
#endif
