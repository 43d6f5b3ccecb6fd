#include "control/pump.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>

#define MESSAGE_COST   64 /* of one in a queue, beside its bytes */
#define QUEUE_SLACK    1024
/* A policy that goes on sending after the channel is gone does not hear that it is. */
#define DISCARD_MAX    (1024 * 1024)
/* An asker that ignores back-pressure loses its stream, not our memory. */
#define OVERRUN_FACTOR 4
/* The SSH window is opened again from the loop, which is not woken for less, unless nothing more is
 * on its way. */
#define TAKEN_WORTH    (32 * 1024)

static bool is_full(const struct stream *stream, const struct stream_queue *queue)
{
    return queue->bytes >= stream->queue_bytes || queue->count >= stream->queue_messages;
}

/* Low water: half of either bound. */
static bool is_low(const struct stream *stream, const struct stream_queue *queue)
{
    return queue->bytes <= stream->queue_bytes / 2 && queue->count <= stream->queue_messages / 2;
}

static void push(struct stream_queue *queue, struct stream_message *message)
{
    STAILQ_INSERT_TAIL(&queue->messages, message, entry);
    queue->bytes += message->bytes + MESSAGE_COST;
    queue->count++;
}

static struct stream_message *pop(struct stream_queue *queue)
{
    struct stream_message *message = STAILQ_FIRST(&queue->messages);

    if (message != NULL) {
        STAILQ_REMOVE_HEAD(&queue->messages, entry);
        queue->bytes -= message->bytes + MESSAGE_COST;
        queue->count--;
    }
    return message;
}

void pump_free_message(struct stream_message *message)
{
    if (message == NULL)
        return;
    grpc_byte_buffer_destroy(message->buffer);
    free(message);
}

void pump_clear_queue(struct stream_queue *queue)
{
    struct stream_message *message;

    while ((message = pop(queue)) != NULL)
        pump_free_message(message);
}

/* With the lock held: whether the letter must be posted now; the caller does it after unlocking. */
static bool must_wake(struct stream *stream)
{
    bool must = !stream->woken;

    stream->woken = true;
    return must;
}

/* ---- sending */

enum send_step { SEND_NOTHING, SEND_MESSAGE, SEND_FINISH };

/* With the lock held and no send out: what to send next. The caller starts it without the lock. */
static enum send_step next_send(struct stream *stream, uint32_t *flags)
{
    struct stream_message *message;

    assert(!stream->sending);
    if (stream->broken || stream->status_in || stream->live.call == NULL)
        return SEND_NOTHING;
    message = pop(&stream->out);
    if (message == NULL) {
        /* After the end of a policy that sent no trailers gRPC has no status before we end, too. */
        if ((!stream->finish && !stream->received_end) || stream->finished)
            return SEND_NOTHING;
        stream->finished = true;
        stream->sending = true;
        stream->tags_out++;
        return SEND_FINISH;
    }
    stream->sending = true;
    stream->tags_out++;
    stream->sending_buffer = message->buffer;
    stream->in_flight_payload = message->payload;
    free(message);
    /* gRPC may gather small messages while another follows at once; the last must go out. */
    *flags = stream->out.count > 0 ? GRPC_WRITE_BUFFER_HINT : 0;
    return SEND_MESSAGE;
}

static void on_sent(struct tag *tag, bool ok);

static void start_send(struct stream *stream, enum send_step step, uint32_t flags)
{
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};

    if (step == SEND_NOTHING)
        return;
    if (step == SEND_MESSAGE)
        op = (grpc_op){.op = GRPC_OP_SEND_MESSAGE,
                       .flags = flags,
                       .data.send_message.send_message = stream->sending_buffer};
    if (!cq_batch(stream->live.call, &op, 1, &stream->send_tag))
        on_sent(&stream->send_tag, false); /* the call is over; its status says why */
}

/* With the lock held. Nothing is sent after the status, nothing received after the end: no tag can
 * go out again. */
static bool is_over(const struct stream *stream)
{
    return stream->tags_out == 0 &&
           (stream->live.call == NULL || (stream->status_in && stream->received_end));
}

/* With the lock held, a tag having come back: true if it was the last one. */
static bool tag_back(struct stream *stream)
{
    assert(stream->tags_out > 0);
    stream->tags_out--;
    return is_over(stream);
}

/* With the lock held; releases it. After the last tag the loop may free the stream as soon as the
 * lock is free. */
static void unlock_and_wake(struct stream *stream, bool wake, bool last)
{
    struct loop *loop = stream->loop;

    if (last) {
        cq_remove(&stream->control->cq, &stream->live);
        wake = true;
    }
    wake = wake && must_wake(stream);
    pthread_mutex_unlock(&stream->lock);
    if (wake)
        loop_post(loop, &stream->wake);
}

