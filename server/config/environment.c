#include "config/settings.h"

#include "base/alloc.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Lists are comma-separated in a variable. */
static bool apply_list(struct config *config, const struct setting *setting, const char *variable,
                       const char *text, char **error)
{
    char *copy = xstrdup(text);
    char *rest = copy;
    char *entry;
    bool ok = true;

    while (ok && (entry = strsep(&rest, ",")) != NULL)
        if (entry[0] != '\0')
            ok = setting_apply_pair(config, setting, SOURCE_ENVIRONMENT, variable, entry, error);
    free(copy);
    return ok;
}

static bool is_setting(const char *entry, size_t len)
{
    bool found = false;

    for (size_t i = 0; !found && i < SETTING_COUNT; i++) {
        char *variable = setting_variable(&settings[i]);

        found = strlen(variable) == len && memcmp(variable, entry, len) == 0;
        free(variable);
    }
    return found;
}

/* Not settings, and nobody's mistake: our own, and what Kubernetes sets for a Service named parley
 * or parley-something. */
static bool is_expected(const char *entry, size_t len)
{
    static const char *const patterns[] = {"PARLEY_CONFIG",        "PARLEY_POLICY_ADDRESS",
                                           "PARLEY_*SERVICE_HOST", "PARLEY_*SERVICE_PORT*",
                                           "PARLEY_*PORT",         "PARLEY_*PORT_[0-9]*"};
    char *name = xstrndup(entry, len);
    bool found = false;

    for (size_t i = 0; !found && i < sizeof(patterns) / sizeof(patterns[0]); i++)
        found = fnmatch(patterns[i], name, 0) == 0;
    free(name);
    return found;
}

/* A misspelt variable would do nothing in silence. */
static void note_unknown(struct config *config)
{
    struct config_list *unknown = &config->unknown_variables;

    for (char **entry = environ; *entry != NULL; entry++) {
        size_t len = strcspn(*entry, "=");

        if (strncmp(*entry, "PARLEY_", 7) != 0 || is_setting(*entry, len) ||
            is_expected(*entry, len))
            continue;
        unknown->items = xrealloc(unknown->items, (unknown->count + 1) * sizeof(*unknown->items));
        unknown->items[unknown->count++] = (struct config_item){.text = xstrndup(*entry, len)};
    }
}

/* An empty variable is an unset one: compose files can only pass it on, not leave it out. */
bool config_read_environment(struct config *config, char **error)
{
    note_unknown(config);
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        char *variable = setting_variable(&settings[i]);
        const char *text = getenv(variable);
        bool ok = true;

        if (text != NULL && text[0] != '\0')
            ok = setting_is_list(&settings[i])
                     ? apply_list(config, &settings[i], variable, text, error)
                     : setting_apply(config, &settings[i], SOURCE_ENVIRONMENT, variable, NULL, text,
                                     error);
        free(variable);
        if (!ok)
            return false;
    }
    return true;
}
