#include "base/log.h"

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

/* A line in the making. What does not fit is left out: a line is never longer than the pipe's atomic write by much. */
struct line {
    char text[16384];
    size_t len;
};

static void put(struct line *line, const char *text, size_t len)
{
    size_t room = sizeof(line->text) - line->len - 2;

    if (len > room)
        len = room;
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

static void put_string(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* Printable ASCII and well-formed UTF-8 stay; the rest becomes \xHH (text) or \u00HH (JSON). */
static void put_escaped(struct line *line, struct bytes value)
{
    bool cut = value.len > LOG_VALUE_MAX;
    bool clean;

    if (cut)
        value.len = LOG_VALUE_MAX;
    clean = text_is_clean(value);
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.data[i];
        char escape[8];

        if (c == '"' || c == '\\') {
            escape[0] = '\\';
            escape[1] = (char)c;
            put(line, escape, 2);
        } else if ((c >= 0x20 && c < 0x7f) || (c >= 0x80 && clean)) {
            put(line, (const char *)&value.data[i], 1);
        } else {
            snprintf(escape, sizeof(escape), log_format == LOG_JSON ? "\\u%04x" : "\\x%02x", c);
            put_string(line, escape);
        }
    }
    if (cut)
        put_string(line, "...");
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

static void put_field_text(struct line *line, const struct log_field *field)
{
    bool quote = log_format == LOG_JSON || needs_quotes(field->text);

    if (quote)
        put_string(line, "\"");
    put_escaped(line, field->text);
    if (quote)
        put_string(line, "\"");
}

static void put_key(struct line *line, const char *key)
{
    if (log_format == LOG_JSON) {
        put_string(line, line->len > 1 ? ",\"" : "\"");
        put_escaped(line, bytes_of_string(key));
        put_string(line, "\":");
    } else {
        put_string(line, " ");
        put_escaped(line, bytes_of_string(key));
        put_string(line, "=");
    }
}

static void put_field(struct line *line, const struct log_field *field)
{
    char number[24];

    if (field->kind == LOG_FIELD_SKIP)
        return;
    put_key(line, field->key);
    if (field->kind == LOG_FIELD_TEXT) {
        put_field_text(line, field);
    } else {
        snprintf(number, sizeof(number), "%llu", (unsigned long long)field->number);
        put_string(line, number);
    }
}

static void put_time(struct line *line)
{
    struct timespec now;
    struct tm utc;
    char text[40];
    size_t len;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + len, sizeof(text) - len, ".%03ldZ", now.tv_nsec / 1000000);
    if (log_format == LOG_JSON) {
        struct log_field field = log_str("time", text);

        put_field(line, &field);
    } else {
        put_string(line, " time=");
        put_string(line, text);
    }
}

void log_write(enum log_level level, const char *id, const char *event,
               const struct log_field *fields)
{
    struct line line = {.len = 0};
    struct log_field fixed[] = {log_str("level", level_names[level]), log_str("event", event)};

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
    if (captured != NULL) {
        captured(line.text, line.len);
        return;
    }
    if (write(STDERR_FILENO, line.text, line.len) < 0)
        return; /* nowhere left to say so */
}
