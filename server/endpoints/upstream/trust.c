#include "endpoints/upstream/trust.h"

#include "base/alloc.h"
#include "base/words.h"
#include "endpoints/upstream/known_hosts.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

char *trust_algorithms(const struct hop *hop)
{
    static const char *const others[] = {"ssh-ed25519",         "ecdsa-sha2-nistp256",
                                         "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
                                         "rsa-sha2-512",        "rsa-sha2-256"};
    char *list = known_hosts_algorithms(buf_bytes(&hop->known_hosts), hop->host, hop->port);

    for (size_t i = 0; list != NULL && i < sizeof(others) / sizeof(others[0]); i++)
        if (!list_has(bytes_of_string(list), bytes_of_string(others[i]))) {
            char *longer = xasprintf("%s,%s", list, others[i]);

            free(list);
            list = longer;
        }
    return list;
}

/* A certificate is named by the key in it, as ssh(1) does. */
static char *name_of_key(struct bytes blob)
{
    const char *why;
    struct certificate *certificate =
        certificate_is_claimed(blob) ? certificate_parse(blob, &why) : NULL;
    struct public_key *key = certificate ? NULL : public_key_parse(blob);
    const struct public_key *shown = certificate ? certificate->key : key;
    char *print = shown ? public_key_fingerprint(shown) : NULL;
    char *name =
        shown ? xasprintf("%s %s", certificate ? certificate->type : public_key_type(key), print)
              : xstrdup("a key that cannot be read");

    free(print);
    certificate_free(&certificate);
    public_key_free(&key);
    return name;
}

struct trust trust_check(const struct hop *hop, struct bytes blob)
{
    const char *why = "";
    enum known_host how = known_hosts_check(buf_bytes(&hop->known_hosts), hop->host, hop->port,
                                            blob, (uint64_t)time(NULL), &why);
    struct trust trust = {.key = name_of_key(blob)};

    if (how != KNOWN_HOST_TRUSTED)
        trust.why = xasprintf("%s (%s)", why, trust.key);
    return trust;
}

void trust_clear(struct trust *trust)
{
    free(trust->key);
    free(trust->why);
    *trust = (struct trust){0};
}
