#include "config/settings.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit no_units[] = {{"", 1}, {NULL, 0}};
/* The first that divides a value is how it is shown; a bare number is seconds, as in sshd_config.
 */
static const struct unit time_units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000},
                                         {"ms", 1},      {"", 1000},   {NULL, 0}};
static const struct unit size_units[] = {
    {"GiB", 1ull << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1},
    {"G", 1ull << 30},   {"M", 1 << 20},   {"K", 1 << 10},   {NULL, 0}};

static const struct unit *units_of(enum setting_kind kind)
{
    if (kind == SETTING_DURATION || kind == SETTING_DURATION_MAP)
        return time_units;
    return kind == SETTING_SIZE ? size_units : no_units;
}

static const char *noun_of(enum setting_kind kind)
{
    if (units_of(kind) == time_units)
        return "a time such as 500ms, 10s, 2m or 1h";
    return kind == SETTING_SIZE ? "a size such as 4096, 512KiB or 2MiB" : "a number";
}

void value_format(enum setting_kind kind, uint64_t value, char *out, size_t size)
{
    const struct unit *unit = units_of(kind);

    if (value == 0) {
        snprintf(out, size, "0");
        return;
    }
    while (value % unit->factor != 0)
        unit++;
    snprintf(out, size, "%llu%s", (unsigned long long)(value / unit->factor), unit->name);
}

static bool parse_units(const struct unit *unit, const char *text, uint64_t *out)
{
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 18)
        return false;
    for (; unit->name != NULL; unit++)
        if (strcmp(text + digits, unit->name) == 0)
            return !__builtin_mul_overflow(strtoull(text, NULL, 10), unit->factor, out);
    return false;
}

static bool parse_number(const struct setting *setting, const char *text, uint64_t *out, char **why)
{
    char min[32], max[32];

    if (!parse_units(units_of(setting->kind), text, out)) {
        *why = xasprintf("\"%s\" is not %s", text, noun_of(setting->kind));
        return false;
    }
    if (*out >= setting->min && *out <= setting->max)
        return true;
    value_format(setting->kind, setting->min, min, sizeof(min));
    value_format(setting->kind, setting->max, max, sizeof(max));
    *why = xasprintf("%s is out of range: %s to %s", text, min, max);
    return false;
}

static bool parse_bool(const char *text, uint64_t *out)
{
    static const char *const names[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(text, names[i]) == 0) {
            *out = i % 2;
            return true;
        }
    return false;
}

/* Peers never write these; the check keeps a stray byte of the operator's out of logs, paths and
 * packets. */
static bool parse_text(const struct setting *setting, const char *text, char **why)
{
    uint64_t max = setting->max ? setting->max : 4095;

    if (text[0] == '\0')
        *why = xstrdup("the value is empty");
    else if (strlen(text) > max)
        *why = xasprintf("the value is longer than %llu bytes", (unsigned long long)max);
    else if (!text_is_clean(bytes_of_string(text)))
        *why = xstrdup("the value is not UTF-8");
    for (const char *c = text; *c != '\0' && *why == NULL; c++)
        if ((unsigned char)*c < ' ' && setting->kind != SETTING_COMMAND)
            *why = xstrdup("the value has a control character");
    return *why == NULL;
}

bool value_parse(const struct setting *setting, const char *text, uint64_t *out, char **why)
{
    enum log_format format = LOG_TEXT;
    enum log_level level = LOG_INFO;
    bool ok;

    switch (setting->kind) {
    case SETTING_NUMBER:
    case SETTING_DURATION:
    case SETTING_DURATION_MAP:
    case SETTING_SIZE:
        return parse_number(setting, text, out, why);
    case SETTING_BOOL:
        ok = parse_bool(text, out);
        break;
    case SETTING_LOG_FORMAT:
        ok = log_parse_format(text, &format);
        *out = format;
        break;
    case SETTING_LOG_LEVEL:
        ok = log_parse_level(text, &level);
        *out = level;
        break;
    default:
        return parse_text(setting, text, why);
    }
    if (!ok)
        *why = xasprintf("\"%s\" is not %s", text,
                         setting->kind == SETTING_BOOL         ? "true or false"
                         : setting->kind == SETTING_LOG_FORMAT ? "text or json"
                                                               : "error, warn, info or debug");
    return ok;
}
