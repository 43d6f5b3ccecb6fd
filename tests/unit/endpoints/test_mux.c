/* RFC 4254 from the client's side: opens, windows, data and ends, and what an upstream must not
 * do. */
#include "unit/endpoints/upstream_world.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* ---- opens */

static void test_direct_tcpip(void **state)
{
    struct upstream_world *w = *state;
    const struct upstream_target target = {
        .host = "db", .port = 5432, .origin_host = "10.0.0.1", .origin_port = 1234};
    struct user user;

    user_init(&user, w);
    user.opening =
        mux_open_direct(w->mux, &target, &user_events, &user, &user_opened_events, &user);
    expect_sent(w, OPEN, "suuususu", "direct-tcpip", 0, FIRST_WINDOW, PACKET, "db", 5432,
                "10.0.0.1", 1234);
    deliver(w, CONFIRMATION, "uuuu", 0, 77, 10, 100);
    assert_int_equal(user.opened, 1);
    expect_quiet(w);
    user_stop(&user);
    expect_sent(w, CH_CLOSE, "u", 77);
    assert_int_equal(user.closed, 0);
    deliver(w, CH_CLOSE, "u", 0);
    assert_int_equal(user.closed, 1);
    user_clear(&user);
}

static void test_direct_streamlocal(void **state)
{
    struct upstream_world *w = *state;
    const struct upstream_target target = {.path = "/run/db.sock"};
    struct user user;

    user_init(&user, w);
    user.opening =
        mux_open_direct(w->mux, &target, &user_events, &user, &user_opened_events, &user);
    expect_sent(w, OPEN, "suuussu", "direct-streamlocal@openssh.com", 0, FIRST_WINDOW, PACKET,
                "/run/db.sock", "", 0);
    deliver(w, OPEN_FAILURE, "uuss", 0, 2, "No such file", "en");
    assert_int_equal(user.refused, 1);
    assert_int_equal(user.code, 2);
    assert_string_equal(user.reason, "No such file");
    assert_int_equal(w->windows.given, 0);
    user_clear(&user);
}

static void test_refusals_are_cleaned(void **state)
{
    static const char *const reasons[][2] = {{"\xff\xfe", ""},
                                             {"ok \xc3\xa9", "ok \xc3\xa9"},
                                             {"\x1b[2J\r\n\xc2\x9b\x7f.", "?[2J?????."}};
    struct upstream_world *w = *state;
    struct buf long_reason = {0};
    struct user user;

    for (size_t i = 0; i < 3; i++) {
        user_init(&user, w);
        ask_direct(&user, 0);
        deliver(w, OPEN_FAILURE, "uuss", 0, 99, reasons[i][0], "");
        assert_int_equal(user.code, 99);
        assert_string_equal(user.reason, reasons[i][1]);
    }
    for (size_t i = 0; i < 10000; i++)
        buf_put(&long_reason, BYTES("\xe2\x82\xac"));
    user_init(&user, w);
    ask_direct(&user, 0);
    deliver(w, OPEN_FAILURE, "uuSs", 0, 1, buf_bytes(&long_reason), "");
    assert_memory_equal(user.reason, "\xe2\x82\xac", 3); /* cut between characters, and shown */
    buf_clear(&long_reason);
    expect_quiet(w);
}

static void test_cancelled_opens(void **state)
{
    struct upstream_world *w = *state;
    struct user users[2];

    for (uint32_t i = 0; i < 2; i++) {
        user_init(&users[i], w);
        ask_direct(&users[i], i);
        mux_open_cancel(&users[i].opening);
        assert_null(users[i].opening);
    }
    assert_int_equal(w->windows.given, 0);
    expect_quiet(w);
    deliver(w, OPEN_FAILURE, "uuss", 0, 1, "no", "");
    deliver(w, CONFIRMATION, "uuuu", 1, 9, 10, 10);
    expect_sent(w, CH_CLOSE, "u", 9);
    deliver(w, DATA, "us", 1, "too late");
    deliver(w, REQUEST, "usb", 1, "keepalive@openssh.com", true);
    deliver(w, CH_EOF, "u", 1);
    deliver(w, CH_CLOSE, "u", 1);
    expect_quiet(w);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(users[i].opened + users[i].refused + users[i].closed, 0);
        user_clear(&users[i]);
    }
}

/* Who opens and leaves again and again, at an upstream that answers nothing, is not kept for ever.
 */
