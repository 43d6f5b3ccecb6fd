/*
 * Reads the data types of RFC 4251 section 5 from untrusted bytes. The error sticks: read
 * everything, then ask reader_end() once. After an error every read returns zero or empty.
 */
#ifndef PARLEY_BASE_READER_H
#define PARLEY_BASE_READER_H

#include "base/bytes.h"

struct reader {
    const uint8_t *at;
    size_t left;
    bool failed;
};

struct reader reader_of(struct bytes input);
uint8_t reader_u8(struct reader *r);
bool reader_bool(struct reader *r); /* any byte but 0 is true */
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);
struct bytes reader_string(struct reader *r); /* borrowed from the input */
struct bytes reader_text(struct reader *r);   /* a string that must pass text_is_clean() */
struct bytes reader_take(struct reader *r, size_t len);
struct bytes reader_rest(struct reader *r);
bool reader_ok(const struct reader *r);  /* no error so far */
bool reader_end(const struct reader *r); /* no error, and nothing is left over */

#endif
