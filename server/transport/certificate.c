/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * OpenSSH's certificates, read by us: libssh loads them, but shows none of their fields.
 */
#include "base/alloc.h"
#include "base/reader.h"
#include "transport/transport.h"

#include <stdlib.h>
#include <string.h>

#define BLOB_MAX_BYTES 65536 /* above what an authentication request may hold */
#define PRINCIPALS_MAX 256   /* as OpenSSH */
#define OPTIONS_MAX    256

/* One row per type. The key's own fields stand in the middle of the certificate. */
struct certificate_type {
    const char *name, *key_type;
    int key_fields; /* strings of the key's blob after its type */
};

static const struct certificate_type types[] = {
    {"ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519", 1},
    {"sk-ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com", 2},
    {"ecdsa-sha2-nistp256-cert-v01@openssh.com", "ecdsa-sha2-nistp256", 2},
    {"ecdsa-sha2-nistp384-cert-v01@openssh.com", "ecdsa-sha2-nistp384", 2},
    {"ecdsa-sha2-nistp521-cert-v01@openssh.com", "ecdsa-sha2-nistp521", 2},
    {"sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", 3},
    {"ssh-rsa-cert-v01@openssh.com", "ssh-rsa", 2},
};

static const struct certificate_type *type_named(struct bytes name)
{
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (bytes_are(name, types[i].name))
            return &types[i];
    return NULL;
}

bool certificate_is_claimed(struct bytes blob)
{
    struct reader r = reader_of(blob);

    return type_named(reader_string(&r)) != NULL;
}

/* ---- the fields, in their order on the wire */

static struct public_key *parse_key(struct reader *r, const struct certificate_type *type)
{
    struct buf blob = {0};
    struct public_key *key;

    buf_put_cstring(&blob, type->key_type);
    for (int i = 0; i < type->key_fields; i++)
        buf_put_string(&blob, reader_string(r));
    key = reader_ok(r) ? public_key_parse(buf_bytes(&blob)) : NULL;
    buf_clear(&blob);
    return key;
}

static const char *parse_principals(struct certificate *c, struct bytes list)
{
    struct reader r = reader_of(list);

    while (r.left > 0) {
        struct bytes name = reader_text(&r);

        if (!reader_ok(&r))
            return "the certificate's principals are malformed";
        if (c->principals_count == PRINCIPALS_MAX)
            return "the certificate has too many principals";
        c->principals = xrealloc(c->principals, (c->principals_count + 1) * sizeof(*c->principals));
        c->principals[c->principals_count++] = bytes_to_string(name);
    }
    return NULL;
}

/* Names come once each. Their order is not ours to judge: PROTOCOL.certkeys wants them sorted, but
 * not everybody who signs does so, and OpenSSH does not mind. */
static const char *parse_options(struct certificate_options *options, struct bytes list)
{
    struct reader r = reader_of(list);

    while (r.left > 0) {
        struct bytes name = reader_text(&r), data = reader_string(&r);
        char *owned;

        if (!reader_ok(&r))
            return "the certificate's options are malformed";
        if (options->count == OPTIONS_MAX)
            return "the certificate has too many options";
        owned = bytes_to_string(name);
        if (certificate_option(options, owned) != NULL) {
            free(owned);
            return "an option of the certificate comes twice";
        }
        options->list = xrealloc(options->list, (options->count + 1) * sizeof(*options->list));
        options->list[options->count++] = (struct certificate_option){owned, data};
    }
    return NULL;
}

static const char *parse_authority(struct certificate *c, struct reader *r)
{
    struct bytes ca = reader_string(r), signature;
    struct reader inside;

    c->signed_part = bytes_of(c->blob.data, c->blob.len - r->left);
    signature = reader_string(r);
    if (!reader_end(r))
        return "the certificate is malformed";
    if (certificate_is_claimed(ca))
        return "the certificate's authority is itself a certificate";
    c->ca = public_key_parse(ca);
    if (c->ca == NULL)
        return "the certificate's authority has a malformed or weak key";
    inside = reader_of(signature);
    c->signature_algorithm = reader_string(&inside);
    c->signature = signature;
    return reader_ok(&inside) ? NULL : "the certificate's signature is malformed";
}

