#include "base/log.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static enum log_format log_format = LOG_TEXT;
static _Atomic int log_level = LOG_INFO;
static void (*captured)(const char *line, size_t len);

void log_setup(enum log_format format, enum log_level level)
{
    log_format = format;
    log_set_level(level);
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level, level, memory_order_relaxed);
}

bool log_wanted(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

bool log_parse_level(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++)
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    return false;
}

bool log_parse_format(const char *name, enum log_format *out)
{
    if (strcmp(name, "text") == 0)
        *out = LOG_TEXT;
    else if (strcmp(name, "json") == 0)
        *out = LOG_JSON;
    else
        return false;
    return true;
}

void log_capture(void (*fn)(const char *line, size_t len))
{
    captured = fn;
}

struct log_field log_str(const char *key, const char *value)
{
    if (value == NULL)
        return log_none();
    return log_bytes(key, bytes_of_string(value));
}

struct log_field log_bytes(const char *key, struct bytes value)
{
    return (struct log_field){.key = key, .kind = LOG_FIELD_TEXT, .text = value};
}

struct log_field log_u64(const char *key, uint64_t value)
{
    return (struct log_field){.key = key, .kind = LOG_FIELD_NUMBER, .number = value};
}

struct log_field log_none(void)
{
    return (struct log_field){.key = "", .kind = LOG_FIELD_SKIP};
}

/* A line in the making. PIPE_BUF: up to there write(2) to a pipe is atomic, and all workers share
 * one stderr. */
struct line {
    char text[PIPE_BUF];
    size_t len;
};

#define LINE_END      2  /* brace and newline */
#define KEY_MAX       64 /* longer ones are cut */
#define SHORT_VALUE   64 /* values up to here may use the reserve */
/* What follows a peer's long names (outcome, reason, milliseconds) must still fit. */
#define VALUE_RESERVE 512

static size_t room(const struct line *line)
{
    return sizeof(line->text) - LINE_END - line->len;
}

