/* How long failures take: as long for those who exist as for those who do not. */
#include "unit/auth/login.h"

#include <event2/event.h>

static const struct siphash_key key = {1, 2};

/* As login_setup(), but with the delay that the daemon has. */
static int delayed_setup(void **state)
{
    struct login *l;

    login_setup_new(state);
    l = *state;
    login_restart(l, &(struct auth_settings){.max_failures = 6,
                                             .max_requests = 40,
                                             .help = {.loop = l->loop},
                                             .delay_key = &key});
    return 0;
}

/* Milliseconds until the reply has been sent. */
static uint64_t wait_reply(struct login *l, uint64_t since_us)
{
    while (fake_sent_waiting(l->transport) == 0)
        event_base_loop(loop_events(l->loop), EVLOOP_ONCE);
    return (clock_us() - since_us) / 1000;
}

static void a_failure_takes_its_time(void **state)
{
    struct login *l = *state;
    uint64_t began = clock_us();

    send_password(l, "alice", "guess");
    fake_begin_both(l->control);
    fake_deny(l->control, RPC_VALIDATE_PASSWORD, "no");
    assert_int_equal(fake_sent_waiting(l->transport), 0); /* nor the banner */
    assert_true(wait_reply(l, began) >= 5);
    expect_banner(l, "no\r\n");
    expect_failure(l, "publickey,password", false);
}

static void what_took_longer_is_stretched(void **state)
{
    struct login *l = *state;
    uint64_t began = clock_us(), took;

    send_password(l, "alice", "guess");
    fake_begin_both(l->control);
    while (clock_us() - began < 13000) /* the policy thinks */
        event_base_loop(loop_events(l->loop), EVLOOP_NONBLOCK);
    fake_deny(l->control, RPC_VALIDATE_PASSWORD, "");
    assert_int_equal(fake_sent_waiting(l->transport), 0);
    took = wait_reply(l, began);
    assert_true(took >= 13);
}

static void requests_wait_for_it(void **state)
{
    struct login *l = *state;
    uint64_t began = clock_us();

    send_password(l, "alice", "guess");
    send_password(l, "alice", "guess");
    fake_begin_both(l->control);
    fake_deny(l->control, RPC_VALIDATE_PASSWORD, "");
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_PASSWORD), 1);
    wait_reply(l, began);
    expect_failure(l, "publickey,password", false);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_PASSWORD), 2);
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_success(l); /* at once */
}

/* A person's typing is no time of ours: each response begins anew. */
static void responses_take_their_own_time(void **state)
{
    struct login *l = *state;
    uint64_t began = clock_us();

    send_kbdint(l, "alice");
    fake_begin(l->control, (Policy__AuthMethod[]){FAKE_KBDINT, 0});
    fake_challenge(l->control, RPC_GET_KBDINT_CHALLENGE, 1);
    expect_challenge(l, 1); /* at once */
    while (clock_us() - began < 20000)
        event_base_loop(loop_events(l->loop), EVLOOP_NONBLOCK);
    for (int i = 0; i < 2; i++) {
        began = clock_us();
        send_responses(l, i == 0 ? 1 : 2, "guess");
        if (i == 0)
            fake_deny(l->control, RPC_VALIDATE_KBDINT_RESPONSE, "");
        assert_int_equal(fake_sent_waiting(l->transport), 0);
        assert_true(wait_reply(l, began) >= 5);
        expect_failure(l, "keyboard-interactive", false);
        send_kbdint(l, "alice");
        fake_challenge(l->control, RPC_GET_KBDINT_CHALLENGE, 1);
        expect_challenge(l, 1);
    }
}

static void none_and_success_take_none(void **state)
{
    struct login *l = *state;

    send_none(l, "alice");
    fake_begin_both(l->control);
    expect_failure(l, "publickey,password", false);
}

static void the_last_failure_takes_its_time_too(void **state)
{
    struct login *l = *state;
    uint64_t began = 0;

    for (int i = 0; i < 6; i++) {
        began = clock_us();
        send_password(l, "alice", "guess");
        if (i == 0)
            fake_begin_both(l->control);
        fake_deny(l->control, RPC_VALIDATE_PASSWORD, "");
        assert_int_equal(l->faults, 0);
        if (i < 5) {
            wait_reply(l, began);
            expect_failure(l, "publickey,password", false);
        }
    }
    while (l->faults == 0)
        event_base_loop(loop_events(l->loop), EVLOOP_ONCE);
    assert_true(clock_us() - began >= 5000);
    expect_fault(l, 14);
}

static void the_end_stops_it(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "guess");
    fake_begin_both(l->control);
    fake_deny(l->control, RPC_VALIDATE_PASSWORD, "");
    auth_free(&l->auth);
    for (uint64_t began = clock_us(); clock_us() - began < 15000;)
        event_base_loop(loop_events(l->loop), EVLOOP_NONBLOCK);
    assert_int_equal(fake_sent_waiting(l->transport), 0);
}

#define delayed_test(f) cmocka_unit_test_setup_teardown(f, delayed_setup, login_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        delayed_test(a_failure_takes_its_time),   delayed_test(what_took_longer_is_stretched),
        delayed_test(requests_wait_for_it),       delayed_test(responses_take_their_own_time),
        delayed_test(none_and_success_take_none), delayed_test(the_last_failure_takes_its_time_too),
        delayed_test(the_end_stops_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
