/* A stream as its asker sees it: on the asker's loop. The moving is done in pump.c. */
#include "control/pump.h"

#include "base/alloc.h"
#include "base/log.h"

#include <assert.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

/* Read in one turn of the loop: a policy that sends without pause must not keep it from its other
 * connections. */
#define TURN_BYTES (256 * 1024)
#define LINGER_MS                                                                                  \
    5000 /* a closed stream that was finished may deliver what is queued for so long */

static void set_timer(struct stream *stream, uint64_t ms)
{
    struct timeval delay = {.tv_sec = (time_t)(ms / 1000),
                            .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

    event_add(stream->timer, &delay);
}

static void stream_free(struct stream *stream)
{
    struct control *control = stream->control;

    arena_clear(&stream->arena);
    pump_free_message(stream->current);
    free(stream->current_copy);
    pump_clear_queue(&stream->in);
    pump_clear_queue(&stream->out);
    call_metadata_clear(&stream->metadata);
    call_end_clear(&stream->end);
    if (stream->live.call != NULL)
        grpc_call_unref(stream->live.call);
    event_free(stream->timer);
    pthread_mutex_destroy(&stream->lock);
    free(stream->why);
    free(stream);
    control_unref(control);
}

/* Ends it for a reason of ours; the RPC's own end follows, and then ended(). The first reason
 * stays. */
static void fail(struct stream *stream, enum outcome outcome, char *why)
{
    if (stream->why != NULL || stream->told_end) {
        free(why);
        return;
    }
    stream->outcome = outcome;
    stream->why = why;
    if (stream->live.call != NULL)
        grpc_call_cancel(stream->live.call, NULL);
    pump_discard(stream);
}

/* ---- deadlines */

/* Keeps the stall deadline running while something is being sent. */
static void watch_writes(struct stream *stream)
{
    uint64_t due, now = clock_ms();

    if (stream->control->stream_stall_ms == 0 || stream->start_pending || stream->closed ||
        stream->told_end || evtimer_pending(stream->timer, NULL) || !pump_write_due(stream, &due))
        return;
    set_timer(stream, due > now ? due - now : 1);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct stream *stream = arg;
    uint64_t due;

    (void)fd;
    (void)what;
    if (stream->closed) { /* it has lingered long enough */
        grpc_call_cancel(stream->live.call, NULL);
    } else if (stream->start_pending) {
        stream->start_pending = false;
        link_unanswered(stream->link, stream->started_ms);
        fail(stream, EXPIRED,
             xasprintf("not accepted (no initial metadata) within %u ms",
                       stream->control->stream_start_ms));
    } else if (pump_write_due(stream, &due) && clock_ms() >= due) {
        fail(stream, EXPIRED,
             xasprintf("a write made no progress for %u ms", stream->control->stream_stall_ms));
    } else {
        watch_writes(stream);
    }
}

/* ---- the end */

static void settle_outcome(struct stream *stream)
{
    if (stream->why != NULL)
        return;
    stream->outcome = call_end_outcome(&stream->end, &stream->why);
    if (stream->outcome == ABSENT &&
        (stream->any_received || stream->control->required[stream->rpc]))
        stream->outcome = UNAVAILABLE;
    if (stream->why == NULL)
        stream->why = xstrdup("status OK");
}

static void tell_end(struct stream *stream)
{
    stream->told_end = true;
    event_del(stream->timer);
    settle_outcome(stream);
    control_count(stream->control, stream->rpc, stream->outcome);
    log_debug(stream->connection_id, "stream-ended", log_str("rpc", rpc_name(stream->rpc)),
              log_str("outcome", outcome_name(stream->outcome)), log_str("reason", stream->why),
              log_str("link", stream->link ? stream->link->name : NULL));
    if (stream->events->ended != NULL)
        stream->events->ended(stream->owner, stream->outcome, stream->why);
}

static void deliver(struct letter *letter)
{
    struct stream *stream = CONTAINER(letter, struct stream, wake);
    struct pump_news news = pump_take_news(stream);

    stream->delivering = true;
    if (stream->turn != loop_turns(stream->loop))
        stream->turn_bytes = 0;
    stream->turn = loop_turns(stream->loop);
    if (news.opened && stream->start_pending) {
        link_heard(stream->link);
        stream->start_pending = false;
        event_del(stream->timer);
        watch_writes(stream);
    }
    if (news.writable && !stream->closed && stream->why == NULL && stream->events->writable != NULL)
        stream->events->writable(stream->owner);
    if (news.readable && !stream->closed && stream->why == NULL && stream->events->readable != NULL)
        stream->events->readable(stream->owner);
    if (news.ended && !stream->closed && !stream->told_end)
        tell_end(stream);
    stream->delivering = false;
    if (stream->closed && pump_is_over(stream))
        stream_free(stream);
}

/* ---- opening */

/* The widest link of which the connection has a stream left. */
static struct link *choose_link(struct stream *stream, struct asker *asker, const char *target)
{
    const struct named_link *bulk = control_bulk(stream->control, target);
    unsigned *open = asker_streams(asker);
    const struct stream_width *width;
    unsigned kind = LINK_WIDE;

    while (open[kind] >= stream_widths[kind].streams)
        kind++;
    open[kind]++;
    stream->open_streams = &open[kind];
    width = stream->width = &stream_widths[kind];
    stream->queue_bytes = width->queue_bytes ? width->queue_bytes : stream->control->queue_bytes;
    stream->queue_messages =
        width->queue_messages ? width->queue_messages : stream->control->queue_messages;
    return bulk ? bulk->links[kind] : NULL;
}

struct stream *asker_open_stream(struct asker *asker, enum rpc rpc, const char *target,
                                 const struct stream_events *events, void *owner)
{
    struct stream *stream = xcalloc(1, sizeof(*stream));
    char span_id[ID_TEXT_LEN + 1];

    assert(rpc_row(rpc)->verb == RPC_STREAM);
    stream->control = asker_control(asker);
    control_ref(stream->control);
    stream->loop = asker_loop(asker);
    stream->events = events;
    stream->owner = owner;
    stream->rpc = rpc;
    stream->link = choose_link(stream, asker, target);
    stream->started_ms = clock_ms();
    memcpy(stream->connection_id, asker_connection_id(asker), sizeof(stream->connection_id));
    stream->wake.deliver = deliver;
    stream->starved = true;
    pthread_mutex_init(&stream->lock, NULL);
    STAILQ_INIT(&stream->out.messages);
    STAILQ_INIT(&stream->in.messages);
    call_end_init(&stream->end);
    stream->timer = evtimer_new(loop_events(stream->loop), on_timer, stream);
    random_id(span_id);
    if (stream->link != NULL && pump_open(stream, span_id)) {
        stream->start_pending = true;
        set_timer(stream, stream->control->stream_start_ms);
        return stream;
    }
    stream->outcome = UNAVAILABLE;
    stream->why =
        xasprintf("%s: %s", target, stream->link ? "gRPC refused the call" : "no such target");
    stream->woken = true;
    loop_post(stream->loop, &stream->wake);
    return stream;
}

/* ---- sending */

static bool send_slice(struct stream *stream, grpc_slice slice, size_t payload)
{
    size_t bytes = GRPC_SLICE_LENGTH(slice);
    bool room = pump_send(stream, grpc_raw_byte_buffer_create(&slice, 1), bytes, payload);

    grpc_slice_unref(slice);
    watch_writes(stream);
    return room;
}

bool stream_send(struct stream *stream, const ProtobufCMessage *message)
{
    grpc_slice slice;
    char *why;

    assert(message->descriptor == rpc_input(stream->rpc));
    if (!call_pack(message, &slice, &why)) {
        fail(stream, UNAVAILABLE, why);
        return false;
    }
    return send_slice(stream, slice, 0);
}

bool stream_send_data(struct stream *stream, struct bytes payload, uint32_t extended_type)
{
    uint8_t head[CODEC_DATA_HEAD_MAX];
    size_t len = codec_data_head(head, payload.len, extended_type);
    grpc_slice slice = grpc_slice_malloc(len + payload.len);

    assert(stream->rpc == RPC_CHANNEL);
    memcpy(GRPC_SLICE_START_PTR(slice), head, len);
    if (payload.len > 0)
        memcpy(GRPC_SLICE_START_PTR(slice) + len, payload.data, payload.len);
    return send_slice(stream, slice, payload.len);
}

size_t stream_room(const struct stream *stream)
{
    struct stream *locked = (struct stream *)stream; /* only its lock is touched */
    size_t cap = stream->queue_bytes, used;

    pthread_mutex_lock(&locked->lock);
    used = stream->out.count < stream->queue_messages ? stream->out.bytes : cap;
    pthread_mutex_unlock(&locked->lock);
    return used < cap ? cap - used : 0;
}

size_t stream_largest(const struct stream *stream)
{
    return stream->width->payload_max;
}

size_t stream_taken(struct stream *stream)
{
    size_t taken;

    pthread_mutex_lock(&stream->lock);
    taken = stream->taken;
    stream->taken = 0;
    pthread_mutex_unlock(&stream->lock);
    return taken;
}

void stream_finish(struct stream *stream)
{
    pump_finish(stream);
    watch_writes(stream);
}

/* ---- receiving */

static void drop_current(struct stream *stream)
{
    arena_clear(&stream->arena);
    pump_free_message(stream->current);
    stream->current = NULL;
    free(stream->current_copy);
    stream->current_copy = NULL;
}

/* NULL sets *why. Data, which is nearly all, is read in place. */
static const ProtobufCMessage *decode(struct stream *stream, struct bytes wire, char **why)
{
    const ProtobufCMessageDescriptor *type = rpc_output(stream->rpc);
    size_t max = rpc_row(stream->rpc)->max_answer;

    if (type == &policy__channel_action__descriptor && wire.len <= max) {
        if (!codec_check(type, wire, why))
            return NULL;
        if (codec_view_data(wire, &stream->view))
            return &stream->view.action.base;
    }
    return codec_decode(type, wire, max, &stream->arena, why);
}

const ProtobufCMessage *stream_next(struct stream *stream)
{
    const ProtobufCMessage *message = NULL;
    struct bytes wire;
    char *why = NULL;

    drop_current(stream);
    if (stream->why != NULL)
        return NULL;
    stream->current = pump_take(stream, stream->delivering && stream->turn_bytes >= TURN_BYTES);
    if (stream->current == NULL)
        return NULL;
    stream->turn_bytes += stream->current->bytes;
    if (call_bytes(stream->current->buffer, &wire, &stream->current_copy))
        message = decode(stream, wire, &why);
    else
        why = xstrdup("compressed, which was not offered");
    if (stream->current_copy != NULL) { /* one of the two is enough */
        grpc_byte_buffer_destroy(stream->current->buffer);
        stream->current->buffer = NULL;
    }
    if (message == NULL) {
        fail(stream, UNAVAILABLE, xasprintf("malformed message: %s", why));
        free(why);
    }
    return message;
}

/* ---- closing */

void stream_close(struct stream **where)
{
    struct stream *stream = *where;
    bool linger;

    *where = NULL;
    if (stream == NULL)
        return;
    stream->closed = true;
    --*stream->open_streams;
    drop_current(stream);
    if (!stream->told_end)
        control_count(stream->control, stream->rpc, END_CANCELLED);
    if (!stream->delivering && pump_is_over(stream)) {
        stream_free(stream);
        return;
    }
    linger = stream->finish && stream->why == NULL;
    if (linger)
        set_timer(stream, LINGER_MS);
    else
        event_del(stream->timer);
    stream->start_pending = false;
    if (!linger && stream->live.call != NULL)
        grpc_call_cancel(stream->live.call, NULL);
    pump_discard(stream);
}
