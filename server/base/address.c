#include "base/address.h"

#include "base/alloc.h"

#include <arpa/inet.h>
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

static bool resolve(const char *host, const char *port, struct sockaddr_storage *out,
                    socklen_t *out_len)
{
    struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
    };
    struct addrinfo *found;

    if (getaddrinfo(host, port, &hints, &found) != 0)
        return false;
    memcpy(out, found->ai_addr, found->ai_addrlen);
    *out_len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

bool address_parse(const char *text, struct sockaddr_storage *out, socklen_t *out_len,
                   const char **error)
{
    const char *colon = strrchr(text, ':');
    char *end;
    char *host;
    bool ok;

    if (colon == NULL) {
        *error = "no port: expected HOST:PORT";
        return false;
    }
    if (colon[1] < '0' || colon[1] > '9' || strtoul(colon + 1, &end, 10) > 65535 || *end != '\0') {
        *error = "the port is not a number from 0 to 65535";
        return false;
    }
    if (text[0] == '[' && colon > text && colon[-1] == ']')
        host = xstrndup(text + 1, (size_t)(colon - text) - 2);
    else
        host = xstrndup(text, (size_t)(colon - text));
    if (text[0] != '[' && strchr(host, ':') != NULL) {
        free(host);
        *error = "an IPv6 address needs brackets: [ADDRESS]:PORT";
        return false;
    }
    ok = resolve(host[0] == '\0' || strcmp(host, "*") == 0 ? NULL : host, colon + 1, out, out_len);
    free(host);
    if (!ok)
        *error = "the host cannot be resolved";
    return ok;
}
