#include "unit/cmocka_unit.h"

#include "base/log.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char line[8192];
static size_t line_len;
static int lines;

static void on_line(const char *text, size_t len)
{
    assert_true(len < sizeof(line));
    memcpy(line, text, len);
    line[len] = '\0';
    line_len = len;
    lines++;
}

static int setup(void **state)
{
    (void)state;
    log_capture(on_line);
    log_setup(LOG_TEXT, LOG_INFO);
    lines = 0;
    return 0;
}

/* What every line must be, whatever was in it. */
static void assert_one_line(void)
{
    assert_int_equal(lines, 1);
    assert_true(line_len <= PIPE_BUF);
    assert_int_equal(line[line_len - 1], '\n');
    assert_int_equal(strlen(line), line_len);
    for (size_t i = 0; i + 1 < line_len; i++)
        assert_true((unsigned char)line[i] >= ' ' && line[i] != 0x7f);
    assert_true(text_is_clean(bytes_of(line, line_len)));
}

/* ---- a small JSON reader, as strict as RFC 8259: one object of strings and numbers */

static const char *json_string(const char *at)
{
    if (*at++ != '"')
        return NULL;
    while (*at != '"') {
        if ((unsigned char)*at < ' ')
            return NULL;
        if (*at++ != '\\')
            continue;
        if (*at == 'u') {
            for (int i = 1; i <= 4; i++)
                if (!isxdigit((unsigned char)at[i]))
                    return NULL;
            at += 5;
        } else if (*at == '\0' || strchr("\"\\/bfnrt", *at) == NULL) {
            return NULL;
        } else {
            at++;
        }
    }
    return at + 1;
}

static bool is_json_object(const char *at)
{
    if (*at++ != '{')
        return false;
    for (;;) {
        at = json_string(at);
        if (at == NULL || *at++ != ':')
            return false;
        at = *at == '"' ? json_string(at) : at + strspn(at, "0123456789");
        if (at == NULL)
            return false;
        if (*at == '}')
            return strcmp(at + 1, "\n") == 0;
        if (*at++ != ',')
            return false;
    }
}

static void a_line_is_id_then_fields(void **state)
{
    (void)state;
    log_info("0123", "login", log_str("user", "root"), log_none(), log_u64("ms", 12),
             log_str("absent", NULL));
    assert_one_line();
    assert_int_equal(strncmp(line, "0123 time=", 10), 0);
    assert_string_equal(strstr(line, "level="), "level=info event=login user=root ms=12\n");
}

static void the_daemon_itself_is_a_dash(void **state)
{
    (void)state;
    log_warn(NULL, "odd");
    assert_int_equal(strncmp(line, "- time=", 7), 0);
    assert_string_equal(strstr(line, "level="), "level=warn event=odd\n");
}

static void levels_are_kept(void **state)
{
    enum log_level level;
    enum log_format format;

    (void)state;
    log_debug(NULL, "hidden");
    assert_int_equal(lines, 0);
    log_set_level(LOG_DEBUG);
    log_debug(NULL, "shown");
    assert_int_equal(lines, 1);
    log_set_level(LOG_ERROR);
    log_warn(NULL, "hidden");
    assert_int_equal(lines, 1);
    assert_true(log_parse_level("warn", &level) && level == LOG_WARN);
    assert_false(log_parse_level("Warn", &level));
    assert_true(log_parse_format("json", &format) && format == LOG_JSON);
    assert_false(log_parse_format("xml", &format));
}

struct escape_case {
    struct bytes value;
    const char *text, *json;
};

