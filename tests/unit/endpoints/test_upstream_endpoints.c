/* What a client's channel ends in, before and after its upstream stands: sessions that wait for it,
 * direct channels that are not there before it. */
#include "unit/endpoints/link_world.h"
#include "unit/endpoints/upstream_world.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* ---- sessions */

static void begin_session(struct link_world *w, struct user *user)
{
    Policy__ChannelOpened opened = POLICY__CHANNEL_OPENED__INIT;
    Policy__SessionStart session = POLICY__SESSION_START__INIT;
    Policy__ShellProgram shell = POLICY__SHELL_PROGRAM__INIT;
    struct endpoint_start start = {
        .asker = w->asker, .opened = &opened, .events = &user_events, .owner = user};
    const char *why = NULL;

    session.program_case = POLICY__SESSION_START__PROGRAM_SHELL;
    session.shell = &shell;
    opened.kind_case = POLICY__CHANNEL_OPENED__KIND_SESSION;
    opened.session = &session;
    user_init(user, NULL);
    user->endpoint = endpoint_upstream_new(&start, w->upstreams, &w->answer, &why);
    assert_non_null(user->endpoint);
    assert_null(why);
}

static void confirm_session(struct link_world *w, struct transport *t)
{
    (void)w;
    assert_true(fake_sent_is(t, OPEN, "suuu", "session", 0, FIRST_WINDOW, PACKET));
    fake_deliver(t, CONFIRMATION, "uuuu", 0, THEIRS, THEIR_WINDOW, THEIR_PACKET);
    assert_true(fake_sent_is(t, REQUEST, "usb", THEIRS, "shell", true));
}

static void a_session_passes_through_once_it_stands(void **state)
{
    struct link_world *w = *state;
    struct transport *t;
    struct user user;

    begin_session(w, &user);
    assert_int_equal(user_write(&user, BYTES("typed ahead")), 0);
    t = link_world_log_in(w, HOST_KEY);
    assert_int_equal(user_write(&user, BYTES("typed ahead")), 0);
    confirm_session(w, t);
    assert_int_equal(user.writables, 1);
    assert_int_equal(user_write(&user, BYTES("typed ahead")), 11);
    assert_true(fake_sent_is(t, DATA, "us", THEIRS, "typed ahead"));
    fake_deliver(t, SUCCESS, "u", 0);
    fake_deliver(t, DATA, "us", 0, "$ ");
    expect_text(&user.out, "$ ");
    user.room = 0;
    fake_deliver(t, DATA, "us", 0, "more");
    user_resume(&user, 100);
    expect_text(&user.out, "$ more");
    fake_deliver(t, REQUEST, "usbu", 0, "exit-status", false, 7);
    fake_deliver(t, CH_EOF, "u", 0);
    fake_deliver(t, CH_CLOSE, "u", 0);
    assert_int_equal(user.status, 7);
    assert_int_equal(user.ended, 1);
    assert_true(user.in_order);
    link_world_turn(w);
    assert_true(fake_disconnected(t).called); /* nobody else uses it */
    user_clear(&user);
}

static void what_was_wanted_before_is_sent_in_its_order(void **state)
{
    struct link_world *w = *state;
    Policy__WindowSize size = POLICY__WINDOW_SIZE__INIT;
    struct endpoint *e;
    struct transport *t;
    struct user user;

    begin_session(w, &user);
    e = user.endpoint;
    for (size.columns = 1; size.columns <= 100; size.columns++)
        e->ops->window_change(e, &size);
    e->ops->signal(e, "USR1");
    size.columns = 80;
    e->ops->window_change(e, &size);
    e->ops->break_request(e, 3, 500, false);
    e->ops->unwanted(e);
    e->ops->eof(e);
    for (int i = 0; i < 100; i++)
        e->ops->signal(e, "USR2"); /* more than is remembered */
    t = link_world_log_in(w, HOST_KEY);
    fake_set_client_version(t, "SSH-2.0-OpenSSH_9.2p1");
    confirm_session(w, t);
    assert_true(fake_sent_is(t, REQUEST, "usbuuuu", THEIRS, "window-change", false, 100, 0, 0, 0));
    assert_true(fake_sent_is(t, REQUEST, "usbs", THEIRS, "signal", false, "USR1"));
    assert_true(fake_sent_is(t, REQUEST, "usbuuuu", THEIRS, "window-change", false, 80, 0, 0, 0));
    assert_true(fake_sent_is(t, REQUEST, "usbu", THEIRS, "break", false, 500));
    for (int i = 0; i < 12; i++)
        assert_true(fake_sent_is(t, REQUEST, "usbs", THEIRS, "signal", false, "USR2"));
    assert_true(fake_sent_is(t, REQUEST, "usb", THEIRS, "eow@openssh.com", false));
    assert_true(fake_sent_is(t, CH_EOF, "u", THEIRS));
    assert_int_equal(fake_sent_waiting(t), 0);
    user_stop(&user);
    user_clear(&user);
}

