/* One gRPC channel: how it is set up, whether it works, and which handlers its policy does not
 * have. */
#include "control/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define ABSENT_MS            30000
/* A policy that comes back must be found within two seconds, jitter of 20 % included. */
#define BACKOFF_FIRST_MS     100
#define BACKOFF_MAX_MS       1500
#define CONNECT_TIMEOUT_MS   5000
#define FRAME_BYTES          (64 * 1024)
#define METADATA_MAX         (16 * 1024)
#define ENVELOPE             512 /* on top of the largest answer or payload */
/* Below five minutes servers call it abuse, unless they are configured for it. */
#define KEEPALIVE_MS         (5 * 60 * 1000)
#define KEEPALIVE_TIMEOUT_MS 20000

/* So many deadlines in a row without a word from the policy make a connection half-open; and no
 * more often than this it is replaced, for a policy that hangs may well be all right below. */
#define UNANSWERED_MAX   2
#define REPLACE_EVERY_MS 5000

#define KIB 1024u

/* Fixed windows: left to itself gRPC lets a peer park 4 MiB a stream in our memory. Towards us a
 * stream holds a queue (or one message, if that is larger) and a window, so that 1,000 of them,
 * more of which a connection does not have by default, hold at most
 * 6 x 1.25 MiB + 34 x 68 KiB + 960 x 6 KiB, below 16 MiB. Away from us it is less. */
const struct stream_width stream_widths[LINK_WIDTHS] = {
    [LINK_WIDE] = {6, 0, 0, 256 * KIB, 1024 * KIB},
    [LINK_MEDIUM] = {34, 16 * KIB, 1, 4 * KIB, 64 * KIB},
    [LINK_NARROW] = {UINT_MAX, 4 * KIB, 1, 2 * KIB, 4 * KIB},
};

static grpc_arg integer(const char *key, int value)
{
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value};
}