static void test_opens_that_nobody_answers(void **state)
{
    struct upstream_world *w = *state;
    struct fake_message sent;
    struct user user;
    size_t asked = 0;

    user_init(&user, w);
    while (w->faults == 0 && asked < 10000) {
        ask_direct(&user, (uint32_t)asked++);
        mux_open_cancel(&user.opening);
        while (fake_sent(w->transport, &sent))
            ;
    }
    assert_in_range(asked, 1000, 5000);
    expect_fault(w);
}

/* What was left and is answered late is not counted twice. */
static void test_cancelled_opens_are_forgotten(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    for (uint32_t i = 0; i < 6000; i++) {
        ask_direct(&user, 0);
        mux_open_cancel(&user.opening);
        if (i % 2 == 0) {
            deliver(w, OPEN_FAILURE, "uuss", 0, 1, "no", "");
            continue;
        }
        deliver(w, CONFIRMATION, "uuuu", 0, 9, 10, 10);
        expect_sent(w, CH_CLOSE, "u", 9);
        deliver(w, CH_CLOSE, "u", 0);
    }
    world_turn(w);
    expect_quiet(w);
}

/* ---- data to the client */

static void test_data_and_window(void **state)
{
    struct upstream_world *w = *state;
    uint8_t *piece = xcalloc(1, PACKET);
    struct user user;

    user_init(&user, w);
    open_direct(&user, 0);
    deliver(w, DATA, "us", 0, "hello");
    expect_text(&user.out, "hello");
    expect_quiet(w); /* in halves, to spare messages */
    for (size_t sent = 5; sent < FIRST_WINDOW / 2; sent += PACKET)
        deliver(w, DATA, "uS", 0, bytes_of(piece, PACKET));
    expect_sent(w, ADJUST, "uu", THEIRS, FIRST_WINDOW / 2 + 5);
    deliver(w, EXTENDED, "uus", 0, 1, "no such thing here");
    expect_text(&user.err, "");
    deliver(w, CH_EOF, "u", 0);
    assert_int_equal(user.eofs, 1);
    deliver(w, CH_CLOSE, "u", 0);
    expect_sent(w, CH_CLOSE, "u", THEIRS);
    assert_int_equal(user.ended, 1);
    assert_true(user.in_order);
    expect_quiet(w);
    user_clear(&user);
    free(piece);
}

/* Whoever takes nothing is sent no more than the window, and gets all of it later. */
static void test_back_pressure(void **state)
{
    struct upstream_world *w = *state;
    uint8_t *piece = xcalloc(1, PACKET);
    struct user user;

    user_init(&user, w);
    open_direct(&user, 0);
    user.room = 10;
    for (size_t sent = 0; sent < FIRST_WINDOW; sent += PACKET)
        deliver(w, DATA, "uS", 0, bytes_of(piece, PACKET));
    assert_int_equal(user.out.len, 10);
    expect_quiet(w);
    user_resume(&user, FIRST_WINDOW / 2);
    assert_int_equal(user.out.len, 10 + FIRST_WINDOW / 2);
    expect_sent(w, ADJUST, "uu", THEIRS, 10 + FIRST_WINDOW / 2);
    deliver(w, DATA, "us", 0, "0123456789");
    user_resume(&user, SIZE_MAX / 2);
    assert_int_equal(user.out.len, 10 + FIRST_WINDOW);
    deliver(w, CH_EOF, "u", 0);
    deliver(w, CH_CLOSE, "u", 0);
    assert_int_equal(user.ended, 1);
    assert_int_equal(w->faults, 0);
    user_clear(&user);
    free(piece);
}

static void test_data_beyond_the_window(void **state)
{
    struct upstream_world *w = *state;
    uint8_t *piece = xcalloc(1, PACKET + 1);
    struct user user;

    user_init(&user, w);
    open_direct(&user, 0);
    user.room = 0;
    for (size_t sent = 0; sent < FIRST_WINDOW; sent += PACKET)
        deliver(w, DATA, "uS", 0, bytes_of(piece, PACKET));
    assert_int_equal(w->faults, 0);
    deliver(w, DATA, "us", 0, "x");
    expect_fault(w);
    user.keep = true;
    mux_free(&w->mux, "broken");
    assert_int_equal(user.ended, 0); /* what came before it is still to be had */
    user_resume(&user, SIZE_MAX / 2);
    assert_int_equal(user.out.len, FIRST_WINDOW);
    assert_int_equal(user.ended, 1);
    assert_false(user.in_order);
    assert_string_equal(user.why, "broken");
    user_stop(&user);
    user_clear(&user);
    free(piece);
}

