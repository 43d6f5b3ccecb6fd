/* Puts one parsed value into its place and remembers who put it there. */
#include "config/settings.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static void list_clear(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
        free(list->items[i].text);
        free(list->items[i].where);
    }
    free(list->items);
    *list = (struct config_list){0};
}

static bool list_add(struct config_list *list, const struct setting *setting, const char *where,
                     const char *name, const char *text, uint64_t number, char **error)
{
    for (size_t i = 0; name != NULL && i < list->count; i++)
        if (strcmp(list->items[i].name, name) == 0) {
            *error = xasprintf("%s: %s is set twice", where, name);
            return false;
        }
    list->items = xrealloc(list->items, (list->count + 1) * sizeof(*list->items));
    list->items[list->count++] = (struct config_item){
        .name = name ? xstrdup(name) : NULL,
        .text = xstrdup(text),
        .number = setting->kind == SETTING_DURATION_MAP ? number : 0,
        .where = xstrdup(where),
    };
    return true;
}

static void store(void *member, const struct setting *setting, const char *text, uint64_t number)
{
    switch (setting->kind) {
    case SETTING_TEXT:
    case SETTING_COMMAND:
        free(*(char **)member);
        *(char **)member = xstrdup(text);
        break;
    case SETTING_BOOL:
        *(bool *)member = number != 0;
        break;
    case SETTING_LOG_FORMAT:
        *(enum log_format *)member = (enum log_format)number;
        break;
    case SETTING_LOG_LEVEL:
        *(enum log_level *)member = (enum log_level)number;
        break;
    default:
        *(uint64_t *)member = number;
        break;
    }
}

static bool name_is_plain(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");

    return len > 0 && len <= 64 && name[len] == '\0';
}

bool setting_apply(struct config *config, const struct setting *setting, enum setting_source source,
                   const char *where, const char *name, const char *text, char **error)
{
    size_t row = (size_t)(setting - settings);
    void *member = setting_member(setting, config);
    uint64_t number = 0;
    char *why = NULL;

    if (name != NULL && !name_is_plain(name)) {
        *error = xasprintf("%s: \"%s\" is not a name (letters, digits, \"_\", \".\", \"-\")", where,
                           name);
        return false;
    }
    if (!value_parse(setting, text, &number, &why)) {
        *error = name ? xasprintf("%s: %s: %s", where, name, why) : xasprintf("%s: %s", where, why);
        free(why);
        return false;
    }
    if (setting_is_list(setting) && config->origins->source[row] != source)
        list_clear(member);
    if (config->origins->source[row] != source || !setting_is_list(setting)) {
        free(config->origins->where[row]);
        config->origins->where[row] = xstrdup(where);
    }
    config->origins->source[row] = source;
    if (setting_is_list(setting))
        return list_add(member, setting, where, name, text, number, error);
    store(member, setting, text, number);
    return true;
}

bool setting_apply_pair(struct config *config, const struct setting *setting,
                        enum setting_source source, const char *where, const char *text,
                        char **error)
{
    const char *equals = strchr(text, '=');
    char *name;
    bool ok;

    if (!setting_is_map(setting))
        return setting_apply(config, setting, source, where, NULL, text, error);
    if (equals == NULL) {
        *error = xasprintf("%s: \"%s\" is not %s", where, text, setting->value);
        return false;
    }
    name = xstrndup(text, (size_t)(equals - text));
    ok = setting_apply(config, setting, source, where, name, equals + 1, error);
    free(name);
    return ok;
}

void config_clear(struct config *config)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        void *member = setting_member(&settings[i], config);

        if (setting_is_list(&settings[i]))
            list_clear(member);
        else if (settings[i].kind == SETTING_TEXT || settings[i].kind == SETTING_COMMAND)
            free(*(char **)member);
        if (config->origins != NULL)
            free(config->origins->where[i]);
    }
    list_clear(&config->unknown_variables);
    secret_free(config->policy.token);
    free(config->admission.exempt);
    free(config->forward.denied);
    free(config->origins);
    free(config->file);
    *config = (struct config){0};
}