static void on_sent(struct tag *tag, bool ok)
{
    struct stream *stream = CONTAINER(tag, struct stream, send_tag);
    grpc_byte_buffer *sent;
    enum send_step step = SEND_NOTHING;
    uint32_t flags = 0;
    bool wake, last;

    pthread_mutex_lock(&stream->lock);
    sent = stream->sending_buffer;
    stream->sending_buffer = NULL;
    stream->sending = false;
    if (ok) {
        stream->taken += stream->in_flight_payload;
        stream->progress_ms = clock_ms();
        step = next_send(stream, &flags);
        wake = stream->taken >= TAKEN_WORTH || (stream->taken > 0 && step != SEND_MESSAGE);
    } else {
        stream->broken = true;
        pump_clear_queue(&stream->out);
        wake = false;
    }
    if (step != SEND_MESSAGE)
        stream->in_flight_payload = 0;
    wake = wake || (stream->blocked && is_low(stream, &stream->out));
    last = tag_back(stream);
    unlock_and_wake(stream, wake, last);
    if (sent != NULL)
        grpc_byte_buffer_destroy(sent);
    start_send(stream, step, flags);
}

bool pump_send(struct stream *stream, grpc_byte_buffer *buffer, size_t bytes, size_t payload)
{
    struct stream_message *message = xcalloc(1, sizeof(*message));
    enum send_step step = SEND_NOTHING;
    uint32_t flags = 0;
    bool room, overrun;

    *message = (struct stream_message){.buffer = buffer, .bytes = bytes, .payload = payload};
    pthread_mutex_lock(&stream->lock);
    overrun = stream->out.bytes > OVERRUN_FACTOR * stream->queue_bytes;
    if (stream->broken || stream->status_in || stream->finish || stream->finished || overrun) {
        pump_free_message(message); /* nobody will read it */
    } else {
        push(&stream->out, message);
        if (!stream->sending) {
            stream->progress_ms = clock_ms();
            step = next_send(stream, &flags);
        }
    }
    room = !is_full(stream, &stream->out);
    stream->blocked = !room;
    pthread_mutex_unlock(&stream->lock);
    start_send(stream, step, flags);
    if (overrun && stream->live.call != NULL)
        grpc_call_cancel(stream->live.call, NULL);
    return room;
}

void pump_finish(struct stream *stream)
{
    enum send_step step = SEND_NOTHING;
    uint32_t flags = 0;

    pthread_mutex_lock(&stream->lock);
    stream->finish = true;
    if (!stream->sending)
        step = next_send(stream, &flags);
    pthread_mutex_unlock(&stream->lock);
    start_send(stream, step, flags);
}

/* ---- receiving */

/* One like the largest so far would still fit, envelopes left aside. */
static bool has_room(const struct stream *stream)
{
    const struct stream_queue *queue = &stream->in;

    return queue->count == 0 ||
           (queue->count < stream->queue_messages &&
            queue->bytes + stream->largest_in <= stream->queue_bytes + QUEUE_SLACK);
}

/* With the lock held: whether to receive one more; the caller starts it without the lock. While our
 * queue is full we do not, and the policy's HTTP/2 window closes. */
static bool next_receive(struct stream *stream)
{
    if (stream->receiving || stream->received_end || stream->live.call == NULL || !has_room(stream))
        return false;
    stream->receiving = true;
    stream->tags_out++;
    return true;
}

static void on_received(struct tag *tag, bool ok);

static void start_receive(struct stream *stream, bool wanted)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &stream->received};

    if (wanted && !cq_batch(stream->live.call, &op, 1, &stream->receive_tag))
        on_received(&stream->receive_tag, false);
}

/* With the lock held: keeps what has come for the loop, or says that it is to be dropped. */
static grpc_byte_buffer *keep_or_drop(struct stream *stream, grpc_byte_buffer *buffer)
{
    struct stream_message *message;

    stream->any_received = true;
    if (stream->discard) {
        stream->discarded += grpc_byte_buffer_length(buffer);
        return buffer;
    }
    message = xcalloc(1, sizeof(*message));
    message->buffer = buffer;
    message->bytes = grpc_byte_buffer_length(buffer);
    if (message->bytes > stream->largest_in)
        stream->largest_in = message->bytes;
    push(&stream->in, message);
    return NULL;
}

static void on_received(struct tag *tag, bool ok)
{
    struct stream *stream = CONTAINER(tag, struct stream, receive_tag);
    grpc_byte_buffer *buffer, *dropped = NULL;
    enum send_step step = SEND_NOTHING;
    uint32_t flags = 0;
    bool wake, last, more, deaf;

    pthread_mutex_lock(&stream->lock);
    buffer = stream->received;
    stream->received = NULL;
    stream->receiving = false;
    if (!ok || buffer == NULL) {
        stream->received_end = true;
        if (!stream->sending)
            step = next_send(stream, &flags);
        dropped = buffer;
        wake = stream->status_in; /* else the status follows, and wakes */
    } else {
        dropped = keep_or_drop(stream, buffer);
        wake = dropped == NULL && stream->starved;
    }
    more = next_receive(stream);
    last = tag_back(stream);
    deaf = stream->discarded > DISCARD_MAX;
    unlock_and_wake(stream, wake, last);
    if (dropped != NULL)
        grpc_byte_buffer_destroy(dropped);
    /* Unless it was the last, a tag is out that comes back here: the stream is still there. */
    if (deaf && !last)
        grpc_call_cancel(stream->live.call, NULL);
    start_receive(stream, more);
    start_send(stream, step, flags);
}

