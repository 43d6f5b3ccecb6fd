#include "config/settings.h"

#include "base/alloc.h"

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

/* An empty variable is an unset one: compose files can only pass it on, not leave it out. */
bool config_read_environment(struct config *config, char **error)
{
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
