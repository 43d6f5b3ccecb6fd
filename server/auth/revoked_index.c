#include "auth/revoked_index.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static void *grown(void *items, size_t count, size_t *cap, size_t size)
{
    if (count < *cap)
        return items;
    *cap = *cap ? 2 * *cap : 16;
    return xrealloc(items, *cap * size);
}

void scoped_set_add(struct scoped_set *set, struct bytes scope, struct bytes name)
{
    set->items = grown(set->items, set->count, &set->cap, sizeof(*set->items));
    set->items[set->count++] = (struct scoped){scope, name};
}

/* Serial numbers in a list come one by one, and mostly in a row. */
static bool goes_on(const struct span *last, struct bytes scope, uint64_t lo)
{
    return last->bitmap.len == 0 && last->scope.data == scope.data &&
           last->scope.len == scope.len && last->hi != UINT64_MAX && last->hi + 1 == lo;
}

void span_set_add(struct span_set *set, struct bytes scope, uint64_t lo, uint64_t hi,
                  struct bytes bitmap)
{
    if (bitmap.len == 0 && set->count > 0 && goes_on(&set->items[set->count - 1], scope, lo)) {
        set->items[set->count - 1].hi = hi;
        return;
    }
    set->items = grown(set->items, set->count, &set->cap, sizeof(*set->items));
    set->items[set->count++] = (struct span){.scope = scope, .lo = lo, .hi = hi, .bitmap = bitmap};
}

/* ---- order */

static int compare(struct bytes a, struct bytes b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter == 0 || a.data == b.data ? 0 : memcmp(a.data, b.data, shorter);

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_scoped(const void *left, const void *right)
{
    const struct scoped *a = left, *b = right;
    int order = compare(a->scope, b->scope);

    return order != 0 ? order : compare(a->name, b->name);
}

static int compare_spans(const void *left, const void *right)
{
    const struct span *a = left, *b = right;
    int order = compare(a->scope, b->scope);

    if (order != 0)
        return order;
    return a->lo < b->lo ? -1 : a->lo > b->lo;
}

static void note_order(struct scoped_set *set)
{
    set->in_order = true;
    for (size_t i = 1; i < set->count && set->in_order; i++)
        set->in_order = compare_scoped(&set->items[i - 1], &set->items[i]) <= 0;
}

static void note_span_order(struct span_set *set)
{
    set->in_order = true;
    for (size_t i = 0; i < set->count && set->in_order; i++) {
        struct span *span = &set->items[i];

        span->highest_yet = span->hi;
        if (i == 0)
            continue;
        set->in_order = compare_spans(span - 1, span) <= 0;
        if (compare(span[-1].scope, span->scope) == 0 && span[-1].highest_yet > span->hi)
            span->highest_yet = span[-1].highest_yet;
    }
}

void revoked_index_seal(struct revoked_index *index)
{
    note_order(&index->keys);
    note_order(&index->sha1);
    note_order(&index->sha256);
    note_order(&index->key_ids);
    note_span_order(&index->serials);
}

void revoked_index_clear(struct revoked_index *index)
{
    free(index->keys.items);
    free(index->sha1.items);
    free(index->sha256.items);
    free(index->key_ids.items);
    free(index->serials.items);
    *index = (struct revoked_index){0};
}

/* ---- questions */

bool scoped_set_has(const struct scoped_set *set, struct bytes scope, struct bytes name)
{
    struct scoped wanted = {scope, name};

    if (set->count > 0 && set->in_order)
        return bsearch(&wanted, set->items, set->count, sizeof(*set->items), compare_scoped) !=
               NULL;
    for (size_t i = 0; i < set->count; i++)
        if (bytes_equal(set->items[i].name, name) && bytes_equal(set->items[i].scope, scope))
            return true;
    return false;
}

static bool span_holds(const struct span *span, uint64_t serial)
{
    uint64_t bit = serial - span->lo;

    if (serial < span->lo || serial > span->hi)
        return false;
    if (span->bitmap.len == 0)
        return true;
    return (span->bitmap.data[span->bitmap.len - 1 - bit / 8] >> (bit % 8) & 1) != 0;
}

/* How many spans come before all that begin above the serial number. */
static size_t spans_up_to(const struct span_set *set, struct bytes scope, uint64_t serial)
{
    struct span wanted = {.scope = scope, .lo = serial};
    size_t low = 0, high = set->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare_spans(&set->items[middle], &wanted) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool ordered_spans_have(const struct span_set *set, struct bytes scope, uint64_t serial)
{
    for (size_t i = spans_up_to(set, scope, serial); i > 0; i--) {
        const struct span *span = &set->items[i - 1];

        if (compare(span->scope, scope) != 0 || span->highest_yet < serial)
            return false;
        if (span_holds(span, serial))
            return true;
    }
    return false;
}

bool span_set_has(const struct span_set *set, struct bytes scope, uint64_t serial)
{
    if (set->in_order)
        return ordered_spans_have(set, scope, serial);
    for (size_t i = 0; i < set->count; i++)
        if (span_holds(&set->items[i], serial) && bytes_equal(set->items[i].scope, scope))
            return true;
    return false;
}
