#include "base/address.h"

#include "base/alloc.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct address address_of(const struct sockaddr *sa)
{
    struct address out = {.port = 0};

    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)sa;

        inet_ntop(AF_INET, &v4->sin_addr, out.ip, sizeof(out.ip));
        out.port = ntohs(v4->sin_port);
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)sa;

        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
            inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, out.ip, sizeof(out.ip));
        else
            inet_ntop(AF_INET6, &v6->sin6_addr, out.ip, sizeof(out.ip));
        out.port = ntohs(v6->sin6_port);
    }
    return out;
}

void address_format(const struct address *address, char *out)
{
    bool v6 = strchr(address->ip, ':') != NULL;

    snprintf(out, ADDRESS_TEXT_MAX + 16, v6 ? "[%s]:%u" : "%s:%u", address->ip, address->port);
}

/* A hosts file may name the same address twice. */
static bool is_known(const struct socket_address *known, size_t count, const struct addrinfo *at)
{
    for (size_t i = 0; i < count; i++)
        if (known[i].len == at->ai_addrlen &&
            memcmp(&known[i].addr, at->ai_addr, known[i].len) == 0)
            return true;
    return false;
}

static size_t resolve(const char *host, const char *port, struct socket_address *out)
{
    struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
    };
    struct addrinfo *found;
    size_t count = 0;

    if (getaddrinfo(host, port, &hints, &found) != 0)
        return 0;
    for (struct addrinfo *at = found; at != NULL && count < ADDRESS_ALL_MAX; at = at->ai_next) {
        if (at->ai_family != AF_INET && at->ai_family != AF_INET6)
            continue;
        if (is_known(out, count, at))
            continue;
        memcpy(&out[count].addr, at->ai_addr, at->ai_addrlen);
        out[count++].len = at->ai_addrlen;
    }
    freeaddrinfo(found);
    return count;
}

static bool port_is_valid(const char *port)
{
    size_t digits = strspn(port, "0123456789");

    return digits > 0 && digits <= 5 && port[digits] == '\0' && strtoul(port, NULL, 10) <= 65535;
}

size_t address_parse_all(const char *text, struct socket_address out[ADDRESS_ALL_MAX],
                         const char **error)
{
    const char *colon = strrchr(text, ':');
    size_t len, count;
    char *host;

    if (colon == NULL) {
        *error = "no port: expected HOST:PORT";
        return 0;
    }
    if (!port_is_valid(colon + 1)) {
        *error = "the port is not a number from 0 to 65535";
        return 0;
    }
    len = (size_t)(colon - text);
    if (text[0] != '[' && memchr(text, ':', len) != NULL) {
        *error = "an IPv6 address needs brackets: [ADDRESS]:PORT";
        return 0;
    }
    if (len > 2 && text[0] == '[' && colon[-1] == ']')
        host = xstrndup(text + 1, len - 2);
    else
        host = xstrndup(text, len);
    count = resolve(host[0] == '\0' || strcmp(host, "*") == 0 ? NULL : host, colon + 1, out);
    free(host);
    if (count == 0)
        *error = "the host cannot be resolved";
    return count;
}

bool address_parse(const char *text, struct sockaddr_storage *out, socklen_t *out_len,
                   const char **error)
{
    struct socket_address all[ADDRESS_ALL_MAX];

    if (address_parse_all(text, all, error) == 0)
        return false;
    *out = all[0].addr;
    *out_len = all[0].len;
    return true;
}

/* ---- the name of a peer */

/* A reverse zone is its owner's to fill: only what leads back is a name, and a name that looks like
 * an address is none. */
static bool leads_back(const char *name, const char *ip)
{
    struct addrinfo numeric = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo any = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    bool same = false;

    if (getaddrinfo(name, NULL, &numeric, &found) == 0) {
        freeaddrinfo(found);
        return false;
    }
    if (getaddrinfo(name, NULL, &any, &found) != 0)
        return false;
    for (const struct addrinfo *at = found; at != NULL && !same; at = at->ai_next)
        same = strcmp(address_of(at->ai_addr).ip, ip) == 0;
    freeaddrinfo(found);
    return same;
}

static bool reverse(const char *ip, char *name, size_t size)
{
    struct addrinfo numeric = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *found;
    bool ok;

    if (getaddrinfo(ip, NULL, &numeric, &found) != 0)
        return false;
    ok = getnameinfo(found->ai_addr, found->ai_addrlen, name, (socklen_t)size, NULL, 0,
                     NI_NAMEREQD) == 0;
    freeaddrinfo(found);
    return ok;
}

static bool is_host_name(const char *name)
{
    for (const char *c = name; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && strchr("-._", *c) == NULL)
            return false;
    return name[0] != '\0';
}

char *address_host_name(const char *ip)
{
    char name[NI_MAXHOST];

    if (!reverse(ip, name, sizeof(name)) || !is_host_name(name) || !leads_back(name, ip))
        return xstrdup(ip);
    for (char *c = name; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    return xstrdup(name);
}

#define HOST_MAX_BYTES 255
#define PATH_MAX_BYTES 107 /* what sun_path holds before its NUL */

bool place_is_host(struct bytes host)
{
    for (size_t i = 0; i < host.len; i++)
        if (host.data[i] <= ' ' || host.data[i] == 0x7f)
            return false;
    return host.len <= HOST_MAX_BYTES && text_is_clean(host);
}

bool place_is_path(struct bytes path)
{
    return path.len > 0 && path.len <= PATH_MAX_BYTES && memchr(path.data, '\0', path.len) == NULL;
}
