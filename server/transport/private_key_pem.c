/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The armour of private keys, and the DER forms. Read by us: OpenSSL's decoders copy what they read
 * and do not wipe all of it.
 */
#include "transport/private_key.h"

#include <string.h>

#define BEGIN "-----BEGIN "
#define END   "-----END "
#define TAIL  "-----"

#define OID_RSA     BYTES("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01")
#define OID_EC      BYTES("\x2a\x86\x48\xce\x3d\x02\x01")
#define OID_ED25519 BYTES("\x2b\x65\x70")
#define OID_P256    BYTES("\x2a\x86\x48\xce\x3d\x03\x01\x07")
#define OID_P384    BYTES("\x2b\x81\x04\x00\x22")
#define OID_P521    BYTES("\x2b\x81\x04\x00\x23")
#define MALFORMED   "the private key is malformed"
#define ENCRYPTED   "the private key is encrypted"
#define NOT_A_KEY   "this is not a private key"
#define WRONG_TYPE  "the private key is of a type that is not supported"

/* ---- armour (RFC 7468, and RFC 1421 for what OpenSSL puts on top of encrypted ones) */

static bool take_line(struct bytes *text, struct bytes *line)
{
    const uint8_t *end = text->len > 0 ? memchr(text->data, '\n', text->len) : NULL;
    size_t len = end ? (size_t)(end - text->data) : text->len;

    if (text->len == 0)
        return false;
    *line = bytes_of(text->data, len);
    len += end != NULL;
    *text = bytes_of(text->data + len, text->len - len);
    while (line->len > 0 && strchr(" \t\r", line->data[line->len - 1]) != NULL &&
           line->data[line->len - 1] != '\0')
        line->len--;
    return true;
}

/* Of "-----BEGIN label-----" the label. */
static bool is_mark(struct bytes line, const char *mark, struct bytes *label)
{
    size_t head = strlen(mark), tail = strlen(TAIL);

    if (line.len <= head + tail || memcmp(line.data, mark, head) != 0 ||
        memcmp(line.data + line.len - tail, TAIL, tail) != 0)
        return false;
    *label = bytes_of(line.data + head, line.len - head - tail);
    return true;
}

static const char *join_lines(struct bytes *text, struct bytes label, struct buf *joined)
{
    struct bytes line, ended;

    while (take_line(text, &line)) {
        if (is_mark(line, END, &ended))
            return bytes_equal(label, ended) ? NULL : MALFORMED;
        if (line.len > 0 && memchr(line.data, ':', line.len) != NULL)
            return line.len > 10 && memcmp(line.data, "Proc-Type:", 10) == 0 ? ENCRYPTED
                                                                             : MALFORMED;
        buf_put(joined, line);
    }
    return MALFORMED;
}

/* What stands before the block is not looked at, nor is a block that only names a curve. */
static const char *find_block(struct bytes *text, struct bytes *label, struct buf *joined)
{
    const char *why = NOT_A_KEY;
    struct bytes line;

    while (take_line(text, &line)) {
        if (!is_mark(line, BEGIN, label))
            continue;
        buf_reset(joined);
        why = join_lines(text, *label, joined);
        if (why != NULL || !bytes_are(*label, "EC PARAMETERS"))
            return why;
        why = NOT_A_KEY;
    }
    return why;
}

const char *pem_decode(struct bytes text, struct bytes *label, struct buf *data)
{
    struct buf joined = {0};
    const char *why = find_block(&text, label, &joined);

    if (why == NULL && (!buf_put_base64(data, buf_bytes(&joined)) || data->len == 0))
        why = MALFORMED;
    buf_clear_secret(&joined);
    return why;
}

/* ---- DER (X.690 section 10), as far as keys need it */

enum {
    DER_INTEGER = 0x02,
    DER_BITS = 0x03,
    DER_OCTETS = 0x04,
    DER_NULL = 0x05,
    DER_OID = 0x06,
    DER_SEQUENCE = 0x30,
    DER_CONTEXT_0 = 0xa0,
    DER_CONTEXT_1 = 0xa1,
};

/* As base/reader.h: the error sticks. */
struct der {
    struct bytes rest;
    bool failed;
};

static struct bytes fail(struct der *der)
{
    *der = (struct der){.failed = true};
    return bytes_of(NULL, 0);
}

static uint8_t der_next(const struct der *der) /* the tag; 0: none */
{
    return der->rest.len > 0 ? der->rest.data[0] : 0;
}

/* One length has one form; four bytes are more than any key. */
static bool der_length(struct bytes rest, size_t *header, size_t *len)
{
    size_t count;

    if (rest.len < 2)
        return false;
    *header = 2;
    *len = rest.data[1];
    if (*len < 0x80)
        return true;
    count = *len & 0x7f;
    if (count == 0 || count > 4 || rest.len < 2 + count || rest.data[2] == 0)
        return false;
    *len = 0;
    for (size_t i = 0; i < count; i++)
        *len = *len << 8 | rest.data[2 + i];
    *header += count;
    return *len >= 0x80;
}

static struct bytes der_take(struct der *der, uint8_t tag)
{
    size_t header, len;
    struct bytes content;

    if (der_next(der) != tag || !der_length(der->rest, &header, &len) ||
        len > der->rest.len - header)
        return fail(der);
    content = bytes_of(der->rest.data + header, len);
    der->rest = bytes_of(content.data + len, der->rest.len - header - len);
    return content;
}

static struct der der_enter(struct der *der, uint8_t tag)
{
    struct der inside = {.rest = der_take(der, tag)};

    inside.failed = der->failed;
    return inside;
}

