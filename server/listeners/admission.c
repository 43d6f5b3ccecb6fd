#include "listeners/admission.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/random.h"
#include "base/siphash.h"
#include "listeners/penalties.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUCKETS         1024 /* of sources that are logging in; usually there are few */
#define LOG_INTERVAL_MS 1000

/* What is sent is OpenSSH's: people and tools know it. */
#define TEXT_START_UPS "Exceeded MaxStartups\r\n"
#define TEXT_PENALTY   "Not allowed at this time\r\n"

struct source {
    LIST_ENTRY(source) link;
    struct network network;
    uint32_t logging_in;
};

LIST_HEAD(source_list, source);

enum refusal { REFUSAL_START_UPS, REFUSAL_PER_SOURCE, REFUSAL_PENALTY, REFUSAL_COUNT };

/* A flood of refused connections must not become a flood of lines. */
struct refusals {
    uint64_t total, logged; /* `logged` of them are in the log's lines so far */
    uint64_t logged_ms;
};

struct admission {
    struct admission_settings settings;
    pthread_mutex_t lock; /* of all below; held for moments: nothing is written under it */
    struct penalties *penalties[2]; /* v4, v6 */
    struct source_list sources[BUCKETS];
    struct siphash_key key;
    uint32_t logging_in;
    struct refusals refusals[REFUSAL_COUNT];
};

static const char *const offence_names[OFFENCE_COUNT] = {
    [OFFENCE_CRASH] = "protocol error",
    [OFFENCE_AUTH_FAIL] = "failed authentication",
    [OFFENCE_INVALID_USER] = "invalid user name",
    [OFFENCE_NO_AUTH] = "no authentication attempted",
    [OFFENCE_GRACE] = "exceeded the login deadline",
    [OFFENCE_REFUSED] = "refused by the policy",
};

struct admission *admission_new(const struct admission_settings *settings)
{
    struct admission *a = xcalloc(1, sizeof(*a));
    struct penalties_settings penalties = {
        settings->max_sources,
        settings->penalty_min_ms,
        settings->penalty_max_ms,
    };

    a->settings = *settings;
    if (a->settings.clock_ms == NULL)
        a->settings.clock_ms = clock_ms;
    if (a->settings.random_below == NULL)
        a->settings.random_below = random_below;
    pthread_mutex_init(&a->lock, NULL);
    a->key = siphash_key_new();
    for (size_t i = 0; i < BUCKETS; i++)
        LIST_INIT(&a->sources[i]);
    for (size_t i = 0; settings->penalties && i < 2; i++)
        a->penalties[i] = penalties_new(&penalties);
    return a;
}

