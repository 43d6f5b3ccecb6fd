#include "listeners/listener.h"

#include "base/alloc.h"
#include "base/log.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 16 /* so that a flood of connections does not starve those we have */

struct listener {
    int fd;
    int spare_fd; /* given up for a moment when there are no descriptors left; -1: could not be had
                     back */
    struct event *readable;
    struct event *paused; /* timer */
    listener_accept_fn *accepted;
    void *owner;
};

static void open_spare(struct listener *listener)
{
    if (listener->spare_fd < 0)
        listener->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void resume(evutil_socket_t fd, short what, void *arg)
{
    struct listener *listener = arg;

    (void)fd;
    (void)what;
    open_spare(listener);
    event_add(listener->readable, NULL);
}

/* Who waits gets a clean end, not silence; that takes a descriptor, hence the spare one. */
static size_t shed(struct listener *listener)
{
    size_t count = 0;

    if (listener->spare_fd < 0)
        return 0;
    close(listener->spare_fd);
    listener->spare_fd = -1;
    while (count < ACCEPTS_PER_TURN) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0)
            break;
        close(fd);
        count++;
    }
    open_spare(listener);
    return count;
}

/* The socket stays readable while we cannot accept: without a pause the loop would spin. */
static void pause_accepting(struct listener *listener, int error)
{
    static const struct timeval pause = {0, 100000};
    size_t dropped = error == EMFILE || error == ENFILE ? shed(listener) : 0;

    log_warn(NULL, "accept-paused", log_str("why", strerror(error)), log_u64("dropped", dropped));
    event_del(listener->readable);
    event_add(listener->paused, &pause);
}

static void hand_over(struct listener *listener, int fd, const struct sockaddr *sa)
{
    struct sockaddr_storage own = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof(own);
    struct address peer = address_of(sa);
    struct address local;

    if (getsockname(fd, (struct sockaddr *)&own, &len) < 0) {
        close(fd);
        return;
    }
    local = address_of((const struct sockaddr *)&own);
    listener->accepted(listener->owner, fd, &peer, &local);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct listener *listener = arg;

    (void)what;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
        socklen_t len = sizeof(peer);
        int accepted = accept4(fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (accepted >= 0) {
            hand_over(listener, accepted, (const struct sockaddr *)&peer);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(listener, errno);
            return;
        } /* else: that one connection failed already (accept(2), "Error handling") */
    }
}

struct listener *listener_new(struct loop *loop, int fd, listener_accept_fn *accepted, void *owner)
{
    struct listener *listener = xmalloc(sizeof(*listener));

    *listener = (struct listener){
        .fd = fd,
        .spare_fd = -1,
        .accepted = accepted,
        .owner = owner,
    };
    open_spare(listener);
    listener->readable =
        event_new(loop_events(loop), fd, EV_READ | EV_PERSIST, on_readable, listener);
    listener->paused = event_new(loop_events(loop), -1, 0, resume, listener);
    if (listener->readable == NULL || listener->paused == NULL ||
        event_add(listener->readable, NULL) < 0)
        abort(); /* out of memory */
    return listener;
}

void listener_free(struct listener **where)
{
    struct listener *listener = *where;

    *where = NULL;
    if (listener == NULL)
        return;
    event_free(listener->readable);
    event_free(listener->paused);
    close(listener->fd);
    if (listener->spare_fd >= 0)
        close(listener->spare_fd);
    free(listener);
}
