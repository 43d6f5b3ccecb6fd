/* Memory for one decoded message: capped, freed as a whole, and zeroed before that, since answers
 * may hold secrets. */
#ifndef PARLEY_CONTROL_ARENA_H
#define PARLEY_CONTROL_ARENA_H

#include <protobuf-c/protobuf-c.h>

struct arena_chunk;

struct arena {
    ProtobufCAllocator allocator;
    struct arena_chunk *chunks; /* newest first */
    size_t left;                /* of the cap */
};

/* Must not be moved afterwards. */
void arena_init(struct arena *arena, size_t cap);
/* NULL once the cap is reached. */
void *arena_alloc(struct arena *arena, size_t size);
/* Legal on a zero-initialised arena, and twice. */
void arena_clear(struct arena *arena);

#endif