static void test_end_waits_for_what_is_held(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_direct(&user, 0);
    user.room = 3;
    deliver(w, DATA, "us", 0, "abcdef");
    deliver(w, CH_EOF, "u", 0);
    deliver(w, CH_CLOSE, "u", 0);
    expect_sent(w, CH_CLOSE, "u", THEIRS);
    assert_int_equal(user.eofs + user.ended, 0);
    assert_int_equal(user_write(&user, BYTES("nobody reads this")), 17);
    mux_free(&w->mux, "it went away");
    world_turn(w);
    user_resume(&user, 1);
    assert_int_equal(user.eofs + user.ended, 0);
    user_resume(&user, 100);
    expect_text(&user.out, "abcdef");
    assert_int_equal(user.eofs, 1);
    assert_int_equal(user.ended, 1);
    assert_true(user.in_order); /* it had ended before the connection did */
    user_clear(&user);
}

/* ---- data to the upstream */

static void test_write_keeps_to_window_and_packet(void **state)
{
    struct upstream_world *w = *state;
    uint8_t *piece = xcalloc(1, 3 * THEIR_WINDOW);
    struct user user;
    struct fake_message sent;
    size_t messages = 0;

    user_init(&user, w);
    open_direct(&user, 0);
    assert_int_equal(user_write(&user, bytes_of(piece, 3 * THEIR_WINDOW)), THEIR_WINDOW);
    while (fake_sent(w->transport, &sent)) {
        assert_int_equal(sent.type, DATA);
        assert_int_equal(sent.rest.len, 8 + THEIR_PACKET);
        messages++;
    }
    assert_int_equal(messages, THEIR_WINDOW / THEIR_PACKET);
    assert_int_equal(user.taken, 0); /* not inside write() */
    world_turn(w);
    assert_int_equal(user.taken, THEIR_WINDOW);
    assert_int_equal(user_write(&user, BYTES("more")), 0);
    deliver(w, ADJUST, "uu", 0, 3);
    assert_int_equal(user_write(&user, BYTES("more")), 3);
    expect_sent(w, DATA, "us", THEIRS, "mor");
    user.endpoint->ops->eof(user.endpoint);
    user.endpoint->ops->eof(user.endpoint);
    expect_sent(w, CH_EOF, "u", THEIRS);
    expect_quiet(w);
    user_stop(&user);
    deliver(w, CH_CLOSE, "u", 0);
    user_clear(&user);
    free(piece);
}

static void test_news_of_room(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_direct(&user, 0);
    fake_set_room(w->transport, 0);
    assert_int_equal(user_write(&user, BYTES("x")), 0);
    deliver(w, ADJUST, "uu", 0, 10);
    assert_int_equal(user.writables, 0); /* there is window, and no room */
    fake_set_room(w->transport, 100);
    assert_int_equal(user.writables, 1);
    assert_int_equal(user_write(&user, BYTES("x")), 1);
    expect_sent(w, DATA, "us", THEIRS, "x");
    user_stop(&user);
    deliver(w, CH_CLOSE, "u", 0);
    user_clear(&user);
}

