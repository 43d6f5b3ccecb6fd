#include "control/policy_exec.h"

#include "base/alloc.h"
#include "base/log.h"
#include "control/exec_child.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define KNOCK_MS         20    /* between two attempts to connect */
#define START_MS         30000 /* until it must answer */
#define STOP_MS          5000  /* between TERM and KILL */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS   5000
#define SETTLED_MS       10000 /* who lived so long starts over with the first backoff */
#define SOCKET_NAME      "/policy.sock"

extern char **environ;

enum exec_state {
    EXEC_IDLE,     /* not started, or failed for good */
    EXEC_STARTING, /* runs, does not answer yet */
    EXEC_UP,       /* runs and answers */
    EXEC_WAITING,  /* ended, will be started again */
};

struct policy_exec {
    enum exec_state state;
    char *command, *directory, *path, *target;
    struct loop *loop;
    const struct policy_exec_events *events;
    void *owner;
    bool told_ready;
    pid_t pid;
    int pidfd;
    struct event *timer; /* the next knock, or the next start */
    struct event *exit;  /* the pidfd is readable: it ended */
    uint64_t started_ms;
    uint32_t backoff_ms;
};

/* ---- the directory of the socket */

/* The first place where we can make a directory that is ours alone. */
static char *make_directory(void)
{
    const char *places[] = {getenv("XDG_RUNTIME_DIR"), "/run", "/tmp"};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char *path;

        if (places[i] == NULL || places[i][0] != '/')
            continue;
        path = xasprintf("%s/parley-policy-XXXXXX", places[i]);
        if (strlen(path) + strlen(SOCKET_NAME) < sizeof(((struct sockaddr_un *)0)->sun_path) &&
            mkdtemp(path) != NULL)
            return path;
        free(path);
    }
    return NULL;
}

struct policy_exec *policy_exec_new(const char *command, char **error)
{
    struct policy_exec *exec;
    char *directory = make_directory();

    if (directory == NULL) {
        *error = xasprintf("policy program: no directory for its socket in XDG_RUNTIME_DIR, /run "
                           "or /tmp: %s",
                           strerror(errno));
        return NULL;
    }
    exec = xcalloc(1, sizeof(*exec));
    exec->command = xstrdup(command);
    exec->directory = directory;
    exec->path = xasprintf("%s" SOCKET_NAME, directory);
    exec->target = xasprintf("unix:%s", exec->path);
    exec->pidfd = -1;
    exec->backoff_ms = BACKOFF_FIRST_MS;
    return exec;
}

const char *policy_exec_target(const struct policy_exec *exec)
{
    return exec->target;
}

/* ---- the process */

/* Our environment, with the address of the socket and our pid in place of any that were there. */
static char **child_environment(const struct policy_exec *exec)
{
    static const char *const ours[] = {"PARLEY_POLICY_ADDRESS=", EXEC_PARENT_VARIABLE "="};
    size_t count = 0, kept = 0;
    char **out;

    while (environ[count] != NULL)
        count++;
    out = xcalloc(count + 3, sizeof(*out));
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], ours[0], strlen(ours[0])) != 0 &&
            strncmp(environ[i], ours[1], strlen(ours[1])) != 0)
            out[kept++] = xstrdup(environ[i]);
    out[kept++] = xasprintf("%s%s", ours[0], exec->target);
    out[kept++] = xasprintf("%s%ld", ours[1], (long)getpid());
    return out;
}

static void free_environment(char **variables)
{
    for (size_t i = 0; variables[i] != NULL; i++)
        secret_free(variables[i]); /* a token may be among them */
    free(variables);
}

/* Through our own image and without fork(): gRPC's threads may hold any lock. */
static int spawn(struct policy_exec *exec)
{
    char *argv[] = {(char *)"parleyd", (char *)"--exec-child", exec->command, NULL};
    char **variables = child_environment(exec);
    posix_spawnattr_t attributes;
    int error;

    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID); /* a group that we can signal */
    error = posix_spawn(&exec->pid, "/proc/self/exe", NULL, &attributes, argv, variables);
    posix_spawnattr_destroy(&attributes);
    free_environment(variables);
    if (error != 0)
        return error;
    exec->pidfd = (int)syscall(SYS_pidfd_open, exec->pid, 0);
    return exec->pidfd < 0 ? errno : 0;
}

static void signal_group(const struct policy_exec *exec, int number)
{
    if (kill(-exec->pid, number) != 0)
        kill(exec->pid, number);
}