static void a_login_that_fails_is_told_to_the_user(void **state)
{
    struct link_world *w = *state;
    struct transport *t;
    struct user user;

    begin_session(w, &user);
    user.room = 5;
    t = link_world_reached(w);
    link_world_trust(t, "ssh-ed25519:somebody-else");
    link_world_turn(w);
    assert_int_equal(user.err.len, 5);
    assert_int_equal(user.statuses + user.ended, 0);
    user_resume(&user, 1000);
    assert_memory_equal(user.err.data, "[127.0.0.1]:", 12);
    assert_memory_equal(user.err.data + user.err.len - 2, "\r\n", 2);
    assert_int_equal(user.status, 255);
    assert_int_equal(user.ended, 1);
    assert_false(user.in_order);
    expect_text(&user.out, "");
    user_clear(&user);
}

static void a_session_that_is_refused_is_told_to_the_user(void **state)
{
    struct link_world *w = *state;
    struct transport *t;
    struct user user;

    begin_session(w, &user);
    t = link_world_log_in(w, HOST_KEY);
    fake_deliver(t, OPEN_FAILURE, "uuss", 0, 4, "too many", "");
    expect_text(&user.err, "The upstream server refused the session: too many\r\n");
    assert_int_equal(user.status, 255);
    assert_int_equal(user.ended, 1);
    user_clear(&user);
}

/* It refused nothing. */
static void a_connection_that_is_lost_before_the_session_is_told_as_such(void **state)
{
    struct link_world *w = *state;
    struct transport *t;
    struct user user;
    char *told;

    begin_session(w, &user);
    t = link_world_log_in(w, HOST_KEY);
    fake_end(t, TRANSPORT_END_PEER, 11, "shutting down");
    link_world_turn(w);
    told = xasprintf("%s\r\n", link_world_words(w, "disconnected: shutting down"));
    expect_text(&user.err, told);
    assert_int_equal(user.status, 255);
    assert_int_equal(user.ended, 1);
    free(told);
    user_clear(&user);
}

static void a_connection_that_is_lost_is_told_to_the_user(void **state)
{
    struct link_world *w = *state;
    struct transport *t;
    struct user user;

    begin_session(w, &user);
    t = link_world_log_in(w, HOST_KEY);
    confirm_session(w, t);
    fake_deliver(t, DATA, "us", 0, "half");
    fake_end(t, TRANSPORT_END_EOF, 0, "the peer closed the connection");
    link_world_turn(w);
    expect_text(&user.out, "half");
    assert_true(user.err.len > 2);
    assert_int_equal(user.statuses, 0);
    assert_int_equal(user.ended, 1);
    assert_false(user.in_order);
    user_clear(&user);
}

static void a_server_that_breaks_the_protocol_ends_its_sessions(void **state)
{
    struct link_world *w = *state;
    struct transport *t;
    struct user user;

    begin_session(w, &user);
    t = link_world_log_in(w, HOST_KEY);
    confirm_session(w, t);
    fake_deliver(t, DATA, "us", 99, "for nobody");
    link_world_turn(w);
    assert_non_null(strstr(user.why, "it broke the protocol: message for a channel"));
    assert_int_equal(user.ended, 1);
    assert_false(user.in_order);
    user_clear(&user);
}

/* ---- at any moment */

enum moment { AT_ONCE, REACHED, LOGGED_IN, STANDING, MOMENTS };

/* NULL: there is no transport yet. */
static struct transport *come_to(struct link_world *w, enum moment moment)
{
    struct transport *t = NULL;

    if (moment == REACHED)
        t = link_world_reached(w);
    else if (moment > REACHED)
        t = link_world_log_in(w, HOST_KEY);
    if (moment == STANDING)
        fake_deliver(t, CONFIRMATION, "uuuu", 0, THEIRS, THEIR_WINDOW, THEIR_PACKET);
    return t;
}

static void a_session_may_be_stopped_at_any_moment(void **state)
{
    struct link_world *w = *state;
    struct user user;

    for (int moment = AT_ONCE; moment < MOMENTS; moment++)
        for (int free_first = 0; free_first < 2; free_first++) {
            begin_session(w, &user);
            come_to(w, moment);
            user_stop(&user);
            if (!free_first)
                link_world_turn(w);
            link_world_renew(w); /* the client goes */
            assert_int_equal(user.ended + user.statuses, 0);
            user_clear(&user);
        }
}

/* ---- direct channels */

static void on_opened(void *owner, struct endpoint *endpoint, uint32_t code, const char *reason)
{
    struct user *user = owner;

    user->endpoint = endpoint;
    user->flow++; /* how often we were called */
    user->code = code;
    if (reason != NULL)
        strncpy(user->reason, reason, sizeof(user->reason) - 1);
}

