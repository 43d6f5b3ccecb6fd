/*
 * The log: one line an event, the connection id first, then key=value (or one JSON object a line).
 * Text from peers is escaped and cut at 1 KiB, so no peer can forge a line; a line is at most 4
 * KiB, and fields beyond that are left out.
 *
 *     log_info(conn_id, "login", log_str("user", user), log_u64("ms", ms));
 */
#ifndef PARLEY_BASE_LOG_H
#define PARLEY_BASE_LOG_H

#include "base/bytes.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

#define LOG_VALUE_MAX                                                                              \
    1024 /* bytes of one value in the line, escapes included, before it is cut                     \
          */

void log_setup(enum log_format format, enum log_level level); /* before the first thread starts */
void log_set_level(enum log_level level);                     /* any time, any thread */
bool log_wanted(enum log_level level);
bool log_parse_level(const char *name, enum log_level *out); /* error, warn, info, debug */
bool log_parse_format(const char *name, enum log_format *out);

struct log_field {
    const char *key; /* NULL ends the list; log_none() is skipped */
    enum { LOG_FIELD_SKIP, LOG_FIELD_TEXT, LOG_FIELD_NUMBER } kind;
    struct bytes text; /* borrowed until log_write() returns */
    uint64_t number;
};

struct log_field log_str(const char *key, const char *value); /* NULL value: left out */
struct log_field log_bytes(const char *key, struct bytes value);
struct log_field log_u64(const char *key, uint64_t value);
struct log_field log_none(void); /* for conditional fields */

/* id: the connection's, or NULL for the daemon's own events. Writes one line to stderr: with one
 * write(2), or gathered with others. */
void log_write(enum log_level level, const char *id, const char *event,
               const struct log_field *fields);

#define log_at(level, id, event, ...)                                                              \
    do {                                                                                           \
        if (log_wanted(level))                                                                     \
            log_write(level, id, event, (struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){0}});      \
    } while (0)
#define log_error(id, event, ...) log_at(LOG_ERROR, id, event, __VA_ARGS__)
#define log_warn(id, event, ...)  log_at(LOG_WARN, id, event, __VA_ARGS__)
#define log_info(id, event, ...)  log_at(LOG_INFO, id, event, __VA_ARGS__)
#define log_debug(id, event, ...) log_at(LOG_DEBUG, id, event, __VA_ARGS__)

/* Of the calling thread: lines at info and debug wait for log_flush(), or for a warning, or until
 * they fill one write. Whoever turns this on flushes before he sleeps. */
void log_gather(bool on);
void log_flush(void);

/* For tests: lines go to fn instead of stderr; NULL restores. */
void log_capture(void (*fn)(const char *line, size_t len));

#endif
