/* Revocation lists. The search must find what stands there; what cannot be read revokes all. */
#include "fuzz/feed.h"

#include "auth/revoked.h"
#include "auth/revoked_index.h"

#include <assert.h>
#include <string.h>

#define LOOKED_AT 32 /* entries of each kind; more would only be slow */

static bool span_says(const struct span *span, uint64_t serial)
{
    uint64_t bit = serial - span->lo;

    if (serial < span->lo || serial > span->hi)
        return false;
    return span->bitmap.len == 0 ||
           (span->bitmap.data[span->bitmap.len - 1 - bit / 8] >> (bit % 8) & 1) != 0;
}

/* The search against a look at each. */
static void check_serial(const struct span_set *set, struct bytes scope, uint64_t serial)
{
    bool wanted = false;

    for (size_t i = 0; i < set->count; i++)
        wanted |= bytes_equal(set->items[i].scope, scope) && span_says(&set->items[i], serial);
    assert(span_set_has(set, scope, serial) == wanted);
}

static void check_spans(const struct span_set *set)
{
    for (size_t i = 0; i < set->count && i < LOOKED_AT; i++) {
        const struct span *span = &set->items[i];

        assert(span->lo <= span->hi && (!set->in_order || span->hi <= span->highest_yet));
        assert(span_says(span, span->hi));
        check_serial(set, span->scope, span->lo);
        check_serial(set, span->scope, span->hi);
        check_serial(set, span->scope, span->lo - 1);
        check_serial(set, span->scope, span->hi + 1);
        check_serial(set, span->scope, span->lo + (span->hi - span->lo) / 2);
        check_serial(set, bytes_of(NULL, 0), span->hi);
    }
}

static void check_names(const struct scoped_set *set)
{
    for (size_t i = 0; i < set->count && i < LOOKED_AT; i++) {
        assert(scoped_set_has(set, set->items[i].scope, set->items[i].name));
        assert(!scoped_set_has(set, BYTES("no such authority"), set->items[i].name));
    }
}

static void check_index(struct bytes list)
{
    struct revoked_index index = {0};

    if (krl_parse(list, &index) == NULL) {
        revoked_index_seal(&index);
        check_spans(&index.serials);
        check_names(&index.keys);
        check_names(&index.sha1);
        check_names(&index.sha256);
        check_names(&index.key_ids);
    }
    revoked_index_clear(&index);
}

/* The list without its last bytes is unreadable, or revokes nothing that it does not. */
static void check_shorter(struct bytes list, const struct revoked *whole, struct bytes blob,
                          const struct revoked_query *certificate)
{
    const char *why;
    struct revoked *part = revoked_parse(bytes_of(list.data, list.len / 2), &why);

    if (why == NULL) {
        assert(!revoked_has_key(part, blob) || revoked_has_key(whole, blob));
        assert(!revoked_has_certificate(part, certificate) ||
               revoked_has_certificate(whole, certificate));
    }
    revoked_free(&part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes list = bytes_of(data, len), feed = list;
    struct bytes blob = feed_bytes(&feed);
    struct revoked_query certificate = {
        .serial = feed_u8(&feed), .key_blob = blob, .ca_blob = blob};
    const char *why;
    struct revoked *revoked = revoked_parse(list, &why);

    certificate.key_id = feed_bytes(&feed);
    if (why != NULL) {
        assert(revoked_has_key(revoked, blob) && revoked_has_certificate(revoked, &certificate));
    } else {
        assert(!revoked_has_key(revoked, blob) || revoked_has_certificate(revoked, &certificate));
        check_shorter(list, revoked, blob, &certificate);
    }
    revoked_free(&revoked);
    if (len >= sizeof(KRL_MAGIC) && memcmp(data, KRL_MAGIC, sizeof(KRL_MAGIC)) == 0)
        check_index(list);
    return 0;
}
