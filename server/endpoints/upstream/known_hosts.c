/*
 * Every question reads the text anew: it is asked once or twice a connection. A line costs at most
 * one HMAC, or its own length times that of a host's name.
 */
#include "endpoints/upstream/known_hosts.h"

#include "base/alloc.h"
#include "base/words.h"
#include "transport/transport.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PORT_DEFAULT   22
#define HOST_MAX_BYTES 255 /* RFC 1035 section 2.3.4 */
#define PATTERN_MAX_LEN                                                                            \
    1022 /* OpenSSH matches nothing with a longer one, nor with its whole list */
#define SHA1_LEN 20

enum marker { MARKER_NONE, MARKER_AUTHORITY, MARKER_REVOKED };

/* One that is about the host asked for. */
struct known_line {
    enum marker marker;
    struct buf blob; /* a key, perhaps of a type that we do not know */
};

/* ---- the names of a line */

enum naming { NAMING_OTHERS, NAMING_HOST, NAMING_MALFORMED };

static bool read_hash(struct bytes text, uint8_t out[SHA1_LEN])
{
    struct buf decoded = {0};
    bool ok = buf_put_base64(&decoded, text) && decoded.len == SHA1_LEN;

    if (ok)
        memcpy(out, decoded.data, SHA1_LEN);
    buf_clear(&decoded);
    return ok;
}

/* |1|salt|HMAC-SHA1 of the one name */
static enum naming match_hashed(struct bytes names, struct bytes name)
{
    static const char magic[] = "|1|";
    uint8_t salt[SHA1_LEN], hash[SHA1_LEN], found[SHA1_LEN];
    const uint8_t *bar;
    size_t len;

    if (names.len <= strlen(magic) || memcmp(names.data, magic, strlen(magic)) != 0)
        return NAMING_MALFORMED;
    names = bytes_of(names.data + strlen(magic), names.len - strlen(magic));
    bar = memchr(names.data, '|', names.len);
    if (bar == NULL)
        return NAMING_MALFORMED;
    len = (size_t)(bar - names.data);
    if (!read_hash(bytes_of(names.data, len), salt) ||
        !read_hash(bytes_of(bar + 1, names.len - len - 1), hash) ||
        HMAC(EVP_sha1(), salt, SHA1_LEN, name.data, name.len, found, NULL) == NULL)
        return NAMING_MALFORMED;
    return CRYPTO_memcmp(hash, found, SHA1_LEN) == 0 ? NAMING_HOST : NAMING_OTHERS;
}

/* Comma-separated; a negated pattern that matches outweighs all others. */
static enum naming match_list(struct bytes names, struct bytes name)
{
    bool positive = false, negative = false, more;

    do {
        struct bytes pattern = item_take(&names, &more);
        bool negated = pattern.len > 0 && pattern.data[0] == '!';

        if (negated)
            pattern = bytes_of(pattern.data + 1, pattern.len - 1);
        if (pattern.len > PATTERN_MAX_LEN)
            return NAMING_MALFORMED;
        if (!pattern_matches(pattern, name))
            continue;
        negative |= negated;
        positive |= !negated;
    } while (more);
    return positive && !negative ? NAMING_HOST : NAMING_OTHERS;
}

static enum naming match_names(struct bytes names, struct bytes name)
{
    if (names.len == 0)
        return NAMING_MALFORMED;
    return names.data[0] == '|' ? match_hashed(names, name) : match_list(names, name);
}

/* ---- a line */

/* It ends at the line's first space, as with OpenSSH; at a tab only if there is no space at all. */
static bool take_marker(struct bytes *line, enum marker *marker)
{
    const uint8_t *end;
    struct bytes word;

    *marker = MARKER_NONE;
    if (line->data[0] != '@')
        return true;
    end = memchr(line->data, ' ', line->len);
    if (end == NULL)
        end = memchr(line->data, '\t', line->len);
    if (end == NULL)
        return false;
    word = bytes_of(line->data, (size_t)(end - line->data));
    *line = blanks_skip(bytes_of(end, line->len - word.len));
    if (bytes_are(word, "@cert-authority"))
        *marker = MARKER_AUTHORITY;
    else if (bytes_are(word, "@revoked"))
        *marker = MARKER_REVOKED;
    return *marker != MARKER_NONE && line->len > 0 && line->data[0] != '@';
}

