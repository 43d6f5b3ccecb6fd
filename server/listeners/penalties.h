/*
 * Private to the room: the sources of one address family that are to cool off. Bounded: all memory
 * is asked for at the beginning, and the kernel gives it as it is used.
 */
#ifndef PARLEY_LISTENERS_PENALTIES_H
#define PARLEY_LISTENERS_PENALTIES_H

#include "base/network.h"

#include <stddef.h>

struct penalties_settings {
    size_t max_sources; /* 1 to PENALTIES_MAX_SOURCES */
    uint64_t min_ms,
        max_ms; /* a source is kept out from the one on, and never longer than the other */
};

#define PENALTIES_MAX_SOURCES (1u << 24)

struct penalties;

struct penalties *penalties_new(const struct penalties_settings *settings);
void penalties_free(struct penalties **penalties);

/* Penalties of a source add up. `why` is kept, borrowed. Returns how long it is kept out from now;
 * 0: it is not, yet. The table being full, the source whose penalty ends first makes room. */
uint64_t penalties_add(struct penalties *penalties, const struct network *source, uint64_t ms,
                       const char *why, uint64_t now_ms);
/* Why the source is kept out; NULL: it is not. */
const char *penalties_find(struct penalties *penalties, const struct network *source,
                           uint64_t now_ms);
/* Sources with a penalty, enforced or not. */
size_t penalties_count(struct penalties *penalties, uint64_t now_ms);
/* What the table needs when it is full. */
size_t penalties_bytes(const struct penalties *penalties);

#endif
