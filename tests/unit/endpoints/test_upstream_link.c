/* One connection to one server: reached, trusted, logged in, kept alive, shared, and how it ends.
 */
#include "unit/endpoints/link_world.h"

#include "base/alloc.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the course of it */

static void it_is_dialled_trusted_and_logged_in(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct transport *t;

    link_user_begin(w, &user, &w->answer);
    t = link_world_log_in(w, HOST_KEY);
    assert_string_equal(
        fake_host_key_algorithms(t),
        "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,"
        "rsa-sha2-256");
    assert_int_equal(user.ready, 1);
    assert_non_null(user.mux);
    assert_int_equal(fake_sent_waiting(t), 0);
    link_user_clear(&user);
    assert_int_equal(fake_disconnected(t).code, 11);
    link_world_turn(w);
    assert_int_equal(fake_transports_alive(), 1); /* its last words are under way */
    fake_flush_disconnect(t);
    link_world_turn(w);
    assert_int_equal(fake_transports_alive(), 0);
}

static void who_comes_later_is_told_later(void **state)
{
    struct link_world *w = *state;
    struct link_user first = {0}, second = {0}, third = {0};

    link_user_begin(w, &first, &w->answer);
    link_user_begin(w, &second, &w->answer);
    link_world_log_in(w, HOST_KEY);
    assert_int_equal(first.ready + second.ready, 2);
    link_user_begin(w, &third, &w->answer);
    link_world_turn(w);
    assert_int_equal(third.ready, 1);
    assert_ptr_equal(first.mux, third.mux);
    assert_int_equal(fake_transports_alive(), 1);
    link_user_clear(&first);
    link_user_clear(&second);
    assert_false(fake_disconnected(w->last).called);
    link_user_clear(&third);
    assert_true(fake_disconnected(w->last).called);
}

static void an_empty_user_is_the_same_name(void **state)
{
    struct link_world *w = *state;
    struct link_user first = {0}, second = {0};

    w->first.user = "";
    link_user_begin(w, &first, &w->answer);
    w->first.user = "alice";
    link_user_begin(w, &second, &w->answer);
    link_world_log_in(w, HOST_KEY);
    assert_int_equal(first.ready + second.ready, 2);
    link_user_clear(&first);
    link_user_clear(&second);
}

/* Each in a connection of its own: none is ready by the other's login. */
static void expect_apart(struct link_world *w)
{
    struct link_user other = {0};

    link_user_begin(w, &other, &w->answer);
    link_world_reached(w);
    link_world_turn(w);
    assert_int_equal(other.ready, 0);
    link_user_clear(&other);
    link_world_turn(w);
    fake_flush_disconnect(w->last);
    link_world_turn(w);
}

static void what_differs_is_not_shared(void **state)
{
    struct link_world *w = *state;
    struct link_user first = {0};

    link_user_begin(w, &first, &w->answer);
    link_world_log_in(w, HOST_KEY);
    w->first.password = "lion";
    expect_apart(w);
    w->first.password = "tiger";
    w->first.user = "bob";
    expect_apart(w);
    w->first.user = "alice";
    w->first.known_hosts.len--;
    expect_apart(w);
    w->first.known_hosts.len++;
    w->first.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PRIVATE_KEY;
    w->first.private_key = (ProtobufCBinaryData){strlen(FAKE_PRIVATE_KEY(HOST_KEY)),
                                                 (uint8_t *)FAKE_PRIVATE_KEY(HOST_KEY)};
    expect_apart(w);
    link_user_clear(&first);
}

/* ---- what goes wrong */

static void a_failed_one_is_never_handed_on(void **state)
{
    struct link_world *w = *state;
    struct link_user first = {0}, second = {0}, third = {0};
    struct transport *t;

    first.again = &third;
    link_user_begin(w, &first, &w->answer);
    t = link_world_reached(w);
    link_world_trust(t, "ssh-ed25519:evil");
    link_user_begin(w, &second, &w->answer); /* the first has not heard yet */
    link_world_turn(w);
    assert_int_equal(first.failed, 1);
    assert_int_equal(second.failed + third.failed, 0);
    link_world_log_in(w, HOST_KEY);
    assert_int_equal(second.ready, 1);
    assert_int_equal(third.ready, 1);
    assert_int_equal(fake_transports_alive(), 2);
    link_user_clear(&first);
    link_user_clear(&second);
    link_user_clear(&third);
}

static void one_that_ends_is_never_handed_on(void **state)
{
    struct link_world *w = *state;
    struct link_user first = {0}, second = {0};
    struct transport *t;

    link_user_begin(w, &first, &w->answer);
    t = link_world_log_in(w, HOST_KEY);
    transport_disconnect(t, 2, "a violation", ""); /* as the transport does by itself */
    link_user_begin(w, &second, &w->answer);
    link_world_log_in(w, HOST_KEY);
    assert_int_equal(second.ready, 1);
    link_user_clear(&first);
    link_user_clear(&second);
}

