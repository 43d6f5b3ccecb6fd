/*
 * from="..." of authorized_keys. Names are not resolved, so a pattern for host names matches
 * nobody; negated, nobody could tell whom it keeps out, and the whole list is void.
 */
#include "auth/key_options.h"

#include "base/network.h"
#include "base/words.h"

#include <netinet/in.h>
#include <string.h>

#define MAPPED_BITS 96 /* RFC 4291 section 2.5.5.2 */

struct source {
    struct bytes text; /* without the '!' */
    bool negated;
    bool is_network;
    bool is_ambiguous; /* bits behind the prefix are set: was the address meant, or the network? */
    struct network network;
};

static bool has_host_bits(const struct network *network)
{
    struct network masked = *network;

    masked.bits = network->family == AF_INET ? 32 : 128;
    network_mask(&masked, network->bits);
    return memcmp(masked.address, network->address, sizeof(masked.address)) != 0;
}

/* The peer's address comes unmapped (address_of()), so what is meant for it must be, too. */
static void unmap(struct network *network)
{
    const uint8_t *address = network->address;

    if (network->family != AF_INET6 || network->bits < MAPPED_BITS ||
        !IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)address))
        return;
    memmove(network->address, address + MAPPED_BITS / 8, 4);
    memset(network->address + 4, 0, sizeof(network->address) - 4);
    network->family = AF_INET;
    network->bits -= MAPPED_BITS;
}

static bool parse_network(struct bytes text, struct source *out)
{
    char copy[NETWORK_TEXT_MAX];

    if (text.len >= sizeof(copy))
        return false;
    if (text.len > 0)
        memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    if (!network_parse(copy, &out->network))
        return false;
    out->is_ambiguous = has_host_bits(&out->network);
    unmap(&out->network);
    return true;
}

static struct source source_of(struct bytes entry)
{
    struct source source = {.text = entry};

    if (entry.len > 0 && entry.data[0] == '!') {
        source.negated = true;
        source.text = bytes_of(entry.data + 1, entry.len - 1);
    }
    source.is_network = parse_network(source.text, &source);
    return source;
}

static bool holds_any(struct bytes text, const char *characters)
{
    for (size_t i = 0; i < text.len; i++)
        if (strchr(characters, text.data[i]) != NULL)
            return true;
    return false;
}

static bool holds_only(struct bytes text, const char *characters)
{
    for (size_t i = 0; i < text.len; i++)
        if (strchr(characters, text.data[i]) == NULL)
            return false;
    return true;
}

/* Could the pattern match the text of an address? */
static bool may_be_address(struct bytes text)
{
    return holds_only(text, "0123456789abcdefABCDEF.:*?");
}

/* Can it be meant for addresses only? No host is called by digits alone, and none has a colon. */
static bool must_be_address(struct bytes text)
{
    return holds_only(text, "0123456789.*?") || (may_be_address(text) && holds_any(text, ":"));
}

static const char *source_problem(const struct source *source, bool *matches_somebody)
{
    if (source->text.len == 0)
        return "from: an empty entry";
    if (holds_any(source->text, "!")) /* behind a blank, mostly: OpenSSH takes it for a name */
        return "from: a '!' within an entry";
    if (holds_any(source->text, "/") && (!source->is_network || source->is_ambiguous))
        return "from: not a network";
    if (!source->is_network && source->negated && !must_be_address(source->text))
        return "from: a host name is negated, and names are not resolved";
    *matches_somebody |= !source->negated && (source->is_network || may_be_address(source->text));
    return NULL;
}

const char *sources_problem(struct bytes list)
{
    bool matches_somebody = false, more;

    do {
        struct source source = source_of(item_take(&list, &more));
        const char *why = source_problem(&source, &matches_somebody);

        if (why != NULL)
            return why;
    } while (more);
    return matches_somebody ? NULL : "from: matches no address, and names are not resolved";
}

bool sources_match(struct bytes list, const char *ip)
{
    struct network client;
    bool matched = false, more;

    if (!network_parse(ip, &client))
        return false;
    do {
        struct source source = source_of(item_take(&list, &more));
        bool hit = source.is_network ? network_holds(&source.network, &client)
                                     : pattern_matches(source.text, bytes_of_string(ip));

        if (hit && source.negated)
            return false;
        matched |= hit;
    } while (more);
    return matched;
}