static void put(struct line *line, const char *text, size_t len)
{
    if (len > room(line))
        return;
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

static void put_string(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* What a terminal or a viewer would act on instead of showing it: C0 and C1 controls, separators of
 * lines, and the marks that turn the direction of text, with which a name can look like another. */
static bool is_active(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code <= 0x9f) || code == 0x061c ||
           (code >= 0x200e && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
}

/* Escapes the character that `rest` starts with; *taken bytes. What is not UTF-8 goes byte by byte.
 */
static size_t escape(char out[16], struct bytes rest, size_t *taken)
{
    uint32_t code;
    size_t len = utf8_first(rest, &code);

    *taken = len ? len : 1;
    if (len == 0)
        return (size_t)snprintf(out, 16, log_format == LOG_JSON ? "\\u%04x" : "\\x%02x",
                                rest.data[0]);
    if (is_active(code))
        return (size_t)snprintf(
            out, 16, code < 0x80 && log_format == LOG_TEXT ? "\\x%02x" : "\\u%04x", code);
    if (code == '"' || code == '\\')
        return (size_t)snprintf(out, 16, "\\%c", (char)code);
    memcpy(out, rest.data, len);
    return len;
}

/* The limit is on the line, not on the value: escaping may blow it up sixfold. */
static void put_escaped(struct line *line, struct bytes value, size_t limit)
{
    size_t used = 0;
    size_t taken;

    for (size_t at = 0; at < value.len; at += taken) {
        char text[16];
        size_t len = escape(text, bytes_of(value.data + at, value.len - at), &taken);

        used += len;
        if (used > limit) {
            put_string(line, "...");
            return;
        }
        put(line, text, len);
    }
}

static bool needs_quotes(struct bytes value)
{
    if (value.len == 0 || value.len > LOG_VALUE_MAX)
        return true;
    for (size_t i = 0; i < value.len; i++)
        if (value.data[i] <= ' ' || value.data[i] >= 0x7f || value.data[i] == '"' ||
            value.data[i] == '\\' || value.data[i] == '=')
            return true;
    return false;
}

static void put_text(struct line *line, struct bytes text)
{
    size_t reserve = text.len > SHORT_VALUE ? VALUE_RESERVE : 0;
    size_t around = sizeof("\"...\"") - 1 + reserve;
    size_t limit = room(line) > around ? room(line) - around : 0;
    bool plain = !needs_quotes(text);
    bool quote = log_format == LOG_JSON || !plain;

    if (limit > LOG_VALUE_MAX)
        limit = LOG_VALUE_MAX;
    if (quote)
        put_string(line, "\"");
    if (plain && text.len <= limit)
        put(line, (const char *)text.data, text.len); /* nearly every value */
    else
        put_escaped(line, text, limit);
    if (quote)
        put_string(line, "\"");
}

/* Keys may come from a policy's answer: whatever is not a plain word must not look like another
 * field. */
static void put_key(struct line *line, const char *key)
{
    char word[KEY_MAX + 1];
    size_t len = strnlen(key, KEY_MAX);

    for (size_t i = 0; i < len; i++) {
        bool plain = (key[i] >= 'a' && key[i] <= 'z') || (key[i] >= 'A' && key[i] <= 'Z') ||
                     (key[i] >= '0' && key[i] <= '9') || strchr("_-.", key[i]) != NULL;

        word[i] = plain ? key[i] : '_';
    }
    word[len] = '\0';
    if (log_format == LOG_TEXT)
        put_string(line, " ");
    else
        put_string(line, line->len > 1 ? ",\"" : "\"");
    put_string(line, word);
    put_string(line, log_format == LOG_TEXT ? "=" : "\":");
}

static void put_number(struct line *line, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);

    do
        digits[--at] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    put(line, digits + at, sizeof(digits) - at);
}

static void put_field(struct line *line, const struct log_field *field)
{
    /* So much is there or the field is left out: no field is ever cut in a way that breaks the
     * line. */
    if (field->kind == LOG_FIELD_SKIP || room(line) < KEY_MAX + 32)
        return;
    put_key(line, field->key);
    if (field->kind == LOG_FIELD_TEXT)
        put_text(line, field->text);
    else
        put_number(line, field->number);
}

static void put_time(struct line *line)
{
    /* The calendar is asked once a second, not for each line. */
    static _Thread_local char text[40];
    static _Thread_local size_t len;
    static _Thread_local time_t second;
    struct timespec now;
    unsigned ms;

    clock_gettime(CLOCK_REALTIME, &now);
    if (len == 0 || now.tv_sec != second) {
        struct tm utc;

        second = now.tv_sec;
        gmtime_r(&second, &utc);
        len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
    }
    ms = (unsigned)(now.tv_nsec / 1000000);
    memcpy(text + len, ".000Z", sizeof(".000Z"));
    for (size_t at = len + 3; ms > 0; ms /= 10)
        text[at--] = (char)('0' + ms % 10);
    if (log_format == LOG_JSON) {
        struct log_field field = log_str("time", text);

        put_field(line, &field);
    } else {
        put_string(line, " time=");
        put_string(line, text);
    }
}

/* ---- out */

/* Lines of this thread that wait for the end of its loop's turn: one write(2) for all of them. */
static _Thread_local struct line gathered;
static _Thread_local bool gathering;

static void write_out(const struct line *line)
{
    if (write(STDERR_FILENO, line->text, line->len) < 0)
        return; /* nowhere left to say so */
}

void log_flush(void)
{
    if (gathered.len > 0)
        write_out(&gathered);
    gathered.len = 0;
}

void log_gather(bool on)
{
    gathering = on;
    if (!on)
        log_flush();
}

/* What went wrong is told at once: it may be the last thing that is. */
static void put_out(enum log_level level, const struct line *line)
{
    if (gathered.len + line->len > sizeof(gathered.text))
        log_flush();
    if (!gathering) {
        write_out(line);
        return;
    }
    memcpy(gathered.text + gathered.len, line->text, line->len);
    gathered.len += line->len;
    if (level <= LOG_WARN)
        log_flush();
}

void log_write(enum log_level level, const char *id, const char *event,
               const struct log_field *fields)
{
    struct line line; /* not zeroed: 4 KiB a line */
    struct log_field fixed[] = {log_str("level", level_names[level]), log_str("event", event)};

    line.len = 0;
    if (log_format == LOG_JSON) {
        struct log_field conn = log_str("connection", id ? id : "-");

        put_string(&line, "{");
        put_field(&line, &conn);
    } else {
        put_string(&line, id ? id : "-");
    }
    put_time(&line);
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        put_field(&line, &fixed[i]);
    for (; fields != NULL && fields->key != NULL; fields++)
        put_field(&line, fields);
    if (log_format == LOG_JSON)
        line.text[line.len++] = '}';
    line.text[line.len++] = '\n';
    if (captured != NULL)
        captured(line.text, line.len);
    else
        put_out(level, &line);
}