static void a_refused_login_is_told_to_all(void **state)
{
    struct link_world *w = *state;
    struct link_user first = {0}, second = {0};
    struct transport *t;

    link_user_begin(w, &first, &w->answer);
    link_user_begin(w, &second, &w->answer);
    t = link_world_reached(w);
    link_world_trust(t, HOST_KEY);
    fake_deliver(t, 6, "s", "ssh-userauth");
    fake_deliver(t, 51, "sb", "publickey", 0);
    assert_int_equal(first.failed, 0); /* not from inside */
    link_world_turn(w);
    link_user_expect_failed(&first, link_world_words(w, "permission denied (publickey)"));
    link_user_expect_failed(&second, link_world_words(w, "permission denied (publickey)"));
    assert_int_equal(fake_disconnected(t).code, 14);
}

static void an_end_is_told_in_its_words(void **state)
{
    static const struct {
        enum transport_end_kind kind;
        uint32_t code;
        const char *reason, *words;
    } ends[] = {
        {TRANSPORT_END_PEER, 11, "too many users", "disconnected: too many users"},
        {TRANSPORT_END_EOF, 0, "the server closed the connection",
         "the server closed the connection"},
        {TRANSPORT_END_IO, 0, "Connection reset by peer", "Connection reset by peer"},
        {TRANSPORT_END_PROTOCOL, 2, "bad packet", "it broke the protocol: bad packet"},
        {TRANSPORT_END_PROTOCOL, 3, "nothing in common", "nothing in common"},
    };
    struct link_world *w = *state;

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct link_user user = {0};

        link_user_begin(w, &user, &w->answer);
        fake_end(link_world_reached(w), ends[i].kind, ends[i].code, ends[i].reason);
        link_world_turn(w);
        link_user_expect_failed(&user, link_world_words(w, ends[i].words));
        assert_int_equal(fake_transports_alive(), 0);
    }
}

static void nobody_may_be_there(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    uint64_t until = clock_ms() + 20000;

    close(w->listener);
    link_user_begin(w, &user, &w->answer);
    while (user.failed == 0 && clock_ms() < until)
        link_world_turn(w);
    link_user_expect_failed(&user, link_world_words(w, "connection refused"));
}

static void an_address_may_be_denied(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct network loopback;

    assert_true(network_parse("127.0.0.0/8", &loopback));
    w->dial.denied = &loopback;
    w->dial.denied_count = 1;
    link_user_begin(w, &user, &w->answer);
    link_world_turn(w);
    link_user_expect_failed(
        &user, link_world_words(w, "connections to this address are not allowed here"));
}

static void a_transport_may_not_begin(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    uint64_t until = clock_ms() + 20000;

    fake_server_refuse(w->server);
    link_user_begin(w, &user, &w->answer);
    while (user.failed == 0 && clock_ms() < until)
        link_world_turn(w);
    link_user_expect_failed(&user, link_world_words(w, "no connection can be set up"));
}

static void a_server_may_be_silent(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    uint64_t until = clock_ms() + 20000;

    w->first.connect_timeout_s = 1;
    link_user_begin(w, &user, &w->answer);
    link_world_reached(w);
    while (user.failed == 0 && clock_ms() < until)
        link_world_turn(w);
    link_user_expect_failed(&user, link_world_words(w, "the server did not answer in time"));
}

/* ---- once it is ready */

static size_t on_data(void *owner, struct bytes data, uint32_t extended_type)
{
    (void)owner;
    (void)extended_type;
    return data.len;
}

static void on_nothing(void *owner)
{
    (void)owner;
}

static void on_opened(void *owner, struct endpoint *endpoint)
{
    (void)owner;
    (void)endpoint;
    fail();
}

static void on_refused(void *owner, uint32_t code, const char *reason)
{
    struct link_user *user = owner;

    assert_int_equal(code, 2);
    free(user->why);
    user->why = xstrdup(reason);
    link_release(&user->use);
}

static void open_something(struct link_user *user)
{
    static const struct endpoint_events events = {.data = on_data};
    static const struct mux_opened_events opened = {on_opened, on_refused, on_nothing};
    struct upstream_target target = {.host = "there", .port = 80, .origin_host = ""};

    mux_open_direct(user->mux, &target, &events, user, &opened, user);
}