/* Ends what it left behind and takes its status. Its pid stays reserved until then. */
static int reap(struct policy_exec *exec)
{
    int status = 0;

    signal_group(exec, SIGKILL);
    while (waitpid(exec->pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (exec->exit != NULL)
        event_free(exec->exit);
    exec->exit = NULL;
    close(exec->pidfd);
    exec->pidfd = -1;
    exec->pid = 0;
    return status;
}

static void stop(struct policy_exec *exec)
{
    struct pollfd ended = {.fd = exec->pidfd, .events = POLLIN};
    uint64_t end = clock_ms() + STOP_MS;
    uint64_t now;

    if (exec->pid == 0)
        return;
    signal_group(exec, SIGTERM);
    while ((now = clock_ms()) < end && poll(&ended, 1, (int)(end - now)) < 0 && errno == EINTR)
        ;
    reap(exec);
}

/* ---- its life */

static void start(struct policy_exec *exec);

static void set_timer(struct policy_exec *exec, uint32_t ms)
{
    struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    event_add(exec->timer, &delay);
}

static void tell_ready(struct policy_exec *exec, const char *error)
{
    if (exec->told_ready)
        return;
    exec->told_ready = true;
    exec->events->ready(exec->owner, error);
}

/* It is not there (any more): the first start must succeed, later ones are tried for ever. */
static void lost(struct policy_exec *exec, const char *why)
{
    unlink(exec->path);
    log_warn(NULL, "policy-program", log_str("state", "ended"), log_str("reason", why),
             log_u64("restart_ms", exec->told_ready ? exec->backoff_ms : 0));
    if (!exec->told_ready) {
        exec->state = EXEC_IDLE;
        tell_ready(exec, why);
        return;
    }
    exec->state = EXEC_WAITING;
    set_timer(exec, exec->backoff_ms);
    exec->backoff_ms =
        2 * exec->backoff_ms < BACKOFF_MAX_MS ? 2 * exec->backoff_ms : BACKOFF_MAX_MS;
}

static void describe_status(int status, char out[64])
{
    if (WIFSIGNALED(status))
        snprintf(out, 64, "policy program ended by signal %d", WTERMSIG(status));
    else
        snprintf(out, 64, "policy program ended with status %d", WEXITSTATUS(status));
}

static void on_exit_event(evutil_socket_t fd, short what, void *arg)
{
    struct policy_exec *exec = arg;
    char why[64];

    (void)fd;
    (void)what;
    event_del(exec->timer);
    describe_status(reap(exec), why);
    if (clock_ms() - exec->started_ms >= SETTLED_MS)
        exec->backoff_ms = BACKOFF_FIRST_MS;
    lost(exec, why);
}

static bool answers(const struct policy_exec *exec)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool connected;

    if (fd < 0)
        return false;
    strcpy(address.sun_path, exec->path); /* its length was checked when it was made */
    connected = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return connected;
}

static void knock(struct policy_exec *exec)
{
    if (answers(exec)) {
        chmod(exec->path, 0600);
        exec->state = EXEC_UP;
        log_info(NULL, "policy-program", log_str("state", "up"),
                 log_u64("pid", (uint64_t)exec->pid), log_u64("ms", clock_ms() - exec->started_ms));
        exec->events->up(exec->owner);
        tell_ready(exec, NULL);
        return;
    }
    if (clock_ms() - exec->started_ms < START_MS) {
        set_timer(exec, KNOCK_MS);
        return;
    }
    stop(exec);
    lost(exec, "policy program did not answer on its socket within 30 s");
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct policy_exec *exec = arg;

    (void)fd;
    (void)what;
    if (exec->state == EXEC_STARTING)
        knock(exec);
    else
        start(exec);
}

static void start(struct policy_exec *exec)
{
    int error;

    exec->started_ms = clock_ms();
    error = spawn(exec);
    if (error == 0) {
        exec->exit = event_new(loop_events(exec->loop), exec->pidfd, EV_READ, on_exit_event, exec);
        event_add(exec->exit, NULL);
        exec->state = EXEC_STARTING;
        set_timer(exec, KNOCK_MS);
        return;
    }
    if (exec->pid != 0) { /* started, but not to be watched */
        signal_group(exec, SIGKILL);
        waitpid(exec->pid, NULL, 0);
        exec->pid = 0;
    }
    lost(exec, strerror(error));
}

void policy_exec_start(struct policy_exec *exec, struct loop *loop,
                       const struct policy_exec_events *events, void *owner)
{
    assert(exec->loop == NULL);
    exec->loop = loop;
    exec->events = events;
    exec->owner = owner;
    exec->timer = evtimer_new(loop_events(loop), on_timer, exec);
    set_timer(exec, 0); /* even a failure to start comes from the loop */
}

void policy_exec_free(struct policy_exec **where)
{
    struct policy_exec *exec = *where;

    *where = NULL;
    if (exec == NULL)
        return;
    stop(exec);
    if (exec->timer != NULL)
        event_free(exec->timer);
    unlink(exec->path);
    if (rmdir(exec->directory) != 0)
        log_warn(NULL, "policy-program", log_str("state", "directory-left"),
                 log_str("path", exec->directory), log_str("error", strerror(errno)));
    free(exec->command);
    free(exec->directory);
    free(exec->path);
    free(exec->target);
    free(exec);
}
