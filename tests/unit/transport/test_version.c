/* The client's version line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/version.h"

#include <string.h>

static enum version_result parse(const char *text, struct version_line *out)
{
    return version_parse(bytes_of_string(text), out);
}

static void expect_line(const char *text, const char *line)
{
    struct version_line out;

    assert_int_equal(parse(text, &out), VERSION_OK);
    assert_true(bytes_are(out.line, line));
}

static void expect_refused(const char *text)
{
    struct version_line out;

    assert_int_equal(parse(text, &out), VERSION_REFUSED);
    assert_non_null(out.problem);
}

static void test_accepts(void **state)
{
    struct version_line out;

    (void)state;
    expect_line("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "SSH-2.0-OpenSSH_9.2p1 Debian-2");
    expect_line("SSH-2.0-x\n", "SSH-2.0-x");
    expect_line("SSH-1.99-old\r\nmore", "SSH-1.99-old");
    assert_int_equal(parse("SSH-2.0-a\r\nrest", &out), VERSION_OK);
    assert_int_equal(out.consumed, 11);
}

static void test_waits(void **state)
{
    const char *line = "SSH-2.0-client";
    struct version_line out;

    (void)state;
    for (size_t len = 0; len <= strlen(line); len++)
        assert_int_equal(version_parse(bytes_of(line, len), &out), VERSION_INCOMPLETE);
}

static void test_refuses_other_protocols_at_once(void **state)
{
    (void)state;
    expect_refused("G");
    expect_refused("GET / HTTP/1.1\r\n");
    expect_refused("SSH-1.5-old\r\n");
    expect_refused("SSH-3");
    expect_refused("ssh-2.0-x\n");
    expect_refused("\n");
}

static void test_refuses_bad_text(void **state)
{
    static const char nul[] = "SSH-2.0-a\0b\r\n";
    struct version_line out;

    (void)state;
    expect_refused("SSH-2.0-\r\n");
    expect_refused("SSH-2.0-a\rb\r\n");
    expect_refused("SSH-2.0-a\033[2J\r\n");
    expect_refused("SSH-2.0-\xff\r\n");
    assert_int_equal(version_parse(bytes_of(nul, sizeof(nul) - 1), &out), VERSION_REFUSED);
    assert_int_equal(version_parse(bytes_of(nul, 11), &out), VERSION_REFUSED);
}

static void test_length(void **state)
{
    char line[300];
    struct version_line out;

    (void)state;
    memset(line, 'a', sizeof(line));
    memcpy(line, "SSH-2.0-", 8);
    assert_int_equal(version_parse(bytes_of(line, 254), &out), VERSION_INCOMPLETE);
    assert_int_equal(version_parse(bytes_of(line, 255), &out), VERSION_REFUSED);
    memcpy(line + 253, "\r\n", 2);
    assert_int_equal(version_parse(bytes_of(line, 300), &out), VERSION_OK);
    assert_int_equal(out.line.len, 253);
    assert_int_equal(out.consumed, 255);
    memcpy(line + 253, "aa\n", 3);
    assert_int_equal(version_parse(bytes_of(line, 300), &out), VERSION_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_waits),
        cmocka_unit_test(test_refuses_bad_text),
        cmocka_unit_test(test_refuses_other_protocols_at_once),
        cmocka_unit_test(test_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
