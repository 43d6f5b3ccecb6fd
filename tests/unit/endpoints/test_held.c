/* Output that waits: nothing is lost, each stream keeps its order, and so do the two as far as that
 * is cheap. */
#include "unit/cmocka_unit.h"

#include "endpoints/upstream/held.h"

#include <string.h>

static void expect_first(struct held *held, uint32_t type, const char *text)
{
    uint32_t got_type;
    struct bytes first = held_first(held, &got_type);

    assert_int_equal(first.len, strlen(text));
    assert_memory_equal(first.data, text, first.len);
    assert_int_equal(got_type, type);
}

static void test_order(void **state)
{
    struct held held = {0};
    uint32_t type;

    (void)state;
    assert_int_equal(held_first(&held, &type).len, 0);
    held_put(&held, 0, BYTES("a"));
    held_put(&held, 0, BYTES("b"));
    held_put(&held, 1, BYTES("cd"));
    held_put(&held, 0, BYTES(""));
    held_put(&held, 0, BYTES("e"));
    assert_int_equal(held_len(&held), 5);
    expect_first(&held, 0, "ab");
    held_take(&held, 1);
    expect_first(&held, 0, "b");
    held_take(&held, 1);
    expect_first(&held, 1, "cd");
    held_take(&held, 2);
    expect_first(&held, 0, "e");
    held_take(&held, 1);
    assert_int_equal(held_len(&held), 0);
    held_clear(&held);
}

/* Byte by byte from one stream and the other: each is whole, and what tells them apart does not
 * grow. */
static void test_bounded(void **state)
{
    struct held held = {0};
    size_t seen[2] = {0};
    uint32_t type;

    (void)state;
    for (size_t i = 0; i < 1000; i++)
        held_put(&held, i % 2, bytes_of(&(uint8_t){(uint8_t)(i / 2)}, 1));
    assert_true(held.runs_count <= HELD_RUNS_MAX);
    assert_int_equal(held_len(&held), 1000);
    for (struct bytes first; (first = held_first(&held, &type)).len > 0;) {
        assert_int_equal(first.data[0], (uint8_t)seen[type]++);
        held_take(&held, 1);
    }
    assert_int_equal(seen[0], 500);
    assert_int_equal(seen[1], 500);
    held_clear(&held);
}

/* A reader that is always behind does not make it grow either. */
static void test_room_at_the_front(void **state)
{
    struct held held = {0};
    uint8_t piece[1000] = {0};
    uint32_t type;

    (void)state;
    held_put(&held, 0, bytes_of(piece, sizeof(piece)));
    for (size_t i = 0; i < 10000; i++) {
        held_put(&held, 0, bytes_of(piece, sizeof(piece)));
        assert_int_equal(held_first(&held, &type).len, 2000);
        held_take(&held, sizeof(piece));
    }
    assert_true(held.streams[0].bytes.cap <= 16 * sizeof(piece));
    held_clear(&held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_room_at_the_front),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
