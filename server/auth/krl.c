/*
 * OpenSSH's key revocation lists (PROTOCOL.krl). Whatever is not understood whole makes the list
 * unusable. A serial number 0, which OpenSSH does not take, is one like any other here.
 */
#include "auth/revoked_index.h"

#include "base/reader.h"
#include "transport/transport.h"

#include <string.h>

#define FORMAT_VERSION 1
#define TYPE_MAX_BYTES 64
#define SHA1_BYTES     20
#define SHA256_BYTES   32

enum section {
    SECTION_CERTIFICATES = 1,
    SECTION_EXPLICIT_KEY = 2,
    SECTION_SHA1 = 3,
    SECTION_SIGNATURE = 4,
    SECTION_SHA256 = 5,
    SECTION_EXTENSION = 255,
};

enum certificate_section {
    CERTIFICATE_SERIAL_LIST = 0x20,
    CERTIFICATE_SERIAL_RANGE = 0x21,
    CERTIFICATE_SERIAL_BITMAP = 0x22,
    CERTIFICATE_KEY_ID = 0x23,
    CERTIFICATE_EXTENSION = 0x39,
};

static const char cut_short[] = "the KRL is cut short, or longer than it says";

/* ---- keys */

static bool type_is_known(struct bytes type)
{
    const char *list = public_key_algorithms();

    while (*list != '\0') {
        size_t len = strcspn(list, ",");

        if (bytes_equal(type, bytes_of(list, len)))
            return true;
        list += len + (list[len] == ',');
    }
    return bytes_are(type, "ssh-rsa");
}

/* A key of a type that we do not know cannot log in, so that it is listed harms nobody. One of a
 * known type must be in the one encoding that will be compared with. */
static bool is_plain_key(struct bytes blob)
{
    struct reader r = reader_of(blob);
    struct bytes type;

    if (public_key_type_of(blob) != NULL)
        return true;
    type = reader_text(&r);
    return reader_ok(&r) && type.len > 0 && type.len <= TYPE_MAX_BYTES && !type_is_known(type) &&
           !certificate_is_claimed(blob);
}

const char *krl_parse_keys(struct bytes section, struct revoked_index *index)
{
    struct reader r = reader_of(section);

    while (reader_ok(&r) && r.left > 0) {
        struct bytes blob = reader_string(&r);

        if (reader_ok(&r) && !is_plain_key(blob))
            return "a revoked key is malformed";
        scoped_set_add(&index->keys, bytes_of(NULL, 0), blob);
    }
    return reader_end(&r) ? NULL : cut_short;
}

static const char *parse_digests(struct bytes section, size_t len, struct scoped_set *set)
{
    struct reader r = reader_of(section);

    while (reader_ok(&r) && r.left > 0) {
        struct bytes digest = reader_string(&r);

        if (reader_ok(&r) && digest.len != len)
            return "the KRL has a fingerprint of a wrong length";
        scoped_set_add(set, bytes_of(NULL, 0), digest);
    }
    return reader_end(&r) ? NULL : cut_short;
}

/* ---- extensions, of the list and of its sections of certificates: we know none */

static const char *parse_extension(struct bytes section)
{
    struct reader r = reader_of(section);
    bool critical;

    reader_text(&r); /* its name */
    critical = reader_bool(&r);
    reader_string(&r);
    if (!reader_end(&r))
        return cut_short;
    return critical ? "the KRL has a critical extension" : NULL;
}

/* ---- certificates */

static const char *parse_serial_list(struct bytes section, struct bytes ca,
                                     struct revoked_index *index)
{
    struct reader r = reader_of(section);

    while (reader_ok(&r) && r.left > 0) {
        uint64_t serial = reader_u64(&r);

        span_set_add(&index->serials, ca, serial, serial, bytes_of(NULL, 0));
    }
    return reader_end(&r) ? NULL : cut_short;
}

static const char *parse_serial_range(struct bytes section, struct bytes ca,
                                      struct revoked_index *index)
{
    struct reader r = reader_of(section);
    uint64_t lo = reader_u64(&r), hi = reader_u64(&r);

    if (!reader_end(&r))
        return cut_short;
    if (lo > hi)
        return "the KRL has a range that ends before it begins";
    span_set_add(&index->serials, ca, lo, hi, bytes_of(NULL, 0));
    return NULL;
}

static unsigned bit_length(uint8_t byte)
{
    unsigned bits = 0;

    for (; byte != 0; byte >>= 1)
        bits++;
    return bits;
}

