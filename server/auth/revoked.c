#include "auth/revoked.h"

#include "auth/revoked_index.h"
#include "base/alloc.h"
#include "base/words.h"
#include "transport/transport.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

struct revoked {
    bool everything;
    struct buf bytes; /* what the index borrows from */
    struct revoked_index index;
};

/* ---- plain lists */

/* A certificate in the list revokes the key that it certifies, as with OpenSSH. */
static const char *put_key(struct buf *out, struct bytes blob)
{
    struct certificate *certificate;
    const char *why;

    if (!certificate_is_claimed(blob)) {
        buf_put_string(out, blob);
        return NULL;
    }
    certificate = certificate_parse(blob, &why);
    if (certificate == NULL)
        return "a revoked certificate is malformed";
    buf_put_string(out, public_key_blob(certificate->key));
    certificate_free(&certificate);
    return NULL;
}

static const char *put_line(struct buf *out, struct bytes line)
{
    struct buf blob = {0};
    const char *why = "a line is not a public key";

    line = blanks_skip(line);
    if (line.len == 0 || line.data[0] == '#')
        return NULL;
    if (public_key_take_text(&line, &blob)) /* of a type that we do not know, too */
        why = put_key(out, buf_bytes(&blob));
    buf_clear(&blob);
    return why;
}

/* As the section of a KRL that says the same. */
static const char *put_lines(struct buf *out, struct bytes text)
{
    const char *why = NULL;

    if (text.len > 0 && memchr(text.data, '\0', text.len) != NULL)
        return "the list has a NUL byte";
    while (text.len > 0 && why == NULL)
        why = put_line(out, line_take(&text));
    return why;
}

/* ---- the list */

static bool is_krl(struct bytes list)
{
    return list.len >= sizeof(KRL_MAGIC) && memcmp(list.data, KRL_MAGIC, sizeof(KRL_MAGIC)) == 0;
}

static const char *read_list(struct revoked *revoked, struct bytes list)
{
    const char *why;

    if (list.len > REVOKED_MAX_BYTES)
        return "the list is too long";
    if (is_krl(list)) {
        buf_put(&revoked->bytes, list);
        return krl_parse(buf_bytes(&revoked->bytes), &revoked->index);
    }
    why = put_lines(&revoked->bytes, list);
    return why ? why : krl_parse_keys(buf_bytes(&revoked->bytes), &revoked->index);
}

struct revoked *revoked_parse(struct bytes list, const char **why)
{
    struct revoked *revoked = xcalloc(1, sizeof(*revoked));

    *why = read_list(revoked, list);
    revoked->everything = *why != NULL;
    if (revoked->everything)
        revoked_index_clear(&revoked->index);
    else
        revoked_index_seal(&revoked->index);
    return revoked;
}

void revoked_free(struct revoked **where)
{
    struct revoked *revoked = *where;

    *where = NULL;
    if (revoked == NULL)
        return;
    revoked_index_clear(&revoked->index);
    buf_clear(&revoked->bytes);
    free(revoked);
}

/* ---- questions */

bool revoked_has_key(const struct revoked *revoked, struct bytes blob)
{
    struct bytes none = bytes_of(NULL, 0);
    uint8_t sha1[SHA_DIGEST_LENGTH], sha256[SHA256_DIGEST_LENGTH];

    if (revoked == NULL)
        return false;
    if (revoked->everything || scoped_set_has(&revoked->index.keys, none, blob))
        return true;
    SHA1(blob.data, blob.len, sha1);
    SHA256(blob.data, blob.len, sha256);
    return scoped_set_has(&revoked->index.sha1, none, bytes_of(sha1, sizeof(sha1))) ||
           scoped_set_has(&revoked->index.sha256, none, bytes_of(sha256, sizeof(sha256)));
}

static bool is_revoked_under(const struct revoked_index *index, struct bytes scope,
                             const struct revoked_query *certificate)
{
    return scoped_set_has(&index->key_ids, scope, certificate->key_id) ||
           span_set_has(&index->serials, scope, certificate->serial);
}

bool revoked_has_certificate(const struct revoked *revoked, const struct revoked_query *certificate)
{
    if (revoked == NULL)
        return false;
    return revoked_has_key(revoked, certificate->key_blob) ||
           revoked_has_key(revoked, certificate->ca_blob) ||
           is_revoked_under(&revoked->index, certificate->ca_blob, certificate) ||
           is_revoked_under(&revoked->index, bytes_of(NULL, 0), certificate);
}