/* With room for one message at a time, two that wait take turns. */
static void test_fair_turns(void **state)
{
    struct upstream_world *w = *state;
    struct user users[3];

    for (uint32_t i = 0; i < 3; i++) {
        user_init(&users[i], w);
        open_direct(&users[i], i);
    }
    fake_set_room(w->transport, 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(user_write(&users[i], BYTES("0123456789")), 0);
    for (int round = 1; round <= 4; round++) {
        for (size_t i = 0; i < 3; i++) {
            fake_set_room(w->transport, 1);
            for (size_t j = 0; j < 3; j++)
                while (users[j].writables > 0) {
                    users[j].writables--;
                    user_write(&users[j], BYTES("0123456789"));
                }
            fake_set_room(w->transport, 0);
        }
        world_turn(w);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_true(users[i].taken > 0);
        user_stop(&users[i]);
        deliver(w, CH_CLOSE, "u", (int)i);
        user_clear(&users[i]);
    }
}

/* The upstream's end frees what the client still sends. */
static void test_who_is_blocked_is_let_go(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_direct(&user, 0);
    user.room = 0;
    deliver(w, DATA, "us", 0, "held");
    fake_set_room(w->transport, 0);
    assert_int_equal(user_write(&user, BYTES("upload")), 0);
    deliver(w, CH_CLOSE, "u", 0);
    assert_int_equal(user.writables, 1);
    assert_int_equal(user_write(&user, BYTES("upload")), 6);
    world_turn(w);
    assert_int_equal(user.taken, 6);
    user_resume(&user, 10);
    assert_int_equal(user.ended, 1);
    user_clear(&user);
}

/* ---- windows of many */

static void test_thousand_channels(void **state)
{
    enum { MANY = 1000 };
    struct upstream_world *w = *state;
    struct user *users = xcalloc(MANY, sizeof(*users));
    struct fake_message message;

    for (uint32_t i = 0; i < MANY; i++) {
        user_init(&users[i], w);
        open_direct(&users[i], i);
        assert_true(w->windows.given <= 16 * 1024 * 1024);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        deliver(w, DATA, "us", i, "hi");
        expect_text(&users[i].out, "hi");
        assert_int_equal(user_write(&users[i], BYTES("hello")), 5);
    }
    assert_int_equal(w->faults, 0);
    world_turn(w);
    for (uint32_t i = 0; i < MANY; i += 2)
        user_stop(&users[i]);
    while (fake_sent(w->transport, &message))
        ;
    for (uint32_t i = 0; i < MANY; i++)
        deliver(w, CH_CLOSE, "u", i);
    assert_int_equal(w->windows.given, 0);
    for (uint32_t i = 0; i < MANY; i++)
        user_clear(&users[i]);
    free(users);
    w->faults = 0;
}

static void test_windows_are_shared_between_muxes(void **state)
{
    struct upstream_world *w = *state;
    struct fake_message sent;
    struct user user;

    w->windows.given = 12 * 1024 * 1024; /* by the client's other upstreams */
    user_init(&user, w);
    user.opening = mux_open_direct(w->mux, &(struct upstream_target){.path = "/s"}, &user_events,
                                   &user, &user_opened_events, &user);
    assert_true(fake_sent(w->transport, &sent));
    assert_int_equal(w->windows.given, 12 * 1024 * 1024 + 4096);
    mux_open_cancel(&user.opening);
    w->windows.given -= 12 * 1024 * 1024;
}

/* ---- ends */

static void test_stop_is_silent(void **state)
{
    struct upstream_world *w = *state;
    struct user user;

    user_init(&user, w);
    open_direct(&user, 0);
    user.room = 0;
    deliver(w, DATA, "us", 0, "held");
    user_write(&user, BYTES("x"));
    expect_sent(w, DATA, "us", THEIRS, "x");
    user_stop(&user);
    expect_sent(w, CH_CLOSE, "u", THEIRS);
    world_turn(w);
    deliver(w, DATA, "us", 0, "late");
    deliver(w, ADJUST, "uu", 0, 10);
    deliver(w, CH_EOF, "u", 0);
    expect_quiet(w);
    assert_int_equal(user.writables + user.eofs + user.ended, 0);
    deliver(w, CH_CLOSE, "u", 0);
    expect_quiet(w);
    user_clear(&user);
}

static void test_free_with_users(void **state)
{
    struct upstream_world *w = *state;
    struct user opening, open, stopped, cancelled;

    user_init(&opening, w);
    user_init(&open, w);
    user_init(&stopped, w);
    user_init(&cancelled, w);
    ask_direct(&opening, 0);
    open_direct(&open, 1);
    open_direct(&stopped, 2);
    ask_direct(&cancelled, 3);
    mux_open_cancel(&cancelled.opening);
    user_stop(&stopped);
    mux_free(&w->mux, "the upstream went away");
    assert_int_equal(opening.refused, 1);
    assert_int_equal(opening.code, 2);
    assert_string_equal(opening.reason, "the upstream went away");
    assert_int_equal(open.ended, 1);
    assert_false(open.in_order);
    assert_string_equal(open.why, "the upstream went away");
    assert_int_equal(cancelled.refused + cancelled.opened, 0);
    user_clear(&opening);
    user_clear(&open);
    user_clear(&stopped);
    user_clear(&cancelled);
}

/* ---- what concerns no channel of ours */

static void test_global_requests(void **state)
{
    struct upstream_world *w = *state;

    deliver(w, GLOBAL_REQUEST, "sbs", "hostkeys-00@openssh.com", false, "blob");
    expect_quiet(w);
    deliver(w, GLOBAL_REQUEST, "sb", "keepalive@openssh.com", true);
    expect_sent(w, REQUEST_FAILURE, "");
    deliver(w, GLOBAL_REQUEST, "sbsu", "tcpip-forward", true, "", 0);
    expect_sent(w, REQUEST_FAILURE, "");
    mux_send_keepalive(w->mux);
    expect_sent(w, GLOBAL_REQUEST, "sb", "keepalive@openssh.com", true);
    deliver(w, REQUEST_FAILURE, "");
    deliver(w, REQUEST_SUCCESS, "");
    assert_int_equal(w->alive, 2);
    expect_quiet(w);
}

static void test_opens_by_the_upstream(void **state)
{
    static const char *const types[] = {"auth-agent@openssh.com", "x11", "forwarded-tcpip",
                                        "session", "?"};
    struct upstream_world *w = *state;

    for (int i = 0; i < 5; i++) {
        deliver(w, OPEN, "suuuR", types[i], i, 100, 100, BYTES("whatever"));
        expect_sent(w, OPEN_FAILURE, "uuss", i, 1, "Nothing may be opened to this client", "");
    }
    expect_quiet(w);
}

static void test_unknown_messages(void **state)
{
    struct upstream_world *w = *state;

    deliver(w, 83, "");
    deliver(w, 101, "u", 0);
    assert_int_equal(fake_not_understood(w->transport), 2);
    expect_quiet(w);
}

/* ---- faults: each alone ends the connection, whatever the state */

enum fault_state { NOT_THERE, ASKED, CONFIRMED, STOPPED };

static struct upstream_world *in_state(void **state, enum fault_state how, struct user *user)
{
    struct upstream_world *w = *state;
    struct fake_message message;

    user_init(user, w);
    if (how == ASKED)
        ask_direct(user, 0);
    else if (how != NOT_THERE)
        open_direct(user, 0);
    if (how == STOPPED)
        user_stop(user);
    while (fake_sent(w->transport, &message))
        ;
    return w;
}

static void leave_state(void **state, struct user *user)
{
    struct upstream_world *w = *state;

    deliver(w, CH_CLOSE, "u", 0); /* nothing is listened to any more */
    assert_int_equal(user->ended, 0);
    assert_int_equal(w->faults, 1);
    mux_free(&w->mux, "broken");
    if (user->endpoint != NULL)
        user_stop(user);
    user_clear(user);
    world_teardown(state);
    world_setup(state);
}

static void test_messages_at_the_wrong_time(void **state)
{
    static const struct {
        uint8_t type;
        bool good[4]; /* in the states above */
    } rows[] = {
        {CONFIRMATION, {[ASKED] = true}},
        {OPEN_FAILURE, {[ASKED] = true}},
        {ADJUST, {[CONFIRMED] = true, [STOPPED] = true}},
        {DATA, {[CONFIRMED] = true, [STOPPED] = true}},
        {EXTENDED, {[CONFIRMED] = true, [STOPPED] = true}},
        {CH_EOF, {[CONFIRMED] = true, [STOPPED] = true}},
        {CH_CLOSE, {[CONFIRMED] = true, [STOPPED] = true}},
        {REQUEST, {[CONFIRMED] = true, [STOPPED] = true}},
        {SUCCESS, {[CONFIRMED] = true, [STOPPED] = true}},
        {FAILURE, {[CONFIRMED] = true, [STOPPED] = true}},
    };
    struct user user;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (int how = NOT_THERE; how <= STOPPED; how++) {
            struct upstream_world *w = in_state(state, how, &user);

            if (rows[i].good[how]) { /* but not cut short */
                fake_deliver_bytes(w->transport, rows[i].type, BYTES("\0\0\0\0\0"));
            } else {
                deliver(w, rows[i].type, "uuuu", 0, 0, 10, 10);
            }
            leave_state(state, &user);
        }
}

static void test_malformed(void **state)
{
    static const struct {
        uint8_t type;
        struct bytes message;
    } rows[] = {
        {GLOBAL_REQUEST, {(const uint8_t *)"\0\0\0\1", 4}},
        {GLOBAL_REQUEST, {(const uint8_t *)"\0\0\0\1a", 5}},
        {OPEN, {(const uint8_t *)"\0\0\0\1a\0\0\0\0\0\0\0\0", 13}},
        {DATA, {NULL, 0}},
        {DATA, {(const uint8_t *)"\0\0", 2}},
        {DATA, {(const uint8_t *)"\0\0\0\0\0\0\0\2x", 9}},
        {DATA, {(const uint8_t *)"\0\0\0\0\0\0\0\1xx", 10}},
        {DATA, {(const uint8_t *)"\xff\xff\xff\xff\0\0\0\1x", 9}},
        {EXTENDED, {(const uint8_t *)"\0\0\0\0\0\0\0\1\0\0\0\2x", 13}},
        {ADJUST, {(const uint8_t *)"\0\0\0\0\xff\xff\xff\xff", 8}}, /* beyond 2^32 - 1 */
        {ADJUST, {(const uint8_t *)"\0\0\0\0\0\0\0\1x", 9}},
        {CH_EOF, {(const uint8_t *)"\0\0\0\0x", 5}},
        {CH_CLOSE, {(const uint8_t *)"\0\0\0\0x", 5}},
        {REQUEST, {(const uint8_t *)"\0\0\0\0\0\0\0\1x", 9}},
        {SUCCESS, {(const uint8_t *)"\0\0\0\0x", 5}},
    };
    struct user user;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct upstream_world *w = in_state(state, CONFIRMED, &user);

        fake_deliver_bytes(w->transport, rows[i].type, rows[i].message);
        leave_state(state, &user);
    }
}

