/* The way on: a user named "via-PORT" goes on at the SSH server on that port of loopback, which has
 * our host key and lets our user's key in. */
#include "policy.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX 16384

static uint8_t private_key[FILE_MAX], known_hosts[FILE_MAX] = "* ";
static size_t private_key_len, known_hosts_len = 2;

static bool read_file(const char *path, uint8_t *into, size_t *len)
{
    FILE *file = fopen(path, "rb");

    if (file == NULL)
        return false;
    *len += fread(into + *len, 1, FILE_MAX - *len, file);
    return fclose(file) == 0;
}

bool upstream_load(const char *key_file, const char *host_key_file)
{
    return read_file(key_file, private_key, &private_key_len) &&
           read_file(host_key_file, known_hosts, &known_hosts_len);
}

Policy__UpstreamEndpoint *upstream_for(const Policy__Context *context)
{
    static const char via[] = "via-";
    static Policy__UpstreamHop hop = POLICY__UPSTREAM_HOP__INIT;
    static Policy__UpstreamHop *hops[] = {&hop};
    static Policy__UpstreamEndpoint endpoint = POLICY__UPSTREAM_ENDPOINT__INIT;
    static char host[] = "127.0.0.1";
    const struct passwd *me = getpwuid(geteuid());

    if (context == NULL || me == NULL || strncmp(context->user, via, sizeof(via) - 1) != 0)
        return NULL;
    hop.host = host;
    hop.port = (uint32_t)atoi(context->user + sizeof(via) - 1);
    hop.user = me->pw_name;
    hop.known_hosts = (ProtobufCBinaryData){known_hosts_len, known_hosts};
    hop.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PRIVATE_KEY;
    hop.private_key = (ProtobufCBinaryData){private_key_len, private_key};
    endpoint.hops = hops;
    endpoint.n_hops = 1;
    return &endpoint;
}
