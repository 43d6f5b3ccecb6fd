/* known_hosts text. Whom it trusts must stand in it, and whom it revokes is never trusted. */
#include "fuzz/feed.h"

#include "endpoints/upstream/known_hosts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The keys of the seeds: the host's, an authority's, and its certificate for host.example. */
#define KEY "AAAAC3NzaC1lZDI1NTE5AAAAIMKTndlO26oWpYOEbWR+8S75vSo8UTyGAiTeuBCFdzaC"
#define CA  "AAAAC3NzaC1lZDI1NTE5AAAAIGblE2BnPl49uWllFH64qd+SvGAE9Nzt9Q7N3G04iyRM"
#define CERTIFICATE                                                                                \
    "AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIFKMtpDE3pNxaS1FGyoEG40xn2V7wkMv"         \
    "O6A8iYUs2jCIAAAAIMKTndlO26oWpYOEbWR+8S75vSo8UTyGAiTeuBCFdzaCAAAAAAAAAAAAAAACAAAAAmlk"         \
    "AAAAEAAAAAxob3N0LmV4YW1wbGUAAAAAAAAAAP//////////AAAAAAAAAAAAAAAAAAAAMwAAAAtzc2gtZWQy"         \
    "NTUxOQAAACBm5RNgZz5ePblpZRR+uKnfkrxgBPTc7fUOzdxtOIskTAAAAFMAAAALc3NoLWVkMjU1MTkAAABA"         \
    "HxEp047qdMxvCuhWxqvv57t/rt+ndHDyMFzh8lrT7vEma7h58Q7cl0ADKkHCkv51jR2a4uFwrHQGkK9zwZs+"         \
    "CA=="

#define NOW UINT64_C(1700000000)

static const struct place {
    const char *host;
    uint16_t port;
} places[] = {{"host.example", 22}, {"HOST.Example", 2222}, {"2001:db8::7", 22}};

static enum known_host check(struct bytes text, struct place at, struct bytes blob)
{
    const char *why = "unset";
    enum known_host found = known_hosts_check(text, at.host, at.port, blob, NOW, &why);

    assert((found == KNOWN_HOST_TRUSTED) == (why == NULL));
    assert(why == NULL || strlen(why) > 5);
    return found;
}

static bool holds(struct bytes text, const char *part)
{
    return text.len > 0 && memmem(text.data, text.len, part, strlen(part)) != NULL;
}

/* The verdict with one line more. */
static enum known_host check_with(struct bytes text, const char *line, struct place at,
                                  struct bytes blob)
{
    struct buf more = {0};
    enum known_host found;

    buf_put(&more, text);
    buf_put(&more, bytes_of_string(line));
    found = check(buf_bytes(&more), at, blob);
    buf_clear(&more);
    return found;
}

static void check_key(struct bytes text, struct place at, struct bytes blob)
{
    enum known_host found = check(text, at, blob), with;
    char *algorithms = known_hosts_algorithms(text, at.host, at.port);

    assert(found != KNOWN_HOST_CERTIFICATE);
    assert(algorithms == NULL || (algorithms[0] != '\0' && algorithms[0] != ','));
    if (found == KNOWN_HOST_TRUSTED)
        assert(holds(text, KEY) && strstr(algorithms, "ssh-ed25519") != NULL);
    if (found == KNOWN_HOST_CHANGED)
        assert(strstr(algorithms, "ssh-ed25519") != NULL);
    if (found == KNOWN_HOST_REVOKED)
        assert(memmem(text.data, text.len, "@", 1) != NULL);
    free(algorithms);
    with = check_with(text, "\n* ssh-ed25519 " KEY, at, blob);
    assert(with == (found == KNOWN_HOST_REVOKED ? found : KNOWN_HOST_TRUSTED));
    with = check_with(text, "\n@revoked * ssh-ed25519 " KEY, at, blob);
    assert(with == KNOWN_HOST_REVOKED);
}

static void check_certificate(struct bytes text, struct place at, struct bytes blob)
{
    enum known_host found = check(text, at, blob);

    assert(found != KNOWN_HOST_CHANGED);
    if (found == KNOWN_HOST_TRUSTED)
        assert(holds(text, CA) && strcasecmp(at.host, "host.example") == 0);
    if (found == KNOWN_HOST_UNKNOWN)
        assert(check_with(text, "\n@cert-authority host.* ssh-ed25519 " CA,
                          (struct place){"host.example", 22}, blob) != KNOWN_HOST_UNKNOWN);
    assert(check_with(text, "\n@revoked * ssh-ed25519 " CA, at, blob) == KNOWN_HOST_REVOKED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes text = bytes_of(data, len);
    struct buf key = {0}, certificate = {0};

    assert(buf_put_base64(&key, BYTES(KEY)) && buf_put_base64(&certificate, BYTES(CERTIFICATE)));
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        check_key(text, places[i], buf_bytes(&key));
        check_certificate(text, places[i], buf_bytes(&certificate));
    }
    buf_clear(&key);
    buf_clear(&certificate);
    return 0;
}