static void three_silences_end_it(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct transport *t;
    uint64_t until = clock_ms() + 20000;

    w->settings.keepalive_ms = 20;
    link_world_renew(w);
    link_user_begin(w, &user, &w->answer);
    t = link_world_log_in(w, HOST_KEY);
    open_something(&user);
    while (!fake_disconnected(t).called && clock_ms() < until)
        event_base_loop(loop_events(w->loop), EVLOOP_ONCE);
    link_world_turn(w);
    assert_true(fake_sent_is(t, 90, "suuusuSu", "direct-tcpip", 0u, 2097152u, 32768u, "there", 80u,
                             BYTES(""), 0u));
    for (int i = 0; i < 3; i++)
        assert_true(fake_sent_is(t, 80, "sb", "keepalive@openssh.com", 1));
    assert_int_equal(fake_sent_waiting(t), 0);
    assert_string_equal(user.why, link_world_words(w, "the upstream does not answer"));
    assert_null(user.use);
    link_user_clear(&user);
}

static void answers_keep_it_alive(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct transport *t;
    struct fake_message asked;
    uint64_t until = clock_ms() + 20000;

    w->settings.keepalive_ms = 10;
    link_world_renew(w);
    link_user_begin(w, &user, &w->answer);
    t = link_world_log_in(w, HOST_KEY);
    for (int i = 0; i < 10; i++) {
        while (fake_sent_waiting(t) == 0 && clock_ms() < until)
            event_base_loop(loop_events(w->loop), EVLOOP_ONCE);
        assert_true(fake_sent(t, &asked));
        assert_int_equal(asked.type, 80);
        fake_deliver(t, 82, "");
    }
    assert_false(fake_disconnected(t).called);
    link_user_clear(&user);
}

static void a_broken_protocol_is_told_to_the_channels(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct transport *t;

    link_user_begin(w, &user, &w->answer);
    t = link_world_log_in(w, HOST_KEY);
    open_something(&user);
    fake_deliver(t, 94, "us", 7u, "data for nobody");
    assert_int_equal(fake_disconnected(t).code, 2);
    assert_null(user.why);
    link_world_turn(w);
    assert_non_null(strstr(user.why, "it broke the protocol: "));
    link_user_clear(&user);
}

static void late_messages_of_the_login_are_not_understood(void **state)
{
    struct link_world *w = *state;
    struct link_user user = {0};
    struct transport *t;

    link_user_begin(w, &user, &w->answer);
    t = link_world_log_in(w, HOST_KEY);
    fake_deliver(t, 4, "bss", 1, "hello", "");
    fake_deliver(t, 7, "u", 0u);
    assert_int_equal(fake_not_understood(t), 0);
    fake_deliver(t, 51, "sb", "password", 0);
    fake_deliver(t, 52, "");
    fake_deliver(t, 60, "ss", "", "");
    fake_deliver(t, 127, "");
    assert_int_equal(fake_not_understood(t), 4);
    link_user_clear(&user);
}

/* ---- ends at any time */

static void leave_after(struct link_world *w, int steps, bool by_upstreams)
{
    struct link_user user = {0};
    struct transport *t = NULL;

    link_user_begin(w, &user, &w->answer);
    if (steps > 0)
        t = link_world_reached(w);
    if (steps > 1)
        link_world_trust(t, HOST_KEY);
    if (steps > 2)
        fake_deliver(t, 6, "s", "ssh-userauth");
    if (steps > 3)
        fake_deliver(t, 52, "");
    if (steps > 4)
        link_world_turn(w);
    assert_int_equal(user.ready, steps > 4 ? 1 : 0);
    link_release(&user.use);
    if (by_upstreams)
        link_world_renew(w);
    link_world_turn(w);
    if (t != NULL && !by_upstreams) {
        assert_true(fake_disconnected(t).called);
        fake_flush_disconnect(t);
        link_world_turn(w);
    }
    assert_int_equal(fake_transports_alive(), 0);
    assert_int_equal(user.failed, 0);
}

static void it_may_be_left_at_any_time(void **state)
{
    for (int steps = 0; steps <= 5; steps++) {
        leave_after(*state, steps, false);
        leave_after(*state, steps, true);
    }
}

int main(void)
{
#define link_test(f) cmocka_unit_test_setup_teardown(f, link_world_set_up, link_world_tear_down)
    const struct CMUnitTest tests[] = {
        link_test(it_is_dialled_trusted_and_logged_in),
        link_test(who_comes_later_is_told_later),
        link_test(an_empty_user_is_the_same_name),
        link_test(what_differs_is_not_shared),
        link_test(a_failed_one_is_never_handed_on),
        link_test(one_that_ends_is_never_handed_on),
        link_test(a_refused_login_is_told_to_all),
        link_test(an_end_is_told_in_its_words),
        link_test(nobody_may_be_there),
        link_test(an_address_may_be_denied),
        link_test(a_transport_may_not_begin),
        link_test(a_server_may_be_silent),
        link_test(three_silences_end_it),
        link_test(answers_keep_it_alive),
        link_test(a_broken_protocol_is_told_to_the_channels),
        link_test(late_messages_of_the_login_are_not_understood),
        link_test(it_may_be_left_at_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
