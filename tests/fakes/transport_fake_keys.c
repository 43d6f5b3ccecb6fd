/* Host keys and users' keys of the fake transport: no cryptography, but exact about what was
 * signed. */
#include "fakes/transport_fake.h"
#include "fakes/wire.h"

#include "base/alloc.h"
#include "base/reader.h"

#include <stdlib.h>
#include <string.h>

struct public_key {
    struct buf blob;
    const char *type;
};

struct private_key {
    struct public_key *public_key;
};

static struct signature_facts touched;
static size_t private_keys;

/* ---- host keys */

static const char *const host_keys[] = {FAKE_HOST_KEY, FAKE_OTHER_HOST_KEY};

size_t transport_host_key_count(const struct transport *t)
{
    (void)t;
    return sizeof(host_keys) / sizeof(host_keys[0]);
}

struct bytes transport_host_key_blob(const struct transport *t, size_t index)
{
    (void)t;
    return bytes_of_string(host_keys[index]);
}

bool transport_host_key_sign(struct transport *t, struct bytes blob, struct bytes data,
                             struct buf *signature)
{
    for (size_t i = 0; i < transport_host_key_count(t); i++)
        if (bytes_are(blob, host_keys[i])) {
            fake_sign(signature, blob, "host", data);
            return true;
        }
    return false;
}

/* ---- users' keys */

/* Within a certificate a key comes as its fields: "ssh-ed25519", "a" is the key "ssh-ed25519:a". */
static bool parse_fields(struct bytes blob, struct buf *text)
{
    struct reader r = reader_of(blob);
    struct bytes type = reader_string(&r), name = reader_string(&r);

    if (!reader_ok(&r) || type.len == 0 || name.len == 0)
        return false;
    buf_put(text, type);
    buf_put_u8(text, ':');
    buf_put(text, name);
    return true;
}

const char *public_key_type_of(struct bytes blob)
{
    static const char *const types[] = {"ssh-ed25519", "ssh-rsa", "sk-ssh-ed25519@openssh.com"};
    const uint8_t *colon = blob.len ? memchr(blob.data, ':', blob.len) : NULL;

    if (colon == NULL || !text_is_clean(blob))
        return NULL;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (bytes_are(bytes_of(blob.data, (size_t)(colon - blob.data)), types[i]))
            return types[i];
    return NULL;
}

static struct public_key *parse_text(struct bytes blob)
{
    const char *type = public_key_type_of(blob);
    struct public_key *key;

    if (type == NULL)
        return NULL;
    key = xcalloc(1, sizeof(*key));
    buf_put(&key->blob, blob);
    key->type = type;
    return key;
}

void public_key_free(struct public_key **where)
{
    struct public_key *key = *where;

    *where = NULL;
    if (key == NULL)
        return;
    buf_clear(&key->blob);
    free(key);
}

struct public_key *public_key_parse(struct bytes blob)
{
    struct buf text = {0};
    struct public_key *key = parse_text(parse_fields(blob, &text) ? buf_bytes(&text) : blob);

    buf_clear(&text);
    return key;
}

const char *public_key_type(const struct public_key *key)
{
    return key->type;
}

uint32_t public_key_bits(const struct public_key *key)
{
    return strcmp(key->type, "ssh-rsa") == 0 ? 3072 : 256;
}

struct bytes public_key_blob(const struct public_key *key)
{
    return buf_bytes(&key->blob);
}

char *public_key_fingerprint(const struct public_key *key)
{
    return xasprintf("SHA256:%.*s", (int)key->blob.len, (const char *)key->blob.data);
}

char *public_key_openssh(const struct public_key *key)
{
    return xasprintf("%s %.*s", key->type, (int)key->blob.len, (const char *)key->blob.data);
}

const char *public_key_algorithms(void)
{
    return "ssh-ed25519,rsa-sha2-256,rsa-sha2-512,sk-ssh-ed25519@openssh.com";
}

bool public_key_allows(const struct public_key *key, struct bytes algorithm)
{
    if (strcmp(key->type, "ssh-rsa") == 0)
        return bytes_are(algorithm, "rsa-sha2-256") || bytes_are(algorithm, "rsa-sha2-512");
    return bytes_are(algorithm, key->type);
}

void fake_sign(struct buf *out, struct bytes blob, const char *algorithm, struct bytes data)
{
    buf_put_cstring(out, algorithm);
    buf_put_string(out, blob);
    buf_put_string(out, data);
}

void fake_certify(struct buf *out, const struct fake_certificate *draft)
{
    struct buf signature = {0};

    wire_put(out, "ssS uuu s S uuuu SS ss", FAKE_CERTIFICATE_TYPE, "nonce", BYTES("a"), 0u, 7u,
             draft->kind, "id", draft->principals, 0u, 0u, 0u, draft->valid_before, draft->critical,
             draft->extensions, "", FAKE_AUTHORITY);
    fake_sign(&signature, bytes_of_string(draft->signer), "ssh-ed25519", buf_bytes(out));
    buf_put_string(out, buf_bytes(&signature));
    buf_clear(&signature);
}

bool public_key_verify(const struct public_key *key, struct bytes algorithm, struct bytes signature,
                       struct bytes data, struct signature_facts *facts)
{
    char *name = bytes_to_string(algorithm);
    struct buf wanted = {0};
    bool good;

    fake_sign(&wanted, buf_bytes(&key->blob), name, data);
    good = public_key_allows(key, algorithm) && bytes_equal(signature, buf_bytes(&wanted));
    if (good && facts != NULL && strncmp(key->type, "sk-", 3) == 0)
        *facts = touched;
    buf_clear(&wanted);
    free(name);
    return good;
}

void fake_touch(bool present, bool verified)
{
    touched = (struct signature_facts){present, verified};
}

/* ---- private keys */

struct private_key *private_key_parse(struct bytes text, const char **why)
{
    static const size_t prefix = sizeof(FAKE_PRIVATE_KEY("")) - 1;
    struct private_key *key;
    struct public_key *public_key = NULL;

    *why =
        bytes_are(text, FAKE_ENCRYPTED_KEY) ? "the private key is encrypted" : "not a private key";
    if (text.len > prefix && memcmp(text.data, FAKE_PRIVATE_KEY(""), prefix) == 0)
        public_key = parse_text(bytes_of(text.data + prefix, text.len - prefix));
    if (public_key == NULL)
        return NULL;
    *why = NULL;
    key = xcalloc(1, sizeof(*key));
    key->public_key = public_key;
    private_keys++;
    return key;
}

void private_key_free(struct private_key **where)
{
    struct private_key *key = *where;

    *where = NULL;
    if (key == NULL)
        return;
    public_key_free(&key->public_key);
    free(key);
    private_keys--;
}

size_t fake_private_keys_alive(void)
{
    return private_keys;
}

const struct public_key *private_key_public(const struct private_key *key)
{
    return key->public_key;
}

bool private_key_sign(const struct private_key *key, const char *algorithm, struct bytes data,
                      struct buf *signature)
{
    if (!public_key_allows(key->public_key, bytes_of_string(algorithm)))
        return false;
    fake_sign(signature, buf_bytes(&key->public_key->blob), algorithm, data);
    return true;
}
