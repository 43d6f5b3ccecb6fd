#include "endpoints/plan.h"

#include "base/alloc.h"
#include "base/reader.h"

#include <stdlib.h>

static void put_strings(struct buf *out, char *const *strings)
{
    uint32_t count = 0;

    while (strings[count] != NULL)
        count++;
    buf_put_u32(out, count);
    for (uint32_t i = 0; i < count; i++)
        buf_put_cstring(out, strings[i]);
}

void plan_encode(const struct plan *plan, struct buf *out)
{
    put_strings(out, plan->argv);
    put_strings(out, plan->environment);
    buf_put_cstring(out, plan->directory);
    buf_put_cstring(out, plan->user);
    put_strings(out, plan->groups);
    buf_put_u32(out, plan->max_processes);
    buf_put_u32(out, (uint32_t)(plan->max_memory_bytes >> 32));
    buf_put_u32(out, (uint32_t)plan->max_memory_bytes);
    buf_put_bool(out, plan->has_terminal);
    buf_put_u32(out, plan->parent);
}

static char **read_strings(struct reader *r)
{
    uint32_t count = reader_u32(r);
    char **strings;

    if (count > r->left / 4) { /* each has its length */
        r->failed = true;
        count = 0;
    }
    strings = xcalloc((size_t)count + 1, sizeof(*strings));
    for (uint32_t i = 0; i < count; i++)
        strings[i] = bytes_to_string(reader_string(r));
    return strings;
}

bool plan_decode(struct plan *plan, struct bytes encoded)
{
    struct reader r = reader_of(encoded);

    plan->argv = read_strings(&r);
    plan->environment = read_strings(&r);
    plan->directory = bytes_to_string(reader_string(&r));
    plan->user = bytes_to_string(reader_string(&r));
    plan->groups = read_strings(&r);
    plan->max_processes = reader_u32(&r);
    plan->max_memory_bytes = reader_u64(&r);
    plan->has_terminal = reader_bool(&r);
    plan->parent = reader_u32(&r);
    return reader_end(&r) && plan->argv[0] != NULL;
}

static void free_strings(char **strings)
{
    for (size_t i = 0; strings != NULL && strings[i] != NULL; i++)
        secret_free(strings[i]); /* a token may be among them */
    free(strings);
}

void plan_clear(struct plan *plan)
{
    free_strings(plan->argv);
    free_strings(plan->environment);
    free_strings(plan->groups);
    free(plan->directory);
    free(plan->user);
    *plan = (struct plan){0};
}
