#include "base/bytes.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct bytes bytes_of(const void *data, size_t len)
{
    return (struct bytes){data, len};
}

struct bytes bytes_of_string(const char *text)
{
    return bytes_of(text, text ? strlen(text) : 0);
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool bytes_are(struct bytes a, const char *text)
{
    return bytes_equal(a, bytes_of_string(text));
}

char *bytes_to_string(struct bytes b)
{
    char *text = xmalloc(b.len + 1);

    if (b.len > 0)
        memcpy(text, b.data, b.len);
    text[b.len] = '\0';
    return text;
}

/* Length of the well-formed sequence at `at`, or 0 (RFC 3629 section 4; NUL is refused too). */
static size_t utf8_sequence(const uint8_t *at, size_t left)
{
    uint8_t lead = at[0];
    uint8_t low = 0x80, high = 0xbf;
    size_t len;

    if (lead >= 0x01 && lead <= 0x7f)
        return 1;
    if (lead >= 0xc2 && lead <= 0xdf)
        len = 2;
    else if (lead >= 0xe0 && lead <= 0xef)
        len = 3;
    else if (lead >= 0xf0 && lead <= 0xf4)
        len = 4;
    else
        return 0;
    if (left < len)
        return 0;
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xf4)
        high = 0x8f;
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    return len;
}

size_t utf8_first(struct bytes b, uint32_t *code)
{
    static const uint8_t lead_bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    size_t len = b.len ? utf8_sequence(b.data, b.len) : 0;

    *code = len ? b.data[0] & lead_bits[len] : 0;
    for (size_t i = 1; i < len; i++)
        *code = *code << 6 | (b.data[i] & 0x3f);
    return len;
}

/* Eight characters of ASCII, none of them NUL: nearly all text is. */
static bool is_plain_word(const uint8_t *at)
{
    const uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return (((word - ones) | word) & tops) == 0;
}

bool text_is_clean(struct bytes b)
{
    size_t at = 0;

    while (b.len - at >= sizeof(uint64_t) && is_plain_word(b.data + at))
        at += sizeof(uint64_t);
    while (at < b.len) {
        size_t len = utf8_sequence(b.data + at, b.len - at);

        if (len == 0)
            return false;
        at += len;
    }
    return true;
}

void hex_encode(char *out, struct bytes b)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < b.len; i++) {
        *out++ = digits[b.data[i] >> 4];
        *out++ = digits[b.data[i] & 15];
    }
    *out = '\0';
}

void buf_clear(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){0};
}

void buf_clear_secret(struct buf *buf)
{
    if (buf->data != NULL)
        explicit_bzero(buf->data, buf->cap);
    buf_clear(buf);
}

void buf_reset(struct buf *buf)
{
    buf->len = 0;
}

struct bytes buf_bytes(const struct buf *buf)
{
    return bytes_of(buf->data, buf->len);
}

/* Grows by copying, not by realloc: a secret must not stay behind in freed memory. */
static void buf_room(struct buf *buf, size_t more)
{
    size_t cap = buf->cap ? buf->cap : 64;
    uint8_t *data;

    assert(more <= SIZE_MAX / 4 && buf->len <= SIZE_MAX / 4);
    if (buf->cap - buf->len >= more)
        return;
    while (cap - buf->len < more)
        cap *= 2;
    data = xmalloc(cap);
    if (buf->len > 0) {
        memcpy(data, buf->data, buf->len);
        explicit_bzero(buf->data, buf->len);
    }
    free(buf->data);
    buf->data = data;
    buf->cap = cap;
}

void buf_put(struct buf *buf, struct bytes b)
{
    buf_room(buf, b.len);
    if (b.len > 0)
        memcpy(buf->data + buf->len, b.data, b.len);
    buf->len += b.len;
}

void buf_put_u8(struct buf *buf, uint8_t value)
{
    buf_put(buf, bytes_of(&value, 1));
}

void buf_put_bool(struct buf *buf, bool value)
{
    buf_put_u8(buf, value ? 1 : 0);
}

void buf_put_u32(struct buf *buf, uint32_t value)
{
    uint8_t wire[4] = {value >> 24, value >> 16, value >> 8, value};

    buf_put(buf, bytes_of(wire, sizeof(wire)));
}

void buf_put_string(struct buf *buf, struct bytes b)
{
    assert(b.len <= UINT32_MAX);
    buf_put_u32(buf, (uint32_t)b.len);
    buf_put(buf, b);
}

void buf_put_cstring(struct buf *buf, const char *text)
{
    buf_put_string(buf, bytes_of_string(text));
}

/* RFC 4648 section 4: one more than the value, 0 for what is not in the alphabet. A table, because
 * branches on bytes of chance are never foreseen. */
static const uint8_t sextets[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64};

static bool put_quantum(uint8_t *out, const uint8_t *in, size_t pad)
{
    uint32_t word = 0, unused = pad == 2 ? 0xffff : pad == 1 ? 0xff : 0;

    for (size_t i = 0; i < 4; i++) {
        uint32_t value = i < 4 - pad ? sextets[in[i]] : 1;

        if (value == 0)
            return false;
        word = word << 6 | (value - 1);
    }
    if ((word & unused) != 0) /* section 3.5: bits that no byte needs are zero */
        return false;
    for (size_t i = 0; i < 3 - pad; i++)
        out[i] = (uint8_t)(word >> (16 - 8 * i));
    return true;
}

bool buf_put_base64(struct buf *buf, struct bytes text)
{
    size_t quanta = text.len / 4, pad = 0;
    uint8_t *out;

    if (quanta == 0 || text.len % 4 != 0)
        return text.len == 0;
    if (text.data[text.len - 1] == '=')
        pad = text.data[text.len - 2] == '=' ? 2 : 1;
    buf_room(buf, quanta * 3);
    out = buf->data + buf->len;
    for (size_t i = 0; i < quanta; i++)
        if (!put_quantum(out + 3 * i, text.data + 4 * i, i + 1 == quanta ? pad : 0))
            return false;
    buf->len += quanta * 3 - pad;
    return true;
}
