#include "unit/cmocka_unit.h"

#include "base/alloc.h"
#include "base/helpers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define PLENTY_MS 60000
#define MANY      2000

/* Tasks that are inside a library until the test opens the gate. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    int inside;
};

static atomic_int tasks_alive;

struct errand {
    struct helper_task task;
    struct gate *gate; /* NULL: done at once */
    int number, result;
};

struct world {
    struct loop *loop;
    struct helpers *helpers;
    struct gate gate;
    struct helper_job *job;
    int left; /* outcomes until the loop stops */
    int done, expired, refused;
    long sum;
    bool inside_run;
};

static void gate_wait(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->inside++;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->open)
        pthread_cond_wait(&gate->changed, &gate->lock);
    gate->inside--;
    pthread_mutex_unlock(&gate->lock);
}

static void gate_open(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static void until_inside(struct gate *gate, int count)
{
    pthread_mutex_lock(&gate->lock);
    while (gate->inside < count)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void errand_work(struct helper_task *task)
{
    struct errand *errand = (struct errand *)task;

    if (errand->gate != NULL)
        gate_wait(errand->gate);
    errand->result = 2 * errand->number;
}

static void errand_free(struct helper_task *task)
{
    free(task);
    atomic_fetch_sub(&tasks_alive, 1);
}

static struct helper_task *errand_new(struct gate *gate, int number)
{
    struct errand *errand = xcalloc(1, sizeof(*errand));

    errand->task = (struct helper_task){errand_work, errand_free};
    errand->gate = gate;
    errand->number = number;
    atomic_fetch_add(&tasks_alive, 1);
    return &errand->task;
}

static void on_outcome(void *owner, enum helper_outcome outcome, struct helper_task *task)
{
    struct world *w = owner;

    assert_false(w->inside_run);
    assert_int_equal(task != NULL, outcome == HELPER_DONE);
    w->job = NULL;
    w->done += outcome == HELPER_DONE;
    w->expired += outcome == HELPER_EXPIRED;
    w->refused += outcome == HELPER_REFUSED;
    if (outcome == HELPER_DONE)
        w->sum += ((struct errand *)task)->result;
    if (--w->left == 0)
        loop_stop(w->loop);
}

static struct helper_job *run(struct world *w, uint32_t deadline_ms, struct gate *gate, int number)
{
    struct helper_job *job;

    w->inside_run = true;
    job = helpers_run(w->helpers, w->loop, deadline_ms, errand_new(gate, number), on_outcome, w);
    w->inside_run = false;
    assert_non_null(job);
    return job;
}

static int setup(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));

    w->loop = loop_new();
    w->helpers = helpers_new(2, MANY);
    pthread_mutex_init(&w->gate.lock, NULL);
    pthread_cond_init(&w->gate.changed, NULL);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    gate_open(&w->gate);
    helper_cancel(&w->job);
    helpers_free(&w->helpers);
    loop_free(&w->loop);
    assert_int_equal(atomic_load(&tasks_alive), 0);
    pthread_mutex_destroy(&w->gate.lock);
    pthread_cond_destroy(&w->gate.changed);
    free(w);
    return 0;
}

static void results_come_back_to_the_loop(void **state)
{
    struct world *w = *state;

    w->left = MANY;
    for (int i = 1; i <= MANY; i++)
        run(w, PLENTY_MS, NULL, i);
    loop_run(w->loop);
    assert_int_equal(w->done, MANY);
    assert_int_equal(w->sum, (long)MANY * (MANY + 1));
}

static void a_late_result_is_dropped(void **state)
{
    struct world *w = *state;

    w->left = 1;
    w->job = run(w, 1, &w->gate, 1);
    until_inside(&w->gate, 1);
    loop_run(w->loop);
    assert_int_equal(w->expired, 1);
    gate_open(&w->gate);
}

static void one_that_was_never_begun_expires_too(void **state)
{
    struct world *w = *state;
    struct helper_job *blockers[] = {run(w, PLENTY_MS, &w->gate, 1),
                                     run(w, PLENTY_MS, &w->gate, 1)};

    until_inside(&w->gate, 2);
    w->left = 1;
    run(w, 1, NULL, 1);
    loop_run(w->loop);
    assert_int_equal(w->expired, 1);
    assert_int_equal(atomic_load(&tasks_alive), 2);
    helper_cancel(&blockers[0]);
    helper_cancel(&blockers[1]);
    assert_null(blockers[0]);
}

static void the_queue_is_bounded(void **state)
{
    struct world *w = *state;
    struct helper_job *jobs[3];

    helpers_free(&w->helpers);
    w->helpers = helpers_new(1, 1);
    jobs[0] = run(w, PLENTY_MS, &w->gate, 1);
    until_inside(&w->gate, 1);
    jobs[1] = run(w, PLENTY_MS, &w->gate, 1);
    w->left = 1;
    run(w, PLENTY_MS, &w->gate, 1);
    loop_run(w->loop);
    assert_int_equal(w->refused, 1);
    jobs[2] = run(w, PLENTY_MS, &w->gate, 1); /* refused as well, but cancelled before it hears */
    for (int i = 0; i < 3; i++)
        helper_cancel(&jobs[i]);
}

static void without_threads_every_job_is_refused(void **state)
{
    struct world *w = *state;

    helpers_free(&w->helpers);
    w->helpers = helpers_new(0, MANY);
    w->left = 1;
    run(w, PLENTY_MS, NULL, 1);
    loop_run(w->loop);
    assert_int_equal(w->refused, 1);
}

/* Waiting, inside the library, with its letter on the way: each is silent after the cancel. */
static void a_cancelled_job_is_silent_at_every_stage(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < MANY; i++) {
        struct helper_job *job = run(w, PLENTY_MS, NULL, 1);

        if (i % 7 == 0)
            run(w, PLENTY_MS, NULL, 1); /* these end of themselves */
        w->left += i % 7 == 0;
        helper_cancel(&job);
        helper_cancel(&job);
    }
    loop_run(w->loop);
    assert_int_equal(w->done, (MANY + 6) / 7);
}

/* The only thread is at the second job, so the first one's letter is in the mailbox. */
static void a_posted_letter_may_be_cancelled(void **state)
{
    struct world *w = *state;
    struct helper_job *posted;

    helpers_free(&w->helpers);
    w->helpers = helpers_new(1, MANY);
    posted = run(w, PLENTY_MS, NULL, 100);
    w->left = 1;
    w->job = run(w, PLENTY_MS, &w->gate, 1);
    until_inside(&w->gate, 1);
    helper_cancel(&posted);
    gate_open(&w->gate);
    loop_run(w->loop);
    assert_int_equal(w->done, 1);
    assert_int_equal(w->sum, 2);
}

static void the_end_does_not_wait_for_a_stuck_library(void **state)
{
    struct world *w = *state;
    struct helper_job *job = run(w, PLENTY_MS, &w->gate, 1);

    until_inside(&w->gate, 1);
    helper_cancel(&job);
    helpers_free(&w->helpers); /* returns: the gate is still shut */
    assert_null(w->helpers);
    gate_open(&w->gate);
    while (atomic_load(&tasks_alive) > 0) /* the helper frees what it was given */
        sched_yield();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(results_come_back_to_the_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(a_late_result_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_was_never_begun_expires_too, setup, teardown),
        cmocka_unit_test_setup_teardown(the_queue_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(without_threads_every_job_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cancelled_job_is_silent_at_every_stage, setup, teardown),
        cmocka_unit_test_setup_teardown(a_posted_letter_may_be_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end_does_not_wait_for_a_stuck_library, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
