#include "endpoints/process_child.h"

#include "base/alloc.h"
#include "base/child.h"
#include "endpoints/identity.h"
#include "endpoints/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATUS_FD     (STDERR_FILENO + 1)
#define UMASK         022
#define TERMINAL_MODE 0620 /* as mesg(1) leaves it: the group tty may write */
#define FILES_SOFT    1024 /* what select(2) can hold; programs raise it to the hard limit */

/* ---- what was inherited */

/* One of ours, not a path of numbers that anybody gave: -1. */
static int descriptor_of(const char *text)
{
    char *end;
    long fd = strtol(text, &end, 10);

    return *text != '\0' && *end == '\0' && fd > STDERR_FILENO && fd < INT_MAX ? (int)fd : -1;
}

static bool read_plan(int fd, struct plan *plan)
{
    struct stat facts;
    struct buf encoded = {0};
    bool ok = fstat(fd, &facts) == 0 && facts.st_size > 0 && facts.st_size <= PLAN_MAX_BYTES;
    ssize_t got;

    if (ok) {
        encoded.cap = (size_t)facts.st_size;
        encoded.data = xmalloc(encoded.cap);
        while (encoded.len < encoded.cap &&
               (got = pread(fd, encoded.data + encoded.len, encoded.cap - encoded.len,
                            (off_t)encoded.len)) > 0)
            encoded.len += (size_t)got;
        ok = plan_decode(plan, buf_bytes(&encoded));
    }
    buf_clear_secret(&encoded);
    return ok;
}

/* All others go: what is left is closed by exec. */
static void keep_status(int fd)
{
    if (fd != STATUS_FD)
        dup2(fd, STATUS_FD);
    fcntl(STATUS_FD, F_SETFD, FD_CLOEXEC);
    child_close_from(STATUS_FD + 1);
}

/* ---- what the program is given */

static char *failed(const char *what)
{
    return xasprintf("%s: %s", what, strerror(errno));
}

/* It is theirs now: mesg(1) and /dev/stdin work. */
static char *give_descriptors(const struct plan *plan, const struct identity *identity)
{
    const struct group *tty = plan->has_terminal ? getgrnam("tty") : NULL;

    if (plan->has_terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) != 0)
        return failed("the terminal cannot be made the controlling one");
    if (!identity->changes || geteuid() != 0) /* then it is not ours to give, or theirs already */
        return NULL;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fchown(fd, identity->uid, tty ? tty->gr_gid : identity->gid) != 0)
            return failed("its input and output cannot be made the user's");
    if (plan->has_terminal && fchmod(STDIN_FILENO, TERMINAL_MODE) != 0)
        return failed("the terminal cannot be made the user's");
    return NULL;
}

/* A maximum: where there is a lower one already, that one holds. */
static bool limit(__rlimit_resource_t what, uint64_t most)
{
    struct rlimit now;

    if (getrlimit(what, &now) != 0)
        return false;
    if (most < now.rlim_max)
        now.rlim_max = most;
    now.rlim_cur = now.rlim_max;
    return setrlimit(what, &now) == 0;
}

/* The daemon has taken all the descriptors that it may have; that is not for its programs. */
static char *limit_resources(const struct plan *plan)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > FILES_SOFT) {
        files.rlim_cur = FILES_SOFT;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (plan->max_processes != 0 && !limit(RLIMIT_NPROC, plan->max_processes))
        return failed("its processes cannot be limited");
    return NULL;
}

static char *enter_directory(const struct plan *plan, const struct identity *identity)
{
    const char *directory = plan->directory[0] != '\0' ? plan->directory : identity->home;

    if (directory == NULL)
        return xstrdup("the user has no home directory, and no other one was named");
    if (chdir(directory) != 0)
        return xasprintf("directory %s: %s", directory, strerror(errno));
    return NULL;
}

/* Silent ends: the daemon has gone, and nobody would ever end this program. */
static bool die_with_parent(const struct plan *plan)
{
    prctl(PR_SET_PDEATHSIG, SIGHUP);
    return (uint32_t)getppid() == plan->parent;
}

/* ---- the program */

static int tell(const char *why, int status)
{
    ssize_t written = write(STATUS_FD, why, strlen(why)); /* short enough for any pipe */

    (void)written;
    return status;
}

/* Not execvpe(): that one asks a shell about what is no program. */
static void exec_in_path(const struct plan *plan)
{
    const char *path = getenv("PATH");
    int problem = ENOENT, error;
    char file[PATH_MAX];

    for (const char *at = path ? path : "/usr/bin:/bin"; at != NULL;) {
        const char *colon = strchr(at, ':');
        int len = colon ? (int)(colon - at) : (int)strlen(at);

        /* A relative one would now mean the user's directory. */
        if (*at == '/' &&
            snprintf(file, sizeof(file), "%.*s/%s", len, at, plan->argv[0]) < PATH_MAX) {
            execve(file, plan->argv, plan->environment);
            error = errno;
            /* A directory that the user may not enter holds nothing for them. */
            if (problem == ENOENT && access(file, F_OK) == 0)
                problem = error;
        }
        at = colon ? colon + 1 : NULL;
    }
    errno = problem;
}

/* No memory is asked for once it is limited. */
static int become(const struct plan *plan)
{
    char why[PATH_MAX];
    int problem;

    if (plan->max_memory_bytes != 0 && !limit(RLIMIT_AS, plan->max_memory_bytes))
        return tell("its memory cannot be limited", CHILD_EXIT_NOT_RUN);
    errno = ENOENT;
    if (strchr(plan->argv[0], '/') != NULL)
        execve(plan->argv[0], plan->argv, plan->environment);
    else if (plan->argv[0][0] != '\0')
        exec_in_path(plan);
    problem = errno;
    snprintf(why, sizeof(why), "%.1000s: %s", plan->argv[0], strerror(problem));
    return tell(why, problem == ENOENT ? CHILD_EXIT_NO_PROGRAM : CHILD_EXIT_NOT_RUN);
}

static char *prepare(const struct plan *plan)
{
    struct identity identity = {0};
    char *why = identity_find(plan->user, plan->groups, &identity);

    if (why == NULL && identity.uid == 0 && plan->user[0] == '\0')
        why = xstrdup("no program runs as root unless its user is named");
    if (why == NULL)
        why = give_descriptors(plan, &identity);
    if (why == NULL)
        why = identity_assume(&identity);
    if (why == NULL && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        why = failed("no_new_privs cannot be set");
    if (why == NULL)
        why = enter_directory(plan, &identity);
    if (why == NULL)
        why = limit_resources(plan);
    identity_clear(&identity);
    return why;
}

/* Returns only if it failed. */
static int run(const struct plan *plan)
{
    char *why = prepare(plan);
    int status = CHILD_EXIT_NOT_RUN;

    if (why != NULL) {
        tell(why, status);
    } else if (die_with_parent(plan)) {
        child_close_from(STATUS_FD + 1); /* what the lookups may have opened */
        status = become(plan);
    }
    free(why);
    return status;
}

int process_child_main(const char *plan_text, const char *status_text)
{
    struct plan plan = {0};
    int plan_fd = descriptor_of(plan_text), status_fd = descriptor_of(status_text);
    int status = CHILD_EXIT_NOT_RUN;

    if (plan_fd >= 0 && status_fd >= 0 && read_plan(plan_fd, &plan)) {
        keep_status(status_fd);
        child_reset_signals();
        umask(UMASK);
        status = run(&plan);
    }
    plan_clear(&plan);
    return status;
}
