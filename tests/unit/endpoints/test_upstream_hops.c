/* A server behind another: reached through a channel of the first one's connection, which others
 * share. */
#include "unit/endpoints/link_world.h"

#include "base/alloc.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THEIRS 7u /* the number that the first hop's server gives the channel */

static void begin_two(struct link_world *w, struct link_user *user, struct transport **outer)
{
    link_user_begin(w, user, &w->both);
    *outer = link_world_log_in(w, HOST_KEY);
    assert_int_equal(user->ready, 0);
    assert_true(fake_sent_is(*outer, 90, "suuusuSu", "direct-tcpip", 0u, 2097152u, 32768u,
                             "inner.example.org", 22u, BYTES("127.0.0.1"), 0u));
}

static struct transport *confirm(struct link_world *w, struct transport *outer)
{
    fake_deliver(outer, 91, "uuuu", 0u, THEIRS, 100000u, 32768u);
    return link_world_reached(w);
}

static void expect_written(struct transport *inner, const char *text)
{
    char got[64];
    ssize_t len = read(fake_descriptor(inner), got, sizeof(got));

    assert_int_equal(len, strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static void it_is_reached_through_the_one_before(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct transport *outer, *inner;

    begin_two(w, &user, &outer);
    inner = confirm(w, outer);
    fake_deliver(outer, 94, "us", 0u, "SSH-2.0-Inner");
    link_world_turn(w);
    expect_written(inner, "SSH-2.0-Inner");
    assert_int_equal(write(fake_descriptor(inner), "SSH-2.0-Parley", 14), 14);
    link_world_turn(w);
    assert_true(fake_sent_is(outer, 94, "us", THEIRS, "SSH-2.0-Parley"));
    link_world_trust(inner, INNER_KEY);
    assert_true(fake_sent_is(inner, 5, "s", "ssh-userauth"));
    fake_deliver(inner, 6, "s", "ssh-userauth");
    assert_true(
        fake_sent_is(inner, 50, "sssbs", "alice", "ssh-connection", "password", 0, "tiger"));
    fake_deliver(inner, 52, "");
    link_world_turn(w);
    assert_int_equal(user.ready, 1);
    link_user_clear(&user);
    link_world_turn(w);
    assert_false(fake_disconnected(outer).called); /* the last words of the inner one pass it */
    fake_flush_disconnect(inner);
    link_world_turn(w);
    assert_int_equal(fake_transports_alive(), 1);
    assert_true(fake_sent_is(outer, 96, "u", THEIRS));
    assert_false(fake_disconnected(outer).called);
    fake_deliver(outer, 96, "u", 0u);
    fake_deliver(outer, 97, "u", 0u);
    link_world_turn(w);
    assert_true(fake_sent_is(outer, 97, "u", THEIRS));
    assert_true(fake_disconnected(outer).called);
    fake_flush_disconnect(outer);
    link_world_turn(w);
    assert_int_equal(fake_transports_alive(), 0);
}

static void a_server_that_closes_nothing_is_left(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct transport *outer, *inner;
    uint64_t until = clock_ms() + 20000;

    begin_two(w, &user, &outer);
    inner = confirm(w, outer);
    link_user_clear(&user);
    fake_flush_disconnect(inner);
    link_world_turn(w);
    assert_true(fake_sent_is(outer, 96, "u", THEIRS));
    while (fake_sent_waiting(outer) == 0 && clock_ms() < until)
        event_base_loop(loop_events(w->loop), EVLOOP_ONCE);
    assert_true(fake_sent_is(outer, 97, "u", THEIRS));
}

static void the_first_hop_is_shared(void **state)
{
    struct link_world *w = *state;
    struct link_user alone = {0}, through = {0}, late = {0};
    struct transport *outer;

    link_user_begin(w, &through, &w->both);
    link_user_begin(w, &alone, &w->answer);
    outer = link_world_log_in(w, HOST_KEY);
    assert_int_equal(alone.ready, 1);
    confirm(w, outer);
    assert_int_equal(fake_transports_alive(), 2);
    link_user_begin(w, &late, &w->both);
    link_world_turn(w);
    assert_int_equal(fake_transports_alive(), 2);
    link_user_clear(&alone);
    link_world_turn(w);
    assert_false(fake_disconnected(outer).called);
    link_user_clear(&through);
    link_user_clear(&late);
}

static void the_first_hop_may_fail(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct transport *outer;

    link_user_begin(w, &user, &w->both);
    outer = link_world_reached(w);
    link_world_trust(outer, "ssh-ed25519:evil");
    link_world_turn(w);
    assert_int_equal(fake_sent_waiting(outer), 0);
    link_user_expect_failed(
        &user, link_world_words(w, "the host key is not the one that is known (ssh-ed25519 "
                                   "SHA256:ssh-ed25519:evil)"));
    assert_int_equal(fake_transports_alive(), 1);
}

static void it_may_refuse_the_way(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct transport *outer;
    char *why = xasprintf("inner.example.org: [127.0.0.1]:%u cannot connect to it: open failed?",
                          (unsigned)w->port);

    begin_two(w, &user, &outer);
    fake_deliver(outer, 92, "uuss", 0u, 2u, "open failed\x1b", "");
    link_world_turn(w);
    link_user_expect_failed(&user, why);
    assert_true(fake_disconnected(outer).called); /* nobody needs it any more */
    free(why);
}

static void the_inner_key_is_checked_too(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct transport *outer, *inner;

    begin_two(w, &user, &outer);
    inner = confirm(w, outer);
    link_world_trust(inner, HOST_KEY); /* the outer one's is not good for it */
    assert_int_equal(fake_sent_waiting(inner), 0);
    link_world_turn(w);
    assert_int_equal(fake_sent_waiting(inner), 0);
    link_user_expect_failed(&user, "inner.example.org: the host key is not the one that is known "
                                   "(ssh-ed25519 SHA256:ssh-ed25519:host)");
}

static void what_ends_the_first_hop_is_told(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct transport *outer, *inner;
    char byte;

    begin_two(w, &user, &outer);
    inner = confirm(w, outer);
    link_world_trust(inner, INNER_KEY);
    fake_end(outer, TRANSPORT_END_PEER, 11, "shutting down");
    link_world_turn(w);
    assert_int_equal(read(fake_descriptor(inner), &byte, 1), 0); /* as the transport would see it */
    fake_end(inner, TRANSPORT_END_EOF, 0, "the server closed the connection");
    link_world_turn(w);
    link_user_expect_failed(&user, link_world_words(w, "disconnected: shutting down"));
    assert_int_equal(fake_transports_alive(), 0);

    begin_two(w, &user, &outer); /* before the way is open, too */
    fake_end(outer, TRANSPORT_END_PEER, 11, "shutting down");
    link_world_turn(w);
    link_user_expect_failed(&user, link_world_words(w, "disconnected: shutting down"));
    assert_int_equal(fake_transports_alive(), 0);
}

/* Steps of the way; then the user goes, and the whole client. */
static void leave_after(struct link_world *w, int steps)
{
    struct link_user user = {0};
    struct transport *outer = NULL, *inner = NULL;

    link_user_begin(w, &user, &w->both);
    if (steps > 0)
        outer = link_world_log_in(w, HOST_KEY);
    if (steps > 1)
        inner = confirm(w, outer);
    if (steps > 2)
        link_world_trust(inner, INNER_KEY);
    if (steps > 3) {
        fake_deliver(inner, 6, "s", "ssh-userauth");
        fake_deliver(inner, 52, "");
    }
    if (steps > 4)
        link_world_turn(w);
    assert_int_equal(user.ready, steps > 4 ? 1 : 0);
    link_release(&user.use);
    if (steps == 6)
        link_world_turn(w);
    link_world_renew(w);
    link_world_turn(w);
    assert_int_equal(fake_transports_alive(), 0);
    assert_int_equal(user.failed, 0);
}

/* The answer comes in the turn in which the user has left. */
static void a_way_that_nobody_wants_any_more_is_not_gone(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct transport *outer;

    begin_two(w, &user, &outer);
    link_user_clear(&user);
    fake_deliver(outer, 91, "uuuu", 0u, THEIRS, 100000u, 32768u);
    link_world_turn(w);
    assert_null(fake_server_take(w->server));
}

static void it_may_be_left_at_any_time(void **state)
{
    for (int steps = 0; steps <= 6; steps++)
        leave_after(*state, steps);
}

static void each_hop_has_its_own_deadline(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct transport *outer;
    uint64_t until = clock_ms() + 20000;

    w->second.connect_timeout_s = 1;
    begin_two(w, &user, &outer);
    while (user.failed == 0 && clock_ms() < until)
        event_base_loop(loop_events(w->loop), EVLOOP_ONCE);
    link_user_expect_failed(&user, "inner.example.org: the server did not answer in time");
}

int main(void)
{
#define hops_test(f) cmocka_unit_test_setup_teardown(f, link_world_set_up, link_world_tear_down)
    const struct CMUnitTest tests[] = {
        hops_test(it_is_reached_through_the_one_before),
        hops_test(a_server_that_closes_nothing_is_left),
        hops_test(the_first_hop_is_shared),
        hops_test(the_first_hop_may_fail),
        hops_test(it_may_refuse_the_way),
        hops_test(the_inner_key_is_checked_too),
        hops_test(what_ends_the_first_hop_is_told),
        hops_test(a_way_that_nobody_wants_any_more_is_not_gone),
        hops_test(it_may_be_left_at_any_time),
        hops_test(each_hop_has_its_own_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