/* In a line that revokes, a certificate stands for the key that it certifies, as with OpenSSH. */
static bool reduce_to_key(struct buf *blob)
{
    struct certificate *certificate;
    const char *why;

    if (!certificate_is_claimed(buf_bytes(blob)))
        return true;
    certificate = certificate_parse(buf_bytes(blob), &why);
    if (certificate == NULL)
        return false;
    buf_reset(blob);
    buf_put(blob, public_key_blob(certificate->key));
    certificate_free(&certificate);
    return true;
}

/* The line is not empty. A line that revokes is read to its end whomever it is about: what cannot
 * be read may be about anybody. */
static enum naming parse_line(struct bytes line, struct bytes name, struct known_line *out)
{
    enum naming naming;

    if (memchr(line.data, '\0', line.len) != NULL || !take_marker(&line, &out->marker))
        return NAMING_MALFORMED;
    naming = match_names(word_take(&line), name);
    if (naming != NAMING_HOST && out->marker != MARKER_REVOKED)
        return naming;
    if (!public_key_take_text(&line, &out->blob))
        return NAMING_MALFORMED;
    if (out->marker == MARKER_REVOKED && !reduce_to_key(&out->blob))
        return NAMING_MALFORMED;
    return naming;
}

/* ---- all of them */

typedef void each_line_fn(void *arg, const struct known_line *line);

static bool wants_to_revoke(struct bytes line)
{
    static const char marker[] = "@revoked";

    return line.len >= strlen(marker) &&
           strncasecmp((const char *)line.data, marker, strlen(marker)) == 0;
}

/* Calls back for each line about the host of that name. False: all keys are to be taken for
 * revoked. */
static bool each_line(struct bytes text, struct bytes name, each_line_fn *each, void *arg)
{
    struct known_line parsed = {.marker = MARKER_NONE};
    bool readable = true;

    while (text.len > 0) {
        struct bytes line = blanks_skip(line_take(&text));
        enum naming naming;

        if (line.len == 0 || line.data[0] == '#')
            continue;
        naming = parse_line(line, name, &parsed);
        if (naming == NAMING_HOST)
            each(arg, &parsed);
        else if (naming == NAMING_MALFORMED && wants_to_revoke(line))
            readable = false;
    }
    buf_clear(&parsed.blob);
    return readable;
}

/* As OpenSSH looks it up: in lower case, an IPv6 address in its canonical form. NULL: no host has
 * such a name. */
static char *name_of(const char *host, uint16_t port)
{
    char canonical[INET6_ADDRSTRLEN];
    struct in6_addr address;
    size_t len = strlen(host);
    char *name;

    if (len == 0 || len > HOST_MAX_BYTES)
        return NULL;
    if (inet_pton(AF_INET6, host, &address) == 1)
        host = inet_ntop(AF_INET6, &address, canonical, sizeof(canonical));
    name = port == PORT_DEFAULT ? xstrdup(host) : xasprintf("[%s]:%u", host, port);
    for (char *c = name; *c != '\0'; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c += 'a' - 'A';
    return name;
}

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
    char *name = name_of(host, PORT_DEFAULT);
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
    char *name = name_of(host, port);

    if (name == NULL) {
        *why = "it has no name that a host can have";
        return KNOWN_HOST_UNKNOWN;
    }
    if (!each_line(text, bytes_of_string(name), on_line_to_check, subject)) {
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
    char *name = name_of(host, port), *algorithms;
    bool wanted[OFFERS] = {false};
    struct buf list = {0};

    if (name == NULL)
        return NULL;
    each_line(text, bytes_of_string(name), on_line_to_offer, wanted);
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
