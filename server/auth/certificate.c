#include "auth/certificate.h"

#include "base/alloc.h"
#include "base/network.h"

#include <stdlib.h>
#include <string.h>

/* ---- critical options: one that we do not know refuses */

static bool take_force_command(const struct certificate_option *option, Policy__Restrictions *to)
{
    struct bytes command;

    if (!certificate_option_text(option, &command) ||
        (command.len > 0 && memchr(command.data, '\0', command.len) != NULL))
        return false;
    to->forced_case = POLICY__RESTRICTIONS__FORCED_FORCE_COMMAND;
    to->force_command.data = (uint8_t *)command.data;
    to->force_command.len = command.len;
    return true;
}

static bool is_network(const char *text)
{
    struct network network, masked;

    if (!network_parse(text, &network))
        return false;
    masked = network;
    masked.bits = 8 * sizeof(masked.address);
    network_mask(&masked, network.bits); /* OpenSSH takes no bit beyond the mask, either */
    return memcmp(network.address, masked.address, sizeof(network.address)) == 0;
}

/* Addresses and networks, separated by commas. Each must be plain: an entry that is skipped might
 * have been the one that was meant. */
static bool take_source_address(const struct certificate_option *option, Policy__Restrictions *to)
{
    struct bytes text;
    char *list, *rest, *entry;
    Policy__Patterns *patterns;

    if (!certificate_option_text(option, &text) || text.len == 0 || !text_is_clean(text))
        return false;
    patterns = to->source_addresses = xcalloc(1, sizeof(*patterns));
    policy__patterns__init(patterns);
    patterns->patterns = xcalloc(text.len, sizeof(*patterns->patterns));
    list = rest = bytes_to_string(text);
    while ((entry = strsep(&rest, ",")) != NULL && is_network(entry))
        patterns->patterns[patterns->n_patterns++] = xstrdup(entry);
    free(list);
    return entry == NULL;
}

static bool take_verify_required(const struct certificate_option *option, Policy__Restrictions *to)
{
    to->verify_required = true;
    return option->data.len == 0;
}

static const struct {
    const char *name;
    bool (*take)(const struct certificate_option *option, Policy__Restrictions *to);
} critical_options[] = {
    {"force-command", take_force_command},
    {"source-address", take_source_address},
    {"verify-required", take_verify_required},
};

static const char *take_critical(const struct certificate_option *option, Policy__Restrictions *to)
{
    for (size_t i = 0; i < sizeof(critical_options) / sizeof(critical_options[0]); i++)
        if (strcmp(option->name, critical_options[i].name) == 0)
            return critical_options[i].take(option, to)
                       ? NULL
                       : "a critical option of the certificate is malformed";
    return "the certificate has a critical option that is unknown here";
}

/* ---- extensions: what is not there is not permitted, one that we do not know is ignored */

static const char *take_extensions(const struct certificate_options *options,
                                   Policy__Restrictions *to)
{
    const struct {
        const char *name;
        protobuf_c_boolean *flag, when_there;
    } extensions[] = {
        {"permit-X11-forwarding", &to->no_x11_forwarding, false},
        {"permit-agent-forwarding", &to->no_agent_forwarding, false},
        {"permit-port-forwarding", &to->no_port_forwarding, false},
        {"permit-port-forwarding", &to->no_tunnel, false},
        {"permit-pty", &to->no_pty, false},
        {"permit-user-rc", &to->no_user_rc, false},
        {"no-touch-required", &to->touch_not_required, true},
    };

    for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++) {
        const struct certificate_option *option = certificate_option(options, extensions[i].name);

        if (option != NULL && option->data.len != 0)
            return "an extension of the certificate is malformed";
        *extensions[i].flag = (option != NULL) == extensions[i].when_there;
    }
    return NULL;
}

static const char *take_options(const struct certificate *c, Policy__Restrictions *to)
{
    const char *why = take_extensions(&c->extensions, to);

    for (size_t i = 0; why == NULL && i < c->critical.count; i++)
        why = take_critical(&c->critical.list[i], to);
    return why;
}

/* ---- the certificate as a whole */

static bool names_one_of(const struct certificate *c, const struct certificate_use *use)
{
    if (use->principals == NULL)
        return certificate_names(c, bytes_of_string(use->user));
    for (size_t i = 0; i < use->principals->n_patterns; i++)
        if (certificate_names(c, bytes_of_string(use->principals->patterns[i])))
            return true;
    return false;
}

static const char *check_facts(const struct certificate *c, const struct certificate_use *use)
{
    if (c->kind != CERTIFICATE_USER)
        return "the certificate is not a user's";
    if (!certificate_is_valid_at(c, use->now_s))
        return use->now_s < c->valid_after ? "the certificate is not valid yet"
                                           : "the certificate has expired";
    if (c->principals_count == 0)
        return "the certificate names nobody";
    if (!names_one_of(c, use))
        return "the certificate is not for this user";
    return NULL;
}

static void free_sources(Policy__Restrictions *r)
{
    if (r->source_addresses == NULL)
        return;
    for (size_t i = 0; i < r->source_addresses->n_patterns; i++)
        free(r->source_addresses->patterns[i]);
    free(r->source_addresses->patterns);
    free(r->source_addresses);
}

const char *certificate_accept(const struct certificate *c, const struct certificate_use *use,
                               struct grant *credential)
{
    Policy__Restrictions restrictions = POLICY__RESTRICTIONS__INIT;
    const char *why = check_facts(c, use);

    if (why == NULL)
        why = take_options(c, &restrictions);
    if (why == NULL && restrictions.source_addresses != NULL &&
        !grant_source_matches(restrictions.source_addresses, use->peer_ip))
        why = "the certificate is not for the client's address";
    if (why == NULL)
        grant_add(credential, &restrictions);
    free_sources(&restrictions);
    return why;
}
