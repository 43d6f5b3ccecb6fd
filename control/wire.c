#include "control/wire.h"

#define VARINT_MAX     10
#define TAG_MAX        5 /* bytes; protobuf-c reads no longer ones */
#define NUMBER_SHIFT   3
#define WIRE_TYPE_MASK 7

static void skip(struct bytes *rest, size_t len)
{
    rest->data += len;
    rest->len -= len;
}

bool wire_varint(struct bytes *rest, uint64_t *out)
{
    uint64_t value = 0;

    for (size_t i = 0; i < rest->len && i < VARINT_MAX; i++) {
        uint8_t byte = rest->data[i];

        if (i == VARINT_MAX - 1 && byte > 1)
            return false; /* more than 64 bits */
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if ((byte & 0x80) == 0) {
            skip(rest, i + 1);
            *out = value;
            return true;
        }
    }
    return false;
}

static bool take(struct bytes *rest, uint64_t len, struct bytes *out)
{
    if (len > rest->len)
        return false;
    *out = bytes_of(rest->data, (size_t)len);
    skip(rest, (size_t)len);
    return true;
}

bool wire_next(struct bytes *rest, struct wire_field *out)
{
    size_t before = rest->len;
    uint64_t tag, len;

    if (!wire_varint(rest, &tag) || before - rest->len > TAG_MAX || tag > UINT32_MAX ||
        tag >> NUMBER_SHIFT == 0)
        return false;
    *out = (struct wire_field){.number = (uint32_t)(tag >> NUMBER_SHIFT),
                               .type = (enum wire_type)(tag & WIRE_TYPE_MASK)};
    switch (out->type) {
    case WIRE_VARINT:
        return wire_varint(rest, &out->value);
    case WIRE_BYTES:
        return wire_varint(rest, &len) && take(rest, len, &out->bytes);
    case WIRE_64:
        return take(rest, 8, &out->bytes);
    case WIRE_32:
        return take(rest, 4, &out->bytes);
    }
    return false;
}