static struct upstream_opening *begin_direct(struct link_world *w, struct user *user)
{
    char host[] = "db", origin[] = "10.0.0.1"; /* borrowed until it returns */
    const struct upstream_target target = {
        .host = host, .port = 5432, .origin_host = origin, .origin_port = 1234};
    struct upstream_opening *opening;

    user_init(user, NULL);
    opening = upstream_open(w->upstreams, &w->answer, &target, &user_events, user, on_opened, user);
    memset(host, 'x', sizeof(host));
    memset(origin, 'x', sizeof(origin));
    return opening;
}

static void a_direct_channel_begins_as_the_upstream_confirms(void **state)
{
    struct link_world *w = *state;
    struct transport *t;
    struct user user;

    begin_direct(w, &user);
    t = link_world_log_in(w, HOST_KEY);
    assert_true(fake_sent_is(t, OPEN, "suuususu", "direct-tcpip", 0, FIRST_WINDOW, PACKET, "db",
                             5432, "10.0.0.1", 1234));
    assert_int_equal(user.flow, 0);
    fake_deliver(t, CONFIRMATION, "uuuu", 0, THEIRS, THEIR_WINDOW, THEIR_PACKET);
    assert_int_equal(user.flow, 1);
    assert_int_equal(user_write(&user, BYTES("hello")), 5);
    assert_true(fake_sent_is(t, DATA, "us", THEIRS, "hello"));
    fake_deliver(t, DATA, "us", 0, "hi");
    expect_text(&user.out, "hi");
    /* the last bytes must arrive: the link stays until the upstream has closed as well */
    user_stop(&user);
    assert_true(fake_sent_is(t, CH_CLOSE, "u", THEIRS));
    link_world_turn(w);
    assert_false(fake_disconnected(t).called);
    fake_deliver(t, CH_CLOSE, "u", 0);
    link_world_turn(w);
    assert_true(fake_disconnected(t).called);
    user_clear(&user);
}

static void a_direct_channel_is_refused_as_the_upstream_does(void **state)
{
    struct link_world *w = *state;
    struct transport *t;
    struct user user;

    begin_direct(w, &user);
    t = link_world_log_in(w, HOST_KEY);
    fake_deliver(t, OPEN_FAILURE, "uuss", 0, 4711, "not you", "");
    assert_int_equal(user.flow, 1);
    assert_null(user.endpoint);
    assert_int_equal(user.code, 4711);
    assert_string_equal(user.reason, "not you");
    user_clear(&user);
}

static void a_direct_channel_whose_server_is_lost_is_refused(void **state)
{
    struct link_world *w = *state;
    struct transport *t;
    struct user user;

    for (int moment = REACHED; moment <= LOGGED_IN; moment++) {
        begin_direct(w, &user);
        t = come_to(w, moment);
        fake_end(t, TRANSPORT_END_EOF, 0, "the peer closed the connection");
        link_world_turn(w);
        assert_int_equal(user.flow, 1);
        assert_null(user.endpoint);
        assert_int_equal(user.code, 2);
        assert_true(user.reason[0] != '\0');
        user_clear(&user);
    }
}

static void a_direct_channel_may_be_left_at_any_moment(void **state)
{
    struct link_world *w = *state;
    struct upstream_opening *opening;
    struct user user;

    for (int moment = AT_ONCE; moment < MOMENTS; moment++)
        for (int free_first = 0; free_first < 2; free_first++) {
            opening = begin_direct(w, &user);
            come_to(w, moment);
            if (user.endpoint != NULL)
                user_stop(&user);
            else
                upstream_cancel(&opening);
            if (!free_first)
                link_world_turn(w);
            link_world_renew(w);
            assert_int_equal(user.flow, moment == STANDING);
            user_clear(&user);
        }
}

#define link_test(f) cmocka_unit_test_setup_teardown(f, link_world_set_up, link_world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        link_test(a_session_passes_through_once_it_stands),
        link_test(what_was_wanted_before_is_sent_in_its_order),
        link_test(a_login_that_fails_is_told_to_the_user),
        link_test(a_session_that_is_refused_is_told_to_the_user),
        link_test(a_connection_that_is_lost_before_the_session_is_told_as_such),
        link_test(a_connection_that_is_lost_is_told_to_the_user),
        link_test(a_server_that_breaks_the_protocol_ends_its_sessions),
        link_test(a_session_may_be_stopped_at_any_moment),
        link_test(a_direct_channel_begins_as_the_upstream_confirms),
        link_test(a_direct_channel_is_refused_as_the_upstream_does),
        link_test(a_direct_channel_whose_server_is_lost_is_refused),
        link_test(a_direct_channel_may_be_left_at_any_moment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
