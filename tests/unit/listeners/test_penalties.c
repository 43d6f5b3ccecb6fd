#include "unit/cmocka_unit.h"

#include "listeners/penalties.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct penalties_settings usual = {65536, 15000, 600000};

static struct network source_number(uint32_t n)
{
    struct network network;
    char text[32];

    snprintf(text, sizeof(text), "127.%u.%u.%u", n >> 16 & 255, n >> 8 & 255, n & 255);
    assert_true(network_parse(text, &network));
    return network;
}

static void penalties_add_up_before_they_count(void **state)
{
    struct penalties *p = penalties_new(&usual);
    struct network a = source_number(1), b = source_number(2);

    (void)state;
    assert_int_equal(penalties_add(p, &a, 5000, "x", 1000), 0);
    assert_null(penalties_find(p, &a, 1000));
    assert_int_equal(penalties_add(p, &a, 5000, "x", 1000), 0);
    assert_int_equal(penalties_add(p, &a, 5000, "y", 1000), 15000);
    assert_string_equal(penalties_find(p, &a, 1000), "y");
    assert_null(penalties_find(p, &b, 1000));
    assert_int_equal(penalties_count(p, 1000), 1);
    penalties_free(&p);
}

static void time_eats_what_does_not_count_yet(void **state)
{
    struct penalties *p = penalties_new(&usual);
    struct network a = source_number(1);

    (void)state;
    for (uint64_t now = 0; now < 100000; now += 5000) /* one wrong password in five seconds */
        assert_int_equal(penalties_add(p, &a, 5000, "x", now), 0);
    penalties_free(&p);
}

static void a_penalty_ends_at_its_moment(void **state)
{
    struct penalties *p = penalties_new(&usual);
    struct network a = source_number(1);

    (void)state;
    assert_int_equal(penalties_add(p, &a, 90000, "x", 1000), 90000);
    assert_non_null(penalties_find(p, &a, 90999));
    assert_null(penalties_find(p, &a, 91000));
    assert_int_equal(penalties_count(p, 91000), 0);
    /* What counted once counts to its end, also below the minimum. */
    assert_int_equal(penalties_add(p, &a, 16000, "x", 100000), 16000);
    assert_non_null(penalties_find(p, &a, 115999));
    assert_null(penalties_find(p, &a, 116000));
    penalties_free(&p);
}

static void no_penalty_is_longer_than_the_longest(void **state)
{
    struct penalties *p = penalties_new(&usual);
    struct network a = source_number(1);

    (void)state;
    for (int i = 0; i < 20; i++)
        assert_in_range(penalties_add(p, &a, 90000, "x", 5), 90000, 600000);
    assert_non_null(penalties_find(p, &a, 600004));
    assert_null(penalties_find(p, &a, 600005));
    penalties_free(&p);
}

static void who_is_free_soonest_makes_room(void **state)
{
    struct penalties *p = penalties_new(&(struct penalties_settings){4, 1, 600000});
    struct network sources[5];

    (void)state;
    for (uint32_t i = 0; i < 5; i++)
        sources[i] = source_number(i);
    penalties_add(p, &sources[0], 40000, "x", 0);
    penalties_add(p, &sources[1], 10000, "x", 0);
    penalties_add(p, &sources[2], 30000, "x", 0);
    penalties_add(p, &sources[3], 20000, "x", 0);
    penalties_add(p, &sources[1], 50000, "x", 0); /* not the soonest any more */
    penalties_add(p, &sources[4], 1000, "x", 0);
    assert_int_equal(penalties_count(p, 0), 4);
    assert_null(penalties_find(p, &sources[3], 0));
    for (uint32_t i = 0; i < 5; i++)
        if (i != 3)
            assert_non_null(penalties_find(p, &sources[i], 0));
    penalties_free(&p);
}

static size_t allocated(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static void a_hundred_thousand_sources_need_less_than_16_mib(void **state)
{
    size_t before = allocated();
    struct penalties *p = penalties_new(&(struct penalties_settings){100000, 15000, 600000});
    struct penalties *p6 = penalties_new(&(struct penalties_settings){100000, 15000, 600000});

    (void)state;
    for (uint32_t i = 0; i < 150000; i++) {
        struct network source = source_number(i);

        assert_int_equal(penalties_add(p, &source, 90000, "x", 7), 90000);
    }
    assert_int_equal(penalties_count(p, 7), 100000);
    assert_in_range(penalties_bytes(p) + penalties_bytes(p6), 1, 16 << 20);
    assert_in_range(allocated() - before, 0, 16 << 20); /* 0: a sanitizer's own allocator */
    penalties_free(&p);
    penalties_free(&p6);
}

/* ---- against a plain array, over many additions, ends and evictions */

enum { SOURCES = 300, ROOM = 100, LONGEST = 60000 };

struct plain {
    uint64_t ends[SOURCES];
    uint64_t now;
};

static uint32_t count_live(const struct plain *plain, uint32_t *soonest)
{
    uint32_t live = 0;

    *soonest = SOURCES;
    for (uint32_t i = 0; i < SOURCES; i++) {
        if (plain->ends[i] <= plain->now)
            continue;
        live++;
        if (*soonest == SOURCES || plain->ends[i] < plain->ends[*soonest])
            *soonest = i;
    }
    return live;
}

/* No two end at one moment: of those either may have to make room. */
static bool ends_alone(const struct plain *plain, uint64_t end)
{
    for (uint32_t i = 0; i < SOURCES; i++)
        if (plain->ends[i] == end)
            return false;
    return true;
}

static uint64_t plain_add(struct plain *plain, uint32_t n, uint32_t *ms)
{
    uint64_t from = plain->ends[n] > plain->now ? plain->ends[n] : plain->now;
    uint32_t soonest;

    if (from == plain->now && count_live(plain, &soonest) == ROOM)
        plain->ends[soonest] = 0;
    while (!ends_alone(plain, from + *ms))
        (*ms)++;
    plain->ends[n] = from + *ms;
    return plain->ends[n] - plain->now;
}

static void it_agrees_with_a_simple_table(void **state)
{
    struct penalties *p = penalties_new(&(struct penalties_settings){ROOM, 1, LONGEST});
    struct plain plain = {.now = 0};
    uint32_t seed = 1, soonest;

    (void)state;
    for (int step = 0; step < 20000; step++) {
        uint32_t n, ms;
        struct network source;

        seed = seed * 1664525 + 1013904223;
        n = (seed >> 8) % SOURCES;
        ms = 1 + (seed >> 4) % 3000;
        plain.now += 1 + (seed >> 20) % 13;
        source = source_number(n);
        if (plain.ends[n] + 4000 < plain.now + LONGEST) {
            uint64_t left = plain_add(&plain, n, &ms);

            assert_int_equal(penalties_add(p, &source, ms, "x", plain.now), left);
        }
        assert_int_equal(penalties_count(p, plain.now), count_live(&plain, &soonest));
        source = source_number(seed % SOURCES);
        assert_int_equal(penalties_find(p, &source, plain.now) != NULL,
                         plain.ends[seed % SOURCES] > plain.now);
    }
    penalties_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(penalties_add_up_before_they_count),
        cmocka_unit_test(time_eats_what_does_not_count_yet),
        cmocka_unit_test(a_penalty_ends_at_its_moment),
        cmocka_unit_test(no_penalty_is_longer_than_the_longest),
        cmocka_unit_test(who_is_free_soonest_makes_room),
        cmocka_unit_test(a_hundred_thousand_sources_need_less_than_16_mib),
        cmocka_unit_test(it_agrees_with_a_simple_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
