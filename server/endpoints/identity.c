#include "endpoints/identity.h"

#include "base/alloc.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GROUPS_MAX 65536 /* the kernel's NGROUPS_MAX */

static char *find_user(const char *user, struct identity *out)
{
    const struct passwd *entry;

    errno = 0;
    entry = user[0] != '\0' ? getpwnam(user) : getpwuid(geteuid());
    if (entry == NULL && user[0] == '\0') { /* a container's user may be a mere number */
        out->uid = geteuid();
        out->gid = getegid();
        return NULL;
    }
    if (entry == NULL)
        return errno != 0
                   ? xasprintf("the user \"%s\" cannot be looked up: %s", user, strerror(errno))
                   : xasprintf("there is no user \"%s\"", user);
    out->uid = entry->pw_uid;
    out->gid = entry->pw_gid;
    out->home = xstrdup(entry->pw_dir);
    return NULL;
}

static char *find_groups(char *const *names, struct identity *out)
{
    size_t count = 0;

    while (names[count] != NULL)
        count++;
    if (count > GROUPS_MAX)
        return xstrdup("there are too many groups");
    out->groups = xcalloc(count, sizeof(*out->groups));
    for (size_t i = 0; i < count; i++) {
        const struct group *entry = getgrnam(names[i]);

        if (entry == NULL)
            return xasprintf("there is no group \"%s\"", names[i]);
        out->groups[i] = entry->gr_gid;
    }
    out->group_count = (int)count;
    out->gid = out->groups[0];
    return NULL;
}

static char *find_own_groups(const char *user, struct identity *out)
{
    int count = 64;

    out->groups = xcalloc((size_t)count, sizeof(*out->groups));
    while (getgrouplist(user, out->gid, out->groups, &count) < 0) {
        if (count > GROUPS_MAX)
            return xasprintf("the user \"%s\" is in too many groups", user);
        out->groups = xrealloc(out->groups, (size_t)count * sizeof(*out->groups));
    }
    out->group_count = count;
    return NULL;
}

char *identity_find(const char *user, char *const *groups, struct identity *out)
{
    char *why = find_user(user, out);

    if (why != NULL)
        return why;
    if (groups[0] != NULL) {
        out->changes = true;
        return find_groups(groups, out);
    }
    /* Who is that user already, and is not root, cannot set its groups and need not. */
    out->changes = geteuid() == 0 || out->uid != geteuid();
    return out->changes ? find_own_groups(user, out) : NULL;
}

char *identity_assume(const struct identity *identity)
{
    if (identity->changes && (setgroups((size_t)identity->group_count, identity->groups) != 0 ||
                              setresgid(identity->gid, identity->gid, identity->gid) != 0 ||
                              setresuid(identity->uid, identity->uid, identity->uid) != 0))
        return xasprintf("this server may not run programs as that user and with those groups: %s",
                         strerror(errno));
    if (identity->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0))
        return xstrdup("root's rights could not be given up");
    return NULL;
}

void identity_clear(struct identity *identity)
{
    free(identity->groups);
    free(identity->home);
    *identity = (struct identity){0};
}
