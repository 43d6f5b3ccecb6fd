/* SPDX-License-Identifier: Apache-2.0 */
#include "base/reader.h"
#include "transport/private_key.h"

#define MAGIC       BYTES("openssh-key-v1\0")
#define SEED_LEN    32
#define PADDING_MAX 255 /* a block of the cipher, and there is none here */

#define MALFORMED "the private key is malformed"

/* RFC 4251 section 5; positive. */
static struct bytes read_unsigned(struct reader *r)
{
    struct bytes number = reader_string(r);

    if (!mpint_is_positive(number)) {
        r->failed = true;
        return bytes_of(NULL, 0);
    }
    return number.data[0] == 0 ? bytes_of(number.data + 1, number.len - 1) : number;
}

/* The private half is the seed and the public half again. */
static void read_ed25519(struct reader *r, struct private_numbers *numbers)
{
    struct bytes both;

    numbers->point = reader_string(r);
    both = reader_string(r);
    if (both.len != SEED_LEN + numbers->point.len ||
        !bytes_equal(bytes_of(both.data + SEED_LEN, numbers->point.len), numbers->point))
        r->failed = true;
    else
        numbers->scalar = bytes_of(both.data, SEED_LEN);
}

static void read_ecdsa(struct reader *r, struct private_numbers *numbers)
{
    struct bytes curve = reader_string(r);

    numbers->point = reader_string(r);
    numbers->scalar = read_unsigned(r);
    if (!bytes_are(curve, numbers->kind->curve))
        r->failed = true;
}

static void read_rsa(struct reader *r, struct private_numbers *numbers)
{
    numbers->n = read_unsigned(r);
    numbers->e = read_unsigned(r);
    numbers->d = read_unsigned(r);
    numbers->p_inverse = read_unsigned(r);
    numbers->p = read_unsigned(r);
    numbers->q = read_unsigned(r);
}

/* 1, 2, 3, ... */
static bool is_padding(struct bytes rest)
{
    if (rest.len > PADDING_MAX)
        return false;
    for (size_t i = 0; i < rest.len; i++)
        if (rest.data[i] != i + 1)
            return false;
    return true;
}

static const char *read_private(struct bytes section, struct private_numbers *numbers)
{
    struct reader r = reader_of(section);
    uint32_t check = reader_u32(&r);

    if (reader_u32(&r) != check)
        return MALFORMED;
    numbers->kind = key_kind_named(reader_string(&r));
    if (!reader_ok(&r))
        return MALFORMED;
    if (numbers->kind == NULL || numbers->kind->security_key)
        return "the private key is of a type that is not supported";
    switch (numbers->kind->scheme) {
    case KEY_ED25519:
        read_ed25519(&r, numbers);
        break;
    case KEY_ECDSA:
        read_ecdsa(&r, numbers);
        break;
    case KEY_RSA:
        read_rsa(&r, numbers);
        break;
    }
    reader_string(&r); /* comment */
    return reader_ok(&r) && is_padding(reader_rest(&r)) ? NULL : MALFORMED;
}

const char *openssh_numbers(struct bytes data, struct private_numbers *numbers)
{
    struct reader r = reader_of(data);
    struct bytes magic = reader_take(&r, MAGIC.len);
    struct bytes cipher = reader_string(&r), derivation = reader_string(&r), section;
    uint32_t count;

    reader_string(&r); /* options of the derivation */
    count = reader_u32(&r);
    if (!reader_ok(&r) || !bytes_equal(magic, MAGIC))
        return MALFORMED;
    if (!bytes_are(cipher, "none") || !bytes_are(derivation, "none"))
        return "the private key is encrypted";
    if (count != 1)
        return "this is not one private key";
    reader_string(&r); /* the public key: the private section has it again */
    section = reader_string(&r);
    return reader_end(&r) ? read_private(section, numbers) : MALFORMED;
}
