#include "base/loop.h"

#include "base/alloc.h"
#include "base/log.h"

#include <assert.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* What is answered in one turn goes out in one piece: another look at the mailbox is cheaper than
 * another write to a client. Where many letters come I/O must not wait for more of them. */
#define LOOKS_PER_TURN 3
#define LETTERS_FEW    2

struct deferred {
    void (*fn)(void *arg);
    void *arg;
};

struct loop {
    struct event_base *events;
    struct event *mail;               /* wake_fds[0] readable: letters wait */
    struct event *turn_end;           /* zero timer: runs the deferred calls, unless `running` */
    int wake_fds[2];                  /* a pipe */
    _Atomic(struct letter *) mailbox; /* newest first */
    atomic_bool asleep;               /* or about to be: who posts must wake it */
    atomic_bool stopping;
    bool running; /* in loop_run(), which looks after letters and deferred calls itself */
    struct deferred *deferred;
    size_t deferred_count, deferred_cap;
    struct loop_remnant *remnants;
    uint64_t turns;
    uint8_t *scratch; /* once somebody needs it */
};

/* Returns how many there were. */
static size_t deliver_mail(struct loop *loop)
{
    struct letter *newest = atomic_exchange(&loop->mailbox, NULL);
    struct letter *oldest = NULL;
    size_t count = 0;

    while (newest != NULL) {
        struct letter *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct letter *next = oldest->next; /* deliver() may free it */

        oldest->deliver(oldest);
        oldest = next;
        count++;
    }
    return count;
}

static void deliver_letters(struct loop *loop)
{
    size_t looks = 0, came;

    do
        came = deliver_mail(loop);
    while (came > 0 && came <= LETTERS_FEW && ++looks < LOOKS_PER_TURN);
}

static void on_mail(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;
    char wakes[64];

    (void)what;
    if (read(fd, wakes, sizeof(wakes)) < 0)
        return;
    if (loop->running) {
        atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
    } else {
        loop->turns++;
        deliver_mail(loop);
    }
}

/* Calls made while these run are deferred to the next round of this same drain. */
static void run_deferred(struct loop *loop)
{
    while (loop->deferred_count > 0) {
        struct deferred *batch = loop->deferred;
        size_t count = loop->deferred_count;

        loop->deferred = NULL;
        loop->deferred_count = loop->deferred_cap = 0;
        for (size_t i = 0; i < count; i++)
            batch[i].fn(batch[i].arg);
        free(batch);
    }
}

static void on_turn_end(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    run_deferred(arg);
}

struct loop *loop_new(void)
{
    struct loop *loop = xcalloc(1, sizeof(*loop));

    atomic_init(&loop->asleep, true);
    /* Not an eventfd: from a pipe the scheduler knows that who writes will sleep soon, and wakes
     * the reader near it. On another core an answer took twice as long to be heard. */
    if (pipe2(loop->wake_fds, O_CLOEXEC | O_NONBLOCK) != 0)
        loop->wake_fds[0] = loop->wake_fds[1] = -1;
    loop->events = event_base_new();
    if (loop->wake_fds[0] < 0 || loop->events == NULL)
        goto fail;
    loop->mail = event_new(loop->events, loop->wake_fds[0], EV_READ | EV_PERSIST, on_mail, loop);
    loop->turn_end = event_new(loop->events, -1, 0, on_turn_end, loop);
    if (loop->mail == NULL || loop->turn_end == NULL || event_add(loop->mail, NULL) < 0)
        goto fail;
    return loop;
fail:
    loop_free(&loop);
    return NULL;
}

/* I/O and timers, then letters, then deferred calls, so that none starves another. Nobody need wake
 * it meanwhile: what they post is looked at before it sleeps. */
static void turn(struct loop *loop)
{
    int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;

    loop->turns++;
    atomic_store(&loop->asleep, true);
    if (atomic_load(&loop->mailbox) != NULL)
        flags |= EVLOOP_NONBLOCK;
    event_base_loop(loop->events, flags);
    atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
    deliver_letters(loop);
    run_deferred(loop);
    log_flush();
}

void loop_run(struct loop *loop)
{
    loop->running = true;
    log_gather(true);
    run_deferred(loop); /* of before */
    while (!atomic_load(&loop->stopping))
        turn(loop);
    loop->running = false;
    atomic_store(&loop->asleep, true);
    deliver_mail(loop);
    run_deferred(loop);
    log_gather(false);
}

static void wake(struct loop *loop)
{
    ssize_t written = write(loop->wake_fds[1], "", 1);

    (void)written; /* EAGAIN means that a wake-up is pending already */
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stopping, true);
    wake(loop);
}

void loop_leave(struct loop *loop, struct loop_remnant *remnant)
{
    remnant->next = loop->remnants;
    remnant->link = &loop->remnants;
    if (remnant->next != NULL)
        remnant->next->link = &remnant->next;
    loop->remnants = remnant;
}

void loop_withdraw(struct loop_remnant *remnant)
{
    if (remnant->link == NULL)
        return;
    *remnant->link = remnant->next;
    if (remnant->next != NULL)
        remnant->next->link = remnant->link;
    remnant->link = NULL;
}

static void end_remnants(struct loop *loop)
{
    while (loop->remnants != NULL) {
        struct loop_remnant *remnant = loop->remnants;

        loop_withdraw(remnant);
        remnant->end(remnant);
    }
}

void loop_free(struct loop **where)
{
    struct loop *loop = *where;

    *where = NULL;
    if (loop == NULL)
        return;
    if (loop->events != NULL) {
        deliver_mail(loop);
        run_deferred(loop);
        end_remnants(loop);
    }
    if (loop->mail != NULL)
        event_free(loop->mail);
    if (loop->turn_end != NULL)
        event_free(loop->turn_end);
    if (loop->events != NULL)
        event_base_free(loop->events);
    for (int i = 0; i < 2; i++)
        if (loop->wake_fds[i] >= 0)
            close(loop->wake_fds[i]);
    free(loop->deferred);
    free(loop->scratch);
    free(loop);
}

struct event_base *loop_events(struct loop *loop)
{
    return loop->events;
}

uint64_t loop_turns(const struct loop *loop)
{
    return loop->turns;
}

uint8_t *loop_scratch(struct loop *loop)
{
    if (loop->scratch == NULL)
        loop->scratch = xmalloc(LOOP_SCRATCH_BYTES);
    return loop->scratch;
}

void loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    static const struct timeval now = {0, 0};

    if (loop->deferred_count == loop->deferred_cap) {
        loop->deferred_cap = loop->deferred_cap ? 2 * loop->deferred_cap : 8;
        loop->deferred = xrealloc(loop->deferred, loop->deferred_cap * sizeof(*loop->deferred));
    }
    loop->deferred[loop->deferred_count++] = (struct deferred){fn, arg};
    /* A zero timer and not event_active(): that one, from inside a callback, starves I/O. */
    if (loop->running)
        atomic_store_explicit(&loop->asleep, false, memory_order_relaxed);
    else if (loop->deferred_count == 1)
        event_add(loop->turn_end, &now);
}

void loop_post(struct loop *loop, struct letter *letter)
{
    struct letter *head = atomic_load_explicit(&loop->mailbox, memory_order_relaxed);

    /* In one order with turn(): either it sees the letter, or we that it is asleep. */
    do
        letter->next = head;
    while (!atomic_compare_exchange_weak(&loop->mailbox, &head, letter));
    if (head == NULL && atomic_load(&loop->asleep))
        wake(loop);
}

uint64_t clock_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_ms(void)
{
    return clock_us() / 1000;
}
