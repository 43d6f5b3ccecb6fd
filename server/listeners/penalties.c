/* A hash to find a source, and a heap to find the penalty that ends first. */
#include "listeners/penalties.h"

#include "base/alloc.h"
#include "base/siphash.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

struct penalty {
    uint8_t address[16]; /* masked already */
    const char *why;
    uint64_t ends_ms;
    uint32_t next;  /* in its bucket, or free */
    uint32_t place; /* in the heap */
    bool enforced;
};

struct penalties {
    struct penalties_settings settings;
    struct siphash_key key; /* nobody chooses who shares a bucket */
    struct penalty *all;
    uint32_t *buckets; /* entry + 1; 0: empty */
    uint32_t *heap;    /* entries, the soonest end first */
    uint32_t mask;
    uint32_t count;
    uint32_t used; /* entries that have ever been used */
    uint32_t free; /* the first of those that are free again */
};

struct penalties *penalties_new(const struct penalties_settings *settings)
{
    struct penalties *p = xcalloc(1, sizeof(*p));
    uint32_t buckets = 1;

    p->settings = *settings;
    while (buckets < settings->max_sources)
        buckets *= 2;
    p->mask = buckets - 1;
    p->key = siphash_key_new();
    p->all = xcalloc(settings->max_sources, sizeof(*p->all));
    p->heap = xcalloc(settings->max_sources, sizeof(*p->heap));
    p->buckets = xcalloc(buckets, sizeof(*p->buckets));
    p->free = NONE;
    return p;
}

void penalties_free(struct penalties **where)
{
    struct penalties *p = *where;

    *where = NULL;
    if (p == NULL)
        return;
    free(p->all);
    free(p->heap);
    free(p->buckets);
    free(p);
}

size_t penalties_bytes(const struct penalties *p)
{
    return sizeof(*p) + p->settings.max_sources * (sizeof(*p->all) + sizeof(*p->heap)) +
           ((size_t)p->mask + 1) * sizeof(*p->buckets);
}

/* ---- the heap */

static void put(struct penalties *p, uint32_t place, uint32_t entry)
{
    p->heap[place] = entry;
    p->all[entry].place = place;
}

static uint64_t end_at(const struct penalties *p, uint32_t place)
{
    return p->all[p->heap[place]].ends_ms;
}

static void rise(struct penalties *p, uint32_t entry)
{
    uint32_t place = p->all[entry].place;

    while (place > 0 && end_at(p, (place - 1) / 2) > p->all[entry].ends_ms) {
        put(p, place, p->heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    put(p, place, entry);
}

static void sink(struct penalties *p, uint32_t entry)
{
    uint32_t place = p->all[entry].place;

    for (;;) {
        uint32_t child = 2 * place + 1;

        if (child + 1 < p->count && end_at(p, child + 1) < end_at(p, child))
            child++;
        if (child >= p->count || end_at(p, child) >= p->all[entry].ends_ms)
            break;
        put(p, place, p->heap[child]);
        place = child;
    }
    put(p, place, entry);
}

/* ---- the hash */

/* Where the source's entry hangs, or would hang. */
static uint32_t *bucket_of(struct penalties *p, const uint8_t address[16])
{
    return &p->buckets[siphash(&p->key, bytes_of(address, 16)) & p->mask];
}

static uint32_t find(struct penalties *p, const uint8_t address[16])
{
    uint32_t at = *bucket_of(p, address);

    while (at != 0 && memcmp(p->all[at - 1].address, address, 16) != 0)
        at = p->all[at - 1].next;
    return at == 0 ? NONE : at - 1;
}

static void unlink_entry(struct penalties *p, uint32_t entry)
{
    uint32_t *at = bucket_of(p, p->all[entry].address);

    while (*at != entry + 1)
        at = &p->all[*at - 1].next;
    *at = p->all[entry].next;
}

/* ---- entries */

static void drop_soonest(struct penalties *p)
{
    uint32_t entry = p->heap[0], last = p->heap[--p->count];

    unlink_entry(p, entry);
    if (p->count > 0) {
        put(p, 0, last);
        sink(p, last);
    }
    p->all[entry].next = p->free;
    p->free = entry;
}

static void expire(struct penalties *p, uint64_t now)
{
    while (p->count > 0 && end_at(p, 0) <= now)
        drop_soonest(p);
}

static uint32_t add_entry(struct penalties *p, const uint8_t address[16], uint64_t now)
{
    uint32_t *bucket = bucket_of(p, address);
    uint32_t entry;

    if (p->count == p->settings.max_sources)
        drop_soonest(p);
    if (p->free != NONE) {
        entry = p->free;
        p->free = p->all[entry].next;
    } else {
        entry = p->used++;
    }
    p->all[entry] = (struct penalty){.ends_ms = now, .next = *bucket, .place = p->count};
    memcpy(p->all[entry].address, address, 16);
    *bucket = entry + 1;
    p->heap[p->count++] = entry;
    rise(p, entry);
    return entry;
}

uint64_t penalties_add(struct penalties *p, const struct network *source, uint64_t ms,
                       const char *why, uint64_t now)
{
    uint32_t entry;
    struct penalty *penalty;
    uint64_t left;

    expire(p, now);
    entry = find(p, source->address);
    if (entry == NONE)
        entry = add_entry(p, source->address, now);
    penalty = &p->all[entry];
    left = penalty->ends_ms - now + ms;
    if (left > p->settings.max_ms)
        left = p->settings.max_ms;
    penalty->why = why;
    penalty->ends_ms = now + left;
    if (left >= p->settings.min_ms)
        penalty->enforced = true;
    sink(p, entry);
    return penalty->enforced ? left : 0;
}

const char *penalties_find(struct penalties *p, const struct network *source, uint64_t now)
{
    uint32_t entry;

    expire(p, now);
    entry = find(p, source->address);
    return entry != NONE && p->all[entry].enforced ? p->all[entry].why : NULL;
}

size_t penalties_count(struct penalties *p, uint64_t now)
{
    expire(p, now);
    return p->count;
}
