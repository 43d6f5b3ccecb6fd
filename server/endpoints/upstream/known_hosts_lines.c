#include "endpoints/upstream/known_hosts_lines.h"

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

#define HOST_MAX_BYTES 255 /* RFC 1035 section 2.3.4 */
#define PATTERN_MAX_LEN                                                                            \
    1022 /* OpenSSH matches nothing with a longer one, nor with its whole list */
#define SHA1_LEN 20

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

static bool wants_to_revoke(struct bytes line)
{
    static const char marker[] = "@revoked";

    return line.len >= strlen(marker) &&
           strncasecmp((const char *)line.data, marker, strlen(marker)) == 0;
}

bool known_lines_each(struct bytes text, struct bytes name, known_line_fn *each, void *arg)
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

char *known_lines_name(const char *host, uint16_t port)
{
    char canonical[INET6_ADDRSTRLEN];
    struct in6_addr address;
    size_t len = strlen(host);
    char *name;

    if (len == 0 || len > HOST_MAX_BYTES)
        return NULL;
    if (inet_pton(AF_INET6, host, &address) == 1)
        host = inet_ntop(AF_INET6, &address, canonical, sizeof(canonical));
    name = port == KNOWN_HOSTS_PORT ? xstrdup(host) : xasprintf("[%s]:%u", host, port);
    for (char *c = name; *c != '\0'; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c += 'a' - 'A';
    return name;
}