static bool der_end(const struct der *der)
{
    return !der->failed && der->rest.len == 0;
}

static struct bytes der_unsigned(struct der *der)
{
    struct bytes number = der_take(der, DER_INTEGER);

    if (number.len == 0 || (number.data[0] & 0x80) != 0)
        return fail(der);
    while (number.len > 0 && number.data[0] == 0)
        number = bytes_of(number.data + 1, number.len - 1);
    return number;
}

/* `most` is below 128. */
static uint8_t der_version(struct der *der, uint8_t most)
{
    struct bytes number = der_unsigned(der);
    uint8_t version = number.len == 1 ? number.data[0] : 0;

    if (number.len > 1 || version > most)
        fail(der);
    return version;
}

/* ---- what it holds */

static const char *rsa_numbers(struct bytes data, struct private_numbers *numbers)
{
    struct der outer = {.rest = data}, r = der_enter(&outer, DER_SEQUENCE);

    der_version(&r, 0); /* of two primes */
    numbers->n = der_unsigned(&r);
    numbers->e = der_unsigned(&r);
    numbers->d = der_unsigned(&r);
    numbers->p = der_unsigned(&r);
    numbers->q = der_unsigned(&r);
    der_unsigned(&r); /* the exponents of the primes follow from the others */
    der_unsigned(&r);
    numbers->p_inverse = der_unsigned(&r);
    numbers->kind = key_kind_named(BYTES("ssh-rsa"));
    return der_end(&r) && der_end(&outer) ? NULL : MALFORMED;
}

static const struct key_kind *kind_of_curve(struct bytes oid)
{
    if (bytes_equal(oid, OID_P256))
        return key_kind_named(BYTES("ecdsa-sha2-nistp256"));
    if (bytes_equal(oid, OID_P384))
        return key_kind_named(BYTES("ecdsa-sha2-nistp384"));
    if (bytes_equal(oid, OID_P521))
        return key_kind_named(BYTES("ecdsa-sha2-nistp521"));
    return NULL;
}

/* The curve is said inside or, in PKCS#8, outside (`curve` not empty). */
static const char *ec_numbers(struct bytes data, struct bytes curve,
                              struct private_numbers *numbers)
{
    struct der outer = {.rest = data}, r = der_enter(&outer, DER_SEQUENCE), optional;

    if (der_version(&r, 1) != 1)
        return MALFORMED;
    numbers->scalar = der_take(&r, DER_OCTETS);
    if (der_next(&r) == DER_CONTEXT_0) {
        optional = der_enter(&r, DER_CONTEXT_0);
        curve = der_take(&optional, DER_OID);
        if (!der_end(&optional))
            return WRONG_TYPE; /* a curve without a name */
    }
    if (der_next(&r) == DER_CONTEXT_1) {
        optional = der_enter(&r, DER_CONTEXT_1);
        numbers->point = der_take(&optional, DER_BITS);
        if (!der_end(&optional) || numbers->point.len < 2 || numbers->point.data[0] != 0)
            return MALFORMED; /* bits that are not bytes */
        numbers->point = bytes_of(numbers->point.data + 1, numbers->point.len - 1);
    }
    if (!der_end(&r) || !der_end(&outer))
        return MALFORMED;
    numbers->kind = kind_of_curve(curve);
    return numbers->kind ? NULL : WRONG_TYPE;
}

static const char *ed25519_numbers(struct bytes data, struct private_numbers *numbers)
{
    struct der r = {.rest = data};

    numbers->scalar = der_take(&r, DER_OCTETS);
    numbers->kind = key_kind_named(BYTES("ssh-ed25519"));
    return der_end(&r) ? NULL : MALFORMED;
}

static const char *pkcs8_numbers(struct bytes data, struct private_numbers *numbers)
{
    struct der outer = {.rest = data}, r = der_enter(&outer, DER_SEQUENCE), algorithm;
    struct bytes oid, curve = {0}, key;

    der_version(&r, 1); /* with 1 attributes and the public key may follow: they add nothing */
    algorithm = der_enter(&r, DER_SEQUENCE);
    oid = der_take(&algorithm, DER_OID);
    if (der_next(&algorithm) == DER_OID)
        curve = der_take(&algorithm, DER_OID);
    else if (der_next(&algorithm) == DER_NULL)
        der_take(&algorithm, DER_NULL);
    key = der_take(&r, DER_OCTETS);
    if (r.failed || !der_end(&outer))
        return MALFORMED;
    if (bytes_equal(oid, OID_RSA) && der_end(&algorithm))
        return rsa_numbers(key, numbers);
    if (bytes_equal(oid, OID_EC) && der_end(&algorithm))
        return ec_numbers(key, curve, numbers);
    if (bytes_equal(oid, OID_ED25519) && der_end(&algorithm))
        return ed25519_numbers(key, numbers);
    return WRONG_TYPE;
}

const char *pem_numbers(struct bytes label, struct bytes data, struct private_numbers *numbers)
{
    if (bytes_are(label, "RSA PRIVATE KEY"))
        return rsa_numbers(data, numbers);
    if (bytes_are(label, "EC PRIVATE KEY"))
        return ec_numbers(data, bytes_of(NULL, 0), numbers);
    if (bytes_are(label, "PRIVATE KEY"))
        return pkcs8_numbers(data, numbers);
    if (bytes_are(label, "ENCRYPTED PRIVATE KEY"))
        return ENCRYPTED;
    if (bytes_are(label, "OPENSSH PRIVATE KEY"))
        return openssh_numbers(data, numbers);
    return bytes_are(label, "DSA PRIVATE KEY") ? WRONG_TYPE : NOT_A_KEY;
}