static grpc_channel *create_channel(const char *target, grpc_channel_credentials *credentials,
                                    enum link_kind kind)
{
    bool decisions = kind == LINK_DECISIONS;
    uint32_t window = stream_widths[decisions ? LINK_WIDE : kind].window_bytes;
    uint32_t largest = decisions ? rpc_largest_answer() : stream_widths[kind].payload_max;
    grpc_arg args[] = {
        integer(GRPC_ARG_HTTP2_BDP_PROBE, 0),
        integer(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, (int)window),
        integer(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, FRAME_BYTES),
        integer(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)(largest + ENVELOPE)),
        integer(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1),
        integer(GRPC_ARG_MAX_METADATA_SIZE, METADATA_MAX),
        /* Uncompressed, an answer may be a thousand times its size: not offered, and not taken. */
        integer(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE),
        integer(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0), integer(GRPC_ARG_ENABLE_RETRIES, 0),
        /* Steps of each call that do nothing for us: compressing, statistics for a debugger that
         * nobody can attach, and falling idle, which the watch of the channel forbids anyway. */
        integer(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0), integer(GRPC_ARG_ENABLE_CHANNELZ, 0),
        integer(GRPC_ARG_CLIENT_IDLE_TIMEOUT_MS, INT_MAX),
        integer(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, BACKOFF_FIRST_MS),
        integer(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, BACKOFF_MAX_MS),
        integer(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_TIMEOUT_MS),
        integer(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, BACKOFF_MAX_MS),
        integer(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        integer(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        integer(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        integer(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1), /* else the next would share its socket */
    };
    grpc_channel_args list = {sizeof(args) / sizeof(args[0]), args};

    return grpc_channel_create(target, credentials, &list);
}

static void set_channel(struct link *link)
{
    link->channel = create_channel(link->name, link->control->credentials, link->kind);
    link->made_ms = clock_ms();
    for (unsigned rpc = 0; rpc < RPC_COUNT; rpc++)
        link->methods[rpc] =
            grpc_channel_register_call(link->channel, rpc_row((enum rpc)rpc)->path, NULL, NULL);
}

struct link *link_new(struct control *control, const char *target, enum link_kind kind)
{
    struct link *link = xcalloc(1, sizeof(*link));

    pthread_mutex_init(&link->lock, NULL);
    link->name = xstrdup(target);
    link->control = control;
    link->kind = kind;
    set_channel(link);
    return link;
}

void link_close(struct link *link)
{
    pthread_mutex_lock(&link->lock);
    if (link->channel != NULL)
        grpc_channel_destroy(link->channel);
    link->channel = NULL;
    pthread_mutex_unlock(&link->lock);
}

void link_free(struct link **where)
{
    struct link *link = *where;

    *where = NULL;
    if (link == NULL)
        return;
    link_close(link);
    pthread_mutex_destroy(&link->lock);
    free(link->name);
    free(link);
}

static void link_lost(struct link *link)
{
    if (atomic_exchange(&link->connected, false))
        log_warn(NULL, "link-down", log_str("link", link->name));
}

/* Another policy may be behind it now: what was absent may be there. */
static void link_up(struct link *link)
{
    atomic_fetch_add(&link->generation, 1);
    for (unsigned rpc = 0; rpc < RPC_COUNT; rpc++)
        atomic_store_explicit(&link->absent_until_ms[rpc], 0, memory_order_relaxed);
    if (atomic_exchange(&link->connected, true))
        return;
    log_info(NULL, "link-up", log_str("link", link->name));
    /* The bulk link to the same policy need not sit out its backoff either. */
    for (unsigned kind = 0; kind < LINK_WIDTHS; kind++)
        link_hurry(link->control->bulk[0].links[kind]);
}

static void look(struct link *link)
{
    /* `true`: an idle channel connects now and not with the first question. */
    link->state = grpc_channel_check_connectivity_state(link->channel, 1);
    if (link->state == GRPC_CHANNEL_READY)
        link_up(link);
    else
        link_lost(link);
    if (link->state != GRPC_CHANNEL_SHUTDOWN)
        cq_watch(&link->control->cq, link->channel, link->state, &link->watch);
}

static void on_state(struct tag *tag, bool ok)
{
    struct link *link = CONTAINER(tag, struct link, watch);

    (void)ok;
    pthread_mutex_lock(&link->lock);
    if (link->channel != NULL)
        look(link);
    pthread_mutex_unlock(&link->lock);
}

void link_watch(struct link *link)
{
    link->watch.done = on_state;
    pthread_mutex_lock(&link->lock);
    look(link);
    pthread_mutex_unlock(&link->lock);
}

void link_hurry(struct link *link)
{
    pthread_mutex_lock(&link->lock);
    if (link->channel != NULL)
        grpc_channel_reset_connect_backoff(link->channel);
    pthread_mutex_unlock(&link->lock);
}

grpc_call *link_call(struct link *link, enum rpc rpc, gpr_timespec deadline)
{
    grpc_call *call;

    pthread_mutex_lock(&link->lock);
    call = grpc_channel_create_registered_call(link->channel, NULL, GRPC_PROPAGATE_DEFAULTS,
                                               link->control->cq.queue, link->methods[rpc],
                                               deadline, NULL);
    pthread_mutex_unlock(&link->lock);
    return call;
}

void link_heard(struct link *link)
{
    atomic_store_explicit(&link->heard_ms, clock_ms(), memory_order_relaxed);
    atomic_store_explicit(&link->unanswered, 0, memory_order_relaxed);
}

/* With the lock held. gRPC itself gives up what does not connect. */
static bool is_half_open(const struct link *link, uint64_t asked_ms)
{
    return link->channel != NULL && asked_ms >= link->made_ms &&
           clock_ms() >= link->made_ms + REPLACE_EVERY_MS &&
           grpc_channel_check_connectivity_state(link->channel, 0) == GRPC_CHANNEL_READY;
}

void link_unanswered(struct link *link, uint64_t asked_ms)
{
    uint64_t heard_ms = atomic_load_explicit(&link->heard_ms, memory_order_relaxed);

    if (heard_ms >= asked_ms || atomic_fetch_add(&link->unanswered, 1) + 1 < UNANSWERED_MAX)
        return;
    pthread_mutex_lock(&link->lock);
    if (is_half_open(link, asked_ms)) {
        grpc_channel *old = link->channel;

        log_warn(NULL, "link-replaced", log_str("link", link->name),
                 log_u64("unanswered", atomic_load(&link->unanswered)),
                 log_u64("silent_ms", clock_ms() - (heard_ms ? heard_ms : link->made_ms)));
        atomic_store(&link->unanswered, 0);
        set_channel(link);
        /* Its calls go on, and its watch comes back, to look at the new one. */
        grpc_channel_destroy(old);
    }
    pthread_mutex_unlock(&link->lock);
}

bool link_is_absent(struct link *link, enum rpc rpc)
{
    uint64_t until = atomic_load_explicit(&link->absent_until_ms[rpc], memory_order_relaxed);

    return until != 0 && clock_ms() < until;
}

unsigned link_generation(struct link *link)
{
    return atomic_load(&link->generation);
}

void link_remember_absent(struct link *link, enum rpc rpc, unsigned generation)
{
    if (!rpc_default_allows(rpc) && generation == link_generation(link))
        atomic_store_explicit(&link->absent_until_ms[rpc], clock_ms() + ABSENT_MS,
                              memory_order_relaxed);
}
