#include "config/lines.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define DEPTH_MAX 8 /* our schema has 3 levels */

struct scan {
    yaml_parser_t parser;
    struct lines *lines;
    char *why;
    size_t at;
};

static bool wrong(struct scan *scan, const yaml_event_t *event, const char *why)
{
    scan->why = xstrdup(why);
    scan->at = event->start_mark.line + 1;
    return false;
}

static bool next_event(struct scan *scan, yaml_event_t *event)
{
    if (yaml_parser_parse(&scan->parser, event))
        return true;
    scan->why =
        xasprintf("not YAML: %s", scan->parser.problem ? scan->parser.problem : "unreadable");
    scan->at = scan->parser.problem_mark.line + 1;
    return false;
}

static bool add_line(struct scan *scan, const char *path, const yaml_event_t *event)
{
    struct lines *lines = scan->lines;

    if (lines_find(lines, path) != 0) {
        scan->why = xasprintf("%s is set twice (first on line %zu)", path, lines_find(lines, path));
        scan->at = event->start_mark.line + 1;
        return false;
    }
    lines->lines = xrealloc(lines->lines, (lines->count + 1) * sizeof(*lines->lines));
    lines->lines[lines->count++] = (struct line){xstrdup(path), event->start_mark.line + 1};
    return true;
}

static bool check_scalar(struct scan *scan, const yaml_event_t *event)
{
    if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length)
        return wrong(scan, event, "the text holds a NUL");
    return true;
}

static bool scan_value(struct scan *scan, const char *path, int depth);

static bool scan_entry(struct scan *scan, const char *path, const yaml_event_t *key, int depth)
{
    char *inner;
    bool ok;

    if (key->type != YAML_SCALAR_EVENT)
        return wrong(scan, key, "a key is not plain text");
    if (!check_scalar(scan, key))
        return false;
    inner = xasprintf("%s%s%s", path, path[0] ? "." : "", (const char *)key->data.scalar.value);
    ok = add_line(scan, inner, key) && scan_value(scan, inner, depth);
    free(inner);
    return ok;
}

static bool scan_mapping(struct scan *scan, const char *path, int depth)
{
    yaml_event_t event;
    bool ok = true, end = false;

    while (ok && !end) {
        if (!next_event(scan, &event))
            return false;
        end = event.type == YAML_MAPPING_END_EVENT;
        if (!end)
            ok = scan_entry(scan, path, &event, depth);
        yaml_event_delete(&event);
    }
    return ok;
}

static bool scan_node(struct scan *scan, const char *path, const yaml_event_t *event, int depth);

static bool scan_sequence(struct scan *scan, const char *path, int depth)
{
    yaml_event_t event;
    bool ok = true, end = false;

    for (size_t i = 0; ok && !end; i++) {
        char *inner;

        if (!next_event(scan, &event))
            return false;
        end = event.type == YAML_SEQUENCE_END_EVENT;
        if (!end) {
            inner = xasprintf("%s[%zu]", path, i);
            ok = add_line(scan, inner, &event) && scan_node(scan, inner, &event, depth);
            free(inner);
        }
        yaml_event_delete(&event);
    }
    return ok;
}

static bool scan_node(struct scan *scan, const char *path, const yaml_event_t *event, int depth)
{
    if (depth == DEPTH_MAX)
        return wrong(scan, event, "nested too deep");
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return check_scalar(scan, event);
    case YAML_MAPPING_START_EVENT:
        return scan_mapping(scan, path, depth + 1);
    case YAML_SEQUENCE_START_EVENT:
        return scan_sequence(scan, path, depth + 1);
    case YAML_ALIAS_EVENT:
        return wrong(scan, event, "aliases are not supported");
    default:
        return wrong(scan, event, "a value is missing");
    }
}

static bool scan_value(struct scan *scan, const char *path, int depth)
{
    yaml_event_t event;
    bool ok;

    if (!next_event(scan, &event))
        return false;
    ok = scan_node(scan, path, &event, depth);
    yaml_event_delete(&event);
    return ok;
}

static bool scan_stream(struct scan *scan)
{
    yaml_event_t event;
    yaml_event_type_t type;
    size_t documents = 0;
    bool ok = true;

    do {
        if (!next_event(scan, &event))
            return false;
        type = event.type;
        if (type == YAML_DOCUMENT_START_EVENT)
            ok = ++documents == 1 ? scan_value(scan, "", 0)
                                  : wrong(scan, &event, "a second document starts");
        yaml_event_delete(&event);
    } while (ok && type != YAML_STREAM_END_EVENT);
    return ok;
}

bool lines_scan(struct lines *lines, struct bytes text, char **why, size_t *at)
{
    struct scan scan = {.lines = lines};
    bool ok;

    if (!yaml_parser_initialize(&scan.parser)) {
        *why = xstrdup("out of memory");
        *at = 1;
        return false;
    }
    yaml_parser_set_input_string(&scan.parser, text.data, text.len);
    ok = scan_stream(&scan);
    yaml_parser_delete(&scan.parser);
    *why = scan.why;
    *at = scan.at;
    return ok;
}

size_t lines_find(const struct lines *lines, const char *path)
{
    for (size_t i = 0; i < lines->count; i++)
        if (strcmp(lines->lines[i].path, path) == 0)
            return lines->lines[i].number;
    return 0;
}

void lines_clear(struct lines *lines)
{
    for (size_t i = 0; i < lines->count; i++)
        free(lines->lines[i].path);
    free(lines->lines);
    *lines = (struct lines){0};
}
