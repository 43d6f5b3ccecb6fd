/* Lines, words and patterns of OpenSSH's text files. */
#include "unit/cmocka_unit.h"

#include "base/words.h"

#include <string.h>

static void expect(struct bytes found, const char *wanted)
{
    assert_int_equal(found.len, strlen(wanted));
    if (found.len > 0)
        assert_memory_equal(found.data, wanted, found.len);
}

static void lines_end_in_a_newline_or_not(void **state)
{
    struct bytes text = BYTES("one\r\n\n\r\ntwo \r\r\nthree");

    (void)state;
    expect(line_take(&text), "one");
    expect(line_take(&text), "");
    expect(line_take(&text), "");
    expect(line_take(&text), "two \r");
    expect(line_take(&text), "three");
    assert_int_equal(text.len, 0);
    expect(line_take(&text), "");
}

static void a_list_has_its_items_only(void **state)
{
    struct bytes list = BYTES("publickey,password,,x");

    (void)state;
    assert_true(list_has(list, BYTES("publickey")));
    assert_true(list_has(list, BYTES("x")));
    assert_true(list_has(list, BYTES("")));
    assert_false(list_has(list, BYTES("pass")));
    assert_false(list_has(list, BYTES("passwords")));
    assert_false(list_has(list, BYTES("password,")));
    assert_false(list_has(list, BYTES("PASSWORD")));
    assert_false(list_has(BYTES(""), BYTES("password")));
}

static void words_stand_between_blanks(void **state)
{
    struct bytes line = BYTES(" \tone  two\t\tthree\r \t ");

    (void)state;
    expect(word_take(&line), "one");
    expect(line, "two\t\tthree\r \t ");
    expect(word_take(&line), "two");
    expect(word_take(&line), "three\r");
    expect(line, "");
    expect(word_take(&line), "");
    line = bytes_of(NULL, 0);
    expect(word_take(&line), "");
    expect(blanks_skip(line), "");
}

static void lists_have_items(void **state)
{
    struct bytes list = BYTES("a,,b,");
    bool more;

    (void)state;
    expect(item_take(&list, &more), "a");
    assert_true(more);
    expect(item_take(&list, &more), "");
    assert_true(more);
    expect(item_take(&list, &more), "b");
    assert_true(more);
    expect(item_take(&list, &more), "");
    assert_false(more);
}

static void patterns_match_all_of_the_text(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } rows[] = {
        {"", "", true},
        {"", "a", false},
        {"a", "", false},
        {"*", "", true},
        {"?", "", false},
        {"a", "a", true},
        {"A", "a", true},
        {"a", "A", true},
        {"[", "{", false},
        {"@", "`", false},
        {"a*", "a", true},
        {"*a", "ba", true},
        {"*a", "ab", false},
        {"*a*", "bab", true},
        {"a?c", "abc", true},
        {"a?c", "ac", false},
        {"*ab*ab", "abab", true},
        {"*aab", "aaaaab", true},
        {"*abc*bd", "abcbcd", false},
        {"a*b*c*", "aXbYc", true},
        {"**?", "x", true},
        {"?*?", "x", false},
        {"\xc4", "\xe4", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct bytes pattern = bytes_of_string(rows[i].pattern);
        struct bytes text = bytes_of_string(rows[i].text);

        assert_int_equal(pattern_matches(pattern, text), rows[i].matches);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_in_a_newline_or_not),
        cmocka_unit_test(a_list_has_its_items_only),
        cmocka_unit_test(words_stand_between_blanks),
        cmocka_unit_test(lists_have_items),
        cmocka_unit_test(patterns_match_all_of_the_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
