/* The fuzzer's bytes, taken from the front; an empty feed gives zeros. */
#ifndef PARLEY_TESTS_FUZZ_FEED_H
#define PARLEY_TESTS_FUZZ_FEED_H

#include "base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static inline uint8_t feed_u8(struct bytes *feed)
{
    if (feed->len == 0)
        return 0;
    feed->len--;
    return *feed->data++;
}

static inline uint8_t feed_below(struct bytes *feed, uint8_t bound)
{
    return (uint8_t)(feed_u8(feed) % bound);
}

/* A length byte, then so many bytes, or what is left. */
static inline struct bytes feed_bytes(struct bytes *feed)
{
    size_t len = feed_u8(feed);
    struct bytes taken;

    if (len > feed->len)
        len = feed->len;
    taken = bytes_of(feed->data, len);
    feed->data += len;
    feed->len -= len;
    return taken;
}

#endif