struct stream_message *pump_take(struct stream *stream, bool yield)
{
    struct stream_message *message;
    bool more = false, wake = false;

    pthread_mutex_lock(&stream->lock);
    message = yield ? NULL : pop(&stream->in);
    if (message == NULL) {
        stream->starved = true;
        wake = stream->in.count > 0 || (stream->status_in && stream->received_end);
        wake = wake && must_wake(stream);
    }
    /* A narrow stream holds one message in all: the next is asked for when this one is done with.
     */
    if (stream->queue_messages == 1 ? message == NULL : is_low(stream, &stream->in))
        more = next_receive(stream);
    pthread_mutex_unlock(&stream->lock);
    start_receive(stream, more);
    if (wake)
        loop_post(stream->loop, &stream->wake);
    return message;
}

void pump_discard(struct stream *stream)
{
    bool more, wake;

    pthread_mutex_lock(&stream->lock);
    stream->discard = true;
    pump_clear_queue(&stream->in);
    more = next_receive(stream);
    wake = is_over(stream) && must_wake(stream);
    pthread_mutex_unlock(&stream->lock);
    start_receive(stream, more);
    if (wake)
        loop_post(stream->loop, &stream->wake);
}

/* ---- what the loop asks */

struct pump_news pump_take_news(struct stream *stream)
{
    struct pump_news news = {0};

    pthread_mutex_lock(&stream->lock);
    stream->woken = false;
    news.opened = stream->opened;
    news.readable = stream->starved && stream->in.count > 0;
    if (news.readable)
        stream->starved = false;
    news.writable = stream->taken > 0 || (stream->blocked && is_low(stream, &stream->out));
    if (news.writable && !is_full(stream, &stream->out))
        stream->blocked = false;
    news.ended = stream->live.call == NULL ||
                 (stream->status_in && stream->received_end && stream->in.count == 0);
    pthread_mutex_unlock(&stream->lock);
    return news;
}

bool pump_is_over(struct stream *stream)
{
    bool over;

    pthread_mutex_lock(&stream->lock);
    over = is_over(stream) && !stream->woken;
    pthread_mutex_unlock(&stream->lock);
    return over;
}

bool pump_write_due(struct stream *stream, uint64_t *due_ms)
{
    bool sending;

    pthread_mutex_lock(&stream->lock);
    sending = stream->sending;
    *due_ms = stream->progress_ms + stream->control->stream_stall_ms;
    pthread_mutex_unlock(&stream->lock);
    return sending;
}

/* ---- opening and ending */

static void on_opened(struct tag *tag, bool ok)
{
    struct stream *stream = CONTAINER(tag, struct stream, opened_tag);
    bool last;

    pthread_mutex_lock(&stream->lock);
    stream->opened = ok;
    last = tag_back(stream);
    unlock_and_wake(stream, ok, last);
}

static void on_end(struct tag *tag, bool ok)
{
    struct stream *stream = CONTAINER(tag, struct stream, end_tag);
    bool last;

    (void)ok;
    pthread_mutex_lock(&stream->lock);
    stream->status_in = true;
    pump_clear_queue(&stream->out);
    last = tag_back(stream);
    unlock_and_wake(stream, true, last);
}

bool pump_open(struct stream *stream, const char *span_id)
{
    call_metadata_init(&stream->metadata, stream->control, stream->connection_id, span_id);
    stream->opened_tag.done = on_opened;
    stream->send_tag.done = on_sent;
    stream->receive_tag.done = on_received;
    stream->end_tag.done = on_end;
    stream->live.call = link_call(stream->link, stream->rpc, gpr_inf_future(GPR_CLOCK_MONOTONIC));
    /* All three go out before any may come back. */
    stream->tags_out = 3;
    stream->receiving = true;
    cq_add(&stream->control->cq, &stream->live);

    const grpc_op open[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA,
         .data.send_initial_metadata = {.count = stream->metadata.count,
                                        .metadata = stream->metadata.items}},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &stream->end.initial},
    };
    const grpc_op end = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                         .data.recv_status_on_client = {.trailing_metadata = &stream->end.trailing,
                                                        .status = &stream->end.status,
                                                        .status_details = &stream->end.details,
                                                        .error_string = &stream->end.debug}};

    if (!cq_batch(stream->live.call, open, 2, &stream->opened_tag)) {
        cq_remove(&stream->control->cq, &stream->live);
        grpc_call_unref(stream->live.call);
        stream->live.call = NULL;
        stream->tags_out = 0;
        stream->receiving = false;
        return false;
    }
    /* With legal metadata in, neither of these can be refused. */
    if (!cq_batch(stream->live.call, &end, 1, &stream->end_tag))
        abort();
    start_receive(stream, true);
    return true;
}
