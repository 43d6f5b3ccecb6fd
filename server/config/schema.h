/* Private to the room: libcyaml's schema, made from the table of settings, and what it loads into.
 */
#ifndef PARLEY_CONFIG_SCHEMA_H
#define PARLEY_CONFIG_SCHEMA_H

#include "config/lines.h"
#include "config/settings.h"

#include <cyaml/cyaml.h>

/* One slot a setting, in the order of the table: char * (one value), char ** (a list, or a map in
 * the order of `maps`), or NULL if the file does not set it. Values stay text here, so that file,
 * variables and flags share one parser. Each section is loaded into one of its own; what it does
 * not hold is NULL there. */
struct loaded {
    void *slot[SETTING_COUNT];
    unsigned count[SETTING_COUNT]; /* of lists */
    struct loaded *sections[1 + SETTING_COUNT];
};

struct schema {
    cyaml_schema_value_t top;
    cyaml_schema_field_t
        *fields[1 + SETTING_COUNT];    /* [0] the top level, then one array a section */
    char *sections[1 + SETTING_COUNT]; /* their names */
    cyaml_schema_field_t
        *maps[SETTING_COUNT]; /* the keys that the file has in a map; ended by a NULL key */
};

void schema_make(struct schema *schema, const struct lines *lines);
void schema_clear(struct schema *schema);

#endif
