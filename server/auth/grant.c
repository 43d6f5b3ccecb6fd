#include "auth/grant.h"

#include "base/alloc.h"
#include "base/network.h"

#include <stdlib.h>
#include <string.h>

static void shrink_to(struct grant *grant, size_t count)
{
    while (grant->count > count)
        policy__restrictions__free_unpacked(grant->list[--grant->count], NULL);
}

void grant_drop_user(struct grant *grant)
{
    shrink_to(grant, grant->of_connection);
    grant->expires_at_ms = grant->connection_expires_at_ms;
    grant->unverified_key = false;
}

void grant_rollback(struct grant *grant, const struct grant *mark)
{
    shrink_to(grant, mark->count);
    grant->expires_at_ms = mark->expires_at_ms;
}

void grant_clear(struct grant *grant)
{
    grant->of_connection = 0;
    grant_drop_user(grant);
    free(grant->list);
    *grant = (struct grant){0};
}

void grant_begin_user(struct grant *grant)
{
    grant->of_connection = grant->count;
    grant->connection_expires_at_ms = grant->expires_at_ms;
}

static Policy__Restrictions *copy_of(const Policy__Restrictions *from)
{
    size_t len = policy__restrictions__get_packed_size(from);
    uint8_t *wire = xmalloc(len);
    Policy__Restrictions *copy;

    policy__restrictions__pack(from, wire);
    copy = policy__restrictions__unpack(NULL, len, wire);
    free(wire);
    if (copy == NULL)
        abort(); /* it came from the wire a moment ago: memory is gone */
    return copy;
}

void grant_add(struct grant *grant, const Policy__Restrictions *restrictions)
{
    if (restrictions == NULL)
        return;
    grant->list = xrealloc(grant->list, (grant->count + 1) * sizeof(*grant->list));
    grant->list[grant->count++] = copy_of(restrictions);
}

/* The earliest one counts; 0: never. */
static void add_expiry(struct grant *grant, uint64_t at_ms)
{
    if (at_ms != 0 && (grant->expires_at_ms == 0 || at_ms < grant->expires_at_ms))
        grant->expires_at_ms = at_ms;
}

void grant_add_all(struct grant *grant, const struct grant *from)
{
    for (size_t i = 0; i < from->count; i++)
        grant_add(grant, from->list[i]);
    add_expiry(grant, from->expires_at_ms);
}

void grant_tighten(struct grant *grant, const Policy__Restrictions *restrictions)
{
    Policy__Restrictions *added;

    grant_add(grant, restrictions);
    added = grant->list[grant->count - 1];
    memmove(grant->list + grant->of_connection + 1, grant->list + grant->of_connection,
            (grant->count - 1 - grant->of_connection) * sizeof(*grant->list));
    grant->list[grant->of_connection++] = added;
}

void grant_add_allow(struct grant *grant, const Policy__Allow *allow)
{
    grant_add(grant, allow->restrictions);
    if (allow->lifetime_case == POLICY__ALLOW__LIFETIME_EXPIRES_IN_S)
        add_expiry(grant, clock_ms() + (uint64_t)allow->expires_in_s * 1000);
}

/* ---- source addresses */

bool grant_source_matches(const Policy__Patterns *patterns, const char *ip)
{
    struct network client, network;
    bool matched = false;

    if (!network_parse(ip, &client))
        return false;
    for (size_t i = 0; i < patterns->n_patterns; i++) {
        const char *pattern = patterns->patterns[i];
        bool negated = pattern[0] == '!';
        bool parsed = network_parse(pattern + negated, &network);

        if (negated && (!parsed || network_holds(&network, &client)))
            return false;
        if (!negated && parsed && network_holds(&network, &client))
            matched = true;
    }
    return matched;
}

/* ---- the sum */

static const Policy__Restrictions *first_forced(const struct grant *grant)
{
    for (size_t i = 0; i < grant->count; i++)
        if (grant->list[i]->forced_case == POLICY__RESTRICTIONS__FORCED_FORCE_COMMAND)
            return grant->list[i];
    return NULL;
}

bool grant_forced_command(const struct grant *grant, struct bytes *command)
{
    const Policy__Restrictions *forced = first_forced(grant);

    if (forced == NULL)
        return false;
    *command = bytes_of(forced->force_command.data, forced->force_command.len);
    return true;
}

