#include "endpoints/upstream/hop.h"

#include "base/address.h"
#include "base/alloc.h"
#include "base/words.h"
#include "endpoints/upstream/link.h"

#include <stdlib.h>
#include <string.h>

#define PORT_DEFAULT       22
#define TIMEOUT_DEFAULT_S  10
#define TIMEOUT_MAX_S      600
#define USER_MAX_BYTES     1024
#define PASSWORD_MAX_BYTES 1024
#define WORDS_MAX_BYTES    256

/* ---- what is sane */

static const char *check_place(const Policy__UpstreamHop *answer)
{
    if (answer->host[0] == '\0' || !place_is_host(bytes_of_string(answer->host)))
        return "The upstream's host is no host";
    if (dial_is_odd_address(answer->host))
        return "The upstream's address is not in its common form";
    if (answer->port > UINT16_MAX)
        return "The upstream's port is no port";
    if (answer->connect_timeout_s > TIMEOUT_MAX_S)
        return "The upstream's connect timeout is too long";
    return NULL;
}

static const char *check_user(const char *user)
{
    size_t len = strlen(user);

    for (size_t i = 0; i < len; i++)
        if ((unsigned char)user[i] < ' ' || user[i] == 0x7f)
            return "The upstream's user is no user";
    return len <= USER_MAX_BYTES ? NULL : "The upstream's user is no user";
}

/* ---- the credential */

/* As ssh-keygen writes it to a file, or the blob itself. */
static bool read_certificate(struct bytes text, struct buf *blob)
{
    struct bytes line;

    if (certificate_is_claimed(text)) {
        buf_put(blob, text);
        return true;
    }
    line = line_take(&text);
    return public_key_take_text(&line, blob) && certificate_is_claimed(buf_bytes(blob));
}

static const char *take_certificate(struct hop *hop, const ProtobufCBinaryData *text)
{
    struct certificate *certificate;
    const char *why;

    if (!read_certificate(bytes_of(text->data, text->len), &hop->certificate))
        return "The upstream's certificate is none";
    certificate = certificate_parse(buf_bytes(&hop->certificate), &why);
    if (certificate == NULL)
        return why;
    if (certificate->kind != CERTIFICATE_USER)
        why = "The upstream's certificate is not a user's";
    else if (!bytes_equal(public_key_blob(certificate->key),
                          public_key_blob(private_key_public(hop->key))))
        why = "The upstream's certificate is for another key";
    else
        why = NULL;
    certificate_free(&certificate);
    return why;
}

static const char *take_key(struct hop *hop, const Policy__UpstreamHop *answer)
{
    const char *why;

    hop->credential = HOP_KEY;
    hop->key = private_key_parse(bytes_of(answer->private_key.data, answer->private_key.len), &why);
    if (hop->key == NULL)
        return why;
    return answer->certificate.len > 0 ? take_certificate(hop, &answer->certificate) : NULL;
}

static const char *take_password(struct hop *hop, const char *password)
{
    size_t len = strlen(password);

    if (len == 0 || len > PASSWORD_MAX_BYTES)
        return "The upstream's password is empty or too long";
    hop->credential = HOP_PASSWORD;
    hop->password = xstrdup(password);
    return NULL;
}

static const char *take_credential(struct hop *hop, const Policy__UpstreamHop *answer)
{
    if (answer->certificate.len > 0 &&
        answer->credential_case != POLICY__UPSTREAM_HOP__CREDENTIAL_PRIVATE_KEY)
        return "The upstream's certificate comes without a private key";
    switch (answer->credential_case) {
    case POLICY__UPSTREAM_HOP__CREDENTIAL_PASSWORD:
        return take_password(hop, answer->password);
    case POLICY__UPSTREAM_HOP__CREDENTIAL_PRIVATE_KEY:
        return take_key(hop, answer);
    case POLICY__UPSTREAM_HOP__CREDENTIAL_CLIENT_AGENT:
        hop->credential = HOP_AGENT;
        return NULL;
    default:
        return "There is no credential for the upstream";
    }
}

/* ---- life */

static const char *take(struct hop *hop, const Policy__UpstreamHop *answer, const char *user)
{
    const char *why = check_place(answer);

    if (why == NULL)
        why = check_user(answer->user);
    if (why == NULL && answer->known_hosts.len == 0)
        why = "There is no known_hosts for the upstream: nothing else is trusted";
    if (why != NULL)
        return why;
    hop->host = xstrdup(answer->host);
    hop->user = xstrdup(answer->user[0] != '\0' ? answer->user : user);
    hop->port = answer->port ? (uint16_t)answer->port : PORT_DEFAULT;
    hop->name = hop->port == PORT_DEFAULT ? xstrdup(hop->host)
                                          : xasprintf("[%s]:%u", hop->host, (unsigned)hop->port);
    hop->timeout_ms =
        1000 * (answer->connect_timeout_s ? answer->connect_timeout_s : TIMEOUT_DEFAULT_S);
    buf_put(&hop->known_hosts, bytes_of(answer->known_hosts.data, answer->known_hosts.len));
    return take_credential(hop, answer);
}

bool hop_init(struct hop *hop, const Policy__UpstreamHop *answer, const char *user,
              const char **why)
{
    *hop = (struct hop){0};
    *why = take(hop, answer, user);
    if (*why != NULL)
        hop_clear(hop);
    return *why == NULL;
}

void hop_forget_credential(struct hop *hop)
{
    secret_free(hop->password);
    hop->password = NULL;
    private_key_free(&hop->key);
    buf_clear(&hop->certificate);
}

void hop_clear(struct hop *hop)
{
    hop_forget_credential(hop);
    free(hop->host);
    free(hop->user);
    free(hop->name);
    buf_clear(&hop->known_hosts);
    *hop = (struct hop){0};
}

bool endpoint_upstream_check(const Policy__UpstreamEndpoint *answer, const char **why)
{
    struct hop hop;

    if (answer->n_hops == 0 || answer->n_hops > HOPS_MAX) {
        *why = answer->n_hops == 0 ? "There is no upstream" : "There are too many hops";
        return false;
    }
    for (size_t i = 0; i < answer->n_hops; i++) {
        if (!hop_init(&hop, answer->hops[i], "", why))
            return false;
        hop_clear(&hop);
    }
    return true;
}

char *upstream_words(struct bytes text)
{
    size_t len = text.len < WORDS_MAX_BYTES ? text.len : WORDS_MAX_BYTES;
    char *words = xmalloc(len + 1);

    for (size_t i = 0; i < len; i++)
        words[i] = text.data[i] >= ' ' && text.data[i] < 0x7f ? (char)text.data[i] : '?';
    words[len] = '\0';
    return words;
}