static const char *parse_serial_bitmap(struct bytes section, struct bytes ca,
                                       struct revoked_index *index)
{
    struct reader r = reader_of(section);
    uint64_t lo = reader_u64(&r), highest;
    struct bytes bitmap = reader_string(&r);

    if (!reader_end(&r))
        return cut_short;
    if (bitmap.len > 0 && (bitmap.data[0] & 0x80) != 0)
        return "the KRL has a bitmap below zero";
    while (bitmap.len > 0 && bitmap.data[0] == 0)
        bitmap = bytes_of(bitmap.data + 1, bitmap.len - 1);
    if (bitmap.len == 0)
        return NULL;
    highest = (uint64_t)(bitmap.len - 1) * 8 + bit_length(bitmap.data[0]) - 1;
    if (highest > UINT64_MAX - lo)
        return "the KRL has a bitmap beyond the last serial number";
    span_set_add(&index->serials, ca, lo, lo + highest, bitmap);
    return NULL;
}

static const char *parse_key_ids(struct bytes section, struct bytes ca, struct revoked_index *index)
{
    struct reader r = reader_of(section);

    while (reader_ok(&r) && r.left > 0) {
        struct bytes id = reader_string(&r);

        if (id.len > 0 && memchr(id.data, '\0', id.len) != NULL)
            return "the KRL has a key id with a NUL byte";
        scoped_set_add(&index->key_ids, ca, id);
    }
    return reader_end(&r) ? NULL : cut_short;
}

static const char *parse_certificate_section(uint8_t type, struct bytes section, struct bytes ca,
                                             struct revoked_index *index)
{
    switch (type) {
    case CERTIFICATE_SERIAL_LIST:
        return parse_serial_list(section, ca, index);
    case CERTIFICATE_SERIAL_RANGE:
        return parse_serial_range(section, ca, index);
    case CERTIFICATE_SERIAL_BITMAP:
        return parse_serial_bitmap(section, ca, index);
    case CERTIFICATE_KEY_ID:
        return parse_key_ids(section, ca, index);
    case CERTIFICATE_EXTENSION:
        return parse_extension(section);
    default:
        return "the KRL has an unknown section of certificates";
    }
}

static const char *parse_certificates(struct bytes section, struct revoked_index *index)
{
    struct reader r = reader_of(section);
    struct bytes ca = reader_string(&r); /* empty: any */

    reader_string(&r); /* reserved */
    if (reader_ok(&r) && ca.len > 0 && !is_plain_key(ca))
        return "the KRL has a malformed authority";
    while (reader_ok(&r) && r.left > 0) {
        uint8_t type = reader_u8(&r);
        struct bytes inner = reader_string(&r);
        const char *why = reader_ok(&r) ? parse_certificate_section(type, inner, ca, index) : NULL;

        if (why != NULL)
            return why;
    }
    return reader_end(&r) ? NULL : cut_short;
}

/* ---- the list */

static const char *parse_section(uint8_t type, struct bytes section, struct revoked_index *index)
{
    switch (type) {
    case SECTION_CERTIFICATES:
        return parse_certificates(section, index);
    case SECTION_EXPLICIT_KEY:
        return krl_parse_keys(section, index);
    case SECTION_SHA1:
        return parse_digests(section, SHA1_BYTES, &index->sha1);
    case SECTION_SHA256:
        return parse_digests(section, SHA256_BYTES, &index->sha256);
    case SECTION_EXTENSION:
        return parse_extension(section);
    case SECTION_SIGNATURE:
        return "the KRL has a signature, and no key to check it with is known";
    default:
        return "the KRL has an unknown section";
    }
}

const char *krl_parse(struct bytes krl, struct revoked_index *index)
{
    struct reader r = reader_of(krl);
    uint32_t version;

    reader_take(&r, sizeof(KRL_MAGIC));
    version = reader_u32(&r);
    reader_u64(&r);    /* version of the list */
    reader_u64(&r);    /* when it was made */
    reader_u64(&r);    /* flags: none is defined */
    reader_string(&r); /* reserved */
    reader_string(&r); /* comment */
    if (reader_ok(&r) && version != FORMAT_VERSION)
        return "the KRL is of an unknown version";
    while (reader_ok(&r) && r.left > 0) {
        uint8_t type = reader_u8(&r);
        struct bytes section = reader_string(&r);
        const char *why = reader_ok(&r) ? parse_section(type, section, index) : NULL;

        if (why != NULL)
            return why;
    }
    return reader_end(&r) ? NULL : cut_short;
}
