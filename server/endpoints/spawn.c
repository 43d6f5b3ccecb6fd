#include "endpoints/spawn.h"

#include "base/alloc.h"
#include "endpoints/process_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* A file, not a pipe: it takes all at once, and nothing waits for the child to read. */
static int write_plan(const struct plan *plan)
{
    struct buf encoded = {0};
    int fd = memfd_create("plan", MFD_CLOEXEC);
    ssize_t written = -1;

    plan_encode(plan, &encoded);
    if (fd >= 0 && encoded.len <= PLAN_MAX_BYTES)
        written = write(fd, encoded.data, encoded.len);
    if (fd >= 0 && written != (ssize_t)encoded.len) {
        close(fd);
        fd = -1;
        errno = encoded.len > PLAN_MAX_BYTES ? E2BIG : ENOSPC;
    }
    buf_clear_secret(&encoded);
    return fd;
}

/* Our environment for the child, which looks programs and users up by it; the program gets another
 * one. Without our settings: a token may be among them. Borrowed strings. */
static char **child_environment(void)
{
    static const char ours[] = "PARLEY_";
    size_t count = 0, kept = 0;
    char **out;

    while (environ[count] != NULL)
        count++;
    out = xcalloc(count + 1, sizeof(*out));
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], ours, sizeof(ours) - 1) != 0)
            out[kept++] = environ[i];
    return out;
}

/* Descriptors that keep their number lose their close-on-exec flag in the child. */
static int add_descriptors(posix_spawn_file_actions_t *actions, const int stdio[3], int plan,
                           int status)
{
    int error = 0;

    for (int fd = 0; fd < 3 && error == 0; fd++)
        error = posix_spawn_file_actions_adddup2(actions, stdio[fd], fd);
    if (error == 0)
        error = posix_spawn_file_actions_adddup2(actions, plan, plan);
    if (error == 0)
        error = posix_spawn_file_actions_adddup2(actions, status, status);
    return error;
}

static int start(pid_t *pid, const int stdio[3], int plan, int status)
{
    char plan_text[16], status_text[16];
    char *argv[] = {(char *)"parleyd", (char *)PROCESS_CHILD_FLAG, plan_text, status_text, NULL};
    char **variables = child_environment();
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t all, none;
    int error;

    snprintf(plan_text, sizeof(plan_text), "%d", plan);
    snprintf(status_text, sizeof(status_text), "%d", status);
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setsigmask(&attributes, &none);
    error = add_descriptors(&actions, stdio, plan, status);
    if (error == 0)
        error = posix_spawn(pid, "/proc/self/exe", &actions, &attributes, argv, variables);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    free(variables);
    return error;
}

int spawn_plan(const struct plan *plan, const int stdio[3], struct spawned *out)
{
    int status[2], error, plan_fd;

    if (pipe2(status, O_CLOEXEC) != 0)
        return errno;
    plan_fd = write_plan(plan);
    error = plan_fd < 0 ? errno : start(&out->pid, stdio, plan_fd, status[1]);
    if (plan_fd >= 0)
        close(plan_fd);
    close(status[1]);
    if (error == 0) {
        out->pidfd = (int)syscall(SYS_pidfd_open, out->pid, 0);
        if (out->pidfd < 0) { /* started, but not to be watched */
            error = errno;
            kill(-out->pid, SIGKILL);
            waitpid(out->pid, NULL, 0);
        }
    }
    if (error != 0) {
        close(status[0]);
        return error;
    }
    fcntl(status[0], F_SETFL, O_NONBLOCK);
    out->status = status[0];
    return 0;
}
