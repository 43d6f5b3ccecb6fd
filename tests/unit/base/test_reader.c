#include "unit/cmocka_unit.h"

#include "base/reader.h"

static void every_type_is_read(void **state)
{
    struct reader r = reader_of(BYTES("\x07"
                                      "\x02"
                                      "\x01\x02\x03\x04"
                                      "\x00\x00\x00\x00\xff\xff\xff\xfe"
                                      "\x00\x00\x00\x03"
                                      "a\0b"
                                      "\x00\x00\x00\x02"
                                      "\xc3\xa9"
                                      "xyz"));

    (void)state;
    assert_int_equal(reader_u8(&r), 7);
    assert_true(reader_bool(&r)); /* RFC 4251 section 5: all non-zero values are true */
    assert_int_equal(reader_u32(&r), 0x01020304);
    assert_int_equal(reader_u64(&r), 0xfffffffe);
    assert_true(bytes_equal(reader_string(&r), BYTES("a\0b")));
    assert_true(bytes_equal(reader_text(&r), BYTES("\xc3\xa9")));
    assert_true(bytes_equal(reader_take(&r, 1), BYTES("x")));
    assert_true(reader_ok(&r));
    assert_false(reader_end(&r)); /* "yz" is left */
    assert_true(bytes_equal(reader_rest(&r), BYTES("yz")));
    assert_true(reader_end(&r));
}

static void an_error_sticks(void **state)
{
    struct reader r = reader_of(BYTES("\0\0\1"));

    (void)state;
    assert_int_equal(reader_u32(&r), 0);
    assert_false(reader_ok(&r));
    assert_int_equal(reader_u8(&r), 0); /* though a byte would be there */
    assert_int_equal(reader_u64(&r), 0);
    assert_int_equal(reader_string(&r).len, 0);
    assert_int_equal(reader_rest(&r).len, 0);
    assert_false(reader_end(&r));
}

static void lengths_beyond_the_end_fail(void **state)
{
    static const struct bytes inputs[] = {
        BYTES("\xff\xff\xff\xff"
              "abc"),
        BYTES("\x00\x00\x00\x04"
              "abc"),
        BYTES("\x00\x00\x00"),
        BYTES(""),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        struct reader r = reader_of(inputs[i]);
        struct bytes got = reader_string(&r);

        assert_int_equal(got.len, 0);
        assert_false(reader_ok(&r));
    }
}

static void unclean_text_fails(void **state)
{
    static const struct bytes inputs[] = {
        BYTES("\x00\x00\x00\x03"
              "a\0b"),
        BYTES("\x00\x00\x00\x01"
              "\xff"),
        BYTES("\x00\x00\x00\x02"
              "\xc0\xaf"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        struct reader r = reader_of(inputs[i]);

        assert_int_equal(reader_text(&r).len, 0);
        assert_false(reader_end(&r));
    }
}

static void an_empty_string_is_one(void **state)
{
    struct reader r = reader_of(BYTES("\0\0\0\0"));
    struct reader nothing = reader_of(bytes_of(NULL, 0));

    (void)state;
    assert_int_equal(reader_string(&r).len, 0);
    assert_true(reader_end(&r));
    assert_true(reader_end(&nothing));
    assert_int_equal(reader_u8(&nothing), 0);
    assert_false(reader_end(&nothing));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_read),          cmocka_unit_test(an_error_sticks),
        cmocka_unit_test(lengths_beyond_the_end_fail), cmocka_unit_test(unclean_text_fails),
        cmocka_unit_test(an_empty_string_is_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
