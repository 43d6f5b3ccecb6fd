#include "control/arena.h"

#include "base/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 2048 /* holds a usual answer whole */
#define ALIGNMENT   16

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    _Alignas(ALIGNMENT) uint8_t data[];
};

static void *allocate(void *data, size_t size)
{
    return arena_alloc(data, size);
}

/* Everything goes at once, in arena_clear(). */
static void release(void *data, void *pointer)
{
    (void)data;
    (void)pointer;
}

void arena_init(struct arena *arena, size_t cap)
{
    *arena = (struct arena){
        .allocator = {.alloc = allocate, .free = release, .allocator_data = arena},
        .left = cap,
    };
}

static struct arena_chunk *add_chunk(struct arena *arena, size_t at_least)
{
    size_t size = at_least > CHUNK_BYTES ? at_least : CHUNK_BYTES;
    struct arena_chunk *chunk = xmalloc(sizeof(*chunk) + size);

    chunk->used = 0;
    chunk->size = size;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return chunk;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    struct arena_chunk *chunk = arena->chunks;
    void *out;

    if (size > arena->left)
        return NULL;
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (size > arena->left)
        return NULL;
    arena->left -= size;
    if (chunk == NULL || size > chunk->size - chunk->used)
        chunk = add_chunk(arena, size);
    out = chunk->data + chunk->used;
    chunk->used += size;
    return out;
}

void arena_clear(struct arena *arena)
{
    while (arena->chunks != NULL) {
        struct arena_chunk *next = arena->chunks->next;

        explicit_bzero(arena->chunks->data, arena->chunks->used);
        free(arena->chunks);
        arena->chunks = next;
    }
    arena->left = 0;
}
