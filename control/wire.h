/* The wire form of protocol buffers: one field after another. Pure. */
#ifndef PARLEY_CONTROL_WIRE_H
#define PARLEY_CONTROL_WIRE_H

#include "base/bytes.h"

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t value;     /* WIRE_VARINT */
    struct bytes bytes; /* WIRE_BYTES: the content; WIRE_64, WIRE_32: the raw bytes */
};

/* Both take from the front of *rest; false: it is cut off or malformed (groups are: proto3 has
 * none). */
bool wire_varint(struct bytes *rest, uint64_t *out);
bool wire_next(struct bytes *rest, struct wire_field *out);

#endif
