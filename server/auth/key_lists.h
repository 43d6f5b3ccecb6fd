/*
 * The keys that BeginAuth hands over: authorized_keys and revoked_keys. They are read when the
 * first key is offered: most users who have a list log in once, and many by a password.
 */
#ifndef PARLEY_AUTH_KEY_LISTS_H
#define PARLEY_AUTH_KEY_LISTS_H

#include "auth/grant.h"
#include "transport/transport.h"

/* Zero-initialised: no lists. */
struct key_lists {
    struct buf authorized_text, revoked_text; /* until they are read */
    struct authorized_keys *authorized;
    struct revoked *revoked;
};

void key_lists_set(struct key_lists *lists, const Policy__BeginAuthAnswer *answer);
bool key_lists_authorize(const struct key_lists *lists); /* are there authorized_keys? */
void key_lists_clear(struct key_lists *lists);

/* One key that is offered, or one certificate. */
struct key_offered {
    const struct public_key *key;
    const struct certificate *certificate; /* or NULL */
    const char *user, *peer_ip;
    uint64_t now_s; /* since 1970 */
};

/* `log_id` starts the log lines about what cannot be read. */
bool key_lists_revoke(struct key_lists *lists, const struct key_offered *offered,
                      const char *log_id);

enum key_standing {
    KEY_UNLISTED, /* nothing is known of it */
    KEY_REFUSED,  /* its authority is listed, but does not stand for this certificate: *why */
    KEY_LISTED,   /* what the line and the certificate restrict is added to `credential` */
};

struct key_verdict {
    enum key_standing standing;
    const char *why; /* static text */
    size_t line;     /* that lists it */
};

struct key_verdict key_lists_find(struct key_lists *lists, const struct key_offered *offered,
                                  struct grant *credential, const char *log_id);

#endif
