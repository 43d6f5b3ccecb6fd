#include "endpoints/dial.h"

#include "base/address.h"
#include "base/alloc.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define TIMEOUT_DEFAULT_MS 30000
#define STAGGER_MS         250 /* RFC 8305 section 5: the next address is tried beside the last */
#define ADDRESSES_MAX      16

struct attempt {
    struct dial *dial;
    struct socket_address to;
    int fd; /* -1: not begun, or failed */
    struct event *connected;
};

struct dial {
    struct loop *loop;
    struct dial_settings settings;
    char *host, *path, *source;
    uint16_t port;
    dial_fn *done;
    void *owner;
    struct helper_job *resolving;
    struct attempt attempts[ADDRESSES_MAX];
    size_t count, begun, failed;
    struct event *deadline, *next;
    char *why; /* the first failure's words: of the address that comes first */
};

/* ---- the end */

static void attempt_clear(struct attempt *attempt)
{
    if (attempt->connected != NULL)
        event_free(attempt->connected);
    attempt->connected = NULL;
    if (attempt->fd >= 0)
        close(attempt->fd);
    attempt->fd = -1;
}

static void dial_free(struct dial *dial)
{
    helper_cancel(&dial->resolving);
    for (size_t i = 0; i < dial->begun; i++)
        attempt_clear(&dial->attempts[i]);
    event_free(dial->deadline);
    event_free(dial->next);
    free(dial->host);
    free(dial->path);
    free(dial->source);
    free(dial->why);
    free(dial);
}

void dial_cancel(struct dial **where)
{
    struct dial *dial = *where;

    *where = NULL;
    if (dial != NULL)
        dial_free(dial);
}

/* Ends it; nothing may follow a call of this. */
static void finish(struct dial *dial, int fd, const char *why)
{
    dial_fn *done = dial->done;
    void *owner = dial->owner;
    char *words = xstrdup(why);

    dial_free(dial);
    done(owner, fd, words);
    free(words);
}

static void note_failure(struct dial *dial, const char *what)
{
    if (dial->why == NULL)
        dial->why = xstrdup(what);
    dial->failed++;
}

/* Every address has failed: true, and it has ended. */
static bool is_hopeless(struct dial *dial)
{
    if (dial->failed < dial->count)
        return false;
    finish(dial, -1, dial->why ? dial->why : "No address to connect to");
    return true;
}

/* ---- one address */

static bool bind_source(const struct dial *dial, int fd, int family)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    if (dial->source == NULL)
        return true;
    if (family == AF_INET)
        return inet_pton(AF_INET, dial->source, &v4.sin_addr) == 1 &&
               bind(fd, (struct sockaddr *)&v4, sizeof(v4)) == 0;
    return family == AF_INET6 && inet_pton(AF_INET6, dial->source, &v6.sin6_addr) == 1 &&
           bind(fd, (struct sockaddr *)&v6, sizeof(v6)) == 0;
}

static void on_connected(evutil_socket_t fd, short what, void *arg);

