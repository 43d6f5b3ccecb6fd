#include "endpoints/upstream/held.h"

#include <string.h>

#define KEEP_BYTES 65536 /* a larger buffer is given back once it is empty */

size_t held_len(const struct held *held)
{
    size_t len = 0;

    for (size_t i = 0; i < 2; i++)
        len += held->streams[i].bytes.len - held->streams[i].done;
    return len;
}

/* The last run of that stream; NULL: there is none. */
static struct held_run *last_run(struct held *held, uint32_t extended_type)
{
    for (size_t i = held->runs_count; i > 0; i--)
        if (held->runs[i - 1].extended_type == extended_type)
            return &held->runs[i - 1];
    return NULL;
}

/* Runs are joined where no number is left to tell them apart: the bytes overtake the other
 * stream's. */
static void put_run(struct held *held, uint32_t extended_type, size_t len)
{
    struct held_run *last = last_run(held, extended_type);
    bool is_next = held->runs_count > 0 && last == &held->runs[held->runs_count - 1];

    if (is_next || (held->runs_count == HELD_RUNS_MAX && last != NULL)) {
        last->len += len;
        return;
    }
    held->runs[held->runs_count++] = (struct held_run){extended_type, len};
}

void held_put(struct held *held, uint32_t extended_type, struct bytes data)
{
    struct buf *bytes = &held->streams[extended_type].bytes;
    size_t *done = &held->streams[extended_type].done;

    if (data.len == 0)
        return;
    if (*done > bytes->len / 2) { /* what was taken makes room at the front */
        memmove(bytes->data, bytes->data + *done, bytes->len - *done);
        bytes->len -= *done;
        *done = 0;
    }
    buf_put(bytes, data);
    put_run(held, extended_type, data.len);
}

struct bytes held_first(const struct held *held, uint32_t *extended_type)
{
    const struct held_run *run = &held->runs[0];

    *extended_type = 0;
    if (held->runs_count == 0)
        return (struct bytes){0};
    *extended_type = run->extended_type;
    return bytes_of(held->streams[run->extended_type].bytes.data +
                        held->streams[run->extended_type].done,
                    run->len);
}

static void empty(struct buf *bytes, size_t *done)
{
    *done = 0;
    buf_reset(bytes);
    if (bytes->cap > KEEP_BYTES)
        buf_clear(bytes);
}

void held_take(struct held *held, size_t len)
{
    struct held_run *run = &held->runs[0];
    uint32_t type = run->extended_type;

    held->streams[type].done += len;
    run->len -= len;
    if (run->len == 0)
        memmove(held->runs, held->runs + 1, --held->runs_count * sizeof(*held->runs));
    if (held->streams[type].done == held->streams[type].bytes.len)
        empty(&held->streams[type].bytes, &held->streams[type].done);
}

void held_clear(struct held *held)
{
    for (size_t i = 0; i < 2; i++)
        buf_clear_secret(&held->streams[i].bytes);
    *held = (struct held){0};
}