const char *grant_refusal(const struct grant *grant, const char *peer_ip)
{
    struct bytes command;
    bool forced = grant_forced_command(grant, &command);

    if (grant->expires_at_ms != 0 && clock_ms() >= grant->expires_at_ms)
        return "the grant has expired";
    if (grant->unverified_key && grant_verify_required(grant))
        return "the key that was accepted did not verify its user";
    for (size_t i = 0; i < grant->count; i++) {
        const Policy__Restrictions *r = grant->list[i];

        if (forced && r->forced_case == POLICY__RESTRICTIONS__FORCED_FORCE_COMMAND &&
            !bytes_equal(command, bytes_of(r->force_command.data, r->force_command.len)))
            return "two different forced commands";
        if (r->source_addresses != NULL && !grant_source_matches(r->source_addresses, peer_ip))
            return "the client's address is not among the allowed ones";
    }
    return NULL;
}

bool grant_no_pty(const struct grant *grant)
{
    for (size_t i = 0; i < grant->count; i++)
        if (grant->list[i]->no_pty)
            return true;
    return false;
}

bool grant_no_x11(const struct grant *grant)
{
    for (size_t i = 0; i < grant->count; i++)
        if (grant->list[i]->no_x11_forwarding)
            return true;
    return false;
}

bool grant_no_agent(const struct grant *grant)
{
    for (size_t i = 0; i < grant->count; i++)
        if (grant->list[i]->no_agent_forwarding)
            return true;
    return false;
}

bool grant_no_forwarding(const struct grant *grant)
{
    for (size_t i = 0; i < grant->count; i++)
        if (grant->list[i]->no_port_forwarding)
            return true;
    return false;
}

bool grant_verify_required(const struct grant *grant)
{
    for (size_t i = 0; i < grant->count; i++)
        if (grant->list[i]->verify_required)
            return true;
    return false;
}

bool grant_touch_not_required(const struct grant *grant)
{
    for (size_t i = 0; i < grant->count; i++)
        if (!grant->list[i]->touch_not_required)
            return false;
    return grant->count > 0;
}

void grant_environment(const struct grant *grant,
                       void (*fn)(void *arg, struct bytes name, struct bytes value), void *arg)
{
    for (size_t i = 0; i < grant->count; i++)
        for (size_t j = 0; j < grant->list[i]->n_environment; j++) {
            const Policy__EnvVar *var = grant->list[i]->environment[j];

            fn(arg, bytes_of(var->name.data, var->name.len),
               bytes_of(var->value.data, var->value.len));
        }
}

static void sum_flags(Policy__Restrictions *out, const Policy__Restrictions *r)
{
    out->no_pty |= r->no_pty;
    out->no_port_forwarding |= r->no_port_forwarding;
    out->no_agent_forwarding |= r->no_agent_forwarding;
    out->no_x11_forwarding |= r->no_x11_forwarding;
    out->no_tunnel |= r->no_tunnel;
    out->no_user_rc |= r->no_user_rc;
    out->touch_not_required |= r->touch_not_required;
    out->verify_required |= r->verify_required;
}

void grant_summary(const struct grant *grant, Policy__Restrictions *out,
                   Policy__EnvVar ***environment)
{
    size_t variables = 0;

    policy__restrictions__init(out);
    for (size_t i = 0; i < grant->count; i++)
        variables += grant->list[i]->n_environment;
    *environment = xcalloc(variables, sizeof(**environment));
    out->environment = *environment;
    for (size_t i = 0; i < grant->count; i++) {
        const Policy__Restrictions *r = grant->list[i];

        sum_flags(out, r);
        if (r->forced_case == POLICY__RESTRICTIONS__FORCED_FORCE_COMMAND) {
            out->forced_case = r->forced_case;
            out->force_command = r->force_command;
        }
        if (r->source_addresses != NULL)
            out->source_addresses = r->source_addresses;
        if (r->permit_open != NULL)
            out->permit_open = r->permit_open;
        if (r->permit_listen != NULL)
            out->permit_listen = r->permit_listen;
        for (size_t j = 0; j < r->n_environment; j++)
            out->environment[out->n_environment++] = r->environment[j];
    }
}
