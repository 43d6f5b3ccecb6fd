#include "base/random.h"

#include "base/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

void random_fill(void *out, size_t len)
{
    uint8_t *at = out;

    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);

        if (got <= 0) {
            fputs("parleyd: the kernel gives no random bytes\n", stderr);
            abort();
        }
        at += got;
        len -= (size_t)got;
    }
}

/* Names, not secrets: one call of the kernel serves a few of them. */
void random_id(char out[ID_TEXT_LEN + 1])
{
    static _Thread_local uint8_t raw[32 * ID_TEXT_LEN / 2];
    static _Thread_local size_t left;

    if (left == 0) {
        random_fill(raw, sizeof(raw));
        left = sizeof(raw);
    }
    left -= ID_TEXT_LEN / 2;
    hex_encode(out, bytes_of(raw + left, ID_TEXT_LEN / 2));
}

uint32_t random_below(uint32_t bound)
{
    uint32_t limit = UINT32_MAX - UINT32_MAX % bound;
    uint32_t value;

    do
        random_fill(&value, sizeof(value));
    while (value >= limit);
    return value % bound;
}
