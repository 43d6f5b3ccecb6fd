/* SPDX-License-Identifier: Apache-2.0 */
#include "base/reader.h"
#include "base/words.h"
#include "transport/transport.h"

/* Of a type that we do not know the name at the blob's beginning counts. */
static bool is_of_type(struct bytes blob, struct bytes type)
{
    const char *found = public_key_type_of(blob);
    struct reader r = reader_of(blob);

    return found != NULL ? bytes_are(type, found) : bytes_equal(reader_string(&r), type);
}

bool public_key_take_text(struct bytes *line, struct buf *blob)
{
    struct bytes rest = *line;
    struct bytes type = word_take(&rest);
    struct bytes encoded = word_take(&rest);

    buf_reset(blob);
    if (type.len == 0 || encoded.len == 0 || !buf_put_base64(blob, encoded) ||
        !is_of_type(buf_bytes(blob), type)) {
        buf_reset(blob);
        return false;
    }
    *line = rest;
    return true;
}
