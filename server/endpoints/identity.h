/* The system user that a program runs as. In the child only: the lookups may block. */
#ifndef PARLEY_ENDPOINTS_IDENTITY_H
#define PARLEY_ENDPOINTS_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct identity {
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* supplementary */
    int group_count;
    char *home;   /* NULL: the user is in no database */
    bool changes; /* it is not what we are already */
};

/* user "": our own. groups: NULL-terminated; none: the user's own, else exactly these, the first as
 * the primary one. NULL, or why not (owned by the caller). */
char *identity_find(const char *user, char *const *groups, struct identity *out);
/* For good: the way back is tried and must be closed. */
char *identity_assume(const struct identity *identity);
void identity_clear(struct identity *identity);

#endif