/* False: it failed at once. */
static bool attempt_begin(struct attempt *attempt)
{
    struct dial *dial = attempt->dial;
    int family = attempt->to.addr.ss_family, on = 1;

    attempt->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (attempt->fd < 0) {
        note_failure(dial, strerror(errno));
        return false;
    }
    if (family != AF_UNIX) {
        setsockopt(attempt->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(attempt->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    if (!bind_source(dial, attempt->fd, family)) {
        note_failure(dial, "The source address cannot be used");
    } else if (connect(attempt->fd, (struct sockaddr *)&attempt->to.addr, attempt->to.len) < 0 &&
               errno != EINPROGRESS) {
        note_failure(dial, strerror(errno));
    } else {
        attempt->connected =
            event_new(loop_events(dial->loop), attempt->fd, EV_WRITE, on_connected, attempt);
        if (attempt->connected == NULL || event_add(attempt->connected, NULL) < 0)
            abort(); /* out of memory */
        return true;
    }
    attempt_clear(attempt);
    return false;
}

static void begin_next(struct dial *dial)
{
    static const struct timeval stagger = {0, STAGGER_MS * 1000};

    while (dial->begun < dial->count)
        if (attempt_begin(&dial->attempts[dial->begun++]))
            break;
    if (!is_hopeless(dial) && dial->begun < dial->count)
        event_add(dial->next, &stagger);
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
    struct attempt *attempt = arg;
    struct dial *dial = attempt->dial;
    int error = 0;
    socklen_t len = sizeof(error);

    (void)what;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error == 0) {
        attempt->fd = -1; /* the caller's now */
        finish(dial, fd, "");
        return;
    }
    attempt_clear(attempt);
    note_failure(dial, strerror(error));
    begin_next(dial);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    finish(arg, -1, strerror(ETIMEDOUT));
}

/* ---- which addresses */

static bool is_denied(const struct dial *dial, const struct sockaddr *sa)
{
    struct address address = address_of(sa); /* IPv4 mapped into IPv6 is IPv4 here */
    struct network network;
    char *scope = strchr(address.ip, '%');

    if (scope != NULL)
        *scope = '\0';
    if (!network_parse(address.ip, &network))
        return true;
    for (size_t i = 0; i < dial->settings.denied_count; i++)
        if (network_holds(&dial->settings.denied[i], &network))
            return true;
    return false;
}

static void add_address(struct dial *dial, const struct sockaddr *sa, socklen_t len)
{
    struct attempt *attempt = &dial->attempts[dial->count];

    if (dial->count == ADDRESSES_MAX)
        return;
    *attempt = (struct attempt){.dial = dial, .fd = -1, .to.len = len};
    memcpy(&attempt->to.addr, sa, len);
    dial->count++;
}

/* The families take turns, beginning with the resolver's favourite (RFC 8305 section 4). */
static void add_in_turns(struct dial *dial, const struct addrinfo *list)
{
    const struct addrinfo *same = list, *other = list;
    int family = list->ai_family;

    while (same != NULL || other != NULL) {
        while (same != NULL && same->ai_family != family)
            same = same->ai_next;
        while (other != NULL && other->ai_family == family)
            other = other->ai_next;
        if (same != NULL && !is_denied(dial, same->ai_addr))
            add_address(dial, same->ai_addr, same->ai_addrlen);
        if (other != NULL && !is_denied(dial, other->ai_addr))
            add_address(dial, other->ai_addr, other->ai_addrlen);
        same = same != NULL ? same->ai_next : NULL;
        other = other != NULL ? other->ai_next : NULL;
    }
}

static void connect_to(struct dial *dial, const struct addrinfo *list)
{
    add_in_turns(dial, list);
    if (dial->count == 0)
        finish(dial, -1, "Connections to this address are not allowed here");
    else
        begin_next(dial);
}

/* ---- names */

struct resolution {
    struct helper_task task;
    char *host, port[8];
    int flags, error;
    struct addrinfo *list;
};

static void resolve(struct helper_task *task)
{
    struct resolution *r = (struct resolution *)task;
    struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | r->flags, .ai_family = AF_UNSPEC};

    r->error = getaddrinfo(r->host, r->port, &hints, &r->list);
}

static void resolution_free(struct helper_task *task)
{
    struct resolution *r = (struct resolution *)task;

    if (r->list != NULL)
        freeaddrinfo(r->list);
    free(r->host);
    free(r);
}

static struct resolution *resolution_new(const struct dial *dial, int flags)
{
    struct resolution *r = xcalloc(1, sizeof(*r));

    r->task = (struct helper_task){.work = resolve, .free = resolution_free};
    r->host = xstrdup(dial->host);
    r->flags = flags;
    snprintf(r->port, sizeof(r->port), "%u", (unsigned)dial->port);
    return r;
}

static void on_resolved(void *owner, enum helper_outcome outcome, struct helper_task *task)
{
    struct dial *dial = owner;
    const struct resolution *r = (const struct resolution *)task;

    dial->resolving = NULL;
    if (outcome == HELPER_EXPIRED)
        finish(dial, -1, "The name was not resolved in time");
    else if (outcome != HELPER_DONE)
        finish(dial, -1, "Too many names are being resolved");
    else if (r->error != 0)
        finish(dial, -1, gai_strerror(r->error));
    else
        connect_to(dial, r->list);
}

bool dial_is_odd_address(const char *host)
{
    struct in_addr lax, strict;

    return inet_aton(host, &lax) != 0 && inet_pton(AF_INET, host, &strict) != 1;
}

static void begin_host(struct dial *dial)
{
    struct resolution *r = resolution_new(dial, AI_NUMERICHOST);

    resolve(&r->task); /* numeric: does not block */
    if (r->error == 0) {
        connect_to(dial, r->list); /* dial may be gone */
    } else {
        struct resolution *named = resolution_new(dial, 0);

        dial->resolving = helpers_run(dial->settings.helpers, dial->loop, dial->settings.timeout_ms,
                                      &named->task, on_resolved, dial);
    }
    resolution_free(&r->task);
}

static void begin_path(struct dial *dial)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = strlen(dial->path);

    if (len == 0 || len >= sizeof(to.sun_path)) {
        finish(dial, -1, "The path is too long for a socket");
        return;
    }
    memcpy(to.sun_path, dial->path, len);
    add_address(dial, (struct sockaddr *)&to, sizeof(to));
    begin_next(dial);
}

static void begin(struct dial *dial)
{
    if (dial->path != NULL)
        begin_path(dial);
    else if (dial_is_odd_address(dial->host))
        finish(dial, -1, "The address is not in its common form");
    else
        begin_host(dial);
}

/* The first time from dial_new(), since done() never comes from inside that; then as staggered. */
static void on_next(evutil_socket_t fd, short what, void *arg)
{
    struct dial *dial = arg;

    (void)fd;
    (void)what;
    if (dial->begun > 0)
        begin_next(dial);
    else
        begin(dial);
}

struct dial *dial_new(struct loop *loop, const struct dial_settings *settings,
                      const struct dial_target *target, dial_fn *done, void *owner)
{
    static const struct timeval at_once = {0, 0};
    struct dial *dial = xcalloc(1, sizeof(*dial));
    struct timeval timeout;

    dial->loop = loop;
    dial->settings = *settings;
    if (target->timeout_ms != 0)
        dial->settings.timeout_ms = target->timeout_ms;
    if (dial->settings.timeout_ms == 0)
        dial->settings.timeout_ms = TIMEOUT_DEFAULT_MS;
    dial->path = target->path ? xstrdup(target->path) : NULL;
    dial->host = target->host ? xstrdup(target->host) : NULL;
    dial->port = target->port;
    if (target->source_address != NULL && target->source_address[0] != '\0')
        dial->source = xstrdup(target->source_address);
    dial->done = done;
    dial->owner = owner;
    dial->deadline = evtimer_new(loop_events(loop), on_deadline, dial);
    dial->next = evtimer_new(loop_events(loop), on_next, dial);
    timeout = (struct timeval){.tv_sec = dial->settings.timeout_ms / 1000,
                               .tv_usec = dial->settings.timeout_ms % 1000 * 1000};
    if (dial->deadline == NULL || dial->next == NULL || event_add(dial->deadline, &timeout) < 0 ||
        event_add(dial->next, &at_once) < 0)
        abort(); /* out of memory */
    return dial;
}
