/* What the texts about start-ups, sources and penalties mean; OpenSSH's grammar and figures. */
#include "config/settings.h"

#include "base/alloc.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1000

/* So many numbers with ':' between them, and nothing else. */
static bool parse_numbers(const char *text, uint32_t *out, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t digits = strspn(text, "0123456789");

        if (digits == 0 || digits > 7)
            return false;
        out[i] = (uint32_t)strtoul(text, NULL, 10);
        text += digits;
        if (*text++ != (i + 1 < count ? ':' : '\0'))
            return false;
    }
    return true;
}

/* One number is BEGIN and FULL at once. */
static bool check_start_up(const struct config *config, struct config_admission *a, char **error)
{
    const char *text = a->start_up ? a->start_up : "10:30:100";
    uint32_t n[3];

    if (parse_numbers(text, n, 1)) {
        n[2] = n[0];
        n[1] = 100;
    } else if (!parse_numbers(text, n, 3) || n[0] > n[2] || n[1] < 1 || n[1] > 100 || n[2] == 0) {
        *error = xasprintf("%s: \"%s\" is not BEGIN:RATE:FULL with BEGIN up to FULL and RATE from "
                           "1 to 100, nor one number",
                           config_where(config, &a->start_up), text);
        return false;
    }
    a->begin = n[0];
    a->rate = n[1];
    a->full = n[2];
    return true;
}

static bool check_net_block(const struct config *config, struct config_admission *a, char **error)
{
    const char *text = a->net_block ? a->net_block : "32:128";
    uint32_t n[2];

    if (!parse_numbers(text, n, 2) || n[0] > 32 || n[1] > 128) {
        *error = xasprintf("%s: \"%s\" is not V4:V6, bits up to 32 and 128",
                           config_where(config, &a->net_block), text);
        return false;
    }
    a->v4_bits = n[0];
    a->v6_bits = n[1];
    return true;
}

static bool check_overflow(const struct config *config, struct config_admission *a, char **error)
{
    const char *text = a->penalty_overflow ? a->penalty_overflow : "permissive";

    a->overflow_denies = strcmp(text, "deny-all") == 0;
    if (a->overflow_denies || strcmp(text, "permissive") == 0)
        return true;
    *error = xasprintf("%s: \"%s\" is not permissive or deny-all",
                       config_where(config, &a->penalty_overflow), text);
    return false;
}

static const struct {
    const char *name;
    size_t offset;
    uint64_t ms;
} times[] = {
    {"crash", offsetof(struct config_admission, crash_ms), 90 * SECOND},
    {"authfail", offsetof(struct config_admission, auth_fail_ms), 5 * SECOND},
    {"invaliduser", offsetof(struct config_admission, invalid_user_ms), 5 * SECOND},
    {"noauth", offsetof(struct config_admission, no_auth_ms), 1 * SECOND},
    {"grace-exceeded", offsetof(struct config_admission, grace_ms), 10 * SECOND},
    {"refuseconnection", offsetof(struct config_admission, refused_ms), 10 * SECOND},
    {"min", offsetof(struct config_admission, min_ms), 15 * SECOND},
    {"max", offsetof(struct config_admission, max_ms), 600 * SECOND},
};

#define TIMES (sizeof(times) / sizeof(times[0]))

static uint64_t *time_at(struct config_admission *a, size_t row)
{
    return (uint64_t *)((char *)a + times[row].offset);
}

static bool check_times(const struct config *config, struct config_admission *a, char **error)
{
    for (size_t row = 0; row < TIMES; row++)
        *time_at(a, row) = times[row].ms;
    for (size_t i = 0; i < a->penalty_times.count; i++) {
        const struct config_item *item = &a->penalty_times.items[i];
        size_t row = 0;

        while (row < TIMES && strcmp(times[row].name, item->name) != 0)
            row++;
        if (row == TIMES) {
            *error = xasprintf("%s: no offence is named \"%s\"", item->where, item->name);
            return false;
        }
        *time_at(a, row) = item->number;
    }
    if (a->min_ms <= a->max_ms)
        return true;
    *error = xasprintf("%s: min is longer than max", config_where(config, &a->penalty_times));
    return false;
}

static bool check_exempt(struct config_admission *a, char **error)
{
    const struct config_list *list = &a->penalty_exempt;

    a->exempt = xcalloc(list->count + 1, sizeof(*a->exempt));
    for (size_t i = 0; i < list->count; i++)
        if (!network_parse(list->items[i].text, &a->exempt[i])) {
            *error = xasprintf("%s: \"%s\" is not ADDRESS or ADDRESS/BITS", list->items[i].where,
                               list->items[i].text);
            return false;
        }
    return true;
}

bool config_check_admission(struct config *config, char **error)
{
    struct config_admission *a = &config->admission;

    return check_start_up(config, a, error) && check_net_block(config, a, error) &&
           check_overflow(config, a, error) && check_times(config, a, error) &&
           check_exempt(a, error);
}