static const char *parse_fields(struct certificate *c)
{
    struct reader r = reader_of(buf_bytes(&c->blob));
    const struct certificate_type *type = type_named(reader_string(&r));
    struct bytes key_id, principals, critical, extensions;
    const char *why;

    if (type == NULL)
        return "the certificate's type is unknown";
    c->type = type->name;
    reader_string(&r); /* the nonce */
    c->key = parse_key(&r, type);
    c->serial = reader_u64(&r);
    c->kind = reader_u32(&r);
    key_id = reader_text(&r);
    principals = reader_string(&r);
    c->valid_after = reader_u64(&r);
    c->valid_before = reader_u64(&r);
    critical = reader_string(&r);
    extensions = reader_string(&r);
    reader_string(&r); /* reserved, and to be ignored */
    if (!reader_ok(&r))
        return "the certificate is malformed";
    if (c->key == NULL)
        return "the certified key is malformed or weak";
    if (c->kind != CERTIFICATE_USER && c->kind != CERTIFICATE_HOST)
        return "the certificate is neither a user's nor a host's";
    c->key_id = bytes_to_string(key_id);
    if ((why = parse_principals(c, principals)) != NULL ||
        (why = parse_options(&c->critical, critical)) != NULL ||
        (why = parse_options(&c->extensions, extensions)) != NULL)
        return why;
    return parse_authority(c, &r);
}

struct certificate *certificate_parse(struct bytes blob, const char **why)
{
    struct certificate *c;

    if (blob.len > BLOB_MAX_BYTES) {
        *why = "the certificate is too long";
        return NULL;
    }
    c = xcalloc(1, sizeof(*c));
    buf_put(&c->blob, blob);
    *why = parse_fields(c);
    if (*why != NULL)
        certificate_free(&c);
    return c;
}

static void options_clear(struct certificate_options *options)
{
    for (size_t i = 0; i < options->count; i++)
        free(options->list[i].name);
    free(options->list);
}

void certificate_free(struct certificate **where)
{
    struct certificate *c = *where;

    *where = NULL;
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->principals_count; i++)
        free(c->principals[i]);
    free(c->principals);
    options_clear(&c->critical);
    options_clear(&c->extensions);
    public_key_free(&c->key);
    public_key_free(&c->ca);
    free(c->key_id);
    buf_clear(&c->blob);
    free(c);
}

/* ---- what it is good for */

bool certificate_verify(const struct certificate *c)
{
    return public_key_verify(c->ca, c->signature_algorithm, c->signature, c->signed_part, NULL);
}

/* RSA has names of its own for what is signed with (draft-miller-ssh-cert, section 3.1): the type
 * alone would mean SHA-1. */
const char *certificate_allows(const struct certificate *c, struct bytes algorithm)
{
    static const char *const rsa[][2] = {
        {"rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-512"},
        {"rsa-sha2-256-cert-v01@openssh.com", "rsa-sha2-256"},
    };
    const char *plain = public_key_type(c->key);

    if (strcmp(plain, "ssh-rsa") == 0) {
        plain = NULL;
        for (size_t i = 0; i < sizeof(rsa) / sizeof(rsa[0]); i++)
            if (bytes_are(algorithm, rsa[i][0]))
                plain = rsa[i][1];
    } else if (!bytes_are(algorithm, c->type)) {
        plain = NULL;
    }
    return plain != NULL && public_key_allows(c->key, bytes_of_string(plain)) ? plain : NULL;
}

bool certificate_is_valid_at(const struct certificate *c, uint64_t seconds_since_1970)
{
    return c->valid_after <= seconds_since_1970 && seconds_since_1970 < c->valid_before;
}

bool certificate_names(const struct certificate *c, struct bytes principal)
{
    for (size_t i = 0; i < c->principals_count; i++)
        if (principal.len > 0 && bytes_are(principal, c->principals[i]))
            return true;
    return false;
}

const struct certificate_option *certificate_option(const struct certificate_options *options,
                                                    const char *name)
{
    for (size_t i = 0; i < options->count; i++)
        if (strcmp(options->list[i].name, name) == 0)
            return &options->list[i];
    return NULL;
}

bool certificate_option_text(const struct certificate_option *option, struct bytes *text)
{
    struct reader r = reader_of(option->data);

    *text = reader_string(&r);
    return reader_end(&r);
}
