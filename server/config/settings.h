/* Private to the room: every setting, once. File keys, flags, variables and the help text all come
 * from this table. */
#ifndef PARLEY_CONFIG_SETTINGS_H
#define PARLEY_CONFIG_SETTINGS_H

#include "config/config.h"

enum setting_kind {
    SETTING_TEXT,
    SETTING_COMMAND, /* text that may have several lines */
    SETTING_NUMBER,
    SETTING_DURATION, /* milliseconds */
    SETTING_SIZE,     /* bytes */
    SETTING_BOOL,
    SETTING_LOG_FORMAT,
    SETTING_LOG_LEVEL,
    SETTING_LIST,         /* of text */
    SETTING_MAP,          /* of text */
    SETTING_DURATION_MAP, /* of durations */
};

struct setting {
    const char *path; /* in the file: "key" or "section.key" */
    const char *flag; /* without "--"; the variable is PARLEY_ and this in capitals */
    enum setting_kind kind;
    size_t offset; /* in struct config */
    uint64_t min, max;
    const char *value; /* what --help calls the value */
    const char *help;
};

#define SETTING_COUNT 57

extern const struct setting settings[];

/* A stronger source replaces what a weaker one set, lists as a whole. */
enum setting_source { SOURCE_DEFAULT, SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_FLAG };

struct config_origins {
    enum setting_source source[SETTING_COUNT];
    char *where[SETTING_COUNT];
};

bool setting_is_list(const struct setting *setting);
bool setting_is_map(const struct setting *setting);
void *setting_member(const struct setting *setting, const struct config *config);
const struct setting *setting_by_path(const char *path);
enum setting_source setting_source(const struct config *config, const void *member);
char *setting_variable(const struct setting *setting); /* owned: "PARLEY_LOG_LEVEL" */

/* Parses one value (of a list or map: one entry) into the config. `name`: the key, for a map.
 * False: *error is set, and starts with `where`. */
bool setting_apply(struct config *config, const struct setting *setting, enum setting_source source,
                   const char *where, const char *name, const char *text, char **error);
/* As above, for flags and variables, where a map's entry is written NAME=VALUE. */
bool setting_apply_pair(struct config *config, const struct setting *setting,
                        enum setting_source source, const char *where, const char *text,
                        char **error);

/* value.c: numbers with units. `why` is set on failure, owned. */
bool value_parse(const struct setting *setting, const char *text, uint64_t *out, char **why);
void value_format(enum setting_kind kind, uint64_t value, char *out, size_t size);

void config_set_defaults(struct config *config);
/* The three sources, and the check of the whole. False: *error is set. */
bool config_read_file(struct config *config, const char *path, char **error);
bool config_read_environment(struct config *config, char **error);
bool config_check(struct config *config, char **error);
/* admission.c: what the texts of struct config_admission mean. */
bool config_check_admission(struct config *config, char **error);
/* forward.c: likewise, of config->forward. */
bool config_check_forward(struct config *config, char **error);

#endif
