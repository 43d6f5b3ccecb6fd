#include "control/target.h"

#include "base/alloc.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define PATH_MAX_BYTES (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

static enum target_reach malformed(const char **why, const char *text)
{
    *why = text;
    return TARGET_MALFORMED;
}

static bool starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (strcmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
    return false;
}

static bool is_port(const char *text)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10);

    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && port >= 1 && port <= 65535;
}

/* Cuts "host:port" or "[v6]:port" in place; NULL if it is neither. */
static char *split_host(char *text, const char **why)
{
    char *host = text, *end;

    if (text[0] == '[') {
        struct in6_addr v6;

        host = text + 1;
        end = strchr(host, ']');
        if (end == NULL || end[1] != ':') {
            *why = "wants [address]:port";
            return NULL;
        }
        *end++ = '\0';
        if (inet_pton(AF_INET6, host, &v6) != 1) {
            *why = "no IPv6 address within the brackets";
            return NULL;
        }
    } else {
        end = strchr(text, ':');
        if (end == NULL) {
            *why = "has no port";
            return NULL;
        }
    }
    *end = '\0';
    if (!is_port(end + 1)) {
        *why = "has no port from 1 to 65535";
        return NULL;
    }
    if (host[0] == '\0' || strpbrk(host, "/ \t") != NULL) {
        *why = "has no host";
        return NULL;
    }
    return host;
}

/* One or, where a comma may separate them, several addresses; local only if all are. */
static enum target_reach judge_hosts(const char *text, bool literal, const char **why)
{
    char *copy = xstrdup(text), *save = NULL;
    enum target_reach reach = TARGET_LOCAL;
    char *first = literal ? strtok_r(copy, ",", &save) : copy;

    if (first == NULL)
        reach = malformed(why, "has no address");
    for (char *at = first; at != NULL && reach != TARGET_MALFORMED;
         at = literal ? strtok_r(NULL, ",", &save) : NULL) {
        char *host = split_host(at, why);

        if (host == NULL)
            reach = TARGET_MALFORMED;
        else if (!is_loopback(host))
            reach = TARGET_REMOTE;
    }
    free(copy);
    return reach;
}

static enum target_reach judge_path(const char *path, const char **why)
{
    if (starts(path, "//"))
        path += 2; /* unix:///absolute/path */
    if (path[0] == '\0')
        return malformed(why, "has no path");
    if (strlen(path) > PATH_MAX_BYTES)
        return malformed(why, "has a path that is too long for a socket");
    return TARGET_LOCAL;
}

static enum target_reach judge_dns(const char *text, const char **why)
{
    if (starts(text, "//")) { /* dns://authority/name: the authority is the name server */
        text = strchr(text + 2, '/');
        if (text == NULL)
            return malformed(why, "wants dns:///host:port");
        text++;
    }
    return judge_hosts(text, false, why);
}

enum target_reach target_judge(const char *target, const char **why)
{
    *why = NULL;
    if (target == NULL || target[0] == '\0')
        return malformed(why, "is empty");
    if (starts(target, "unix:"))
        return judge_path(target + strlen("unix:"), why);
    if (starts(target, "unix-abstract:"))
        return judge_path(target + strlen("unix-abstract:"), why);
    if (starts(target, "ipv4:"))
        return judge_hosts(target + strlen("ipv4:"), true, why);
    if (starts(target, "ipv6:"))
        return judge_hosts(target + strlen("ipv6:"), true, why);
    if (starts(target, "dns:"))
        return judge_dns(target + strlen("dns:"), why);
    if (starts(target, "xds:")) {
        if (!starts(target, "xds:///") || target[strlen("xds:///")] == '\0')
            return malformed(why, "wants xds:///name");
        return TARGET_REMOTE;
    }
    if (strstr(target, "://") != NULL)
        return malformed(why, "has a scheme that is not unix, ipv4, ipv6, dns or xds");
    return judge_hosts(target, false, why);
}