static const struct escape_case escapes[] = {
    {BYTES("a b"), "\"a b\"", "\"a b\""},
    {BYTES(""), "\"\"", "\"\""},
    {BYTES("a=b"), "\"a=b\"", "\"a=b\""},
    {BYTES("a\"b\\c"), "\"a\\\"b\\\\c\"", "\"a\\\"b\\\\c\""},
    {BYTES("a\nevent=login"), "\"a\\x0aevent=login\"", "\"a\\u000aevent=login\""},
    {BYTES("\x1b[2J"), "\"\\x1b[2J\"", "\"\\u001b[2J\""},
    {BYTES("a\0b"), "\"a\\x00b\"", "\"a\\u0000b\""},
    {BYTES("\x7f"), "\"\\x7f\"", "\"\\u007f\""},
    {BYTES("caf\xc3\xa9"), "\"caf\xc3\xa9\"", "\"caf\xc3\xa9\""},
    {BYTES("\xff\xc3\xa9"), "\"\\xff\xc3\xa9\"", "\"\\u00ff\xc3\xa9\""},
    {BYTES("\xc2\x9b"
           "2J"),
     "\"\\u009b2J\"", "\"\\u009b2J\""}, /* CSI as one C1 control */
    {BYTES("\xc2\x80\xc2\x9f\xc2\xa0"), "\"\\u0080\\u009f\xc2\xa0\"", "\"\\u0080\\u009f\xc2\xa0\""},
    {BYTES("\xe2\x80\xaa\xe2\x80\xae"), "\"\\u202a\\u202e\"", "\"\\u202a\\u202e\""},
    {BYTES("\xe2\x81\xa6\xe2\x81\xa9"), "\"\\u2066\\u2069\"", "\"\\u2066\\u2069\""},
    {BYTES("\xe2\x80\xa8"), "\"\\u2028\"", "\"\\u2028\""},
    {BYTES("\xe2\x80\x94"), "\"\xe2\x80\x94\"", "\"\xe2\x80\x94\""},
    {BYTES("\xed\xa0\x80"), "\"\\xed\\xa0\\x80\"", "\"\\u00ed\\u00a0\\u0080\""},
};

static void text_of_peers_cannot_forge_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * sizeof(escapes) / sizeof(escapes[0]); i++) {
        const struct escape_case *one = &escapes[i / 2];
        bool json = i % 2;
        char expected[128];

        log_setup(json ? LOG_JSON : LOG_TEXT, LOG_INFO);
        lines = 0;
        log_info("id", "x", log_bytes("v", one->value), log_u64("end", 1));
        assert_one_line();
        if (json) {
            assert_true(is_json_object(line));
            snprintf(expected, sizeof(expected), ",\"v\":%s,\"end\":1}\n", one->json);
        } else {
            snprintf(expected, sizeof(expected), " v=%s end=1\n", one->text);
        }
        assert_non_null(strstr(line, expected));
    }
}

/* 64 KiB of the worst kind, several times over: one line each, valid, and what follows is still
 * there. */
static void long_text_is_cut(void **state)
{
    static const uint8_t fill[] = {'a', '\n', 0, 0xff, 0x1b, '"'};
    char *huge = malloc(65536);

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(fill); i++) {
        bool json = i % 2;

        memset(huge, fill[i / 2], 65536);
        log_setup(json ? LOG_JSON : LOG_TEXT, LOG_INFO);
        lines = 0;
        log_info("id", "x", log_bytes("a", bytes_of(huge, 65536)),
                 log_bytes("b", bytes_of(huge, 65536)), log_bytes("c", bytes_of(huge, 65536)),
                 log_bytes("d", bytes_of(huge, 65536)), log_bytes("e", bytes_of(huge, 1025)),
                 log_str("outcome", "refused"), log_u64("ms", 7));
        assert_one_line();
        assert_non_null(strstr(line, "..."));
        assert_non_null(strstr(line, json ? ",\"outcome\":\"refused\",\"ms\":7}\n"
                                          : " outcome=refused ms=7\n"));
        assert_true(!json || is_json_object(line));
    }
    free(huge);
}