void admission_free(struct admission **where)
{
    struct admission *a = *where;

    *where = NULL;
    if (a == NULL)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        while (!LIST_EMPTY(&a->sources[i])) {
            struct source *source = LIST_FIRST(&a->sources[i]);

            LIST_REMOVE(source, link);
            free(source);
        }
    penalties_free(&a->penalties[0]);
    penalties_free(&a->penalties[1]);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

/* False: not of a network. */
static bool network_of(const struct admission *a, const struct address *peer, struct network *out)
{
    if (!network_parse(peer->ip, out))
        return false;
    network_mask(out, out->family == AF_INET ? a->settings.v4_bits : a->settings.v6_bits);
    return true;
}

/* ---- who is logging in */

static struct source_list *list_of(struct admission *a, const struct network *network)
{
    struct bytes address = bytes_of(network->address, sizeof(network->address));

    return &a->sources[siphash(&a->key, address) % BUCKETS];
}

static struct source *find_source(struct admission *a, const struct network *network)
{
    struct source *source;

    LIST_FOREACH (source, list_of(a, network), link)
        if (source->network.family == network->family && network_holds(&source->network, network))
            return source;
    return NULL;
}

static void take_place(struct admission *a, const struct network *network)
{
    struct source *source = find_source(a, network);

    if (source == NULL) {
        source = xcalloc(1, sizeof(*source));
        source->network = *network;
        LIST_INSERT_HEAD(list_of(a, network), source, link);
    }
    source->logging_in++;
    a->logging_in++;
}

static void give_back(struct admission *a, const struct network *network)
{
    struct source *source = find_source(a, network);

    assert(source != NULL && a->logging_in > 0);
    a->logging_in--;
    if (--source->logging_in > 0)
        return;
    LIST_REMOVE(source, link);
    free(source);
}

/* ---- refusing */

static bool is_exempt(const struct admission *a, const struct address *peer)
{
    struct network whole;

    if (!network_parse(peer->ip, &whole))
        return true;
    for (size_t i = 0; i < a->settings.exempt_count; i++)
        if (network_holds(&a->settings.exempt[i], &whole))
            return true;
    return false;
}

static struct penalties *penalties_of(const struct admission *a, const struct network *network)
{
    return a->penalties[network->family == AF_INET ? 0 : 1];
}

static const char *penalty_of(struct admission *a, const struct network *network, uint64_t now)
{
    struct penalties *penalties = penalties_of(a, network);

    if (a->settings.overflow_denies && penalties_count(penalties, now) == a->settings.max_sources)
        return "too many penalised sources";
    return penalties_find(penalties, network, now);
}

/* From `begin` on `rate` %, rising evenly to all at `full`. */
static bool sheds(const struct admission *a)
{
    const struct admission_settings *s = &a->settings;
    uint64_t percent;

    if (s->full == 0 || a->logging_in < s->begin)
        return false;
    if (a->logging_in >= s->full || s->rate >= 100)
        return true;
    percent =
        s->rate + (uint64_t)(100 - s->rate) * (a->logging_in - s->begin) / (s->full - s->begin);
    return s->random_below(100) < percent;
}

struct verdict {
    bool refused;
    enum refusal refusal;
    const char *why; /* in words, for the log */
};

static struct verdict judge(struct admission *a, const struct network *network, bool exempt,
                            uint64_t now)
{
    const char *why = a->settings.penalties && !exempt ? penalty_of(a, network, now) : NULL;
    struct source *source = find_source(a, network);

    if (why != NULL)
        return (struct verdict){true, REFUSAL_PENALTY, why};
    if (a->settings.per_source > 0 && source != NULL &&
        source->logging_in >= a->settings.per_source)
        return (struct verdict){true, REFUSAL_PER_SOURCE, "too many log in from this source"};
    if (sheds(a))
        return (struct verdict){true, REFUSAL_START_UPS, "too many log in"};
    return (struct verdict){0};
}

/* How many refusals a line has to tell of; 0: no line now. */
static uint64_t note_refusal(struct refusals *refusals, uint64_t now)
{
    uint64_t unsaid = ++refusals->total - refusals->logged;

    if (refusals->logged > 0 && now < refusals->logged_ms + LOG_INTERVAL_MS)
        return 0;
    refusals->logged = refusals->total;
    refusals->logged_ms = now;
    return unsaid;
}

/* Closing with unread input resets the connection, and a reset can overtake what we said. */
static void turn_away(int fd, enum refusal refusal)
{
    const char *text = refusal == REFUSAL_PENALTY ? TEXT_PENALTY : TEXT_START_UPS;
    char unread[512];
    ssize_t ignored;

    ignored = send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    ignored = recv(fd, unread, sizeof(unread), MSG_DONTWAIT);
    (void)ignored;
    close(fd);
}

bool admission_take(struct admission *a, int fd, const struct address *peer)
{
    uint64_t now = a->settings.clock_ms(), unsaid = 0, total = 0;
    struct network network;
    struct verdict verdict;
    bool exempt;

    if (!network_of(a, peer, &network))
        return true;
    exempt = is_exempt(a, peer);
    pthread_mutex_lock(&a->lock);
    verdict = judge(a, &network, exempt, now);
    if (verdict.refused) {
        unsaid = note_refusal(&a->refusals[verdict.refusal], now);
        total = a->refusals[verdict.refusal].total;
    } else {
        take_place(a, &network);
    }
    pthread_mutex_unlock(&a->lock);
    if (!verdict.refused)
        return true;
    turn_away(fd, verdict.refusal);
    if (unsaid > 0)
        log_warn(NULL, "connections_refused", log_str("why", verdict.why),
                 log_str("peer", peer->ip), log_u64("refused", unsaid), log_u64("total", total));
    return false;
}

/* ---- afterwards */

static uint64_t penalise(struct admission *a, const struct network *network, enum offence how,
                         uint64_t now)
{
    struct penalties *penalties = penalties_of(a, network);

    /* Nobody new gets in then, so nobody has to make room. */
    if (a->settings.overflow_denies && penalties_count(penalties, now) == a->settings.max_sources &&
        penalties_find(penalties, network, now) == NULL)
        return 0;
    return penalties_add(penalties, network, a->settings.penalty_ms[how], offence_names[how], now);
}

void admission_over(struct admission *a, const struct address *peer, enum offence how)
{
    uint64_t now = a->settings.clock_ms(), kept_out = 0;
    char text[NETWORK_TEXT_MAX];
    struct network network;
    bool penalised;

    if (!network_of(a, peer, &network))
        return;
    penalised = a->settings.penalties && how != OFFENCE_NONE && a->settings.penalty_ms[how] > 0 &&
                !is_exempt(a, peer);
    pthread_mutex_lock(&a->lock);
    give_back(a, &network);
    if (penalised)
        kept_out = penalise(a, &network, how, now);
    pthread_mutex_unlock(&a->lock);
    if (!penalised)
        return;
    network_format(&network, text);
    if (kept_out > 0)
        log_info(NULL, "penalty", log_str("source", text), log_str("why", offence_names[how]),
                 log_u64("ms", kept_out));
    else
        log_debug(NULL, "penalty_deferred", log_str("source", text),
                  log_str("why", offence_names[how]));
}

struct admission_counts admission_counts(struct admission *a)
{
    uint64_t now = a->settings.clock_ms();
    struct admission_counts counts;

    pthread_mutex_lock(&a->lock);
    counts = (struct admission_counts){
        .logging_in = a->logging_in,
        .dropped_start_ups = a->refusals[REFUSAL_START_UPS].total,
        .dropped_per_source = a->refusals[REFUSAL_PER_SOURCE].total,
        .dropped_penalised = a->refusals[REFUSAL_PENALTY].total,
    };
    for (size_t i = 0; i < 2; i++)
        if (a->penalties[i] != NULL)
            counts.penalised += penalties_count(a->penalties[i], now);
    pthread_mutex_unlock(&a->lock);
    return counts;
}
