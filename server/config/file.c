#include "config/schema.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (1u << 20)

/* What libcyaml says of an error: a message, then the way from the value up to the top. */
struct complaint {
    char *message; /* NULL: none */
    char *path;    /* owned: of the value, or of the mapping around an unknown key; NULL: the top */
    size_t line;
};

static void prepend(char **path, const char *name, size_t len)
{
    char *longer = xasprintf("%.*s%s%s", (int)len, name, *path ? "." : "", *path ? *path : "");

    free(*path);
    *path = longer;
}

static void on_complaint(cyaml_log_t level, void *arg, const char *format, va_list args)
{
    static const char field[] = "in mapping field '", prefix[] = "Load: ";
    struct complaint *complaint = arg;
    char text[512];
    const char *at;

    (void)level;
    vsnprintf(text, sizeof(text), format, args);
    text[strcspn(text, "\n")] = '\0';
    if ((at = strstr(text, field)) != NULL) {
        at += sizeof(field) - 1;
        prepend(&complaint->path, at, strcspn(at, "'"));
    }
    if ((at = strstr(text, "(line: ")) != NULL && complaint->line == 0)
        complaint->line = strtoul(at + 7, NULL, 10);
    if (complaint->message == NULL && strncmp(text, prefix, sizeof(prefix) - 1) == 0)
        complaint->message = xstrdup(text + sizeof(prefix) - 1);
}

static const char *plain_words(const char *message)
{
    static const struct {
        const char *theirs, *ours;
    } words[] = {
        {"Unexpected key", "unknown key"},
        {"Expecting STRING", "expected one value"},
        {"Expecting SEQUENCE", "expected a list"},
        {"Expecting MAPPING", "expected a mapping"},
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strncmp(message, words[i].theirs, strlen(words[i].theirs)) == 0)
            return words[i].ours;
    return message;
}

/* libcyaml's own line is the one it has read up to, and that of an unknown key is the key before:
 * ours is better. */
static char *explain(struct complaint *complaint, const char *file, const struct lines *lines)
{
    static const char unknown[] = "Unexpected key: ";
    const char *message = complaint->message ? complaint->message : "cannot be read";
    const char *path = complaint->path ? complaint->path : "";
    const char *key = "";
    char *full, *text;
    size_t line;

    if (strncmp(message, unknown, sizeof(unknown) - 1) == 0)
        key = message + sizeof(unknown) - 1;
    full = xasprintf("%s%s%s", path, path[0] && key[0] ? "." : "", key);
    line = lines_find(lines, full);
    if (line == 0)
        line = complaint->line ? complaint->line : 1;
    text = xasprintf("%s:%zu: %s%s%s", file, line, full, full[0] ? ": " : "", plain_words(message));
    free(full);
    return text;
}

static bool apply_one(struct config *config, size_t row, const struct lines *lines,
                      const char *position, const char *name, const char *text, char **error)
{
    char *where =
        xasprintf("%s:%zu: %s", config->file, lines_find(lines, position), settings[row].path);
    bool ok = setting_apply(config, &settings[row], SOURCE_FILE, where, name, text, error);

    free(where);
    return ok;
}

static bool apply_map(struct config *config, const struct schema *schema, size_t row,
                      const struct lines *lines, char *const *values, char **error)
{
    bool ok = true;

    for (size_t i = 0; ok && schema->maps[row][i].key != NULL; i++) {
        const char *name = schema->maps[row][i].key;
        char *position = xasprintf("%s.%s", settings[row].path, name);

        if (values[i] != NULL)
            ok = apply_one(config, row, lines, position, name, values[i], error);
        free(position);
    }
    return ok;
}

static bool apply_list(struct config *config, size_t row, const struct lines *lines,
                       char *const *values, unsigned count, char **error)
{
    bool ok = true;

    for (unsigned i = 0; ok && i < count; i++) {
        char *position = xasprintf("%s[%u]", settings[row].path, i);

        ok = apply_one(config, row, lines, position, NULL, values[i], error);
        free(position);
    }
    return ok;
}

static bool apply_loaded(struct config *config, const struct schema *schema,
                         const struct loaded *loaded, const struct lines *lines, char **error)
{
    bool ok = true;

    for (size_t row = 0; ok && row < SETTING_COUNT; row++) {
        void *slot = loaded->slot[row];

        if (slot == NULL)
            continue;
        if (setting_is_map(&settings[row]))
            ok = apply_map(config, schema, row, lines, slot, error);
        else if (setting_is_list(&settings[row]))
            ok = apply_list(config, row, lines, slot, loaded->count[row], error);
        else
            ok = apply_one(config, row, lines, settings[row].path, NULL, slot, error);
    }
    for (size_t section = 0; ok && section <= SETTING_COUNT; section++)
        if (loaded->sections[section] != NULL)
            ok = apply_loaded(config, schema, loaded->sections[section], lines, error);
    return ok;
}

static bool load(struct config *config, struct bytes text, const struct lines *lines, char **error)
{
    struct complaint complaint = {.line = 0};
    cyaml_config_t how = {
        .log_fn = on_complaint,
        .log_ctx = &complaint,
        .log_level = CYAML_LOG_WARNING,
        .mem_fn = cyaml_mem,
        .flags = CYAML_CFG_NO_ALIAS,
    };
    struct loaded *loaded = NULL;
    struct schema schema;
    bool ok;

    schema_make(&schema, lines);
    ok = cyaml_load_data(text.data, text.len, &how, &schema.top, (cyaml_data_t **)&loaded, NULL) ==
         CYAML_OK;
    if (!ok)
        *error = explain(&complaint, config->file, lines);
    else if (loaded != NULL) /* NULL: the file is empty */
        ok = apply_loaded(config, &schema, loaded, lines, error);
    cyaml_free(&how, &schema.top, loaded, 0);
    free(complaint.message);
    free(complaint.path);
    schema_clear(&schema);
    return ok;
}

static bool read_all(const char *path, struct buf *text, char **error)
{
    FILE *file = fopen(path, "re");
    uint8_t chunk[4096];
    size_t got;

    while (file != NULL && text->len <= FILE_MAX &&
           (got = fread(chunk, 1, sizeof(chunk), file)) > 0)
        buf_put(text, bytes_of(chunk, got));
    if (file == NULL || ferror(file))
        *error = xasprintf("%s: %s", path, strerror(errno));
    else if (text->len > FILE_MAX)
        *error = xasprintf("%s: longer than 1 MiB", path);
    if (file != NULL)
        fclose(file);
    if (text->len == 0)
        buf_put_u8(text, '\n'); /* libyaml asserts that there is something to read */
    return *error == NULL;
}

bool config_read_file(struct config *config, const char *path, char **error)
{
    struct lines lines = {0};
    struct buf text = {0};
    char *why = NULL;
    size_t at = 0;
    bool ok;

    config->file = xstrdup(path);
    ok = read_all(path, &text, error);
    if (ok && !lines_scan(&lines, buf_bytes(&text), &why, &at)) {
        *error = xasprintf("%s:%zu: %s", path, at, why);
        free(why);
        ok = false;
    }
    ok = ok && load(config, buf_bytes(&text), &lines, error);
    lines_clear(&lines);
    buf_clear(&text);
    return ok;
}
