#include "config/schema.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* One value, as text. Empty ones are let through: our parser words that better. */
#define TEXT_VALUE                                                                                 \
    {                                                                                              \
        .type = CYAML_STRING, .flags = CYAML_FLAG_POINTER, .data_size = sizeof(char),              \
        .string = {.min = 0, .max = CYAML_UNLIMITED},                                              \
    }

static const cyaml_schema_value_t text_value = TEXT_VALUE;

static size_t field_count(const cyaml_schema_field_t *fields)
{
    size_t count = 0;

    while (fields != NULL && fields[count].key != NULL)
        count++;
    return count;
}

static cyaml_schema_field_t *add_field(cyaml_schema_field_t **fields, const char *key)
{
    size_t count = field_count(*fields);
    cyaml_schema_field_t *field;

    *fields = xrealloc(*fields, (count + 2) * sizeof(**fields));
    field = &(*fields)[count];
    memset(field, 0, 2 * sizeof(*field));
    field->key = key;
    return field;
}

/* libcyaml has no mapping with free keys: the keys that this file happens to have make the schema
 * of this file. */
static void make_map(struct schema *schema, size_t row, const struct lines *lines)
{
    size_t prefix = strlen(settings[row].path);

    add_field(&schema->maps[row], NULL);
    for (size_t i = 0; i < lines->count; i++) {
        const char *path = lines->lines[i].path;
        cyaml_schema_field_t *field;

        if (strncmp(path, settings[row].path, prefix) != 0 || path[prefix] != '.')
            continue;
        field = add_field(&schema->maps[row], path + prefix + 1);
        field->data_offset = (uint32_t)((field - schema->maps[row]) * sizeof(char *));
        field->value = text_value;
        field->value.flags |=
            CYAML_FLAG_OPTIONAL; /* what is nested below a key is no key, and refused by it */
    }
}

static void make_value(struct schema *schema, cyaml_schema_field_t *field, size_t row,
                       const struct lines *lines)
{
    field->data_offset = (uint32_t)(offsetof(struct loaded, slot) + row * sizeof(void *));
    if (setting_is_map(&settings[row])) {
        make_map(schema, row, lines);
        field->value.type = CYAML_MAPPING;
        field->value.flags = CYAML_FLAG_POINTER_NULL;
        /* One slot more than keys: an empty map must not become a NULL pointer. */
        field->value.data_size = (uint32_t)((field_count(schema->maps[row]) + 1) * sizeof(char *));
        field->value.mapping.fields = schema->maps[row];
    } else if (setting_is_list(&settings[row])) {
        field->value.type = CYAML_SEQUENCE;
        field->value.flags = CYAML_FLAG_POINTER_NULL;
        field->value.data_size = sizeof(char *);
        field->value.sequence.entry = &text_value;
        field->value.sequence.max = CYAML_UNLIMITED;
        field->count_offset = (uint32_t)(offsetof(struct loaded, count) + row * sizeof(unsigned));
        field->count_size = sizeof(unsigned);
    } else {
        field->value = text_value;
    }
    field->value.flags |= CYAML_FLAG_OPTIONAL;
}

static void add_section(struct schema *schema, size_t section)
{
    cyaml_schema_field_t *field = add_field(&schema->fields[0], schema->sections[section]);

    field->data_offset =
        (uint32_t)(offsetof(struct loaded, sections) + section * sizeof(struct loaded *));
    field->value.type = CYAML_MAPPING;
    /* NULL: a section whose keys are all commented out is no error. */
    field->value.flags = CYAML_FLAG_POINTER_NULL | CYAML_FLAG_OPTIONAL;
    field->value.data_size = sizeof(struct loaded);
    field->value.mapping.fields = schema->fields[section];
}

void schema_make(struct schema *schema, const struct lines *lines)
{
    size_t last = 0;

    *schema = (struct schema){0};
    for (size_t row = 0; row < SETTING_COUNT; row++) {
        const char *path = settings[row].path;
        const char *dot = strchr(path, '.');
        size_t len = dot ? (size_t)(dot - path) : 0;

        if (dot == NULL) {
            make_value(schema, add_field(&schema->fields[0], path), row, lines);
            continue;
        }
        /* The table keeps a section's settings together. */
        if (last == 0 || strlen(schema->sections[last]) != len ||
            memcmp(schema->sections[last], path, len) != 0)
            schema->sections[++last] = xstrndup(path, len);
        make_value(schema, add_field(&schema->fields[last], dot + 1), row, lines);
    }
    for (size_t section = 1; section <= last; section++)
        add_section(schema, section);
    schema->top.type = CYAML_MAPPING;
    schema->top.flags = CYAML_FLAG_POINTER;
    schema->top.data_size = sizeof(struct loaded);
    schema->top.mapping.fields = schema->fields[0];
}

void schema_clear(struct schema *schema)
{
    for (size_t i = 0; i <= SETTING_COUNT; i++) {
        free(schema->fields[i]);
        free(schema->sections[i]);
    }
    for (size_t i = 0; i < SETTING_COUNT; i++)
        free(schema->maps[i]);
    *schema = (struct schema){0};
}