static void one_value_takes_at_most_a_kibibyte(void **state)
{
    char name[65536];

    (void)state;
    memset(name, 'n', sizeof(name));
    log_info("id", "x", log_bytes("user", bytes_of(name, LOG_VALUE_MAX)));
    assert_null(strstr(line, "..."));
    log_info("id", "x", log_bytes("user", bytes_of(name, sizeof(name))));
    assert_int_equal(strlen(strstr(line, " user=")), 6 + 1 + LOG_VALUE_MAX + 3 + 1 + 1);
    /* The cut never splits a character. */
    lines = 0;
    for (size_t i = 0; i < sizeof(name); i++)
        name[i] = i % 2 ? '\xa9' : '\xc3';
    name[0] = 'x';
    name[1] = 'y';
    name[2] = 'z';
    memmove(name + 3, name + 4, sizeof(name) - 4);
    log_info("id", "x", log_bytes("user", bytes_of(name, 65535)));
    assert_one_line();
    assert_null(strstr(line, "\\x"));
}

/* A policy names the keys of its log map. */
static void keys_cannot_forge_fields(void **state)
{
    (void)state;
    log_info("id", "x", log_str("a b=c\n\"d", "v"), log_str("\xc3\xa9", "w"));
    assert_one_line();
    assert_non_null(strstr(line, " a_b_c__d=v __=w\n"));
    log_setup(LOG_JSON, LOG_INFO);
    log_info("id", "x", log_str("a\"b", "v"));
    assert_true(is_json_object(line));
}

static void many_fields_end_in_a_valid_line(void **state)
{
    struct log_field fields[400];

    (void)state;
    log_setup(LOG_JSON, LOG_INFO);
    for (size_t i = 0; i < 399; i++)
        fields[i] = i % 2 ? log_u64("number", UINT64_MAX) : log_str("word", "\x01\x02\x03");
    fields[399] = (struct log_field){0};
    log_write(LOG_INFO, NULL, "x", fields);
    assert_one_line();
    assert_true(is_json_object(line));
}

static ssize_t read_back(int fd, char *out, size_t size)
{
    ssize_t got = read(fd, out, size - 1);

    out[got > 0 ? got : 0] = '\0';
    return got;
}

static void gathered_lines_are_one_write_and_warnings_wait_for_nobody(void **state)
{
    char out[8192];
    int fds[2], before = dup(STDERR_FILENO);

    (void)state;
    log_capture(NULL);
    log_setup(LOG_TEXT, LOG_INFO);
    assert_int_equal(pipe2(fds, O_NONBLOCK | O_DIRECT), 0); /* a read is one write */
    dup2(fds[1], STDERR_FILENO);
    log_gather(true);
    log_info("id", "one");
    log_info("id", "two");
    assert_true(read_back(fds[0], out, sizeof(out)) < 0);
    log_flush();
    assert_true(read_back(fds[0], out, sizeof(out)) > 0);
    assert_non_null(strstr(strstr(out, "event=one\n"), "event=two\n"));
    log_info("id", "three");
    log_warn("id", "four");
    assert_true(read_back(fds[0], out, sizeof(out)) > 0);
    assert_non_null(strstr(strstr(out, "event=three\n"), "event=four\n"));
    for (int i = 0; i < 100; i++)
        log_info("id", "many");
    assert_in_range(read_back(fds[0], out, sizeof(out)), PIPE_BUF / 2, PIPE_BUF);
    log_gather(false);
    dup2(before, STDERR_FILENO);
    assert_int_equal(out[strlen(out) - 1], '\n');
    close(fds[0]);
    close(fds[1]);
    close(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_line_is_id_then_fields, setup),
        cmocka_unit_test_setup(the_daemon_itself_is_a_dash, setup),
        cmocka_unit_test_setup(levels_are_kept, setup),
        cmocka_unit_test_setup(text_of_peers_cannot_forge_lines, setup),
        cmocka_unit_test_setup(long_text_is_cut, setup),
        cmocka_unit_test_setup(one_value_takes_at_most_a_kibibyte, setup),
        cmocka_unit_test_setup(keys_cannot_forge_fields, setup),
        cmocka_unit_test_setup(many_fields_end_in_a_valid_line, setup),
        cmocka_unit_test_setup(gathered_lines_are_one_write_and_warnings_wait_for_nobody, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
