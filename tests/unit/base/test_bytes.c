#include "unit/cmocka_unit.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

struct utf8_case {
    const char *what;
    struct bytes text;
    bool clean;
};

/* The corners of Unicode 15 table 3-7. */
static const struct utf8_case utf8_cases[] = {
    {"empty", BYTES(""), true},
    {"ASCII", BYTES("root"), true},
    {"DEL is a character", BYTES("\x7f"), true},
    {"NUL", BYTES("a\0b"), false},
    {"a lone continuation", BYTES("\x80"), false},
    {"overlong slash", BYTES("\xc0\xaf"), false},
    {"overlong, two bytes", BYTES("\xc1\xbf"), false},
    {"first of two bytes", BYTES("\xc2\x80"), true},
    {"last of two bytes", BYTES("\xdf\xbf"), true},
    {"cut, two bytes", BYTES("\xc2"), false},
    {"two bytes, bad second", BYTES("\xc2\x7f"), false},
    {"overlong, three bytes", BYTES("\xe0\x9f\xbf"), false},
    {"first of three bytes", BYTES("\xe0\xa0\x80"), true},
    {"cut, three bytes", BYTES("\xe0\xa0"), false},
    {"three bytes, bad third", BYTES("\xe1\x80\xc0"), false},
    {"last before the surrogates", BYTES("\xed\x9f\xbf"), true},
    {"first surrogate", BYTES("\xed\xa0\x80"), false},
    {"last surrogate", BYTES("\xed\xbf\xbf"), false},
    {"first after the surrogates", BYTES("\xee\x80\x80"), true},
    {"last of three bytes", BYTES("\xef\xbf\xbf"), true},
    {"overlong, four bytes", BYTES("\xf0\x8f\xbf\xbf"), false},
    {"first of four bytes", BYTES("\xf0\x90\x80\x80"), true},
    {"U+10FFFF", BYTES("\xf4\x8f\xbf\xbf"), true},
    {"beyond U+10FFFF", BYTES("\xf4\x90\x80\x80"), false},
    {"five-byte form", BYTES("\xf8\x88\x80\x80\x80"), false},
    {"cut, four bytes", BYTES("\xf0\x90\x80"), false},
    {"four bytes, bad fourth", BYTES("\xf0\x90\x80\x41"), false},
    {"0xff", BYTES("\xff"), false},
    {"good, then bad", BYTES("caf\xc3\xa9\xc3"), false},
};

static void utf8_is_checked_by_the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(utf8_cases) / sizeof(utf8_cases[0]); i++)
        if (text_is_clean(utf8_cases[i].text) != utf8_cases[i].clean)
            fail_msg("%s", utf8_cases[i].what);
}

/* Against a second, dumber decoder: every code point, encoded as RFC 3629 says. */
static void every_code_point_is_decoded(void **state)
{
    (void)state;
    for (uint32_t code = 1; code <= 0x110000; code++) {
        uint8_t wire[4];
        size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        bool valid = code < 0x110000 && (code < 0xd800 || code > 0xdfff);
        uint32_t rest = code, decoded;

        for (size_t i = len; i-- > 1; rest >>= 6)
            wire[i] = 0x80 | (rest & 0x3f);
        wire[0] = (uint8_t)(len == 1 ? rest : (0xf00 >> len & 0xff) | rest);
        assert_int_equal(utf8_first(bytes_of(wire, len), &decoded), valid ? len : 0);
        if (valid)
            assert_int_equal(decoded, code);
    }
}

static void two_byte_strings_never_pass_by_accident(void **state)
{
    (void)state;
    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++) {
            uint8_t wire[2] = {(uint8_t)a, (uint8_t)b};
            bool ascii = a > 0 && a < 0x80 && b > 0 && b < 0x80;
            bool pair = a >= 0xc2 && a <= 0xdf && b >= 0x80 && b <= 0xbf;

            assert_int_equal(text_is_clean(bytes_of(wire, 2)), ascii || pair);
        }
}