static void test_second_ends(void **state)
{
    struct user user;
    struct upstream_world *w = in_state(state, CONFIRMED, &user);

    deliver(w, CH_EOF, "u", 0);
    deliver(w, CH_EOF, "u", 0);
    leave_state(state, &user);
    w = in_state(state, CONFIRMED, &user);
    deliver(w, CH_EOF, "u", 0);
    deliver(w, DATA, "us", 0, "x");
    leave_state(state, &user);
    w = in_state(state, ASKED, &user);
    deliver(w, CONFIRMATION, "uuuu", 0, 5, 10, 0); /* packets of nothing */
    leave_state(state, &user);
    w = in_state(state, STOPPED, &user);
    deliver(w, CH_CLOSE, "u", 0);
    assert_int_equal(w->faults, 0);
    deliver(w, CH_CLOSE, "u", 0);
    leave_state(state, &user);
}

/* An upstream that never closes what we close cannot make us keep it all. */
static void test_channels_that_are_not_closed(void **state)
{
    enum { MANY = 5000 };
    struct upstream_world *w = *state;
    struct user *users = xcalloc(MANY, sizeof(*users));
    struct fake_message message;
    uint32_t opens = 0;

    while (w->faults == 0 && opens < MANY) {
        user_init(&users[opens], w);
        open_direct(&users[opens], opens);
        user_stop(&users[opens++]);
        while (fake_sent(w->transport, &message))
            ;
    }
    assert_int_equal(opens, 4097);
    expect_fault(w);
    mux_free(&w->mux, "it does not close its channels");
    while (opens-- > 0)
        user_clear(&users[opens]);
    free(users);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        world_test(test_direct_tcpip),
        world_test(test_direct_streamlocal),
        world_test(test_refusals_are_cleaned),
        world_test(test_cancelled_opens),
        world_test(test_opens_that_nobody_answers),
        world_test(test_cancelled_opens_are_forgotten),
        world_test(test_data_and_window),
        world_test(test_back_pressure),
        world_test(test_data_beyond_the_window),
        world_test(test_end_waits_for_what_is_held),
        world_test(test_write_keeps_to_window_and_packet),
        world_test(test_news_of_room),
        world_test(test_fair_turns),
        world_test(test_who_is_blocked_is_let_go),
        world_test(test_thousand_channels),
        world_test(test_windows_are_shared_between_muxes),
        world_test(test_stop_is_silent),
        world_test(test_free_with_users),
        world_test(test_global_requests),
        world_test(test_opens_by_the_upstream),
        world_test(test_unknown_messages),
        world_test(test_messages_at_the_wrong_time),
        world_test(test_malformed),
        world_test(test_second_ends),
        world_test(test_channels_that_are_not_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
