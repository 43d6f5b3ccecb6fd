#include "endpoints/tun.h"

#include "base/alloc.h"
#include "base/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CLONE_DEVICE     "/dev/net/tun"
#define PACKETS_PER_TURN 64 /* then others on the loop have their turn */

struct tun_endpoint {
    struct endpoint base;
    struct loop *loop;
    const struct endpoint_events *events;
    void *owner;
    int fd; /* -1: stopped */
    struct event *readable;
    size_t passed_on; /* since the channel was last told */
    bool telling;     /* on_told() is under way */
    bool over;        /* the client's EOF */
};

static struct tun_endpoint *self(struct endpoint *endpoint)
{
    return (struct tun_endpoint *)endpoint;
}

/* ---- from the device */

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct tun_endpoint *tun = arg;
    uint8_t *packet = loop_scratch(tun->loop);

    (void)what;
    for (int i = 0; i < PACKETS_PER_TURN; i++) {
        ssize_t len;

        if (tun->events->room(tun->owner) == 0) {
            event_del(tun->readable); /* the device's own queue fills, until resume() */
            return;
        }
        len = read(fd, packet, LOOP_SCRATCH_BYTES);
        if (len < 0) {
            if (errno != EAGAIN && errno != EINTR)
                tun->events->ended(tun->owner, false, strerror(errno));
            return;
        }
        tun->events->data(tun->owner, bytes_of(packet, (size_t)len), 0);
    }
}

static void tun_resume(struct endpoint *endpoint)
{
    event_add(self(endpoint)->readable, NULL);
}

/* ---- to the device */

static void on_told(void *arg)
{
    struct tun_endpoint *tun = arg;
    size_t passed_on = tun->passed_on;

    if (tun->fd < 0)
        return;
    tun->telling = false;
    tun->passed_on = 0;
    tun->events->writable(tun->owner, passed_on);
    if (tun->fd >= 0 && tun->over)
        tun->events->ended(tun->owner, true, "");
}

static void tell(struct tun_endpoint *tun)
{
    if (!tun->telling)
        loop_defer(tun->loop, on_told, tun);
    tun->telling = true;
}

/* Taken in any case: what the device refuses (it is down, or full) is lost. */
static size_t tun_write(struct endpoint *endpoint, struct bytes packet, uint32_t extended_type)
{
    struct tun_endpoint *tun = self(endpoint);
    ssize_t done = write(tun->fd, packet.data, packet.len);

    (void)done;
    (void)extended_type; /* clients have none (RFC 4254 section 5.2) */
    tun->passed_on += packet.len;
    tell(tun);
    return packet.len;
}

/* A link that nothing more comes from is over. */
static void tun_eof(struct endpoint *endpoint)
{
    self(endpoint)->over = true;
    tell(self(endpoint));
}

/* ---- life */

static void tun_stop(struct endpoint *endpoint, const char *error)
{
    struct tun_endpoint *tun = self(endpoint);

    (void)error;
    event_free(tun->readable);
    close(tun->fd);
    tun->fd = -1;
    loop_defer(tun->loop, free, tun);
}

static const struct endpoint_ops tun_ops = {
    .name = "tun",
    .write = tun_write,
    .eof = tun_eof,
    .resume = tun_resume,
    .stop = tun_stop,
};

struct endpoint *endpoint_tun_new(struct loop *loop, const struct endpoint_events *events,
                                  void *owner, int fd)
{
    struct tun_endpoint *tun = xcalloc(1, sizeof(*tun));

    tun->base.ops = &tun_ops;
    tun->loop = loop;
    tun->events = events;
    tun->owner = owner;
    tun->fd = fd;
    tun->readable = event_new(loop_events(loop), fd, EV_READ | EV_PERSIST, on_readable, tun);
    event_add(tun->readable, NULL);
    return &tun->base;
}

int tun_open(bool ethernet, const uint32_t *unit, char name[TUN_NAME_BYTES], const char **why)
{
    struct ifreq request = {.ifr_flags = (ethernet ? IFF_TAP : IFF_TUN) | IFF_NO_PI};
    int fd = open(CLONE_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);

    _Static_assert(sizeof(request.ifr_name) == TUN_NAME_BYTES, "the name of an interface");
    if (unit != NULL)
        snprintf(request.ifr_name, sizeof(request.ifr_name), "%s%u", ethernet ? "tap" : "tun",
                 (unsigned)*unit);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0) {
        *why = strerror(errno);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    memcpy(name, request.ifr_name, TUN_NAME_BYTES);
    name[TUN_NAME_BYTES - 1] = '\0';
    return fd;
}
