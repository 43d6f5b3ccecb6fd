#include "base/network.h"

#include "base/alloc.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool parse_ip(const char *text, struct network *out)
{
    if (inet_pton(AF_INET, text, out->address) == 1) {
        out->family = AF_INET;
        out->bits = 32;
    } else if (inet_pton(AF_INET6, text, out->address) == 1) {
        out->family = AF_INET6;
        out->bits = 128;
    } else {
        return false;
    }
    return true;
}

bool network_parse(const char *text, struct network *out)
{
    const char *slash = strchr(text, '/');
    char *address = slash ? xstrndup(text, (size_t)(slash - text)) : xstrdup(text);
    char *end;
    unsigned long bits;
    bool ok;

    *out = (struct network){0};
    ok = parse_ip(address, out);
    free(address);
    if (!ok || slash == NULL)
        return ok;
    if (slash[1] < '0' || slash[1] > '9')
        return false;
    bits = strtoul(slash + 1, &end, 10);
    if (*end != '\0' || bits > out->bits)
        return false;
    out->bits = (unsigned)bits;
    return true;
}

bool network_holds(const struct network *outer, const struct network *inner)
{
    unsigned whole = outer->bits / 8, rest = outer->bits % 8;
    uint8_t mask = rest ? (uint8_t)(0xff << (8 - rest)) : 0;

    if (outer->family != inner->family || inner->bits < outer->bits ||
        memcmp(outer->address, inner->address, whole) != 0)
        return false;
    return rest == 0 || ((outer->address[whole] ^ inner->address[whole]) & mask) == 0;
}

void network_mask(struct network *network, unsigned bits)
{
    unsigned whole = bits / 8;

    if (bits >= network->bits)
        return;
    network->bits = bits;
    network->address[whole] &= (uint8_t)(0xff00 >> (bits % 8));
    memset(network->address + whole + 1, 0, sizeof(network->address) - whole - 1);
}

void network_format(const struct network *network, char out[NETWORK_TEXT_MAX])
{
    char ip[INET6_ADDRSTRLEN] = "?";

    inet_ntop(network->family, network->address, ip, sizeof(ip));
    if (network->bits == (network->family == AF_INET ? 32u : 128u))
        snprintf(out, NETWORK_TEXT_MAX, "%s", ip);
    else
        snprintf(out, NETWORK_TEXT_MAX, "%s/%u", ip, network->bits);
}
