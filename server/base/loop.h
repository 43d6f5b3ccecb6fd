/*
 * A loop: one thread's event base, its mailbox, and its deferred calls. One loop thread owns a
 * connection and all below it; other threads only hand over letters.
 */
#ifndef PARLEY_BASE_LOOP_H
#define PARLEY_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct loop;

/* NULL if the kernel has no descriptors left. */
struct loop *loop_new(void);
void loop_run(
    struct loop *loop); /* returns after loop_stop(); letters and deferred calls are then drained */
void loop_stop(struct loop *loop); /* any thread */
void loop_free(struct loop **loop);
struct event_base *loop_events(struct loop *loop);
/* Counts its turns, for what has a measure in each. The loop's own thread only. */
uint64_t loop_turns(const struct loop *loop);

/* Runs fn(arg) on this loop at the end of its turn, never inside this call. The loop's own thread
 * only. "Close now, free at the end of the turn": whoever called the closer may still hold the
 * object. */
void loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg);

/* Something another thread hands over. Embed it in the object that travels; it is linked, not
 * copied. */
struct letter {
    struct letter *next;
    void (*deliver)(struct letter *letter); /* on the loop's thread */
};

/* Any thread, no lock: the loop is woken only when its mailbox was empty and it is not at work, and
 * drains it as a batch in order. */
void loop_post(struct loop *loop, struct letter *letter);

/* Something that must not outlive the loop, though nobody above it holds it any more. Embed it;
 * end() runs in loop_free() unless it was withdrawn before. The loop's own thread only. */
struct loop_remnant {
    struct loop_remnant *next, **link; /* link NULL: not on the list */
    void (*end)(struct loop_remnant *remnant);
};
void loop_leave(struct loop *loop, struct loop_remnant *remnant);
void loop_withdraw(struct loop_remnant *remnant);

/* One buffer that all on this loop share, so that idle ones need none of their own: what is in it
 * is gone once control returns to the loop, or passes to somebody else who fills it. */
#define LOOP_SCRATCH_BYTES 65536
uint8_t *loop_scratch(struct loop *loop);

uint64_t clock_ms(void); /* CLOCK_MONOTONIC */
uint64_t clock_us(void);

#endif
