/* What the restrictions of the login say of forwarding (common.proto, Restrictions): every list
 * must match, every "no" counts. Checked before the policy is asked, and again when they tighten.
 */
#include "channels/internal.h"

#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

static const char not_permitted[] = "Port forwarding is not permitted";

/* "host:port", "[v6]:port"; '*' stands for any host or any port. Nothing is folded or resolved. */
static bool pattern_matches(const char *pattern, const char *host, uint32_t port)
{
    const char *colon = strrchr(pattern, ':');
    size_t len = colon != NULL ? (size_t)(colon - pattern) : 0;
    char number[16];

    if (colon == NULL)
        return false;
    snprintf(number, sizeof(number), "%u", (unsigned)port);
    if (strcmp(colon + 1, "*") != 0 && strcmp(colon + 1, number) != 0)
        return false;
    if (len == 1 && pattern[0] == '*')
        return true;
    if (len >= 2 && pattern[0] == '[' && pattern[len - 1] == ']') {
        pattern++;
        len -= 2;
    }
    return strlen(host) == len && memcmp(pattern, host, len) == 0;
}

static bool list_permits(const Policy__Patterns *list, const char *host, uint32_t port)
{
    if (list == NULL)
        return true;
    for (size_t i = 0; i < list->n_patterns; i++)
        if (pattern_matches(list->patterns[i], host, port))
            return true;
    return false;
}

const char *permit_open(const struct channels_rules *rules, const char *host, uint32_t port)
{
    for (size_t i = 0; i < rules->restriction_count; i++)
        if (rules->restrictions[i]->no_port_forwarding ||
            !list_permits(rules->restrictions[i]->permit_open, host, port))
            return not_permitted;
    return NULL;
}

const char *permit_listen(const struct channels_rules *rules, const char *host, uint32_t port)
{
    for (size_t i = 0; i < rules->restriction_count; i++)
        if (rules->restrictions[i]->no_port_forwarding ||
            !list_permits(rules->restrictions[i]->permit_listen, host, port))
            return not_permitted;
    return NULL;
}

/* Lists speak of hosts and ports: where one is set, no path is on it. */
const char *permit_path(const struct channels_rules *rules)
{
    for (size_t i = 0; i < rules->restriction_count; i++) {
        const Policy__Restrictions *r = rules->restrictions[i];

        if (r->no_port_forwarding || r->permit_open != NULL || r->permit_listen != NULL)
            return not_permitted;
    }
    return NULL;
}

const char *permit_tunnel(const struct channels_rules *rules)
{
    for (size_t i = 0; i < rules->restriction_count; i++)
        if (rules->restrictions[i]->no_tunnel)
            return "Tunnels are not permitted";
    return NULL;
}
