/* ProcessEndpoint: a program on this machine, on a terminal of its own or on three pipes. */
#include "endpoints/process.h"

#include "base/alloc.h"
#include "base/log.h"
#include "endpoints/fdio.h"
#include "endpoints/pty.h"
#include "endpoints/signals.h"
#include "endpoints/spawn.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAILURE_MAX_BYTES 2048

/* Between the end of a program's output and EOF for the client: by then most have ended, and their
 * status goes first. */
static const struct timeval eof_delay = {.tv_usec = 200 * 1000};

struct process {
    struct endpoint base;
    const struct endpoint_events *events;
    void *owner;
    struct asker *asker; /* NULL once it has been stopped */
    struct child *child;
    bool has_terminal;
    int in_fd, out_fd, err_fd; /* our ends; -1 when closed. A terminal's master is out_fd alone */
    struct fdio_writer in;
    struct fdio_reader out, err;
    bool out_open, err_open; /* something may come from it still */
    int status_fd;           /* -1 once it is known whether the program runs */
    struct event *status;
    bool client_eof;
    struct event *eof_timer;
    uint32_t break_id;
    bool break_handled;
};

static struct process *self(struct endpoint *endpoint)
{
    return (struct process *)endpoint;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* ---- its start */

static void tell_failure(struct process *process, struct bytes why)
{
    char *text = xasprintf("%.*s\r\n", (int)why.len, (const char *)why.data);

    log_warn(asker_connection_id(process->asker), "process_failed", log_bytes("why", why));
    process->events->data(process->owner, bytes_of_string(text), 1);
    free(text);
}

/* Whether the program runs: the child says why not before it ends, or exec closes the descriptor.
 */
static void read_status(struct process *process)
{
    char text[FAILURE_MAX_BYTES];
    ssize_t got;

    if (process->status_fd < 0)
        return;
    got = read(process->status_fd, text, sizeof(text));
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    event_free(process->status);
    process->status = NULL;
    close_fd(&process->status_fd);
    if (got > 0)
        tell_failure(process, bytes_of(text, (size_t)got));
}

static void on_status(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    read_status(arg);
}

/* ---- from the program to the client */

/* The channel stops and frees us inside ended(): nothing may follow a call of this. */
static void end_if_over(struct process *process)
{
    if (child_has_ended(process->child) && !process->out_open && !process->err_open)
        process->events->ended(process->owner, true, "the program ended");
}

static void on_read_ended(void *owner, struct fdio_reader *reader, int error)
{
    struct process *process = owner;
    bool is_out = reader == &process->out;

    (void)error;          /* a terminal ends with EIO */
    read_status(process); /* what it says comes before our EOF */
    fdio_reader_clear(reader);
    if (is_out)
        process->out_open = false;
    else
        process->err_open = false;
    if (!is_out || !process->has_terminal) /* a master that is closed hangs up */
        close_fd(is_out ? &process->out_fd : &process->err_fd);
    if (!process->out_open && !process->err_open && !child_has_ended(process->child))
        event_add(process->eof_timer, &eof_delay);
    end_if_over(process);
}

/* The program goes on without output. A client that has sent its own EOF closes the channel on
 * ours, and would never learn how the program ended: that one waits for its end. */
static void on_eof_timer(evutil_socket_t fd, short what, void *arg)
{
    struct process *process = arg;

    (void)fd;
    (void)what;
    if (!process->client_eof)
        process->events->eof(process->owner);
}

/* The writer stays: it swallows what still comes. */
static void on_write_failed(void *owner, struct fdio_writer *writer, int error)
{
    struct process *process = owner;

    (void)writer;
    (void)error;
    close_fd(&process->in_fd);
    process->events->deaf(process->owner);
}

static const struct fdio_events fdio_events = {
    .read_ended = on_read_ended,
    .write_failed = on_write_failed,
};

/* ---- its end */

static void tell_signal(struct process *process, int number, bool core_dumped)
{
    Policy__ExitSignal exit = POLICY__EXIT_SIGNAL__INIT;
    const char *description = sigdescr_np(number);

    exit.name = (char *)signal_name(number);
    exit.core_dumped = core_dumped;
    exit.message = (char *)(description ? description : "");
    process->events->exit_signal(process->owner, &exit);
}

/* What the program wrote before may still be under way. On pipes, whoever it left behind may write
 * more; a terminal ends with its program. */
static void on_exit_of_child(void *owner, int code, int status)
{
    struct process *process = owner;

    read_status(process);
    if (code == CLD_EXITED)
        process->events->exit_status(process->owner, (uint32_t)status);
    else
        tell_signal(process, status, code == CLD_DUMPED);
    if (process->has_terminal && process->out_open)
        fdio_reader_finish(&process->out);
    end_if_over(process);
}

/* ---- from the client to the program */

static size_t process_write(struct endpoint *endpoint, struct bytes data, uint32_t extended_type)
{
    (void)extended_type; /* clients have only one */
    fdio_reader_hurry(&self(endpoint)->out);
    return fdio_writer_write(&self(endpoint)->in, data);
}

/* On a terminal the end of input is a character, which only the user can type. */
static void process_eof(struct endpoint *endpoint)
{
    struct process *process = self(endpoint);

    process->client_eof = true;
    if (process->has_terminal)
        return;
    fdio_writer_clear(&process->in);
    close_fd(&process->in_fd);
}

static void process_window_change(struct endpoint *endpoint, const Policy__WindowSize *size)
{
    if (self(endpoint)->has_terminal)
        pty_resize(self(endpoint)->out_fd, size);
}

static void on_unwanted(void *arg)
{
    struct process *process = arg;

    if (process->asker == NULL)
        return;
    if (!process->err_open)
        process->events->eof(process->owner);
    end_if_over(process);
}

/* A pipe that nobody reads ends its writer; a terminal must be read all the same. */
static void process_unwanted(struct endpoint *endpoint)
{
    struct process *process = self(endpoint);

    if (process->has_terminal || !process->out_open)
        return;
    fdio_reader_clear(&process->out);
    close_fd(&process->out_fd);
    process->out_open = false;
    loop_defer(asker_loop(process->asker), on_unwanted, process);
}

static void process_signal(struct endpoint *endpoint, const char *name)
{
    int number = signal_by_name(name);

    if (number != 0)
        child_signal(self(endpoint)->child, number);
}

static void answer_break(void *arg)
{
    struct process *process = arg;

    if (process->asker != NULL)
        process->events->break_answer(process->owner, process->break_id, process->break_handled);
}

static void process_break(struct endpoint *endpoint, uint32_t id, uint32_t length_ms,
                          bool want_reply)
{
    struct process *process = self(endpoint);

    (void)length_ms; /* nothing here lasts */
    process->break_id = id;
    process->break_handled = process->has_terminal && pty_break(process->out_fd);
    if (want_reply)
        loop_defer(asker_loop(process->asker), answer_break, process);
}

static void process_resume(struct endpoint *endpoint)
{
    struct process *process = self(endpoint);

    fdio_reader_resume(&process->err);
    if (process->asker != NULL) /* that may have been the end */
        fdio_reader_resume(&process->out);
}

/* ---- life */

static void process_stop(struct endpoint *endpoint, const char *error)
{
    struct process *process = self(endpoint);
    bool is_done = !process->out_open && !process->err_open;
    pid_t foreground = process->has_terminal ? tcgetpgrp(process->out_fd) : 0;

    (void)error;
    fdio_reader_clear(&process->out);
    fdio_reader_clear(&process->err);
    fdio_writer_clear(&process->in);
    if (process->status != NULL)
        event_free(process->status);
    event_free(process->eof_timer);
    child_let_go(&process->child, is_done, foreground);
    close_fd(&process->in_fd);
    close_fd(&process->out_fd);
    close_fd(&process->err_fd);
    close_fd(&process->status_fd);
    loop_defer(asker_loop(process->asker), free, process);
    process->asker = NULL;
}

static const struct endpoint_ops process_ops = {
    .name = "process",
    .write = process_write,
    .eof = process_eof,
    .window_change = process_window_change,
    .signal = process_signal,
    .unwanted = process_unwanted,
    .break_request = process_break,
    .resume = process_resume,
    .stop = process_stop,
};

/* ---- start */

/* Ours do not block, the program's do. False: nothing is left open. */
static bool open_pipes(int ours[3], int theirs[3])
{
    for (int i = 0; i < 3; i++)
        ours[i] = theirs[i] = -1;
    for (int i = 0; i < 3; i++) {
        int ends[2];

        if (pipe2(ends, O_CLOEXEC) != 0)
            return false;
        ours[i] = ends[i == 0];
        theirs[i] = ends[i != 0];
        fcntl(ours[i], F_SETFL, O_NONBLOCK);
    }
    return true;
}

static bool open_terminal(const Policy__Pty *pty, int ours[3], int theirs[3])
{
    ours[0] = ours[2] = -1;
    if (!pty_open(pty, &ours[1], &theirs[0]))
        theirs[0] = -1;
    theirs[1] = theirs[2] = theirs[0];
    return theirs[0] >= 0;
}

static void close_all(int fds[3])
{
    for (int i = 2; i > 0; i--)
        if (fds[i] != fds[0]) /* a terminal is there thrice */
            close_fd(&fds[i]);
    close_fd(&fds[0]);
}

static struct process *process_new(const struct endpoint_start *start, const int ours[3],
                                   const struct spawned *spawned)
{
    struct loop *loop = asker_loop(start->asker);
    struct process *process = xcalloc(1, sizeof(*process));
    struct fdio_side side = {loop, start->events, start->owner, &fdio_events, process};

    process->base.ops = &process_ops;
    process->events = start->events;
    process->owner = start->owner;
    process->asker = start->asker;
    process->has_terminal = start->opened->session->pty != NULL;
    process->in_fd = ours[0];
    process->out_fd = ours[1];
    process->err_fd = ours[2];
    process->status_fd = spawned->status;
    process->status =
        event_new(loop_events(loop), spawned->status, EV_READ | EV_PERSIST, on_status, process);
    event_add(process->status, NULL);
    process->eof_timer = event_new(loop_events(loop), -1, 0, on_eof_timer, process);
    process->child = child_watch(loop, spawned->pid, spawned->pidfd, on_exit_of_child, process);
    fdio_writer_init(&process->in, &side, process->has_terminal ? ours[1] : ours[0]);
    fdio_reader_init(&process->out, &side, ours[1], 0);
    process->out_open = true;
    if (process->has_terminal)
        return process;
    fdio_reader_init(&process->err, &side, ours[2], 1);
    process->err_open = true;
    return process;
}

static const char *words_for(int error)
{
    return error == EMFILE || error == ENFILE ? "this server has no descriptors left for a program"
           : error == EAGAIN || error == ENOMEM ? "this server cannot start more programs"
                                                : "the program could not be started";
}

struct endpoint *endpoint_process_new(const struct endpoint_start *start,
                                      const Policy__ProcessEndpoint *answer,
                                      Policy__EnvVar *const *provided, size_t provided_count,
                                      const char **why)
{
    const Policy__SessionStart *session = start->opened->session;
    struct spawned spawned;
    struct plan plan;
    int ours[3], theirs[3], error = 0;

    if (!endpoint_process_check(answer, why))
        return NULL;
    if (session->pty ? !open_terminal(session->pty, ours, theirs) : !open_pipes(ours, theirs))
        error = errno;
    if (error == 0) {
        process_plan(&plan, answer, session, provided, provided_count);
        error = spawn_plan(&plan, theirs, &spawned);
        plan_clear(&plan);
    }
    close_all(theirs);
    if (error == 0) {
        log_info(asker_connection_id(start->asker), "process_started",
                 log_u64("channel", start->opened->channel), log_u64("pid", (uint64_t)spawned.pid),
                 log_bytes("program", bytes_of(answer->argv[0].data, answer->argv[0].len)),
                 log_str("user", answer->user[0] ? answer->user : NULL));
        return &process_new(start, ours, &spawned)->base;
    }
    close_all(ours);
    *why = words_for(error);
    log_warn(asker_connection_id(start->asker), "process_failed",
             log_u64("channel", start->opened->channel), log_str("why", strerror(error)));
    return NULL;
}
