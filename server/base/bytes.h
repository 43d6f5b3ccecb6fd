/*
 * Bytes: a borrowed view (struct bytes) and an owned, growing buffer (struct buf) with the encoders
 * of RFC 4251 section 5.
 */
#ifndef PARLEY_BASE_BYTES_H
#define PARLEY_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed; never NUL-terminated by contract; data may be NULL if len is 0. */
struct bytes {
    const uint8_t *data;
    size_t len;
};

#define BYTES(literal) ((struct bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

struct bytes bytes_of(const void *data, size_t len);
struct bytes bytes_of_string(const char *text); /* NULL: empty */
bool bytes_equal(struct bytes a, struct bytes b);
bool bytes_are(struct bytes a, const char *text);
char *bytes_to_string(
    struct bytes b); /* owned copy; bytes after a NUL are lost: check text_is_clean() first */

/* Valid UTF-8 (RFC 3629: no overlong form, no surrogate) without NUL: what a contract `string` may
 * hold. */
bool text_is_clean(struct bytes b);

/* Length of the well-formed sequence that `b` starts with, and its code point; 0: there is none (or
 * it is NUL). */
size_t utf8_first(struct bytes b, uint32_t *code);

/* Lower-case hex; out has room for 2 * len + 1. */
void hex_encode(char *out, struct bytes b);

/* Owned. Zero-initialised is a valid, empty buffer. */
struct buf {
    uint8_t *data;
    size_t len;
    size_t cap;
};

void buf_clear(struct buf *buf);        /* frees */
void buf_clear_secret(struct buf *buf); /* zeroes, then frees */
void buf_reset(struct buf *buf);        /* keeps the memory */
struct bytes buf_bytes(const struct buf *buf);

void buf_put(struct buf *buf, struct bytes b); /* raw */
void buf_put_u8(struct buf *buf, uint8_t value);
void buf_put_bool(struct buf *buf, bool value);
void buf_put_u32(struct buf *buf, uint32_t value);
void buf_put_string(struct buf *buf, struct bytes b); /* uint32 length, then the bytes */
void buf_put_cstring(struct buf *buf, const char *text);

/* Appends what the base64 text (RFC 4648 section 4, padded, nothing between) means. False, and
 * nothing is appended: it is not the one encoding of any bytes. */
bool buf_put_base64(struct buf *buf, struct bytes text);

#endif
