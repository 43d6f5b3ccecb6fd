#include "base/reader.h"

struct reader reader_of(struct bytes input)
{
    return (struct reader){.at = input.data, .left = input.len};
}

struct bytes reader_take(struct reader *r, size_t len)
{
    struct bytes taken = {NULL, 0};

    if (r->failed || len > r->left) {
        r->failed = true;
        return taken;
    }
    if (len == 0)
        return taken;
    taken = bytes_of(r->at, len);
    r->at += len;
    r->left -= len;
    return taken;
}

uint8_t reader_u8(struct reader *r)
{
    struct bytes b = reader_take(r, 1);

    return b.len ? b.data[0] : 0;
}

bool reader_bool(struct reader *r)
{
    return reader_u8(r) != 0;
}

uint32_t reader_u32(struct reader *r)
{
    struct bytes b = reader_take(r, 4);

    if (b.len == 0)
        return 0;
    return (uint32_t)b.data[0] << 24 | (uint32_t)b.data[1] << 16 | (uint32_t)b.data[2] << 8 |
           b.data[3];
}

uint64_t reader_u64(struct reader *r)
{
    uint64_t high = reader_u32(r);

    return high << 32 | reader_u32(r);
}

struct bytes reader_string(struct reader *r)
{
    return reader_take(r, reader_u32(r));
}

struct bytes reader_text(struct reader *r)
{
    struct bytes text = reader_string(r);

    if (!text_is_clean(text)) {
        r->failed = true;
        text = bytes_of(NULL, 0);
    }
    return text;
}

struct bytes reader_rest(struct reader *r)
{
    return reader_take(r, r->left);
}

bool reader_ok(const struct reader *r)
{
    return !r->failed;
}

bool reader_end(const struct reader *r)
{
    return !r->failed && r->left == 0;
}
