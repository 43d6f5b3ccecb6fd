#include "unit/cmocka_unit.h"

#include "base/loop.h"

#include <event2/event.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdlib.h>

#define THREADS 4
#define LETTERS 20000

struct numbered {
    struct letter letter;
    int thread, number;
    struct crowd *crowd;
};

struct crowd {
    struct loop *loop;
    int next[THREADS]; /* each sender's letters arrive in its order */
    int left;
    bool disorder;
};

static void on_letter(struct letter *letter)
{
    struct numbered *numbered = (struct numbered *)letter;
    struct crowd *crowd = numbered->crowd;

    if (crowd->next[numbered->thread]++ != numbered->number)
        crowd->disorder = true;
    free(numbered);
    if (--crowd->left == 0)
        loop_stop(crowd->loop);
}

struct sender {
    struct crowd *crowd;
    int thread;
};

static void *send_all(void *arg)
{
    struct sender *sender = arg;

    for (int i = 0; i < LETTERS; i++) {
        struct numbered *numbered = malloc(sizeof(*numbered));

        *numbered = (struct numbered){
            .letter.deliver = on_letter,
            .thread = sender->thread,
            .number = i,
            .crowd = sender->crowd,
        };
        loop_post(sender->crowd->loop, &numbered->letter);
    }
    return NULL;
}

static void letters_of_many_threads_arrive_in_order(void **state)
{
    struct crowd crowd = {.loop = loop_new(), .left = THREADS * LETTERS};
    struct sender senders[THREADS];
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        senders[i] = (struct sender){&crowd, i};
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, &senders[i]), 0);
    }
    loop_run(crowd.loop);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(crowd.left, 0);
    assert_false(crowd.disorder);
    loop_free(&crowd.loop);
    assert_null(crowd.loop);
}

#define SINGLES 20000

struct singles {
    struct loop *loop;
    struct letter letter;
    sem_t delivered;
    int count;
};

static void on_single(struct letter *letter)
{
    struct singles *singles = (struct singles *)((char *)letter - offsetof(struct singles, letter));

    if (++singles->count == SINGLES)
        loop_stop(singles->loop);
    sem_post(&singles->delivered);
}

static void *post_singly(void *arg)
{
    struct singles *singles = arg;

    for (int i = 0; i < SINGLES; i++) {
        loop_post(singles->loop, &singles->letter);
        sem_wait(&singles->delivered);
    }
    return NULL;
}

/* Each comes while it goes to sleep, or sleeps, or has just woken: none may be left lying. */
static void a_letter_is_never_slept_over(void **state)
{
    struct singles singles = {.loop = loop_new(), .letter.deliver = on_single};
    pthread_t thread;

    (void)state;
    sem_init(&singles.delivered, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, post_singly, &singles), 0);
    loop_run(singles.loop);
    pthread_join(thread, NULL);
    assert_int_equal(singles.count, SINGLES);
    sem_destroy(&singles.delivered);
    loop_free(&singles.loop);
}

#define ROUNDS 1000

struct relay {
    struct loop *loop;
    struct letter letter;
    int rounds;
    bool timer_fired;
};

static void pass_on(struct letter *letter)
{
    struct relay *relay = (struct relay *)((char *)letter - offsetof(struct relay, letter));

    if (relay->timer_fired && ++relay->rounds > ROUNDS)
        loop_stop(relay->loop);
    else
        loop_post(relay->loop, letter);
}

static void on_relay_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    ((struct relay *)arg)->timer_fired = true;
}

static void letters_to_oneself_leave_room_for_others(void **state)
{
    struct relay relay = {.loop = loop_new(), .letter.deliver = pass_on};
    struct timeval soon = {0, 1000};

    (void)state;
    event_base_once(loop_events(relay.loop), -1, EV_TIMEOUT, on_relay_timer, &relay, &soon);
    loop_post(relay.loop, &relay.letter);
    loop_run(relay.loop);
    assert_int_equal(relay.rounds, ROUNDS + 1);
    loop_free(&relay.loop);
}

struct turns {
    struct loop *loop;
    int calls;
    bool inside;
};

static void on_deferred(void *arg)
{
    struct turns *turns = arg;

    assert_false(turns->inside);
    if (++turns->calls < 3)
        loop_defer(turns->loop, on_deferred, turns);
    else
        loop_stop(turns->loop);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct turns *turns = arg;

    (void)fd;
    (void)what;
    turns->inside = true;
    loop_defer(turns->loop, on_deferred, turns);
    turns->inside = false;
}

static void deferred_calls_run_after_their_caller(void **state)
{
    struct turns turns = {.loop = loop_new()};
    struct timeval now = {0, 0};

    (void)state;
    event_base_once(loop_events(turns.loop), -1, EV_TIMEOUT, on_timer, &turns, &now);
    loop_run(turns.loop);
    assert_int_equal(turns.calls, 3);
    loop_free(&turns.loop);
}

static void count_up(void *arg)
{
    ++*(int *)arg;
}

static void on_late(struct letter *letter)
{
    struct numbered *numbered = (struct numbered *)letter;

    numbered->number++;
}

static void what_is_left_is_drained_after_the_stop(void **state)
{
    struct loop *loop = loop_new();
    struct numbered late = {.letter.deliver = on_late};
    int calls = 0;

    (void)state;
    loop_stop(loop);
    loop_post(loop, &late.letter);
    loop_defer(loop, count_up, &calls);
    loop_run(loop); /* stopped before it began */
    assert_int_equal(late.number, 1);
    assert_int_equal(calls, 1);
    loop_post(loop, &late.letter);
    loop_defer(loop, count_up, &calls);
    loop_free(&loop);
    assert_int_equal(late.number, 2);
    assert_int_equal(calls, 2);
}

static void time_goes_on(void **state)
{
    uint64_t before = clock_ms();

    (void)state;
    assert_true(before > 0);
    assert_true(clock_ms() >= before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(letters_of_many_threads_arrive_in_order),
        cmocka_unit_test(a_letter_is_never_slept_over),
        cmocka_unit_test(letters_to_oneself_leave_room_for_others),
        cmocka_unit_test(deferred_calls_run_after_their_caller),
        cmocka_unit_test(what_is_left_is_drained_after_the_stop),
        cmocka_unit_test(time_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
