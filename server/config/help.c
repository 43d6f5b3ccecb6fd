#include "config/settings.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static void print_flag(FILE *out, const char *flag, const char *value, const char *help)
{
    char left[64];

    snprintf(left, sizeof(left), "--%s%s%s", flag, value ? " " : "", value ? value : "");
    fprintf(out, "  %-36s%s%s", left,
            strlen(left) > 35 ? "\n                                      " : "", help);
}

static void print_setting(FILE *out, const struct setting *setting, const struct config *defaults)
{
    const void *member = setting_member(setting, defaults);
    char value[32] = "";

    if (setting->kind == SETTING_BOOL)
        print_flag(out, setting->flag, NULL, setting->help);
    else
        print_flag(out, setting->flag, setting->value, setting->help);
    if (setting->kind == SETTING_NUMBER || setting->kind == SETTING_DURATION ||
        setting->kind == SETTING_SIZE)
        value_format(setting->kind, *(const uint64_t *)member, value, sizeof(value));
    if (setting_is_list(setting))
        fputs(" (repeatable)", out);
    if (value[0] != '\0')
        fprintf(out, " [%s]", value);
    fputc('\n', out);
}

void config_print_help(FILE *out)
{
    struct config defaults;

    config_set_defaults(&defaults);
    fputs("parleyd: the SSH server that asks a gRPC policy for every decision\n\n"
          "usage: parleyd [--config FILE] --host-key FILE --policy TARGET [flags]\n\n",
          out);
    print_flag(out, "config", "FILE", "read the configuration (YAML)\n");
    print_flag(out, "check", NULL, "check the configuration and exit\n");
    print_flag(out, "help", NULL, "print this\n");
    print_flag(out, "version", NULL, "print the versions\n\n");
    for (size_t i = 0; i < SETTING_COUNT; i++)
        print_setting(out, &settings[i], &defaults);
    fputs(
        "\nEvery flag is also a variable (--log-level: PARLEY_LOG_LEVEL; lists comma-separated) and a key of the\n"
        "file (see parleyd.example.yaml). Flags beat variables, variables beat the file. A time without unit is\n"
        "in seconds, a size in bytes.\n",
        out);
    config_clear(&defaults);
}