static void encoders_write_rfc_4251(void **state)
{
    static const uint8_t expected[] = {7,   1, 0,   0, 0, 1, 2, 0,   0,   0,  3,
                                       'a', 0, 'b', 0, 0, 0, 2, 'h', 'i', 'r'};
    struct buf buf = {0};

    (void)state;
    buf_put_u8(&buf, 7);
    buf_put_bool(&buf, true);
    buf_put_bool(&buf, false);
    buf_put_u32(&buf, 0x0102);
    buf_put_string(&buf, BYTES("a\0b"));
    buf_put_cstring(&buf, "hi");
    buf_put(&buf, BYTES("r"));
    assert_int_equal(buf.len, sizeof(expected));
    assert_memory_equal(buf.data, expected, sizeof(expected));
    buf_clear(&buf);
    assert_null(buf.data);
}

static void buffers_grow_and_keep_their_content(void **state)
{
    struct buf buf = {0};

    (void)state;
    for (uint32_t i = 0; i < 10000; i++)
        buf_put_u32(&buf, i);
    assert_int_equal(buf.len, 40000);
    for (uint32_t i = 0; i < 10000; i++)
        assert_int_equal(buf.data[4 * i + 2] << 8 | buf.data[4 * i + 3], i);
    buf_reset(&buf);
    assert_int_equal(buf_bytes(&buf).len, 0);
    buf_clear_secret(&buf);
    buf_clear_secret(&buf);
}

static void views_compare_by_content(void **state)
{
    char *copy = bytes_to_string(BYTES("abc"));
    char hex[7];

    (void)state;
    assert_true(bytes_equal(BYTES("abc"), bytes_of_string(copy)));
    assert_true(bytes_equal(bytes_of(NULL, 0), BYTES("")));
    assert_true(bytes_equal(bytes_of_string(NULL), BYTES("")));
    assert_false(bytes_are(BYTES("abc\0"), "abc"));
    assert_true(bytes_are(BYTES("abc"), "abc"));
    assert_false(bytes_are(BYTES("abd"), "abc"));
    free(copy);
    hex_encode(hex, BYTES("\x00\xa9\xff"));
    assert_string_equal(hex, "00a9ff");
}

/* RFC 4648 section 10, and what is no encoding of anything. */
static void base64_is_read_in_its_one_form(void **state)
{
    static const struct {
        const char *text, *bytes; /* NULL: refused */
    } cases[] = {
        {"", ""},
        {"Zg==", "f"},
        {"Zm8=", "fo"},
        {"Zm9v", "foo"},
        {"Zm9vYg==", "foob"},
        {"Zm9vYmE=", "fooba"},
        {"Zm9vYmFy", "foobar"},
        {"+/+/", "\xfb\xff\xbf"},
        {"Zg", NULL},
        {"Zg=", NULL},
        {"Zh==", NULL},
        {"Zm9=", NULL},
        {"====", NULL},
        {"Z===", NULL},
        {"Zg==Zg==", NULL},
        {"Zm8=\n", NULL},
        {"Zm 8", NULL},
        {"Zm-_", NULL},
        {"Zm9v=", NULL},
        {"Z\xffgA", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out = {0};
        bool good;

        buf_put(&out, BYTES("before"));
        good = buf_put_base64(&out, bytes_of_string(cases[i].text));
        if (good != (cases[i].bytes != NULL) ||
            !bytes_are(bytes_of(out.data + 6, out.len - 6), good ? cases[i].bytes : ""))
            fail_msg("%s", cases[i].text);
        buf_clear(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_is_checked_by_the_table),
        cmocka_unit_test(every_code_point_is_decoded),
        cmocka_unit_test(two_byte_strings_never_pass_by_accident),
        cmocka_unit_test(encoders_write_rfc_4251),
        cmocka_unit_test(buffers_grow_and_keep_their_content),
        cmocka_unit_test(views_compare_by_content),
        cmocka_unit_test(base64_is_read_in_its_one_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
