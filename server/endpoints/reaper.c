/* Children of the daemon, from their start until they have been reaped. Each is reaped by itself
 * (never waitpid(-1)): the policy program is a child, too. */
#include "endpoints/process.h"

#include "base/alloc.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRACE_MS  1000 /* between HUP and KILL */
#define KILLED_MS 5000 /* until a killed one must have ended, at the daemon's own end */

enum child_state {
    CHILD_RUNS,
    CHILD_ENDED,  /* a zombie still: its number, which is also its group's, stays its own */
    CHILD_LEAVES, /* nobody wants it any more: it has HUP */
    CHILD_LEFT,   /* ended after that; its group has the rest of the time */
    CHILD_KILLED,
};

struct child {
    enum child_state state;
    pid_t pid;
    int pidfd;
    pid_t foreground;
    uint64_t leave_ms; /* when it got HUP */
    struct event *exit, *grace;
    struct loop *loop;
    child_exit_fn *ended;
    void *owner;
    struct loop_remnant remnant;
};

static void signal_group(pid_t group, int number)
{
    if (group > 1) /* -1 would be everybody, -0 ourselves */
        kill(-group, number);
}

static void child_free(struct child *child)
{
    siginfo_t info;

    while (waitid(P_PID, (id_t)child->pid, &info, WEXITED) != 0 && errno == EINTR)
        ;
    loop_withdraw(&child->remnant);
    event_free(child->exit);
    if (child->grace != NULL)
        event_free(child->grace);
    close(child->pidfd);
    free(child);
}

/* The session's number is taken as long as its leader is not reaped, so a group that says it is of
 * this session cannot be another one by now. */
static void kill_rest(struct child *child)
{
    signal_group(child->pid, SIGKILL);
    if (child->foreground > 0 && getsid(child->foreground) == child->pid)
        signal_group(child->foreground, SIGKILL);
}

static void on_exit_event(evutil_socket_t fd, short what, void *arg)
{
    struct child *child = arg;
    siginfo_t info = {0};

    (void)fd;
    (void)what;
    switch (child->state) {
    case CHILD_RUNS:
        waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT);
        child->state = CHILD_ENDED;
        child->ended(child->owner, info.si_code, info.si_status);
        break;
    case CHILD_LEAVES:
        child->state = CHILD_LEFT;
        break;
    default:
        child_free(child);
    }
}

struct child *child_watch(struct loop *loop, pid_t pid, int pidfd, child_exit_fn *ended,
                          void *owner)
{
    struct child *child = xcalloc(1, sizeof(*child));

    child->pid = pid;
    child->pidfd = pidfd;
    child->loop = loop;
    child->ended = ended;
    child->owner = owner;
    child->exit = event_new(loop_events(loop), pidfd, EV_READ, on_exit_event, child);
    event_add(child->exit, NULL);
    return child;
}

bool child_has_ended(const struct child *child)
{
    return child->state != CHILD_RUNS;
}

void child_signal(const struct child *child, int number)
{
    signal_group(child->pid, number);
}

static void on_grace_over(evutil_socket_t fd, short what, void *arg)
{
    struct child *child = arg;
    bool has_left = child->state == CHILD_LEFT;

    (void)fd;
    (void)what;
    child->state = CHILD_KILLED;
    kill_rest(child);
    if (has_left)
        child_free(child);
}

static void wait_for_end(const struct child *child, int ms)
{
    struct pollfd ended = {.fd = child->pidfd, .events = POLLIN};

    while (ms > 0 && poll(&ended, 1, ms) < 0 && errno == EINTR)
        ;
}

/* The daemon ends: the rest of the time at most. */
static void on_loop_end(struct loop_remnant *remnant)
{
    struct child *child = (struct child *)((char *)remnant - offsetof(struct child, remnant));
    uint64_t now = clock_ms(), end = child->leave_ms + GRACE_MS;

    wait_for_end(child, end > now ? (int)(end - now) : 0);
    kill_rest(child);
    wait_for_end(child, KILLED_MS);
    child_free(child);
}

void child_let_go(struct child **where, bool is_done, pid_t foreground)
{
    static const struct timeval grace = {.tv_sec = GRACE_MS / 1000,
                                         .tv_usec = GRACE_MS % 1000 * 1000};
    struct child *child = *where;

    *where = NULL;
    signal_group(child->pid, SIGHUP);
    signal_group(child->pid, SIGCONT); /* a stopped one could not follow it */
    if (is_done && child->state == CHILD_ENDED) {
        child_free(child);
        return;
    }
    child->state = child->state == CHILD_ENDED ? CHILD_LEFT : CHILD_LEAVES;
    child->foreground = foreground;
    child->leave_ms = clock_ms();
    child->grace = event_new(loop_events(child->loop), -1, 0, on_grace_over, child);
    event_add(child->grace, &grace);
    child->remnant.end = on_loop_end;
    loop_leave(child->loop, &child->remnant);
}
