#include "unit/cmocka_unit.h"

#include "base/lane.h"

#include <string.h>

/* What run() saw, as text: types of messages, '+' and '-' for pressure. */
struct seen {
    struct lane lane;
    char text[64];
    struct bytes last;
    uint8_t copy[16];
};

static void note(struct seen *seen, char c)
{
    size_t len = strlen(seen->text);

    seen->text[len] = c;
    seen->text[len + 1] = '\0';
}

/* Upper case waits, lower case is done at once; '!' clears; '2' pushes another. */
static enum lane_step on_run(void *owner, uint8_t type, struct bytes message)
{
    struct seen *seen = owner;

    note(seen, (char)type);
    seen->last = message;
    if (message.len > 0 && message.len <= sizeof(seen->copy))
        memcpy(seen->copy, message.data, message.len);
    if (type == '!')
        lane_clear(&seen->lane);
    if (type == '2')
        lane_push(&seen->lane, 'n', BYTES("nested"));
    return type >= 'A' && type <= 'Z' ? LANE_WAIT : LANE_DONE;
}

static void on_pressure(void *owner, bool full)
{
    note(owner, full ? '+' : '-');
}

static void setup(struct seen *seen)
{
    *seen = (struct seen){.text = ""};
    lane_init(&seen->lane, on_run, on_pressure, seen, 2, 10);
}

static void messages_run_in_order(void **state)
{
    struct seen seen;

    (void)state;
    setup(&seen);
    lane_push(&seen.lane, 'a', BYTES(""));
    assert_true(lane_is_idle(&seen.lane));
    lane_push(&seen.lane, 'W', BYTES("1"));
    assert_false(lane_is_idle(&seen.lane));
    lane_push(&seen.lane, 'b', BYTES("2"));
    assert_string_equal(seen.text, "aW");
    lane_resume(&seen.lane);
    assert_string_equal(seen.text, "aWb");
    assert_int_equal(seen.copy[0], '2');
    assert_true(lane_is_idle(&seen.lane));
}

static void each_waiting_head_stops_the_lane(void **state)
{
    struct seen seen;

    (void)state;
    setup(&seen);
    lane_push(&seen.lane, 'X', BYTES(""));
    lane_push(&seen.lane, 'Y', BYTES(""));
    lane_resume(&seen.lane);
    assert_string_equal(seen.text, "XY");
    assert_false(lane_is_idle(&seen.lane));
    lane_resume(&seen.lane);
    assert_true(lane_is_idle(&seen.lane));
}

static void what_waits_is_a_copy(void **state)
{
    struct seen seen;
    char text[] = "secret";

    (void)state;
    setup(&seen);
    lane_push(&seen.lane, 'W', BYTES(""));
    lane_push(&seen.lane, 'p', bytes_of(text, 6));
    memset(text, 'x', 6);
    lane_resume(&seen.lane);
    assert_memory_equal(seen.copy, "secret", 6);
}

static void a_full_lane_says_so_once_each_way(void **state)
{
    struct seen seen;

    (void)state;
    setup(&seen);
    lane_push(&seen.lane, 'W', BYTES(""));
    lane_push(&seen.lane, 'a', BYTES(""));
    assert_false(lane_is_full(&seen.lane));
    lane_push(&seen.lane, 'b', BYTES(""));
    lane_push(&seen.lane, 'c', BYTES("")); /* was on its way already */
    assert_string_equal(seen.text, "W+");
    lane_resume(&seen.lane);
    assert_string_equal(seen.text, "W+a-bc");
    seen.text[0] = '\0';
    lane_push(&seen.lane, 'W', BYTES(""));
    lane_push(&seen.lane, 'a', BYTES("0123456789"));
    assert_string_equal(seen.text, "W+");
    lane_resume(&seen.lane);
    assert_string_equal(seen.text, "W+-a");
}

static void clearing_forgets_what_waits(void **state)
{
    struct seen seen;

    (void)state;
    setup(&seen);
    lane_push(&seen.lane, 'W', BYTES(""));
    lane_push(&seen.lane, 'a', BYTES("a"));
    lane_clear(&seen.lane);
    lane_resume(&seen.lane);
    assert_string_equal(seen.text, "W");
    assert_true(lane_is_idle(&seen.lane));
}

static void clearing_inside_run_is_legal(void **state)
{
    struct seen seen;

    (void)state;
    setup(&seen);
    lane_push(&seen.lane, 'W', BYTES(""));
    lane_push(&seen.lane, '!', BYTES("a"));
    lane_push(&seen.lane, 'b', BYTES("b"));
    seen.text[0] = '\0';
    lane_resume(&seen.lane);
    assert_string_equal(seen.text, "-!"); /* also says that there is room again */
    assert_true(lane_is_idle(&seen.lane));
}

static void pushing_inside_run_waits_its_turn(void **state)
{
    struct seen seen;

    (void)state;
    setup(&seen);
    lane_push(&seen.lane, '2', BYTES(""));
    assert_string_equal(seen.text, "2n");
    assert_true(lane_is_idle(&seen.lane));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_run_in_order),
        cmocka_unit_test(each_waiting_head_stops_the_lane),
        cmocka_unit_test(what_waits_is_a_copy),
        cmocka_unit_test(a_full_lane_says_so_once_each_way),
        cmocka_unit_test(clearing_forgets_what_waits),
        cmocka_unit_test(clearing_inside_run_is_legal),
        cmocka_unit_test(pushing_inside_run_waits_its_turn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
