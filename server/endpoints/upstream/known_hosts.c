/*
 * Every question reads the text anew: it is asked once or twice a connection. A line costs at most
 * one HMAC, or its own length times that of a host's name.
 */
#include "endpoints/upstream/known_hosts.h"

#include "base/alloc.h"
#include "endpoints/upstream/known_hosts_lines.h"
#include "transport/transport.h"

#include <stdlib.h>
#include <string.h>

/* ---- is it the host's key? */

struct subject {
    struct public_key *key;          /* NULL: a certificate, or nothing that we know */
    struct certificate *certificate; /* NULL: a key, or nothing that we know */
    bool known, changed, revoked;
};

static void look_for_key(struct subject *subject, const struct known_line *line)
{
    struct bytes blob = buf_bytes(&line->blob), own = public_key_blob(subject->key);
    const char *type;

    if (bytes_equal(blob, own)) {
        subject->known |= line->marker == MARKER_NONE;
        subject->revoked |= line->marker == MARKER_REVOKED;
    } else if (line->marker == MARKER_NONE && (type = public_key_type_of(blob)) != NULL) {
        subject->changed |= strcmp(type, public_key_type(subject->key)) == 0;
    }
}

static void look_for_authority(struct subject *subject, const struct known_line *line)
{
    const struct certificate *certificate = subject->certificate;
    struct bytes blob = buf_bytes(&line->blob);
    bool is_authority = bytes_equal(blob, public_key_blob(certificate->ca));

    subject->known |= line->marker == MARKER_AUTHORITY && is_authority;
    subject->revoked |= line->marker == MARKER_REVOKED &&
                        (is_authority || bytes_equal(blob, public_key_blob(certificate->key)));
}

static void on_line_to_check(void *arg, const struct known_line *line)
{
    struct subject *subject = arg;

    if (subject->certificate != NULL)
        look_for_authority(subject, line);
    else if (subject->key != NULL)
        look_for_key(subject, line);
}

static const char *refuse_certificate(const struct certificate *certificate, const char *host,
                                      uint64_t now)
{
    char *name = known_lines_name(host, KNOWN_HOSTS_PORT);
    bool named = certificate_names(certificate, bytes_of_string(name)); /* without the port */

    free(name);
    if (certificate->kind != CERTIFICATE_HOST)
        return "it is not a host's certificate";
    if (!named)
        return "its certificate is not for this name";
    if (!certificate_is_valid_at(certificate, now))
        return "its certificate is not valid now";
    if (certificate->critical.count > 0) /* none is defined for hosts */
        return "its certificate has a critical option";
    if (!certificate_verify(certificate))
        return "its authority's signature does not verify";
    return NULL;
}

static enum known_host judge_certificate(const struct subject *subject, const char *host,
                                         uint64_t now, const char **why)
{
    if (!subject->known) {
        *why = "the authority that signed its certificate is not known for this host";
        return KNOWN_HOST_UNKNOWN;
    }
    *why = refuse_certificate(subject->certificate, host, now);
    return *why == NULL ? KNOWN_HOST_TRUSTED : KNOWN_HOST_CERTIFICATE;
}

static enum known_host judge_key(const struct subject *subject, const char **why)
{
    *why = NULL;
    if (subject->known)
        return KNOWN_HOST_TRUSTED;
    if (subject->changed) {
        *why = "the host key is not the one that is known";
        return KNOWN_HOST_CHANGED;
    }
    *why = "the host key is not known";
    return KNOWN_HOST_UNKNOWN;
}

static enum known_host judge(struct subject *subject, struct bytes text, const char *host,
                             uint16_t port, const char **why)
{
    char *name = known_lines_name(host, port);

    if (name == NULL) {
        *why = "it has no name that a host can have";
        return KNOWN_HOST_UNKNOWN;
    }
    if (!known_lines_each(text, bytes_of_string(name), on_line_to_check, subject)) {
        subject->revoked = true;
        *why = "a line of the known hosts that revokes a key cannot be read";
    } else if (subject->revoked) {
        *why = subject->certificate != NULL ? "the host key or its authority is revoked"
                                            : "the host key is revoked";
    }
    free(name);
    return subject->revoked ? KNOWN_HOST_REVOKED : KNOWN_HOST_TRUSTED;
}

enum known_host known_hosts_check(struct bytes text, const char *host, uint16_t port,
                                  struct bytes blob, uint64_t seconds_since_1970, const char **why)
{
    bool certified = certificate_is_claimed(blob);
    const char *malformed = NULL;
    struct subject subject = {
        .certificate = certified ? certificate_parse(blob, &malformed) : NULL,
        .key = certified ? NULL : public_key_parse(blob),
    };
    enum known_host found = judge(&subject, text, host, port, why);

    if (found == KNOWN_HOST_TRUSTED && malformed != NULL) {
        found = KNOWN_HOST_CERTIFICATE;
        *why = malformed;
    } else if (found == KNOWN_HOST_TRUSTED) {
        found = certified ? judge_certificate(&subject, host, seconds_since_1970, why)
                          : judge_key(&subject, why);
    }
    certificate_free(&subject.certificate);
    public_key_free(&subject.key);
    return found;
}

/* ---- what to ask for */

/* In order of preference. An authority may have signed keys of any type. */
static const struct {
    const char *algorithm;
    const char *type; /* of the key; NULL: signed by an authority */
} offers[] = {
    {"ssh-ed25519-cert-v01@openssh.com", NULL},
    {"ecdsa-sha2-nistp256-cert-v01@openssh.com", NULL},
    {"ecdsa-sha2-nistp384-cert-v01@openssh.com", NULL},
    {"ecdsa-sha2-nistp521-cert-v01@openssh.com", NULL},
    {"rsa-sha2-512-cert-v01@openssh.com", NULL},
    {"rsa-sha2-256-cert-v01@openssh.com", NULL},
    {"ssh-ed25519", "ssh-ed25519"},
    {"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"},
    {"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"},
    {"ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"},
    {"rsa-sha2-512", "ssh-rsa"},
    {"rsa-sha2-256", "ssh-rsa"},
};
#define OFFERS (sizeof(offers) / sizeof(offers[0]))

static void on_line_to_offer(void *arg, const struct known_line *line)
{
    bool *wanted = arg;
    const char *type = public_key_type_of(buf_bytes(&line->blob));

    if (type == NULL || line->marker == MARKER_REVOKED)
        return;
    if (line->marker == MARKER_AUTHORITY)
        type = NULL;
    for (size_t i = 0; i < OFFERS; i++)
        if (type == NULL ? offers[i].type == NULL
                         : offers[i].type != NULL && strcmp(offers[i].type, type) == 0)
            wanted[i] = true;
}

char *known_hosts_algorithms(struct bytes text, const char *host, uint16_t port)
{
    char *name = known_lines_name(host, port), *algorithms;
    bool wanted[OFFERS] = {false};
    struct buf list = {0};

    if (name == NULL)
        return NULL;
    known_lines_each(text, bytes_of_string(name), on_line_to_offer, wanted);
    free(name);
    for (size_t i = 0; i < OFFERS; i++) {
        if (!wanted[i])
            continue;
        if (list.len > 0)
            buf_put_u8(&list, ',');
        buf_put(&list, bytes_of_string(offers[i].algorithm));
    }
    algorithms = list.len > 0 ? bytes_to_string(buf_bytes(&list)) : NULL;
    buf_clear(&list);
    return algorithms;
}
