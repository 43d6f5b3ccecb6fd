/* permitopen="..." and permitlisten="..." of authorized_keys. */
#include "auth/key_options.h"

#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

#define PERMITS_MAX    4096
#define HOST_MAX_BYTES 1024

static bool is_host(struct bytes host)
{
    for (size_t i = 0; i < host.len; i++)
        if (host.data[i] <= ' ' || host.data[i] > '~' || strchr("[]", host.data[i]) != NULL)
            return false;
    return host.len > 0 && host.len <= HOST_MAX_BYTES;
}

/* host:port, host/port and [host]:port, as OpenSSH has them. */
static bool split_permit(struct bytes value, struct bytes *host, struct bytes *port)
{
    size_t end, skip = 0;

    if (value.len == 0)
        return false;
    if (value.data[0] == '[') {
        const uint8_t *bracket = memchr(value.data, ']', value.len);

        if (bracket == NULL)
            return false;
        skip = 1;
        end = (size_t)(bracket - value.data);
    } else {
        for (end = 0; end < value.len && value.data[end] != ':' && value.data[end] != '/'; end++)
            ;
    }
    *host = bytes_of(value.data + skip, end - skip);
    end += skip; /* the bracket */
    if (end >= value.len || (value.data[end] != ':' && value.data[end] != '/'))
        return false;
    *port = bytes_of(value.data + end + 1, value.len - end - 1);
    return is_host(*host);
}

/* In one form: "host:port" or "[v6]:port", port a number or '*'. */
static const char *add_permit(Policy__Patterns **list, struct bytes host, struct bytes port)
{
    bool v6 = host.len > 0 && memchr(host.data, ':', host.len) != NULL;
    bool any = bytes_are(port, "*");
    long number = any ? 0 : options_number(port, 65535);
    int len = (int)host.len;
    char digits[24] = "*";

    if (!any && number <= 0)
        return "permitopen, permitlisten: the port is not a number or '*'";
    if (*list == NULL)
        *list = patterns_new();
    if ((*list)->n_patterns == PERMITS_MAX)
        return "permitopen, permitlisten: too many";
    if (!any)
        snprintf(digits, sizeof(digits), "%ld", number);
    patterns_add(*list,
                 xasprintf(v6 ? "[%.*s]:%s" : "%.*s:%s", len, (const char *)host.data, digits));
    return NULL;
}

const char *permit_open_add(struct key_options *options, struct bytes value)
{
    struct bytes host, port;

    if (!split_permit(value, &host, &port))
        return "permitopen: not host:port";
    return add_permit(&options->restrictions->permit_open, host, port);
}

const char *permit_listen_add(struct key_options *options, struct bytes value)
{
    struct bytes host = BYTES("*"), port = value; /* a port alone: on any address */
    bool alone = value.len == 0 || memchr(value.data, ':', value.len) == NULL;

    if (!alone && !split_permit(value, &host, &port))
        return "permitlisten: not host:port";
    return add_permit(&options->restrictions->permit_listen, host, port);
}
