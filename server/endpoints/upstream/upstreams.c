#include "endpoints/upstream/internal.h"

#include "base/alloc.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

/* ---- which link: a digest over all that the answer says of the way there, since secrets are not
 * kept to be compared */

static void digest_hop(EVP_MD_CTX *context, const Policy__UpstreamHop *hop)
{
    size_t len = policy__upstream_hop__get_packed_size(hop);
    uint8_t *packed = xmalloc(len + 1);
    uint64_t prefix = len; /* no two lists of hops look alike */

    policy__upstream_hop__pack(hop, packed);
    if (EVP_DigestUpdate(context, &prefix, sizeof(prefix)) != 1 ||
        EVP_DigestUpdate(context, packed, len) != 1)
        abort(); /* out of memory */
    explicit_bzero(packed, len);
    free(packed);
}

static void digest_hops(const struct upstreams *upstreams, const Policy__UpstreamEndpoint *answer,
                        size_t count, uint8_t digest[LINK_DIGEST_LEN])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    if (context == NULL || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
        abort();
    for (size_t i = 0; i < count; i++) {
        Policy__UpstreamHop hop = *answer->hops[i];

        if (hop.user[0] == '\0')
            hop.user = (char *)asker_user(upstreams->asker);
        digest_hop(context, &hop);
    }
    if (EVP_DigestFinal_ex(context, digest, NULL) != 1)
        abort();
    EVP_MD_CTX_free(context); /* which zeroes what it holds */
}

static struct link *find(struct upstreams *upstreams, const uint8_t digest[LINK_DIGEST_LEN])
{
    struct link *link;

    LIST_FOREACH (link, &upstreams->links, entry)
        if (memcmp(link->digest, digest, LINK_DIGEST_LEN) == 0 && link_can_be_used(link))
            return link;
    return NULL;
}

/* ---- uses */

struct link_use *link_use_hops(struct upstreams *upstreams, const Policy__UpstreamEndpoint *answer,
                               size_t count, const struct link_events *events, void *owner)
{
    struct link_use *use = xcalloc(1, sizeof(*use));
    uint8_t digest[LINK_DIGEST_LEN];
    struct link *link;

    digest_hops(upstreams, answer, count, digest);
    link = find(upstreams, digest);
    if (link == NULL) {
        link = link_begin(upstreams, answer, count);
        memcpy(link->digest, digest, LINK_DIGEST_LEN);
    }
    use->link = link;
    use->events = events;
    use->owner = owner;
    TAILQ_INSERT_TAIL(&link->uses, use, entry);
    if (link->state == LINK_READY)
        link_tell_later(link);
    return use;
}

struct link_use *link_use(struct upstreams *upstreams, const Policy__UpstreamEndpoint *answer,
                          const struct link_events *events, void *owner)
{
    assert(answer->n_hops > 0 && answer->n_hops <= HOPS_MAX);
    return link_use_hops(upstreams, answer, answer->n_hops, events, owner);
}

void link_release(struct link_use **where)
{
    struct link_use *use = *where;
    struct link *link;

    *where = NULL;
    if (use == NULL)
        return;
    link = use->link;
    TAILQ_REMOVE(&link->uses, use, entry);
    free(use);
    if (TAILQ_EMPTY(&link->uses))
        link_unused(link);
}

static struct link_use *first_untold(struct link *link)
{
    struct link_use *use;

    TAILQ_FOREACH (use, &link->uses, entry)
        if (!use->told)
            return use;
    return NULL;
}

void link_tell_ready(struct link *link)
{
    struct link_use *use;

    while (link->state == LINK_READY && (use = first_untold(link)) != NULL) {
        use->told = true;
        use->events->ready(use->owner, link->mux);
    }
}

void link_tell_failed(struct link *link)
{
    struct link_use *use;

    while ((use = first_untold(link)) != NULL) {
        const struct link_events *events = use->events;
        void *owner = use->owner;

        TAILQ_REMOVE(&link->uses, use, entry);
        free(use);
        events->failed(owner, link->why);
    }
}

const char *link_name(const struct link_use *use)
{
    return use->link->hop.name;
}

const char *link_lost(const struct link_use *use)
{
    return use->link->state == LINK_OVER ? use->link->why : NULL;
}

/* ---- life */

struct upstreams *upstreams_new(struct asker *asker, const struct upstream_settings *settings,
                                upstream_agent_fn *agent, void *owner)
{
    struct upstreams *upstreams = xcalloc(1, sizeof(*upstreams));

    upstreams->asker = asker;
    upstreams->loop = asker_loop(asker);
    upstreams->settings = *settings;
    upstreams->agent = agent;
    upstreams->owner = owner;
    LIST_INIT(&upstreams->links);
    LIST_INIT(&upstreams->vias);
    return upstreams;
}

void upstreams_free(struct upstreams **where)
{
    struct upstreams *upstreams = *where;
    struct link *link;

    *where = NULL;
    if (upstreams == NULL)
        return;
    LIST_FOREACH (link, &upstreams->links, entry)
        link_silence(link);
    vias_stop(&upstreams->vias);
    LIST_FOREACH (link, &upstreams->links, entry)
        link_end_channels(link);
    assert(LIST_EMPTY(&upstreams->vias));
    while ((link = LIST_FIRST(&upstreams->links)) != NULL)
        link_clear(link);
    free(upstreams);
}
