#include "fakes/control_fake_internal.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_BYTES           (512 * 1024)
#define QUEUE_MESSAGES        64
/* Beyond its limits a queue may grow by the messages that control.h lets through after false. */
#define QUEUE_MESSAGES_ABSURD 1024

static void list_clear(struct packed_list *list)
{
    struct packed *packed;

    while ((packed = STAILQ_FIRST(list)) != NULL) {
        STAILQ_REMOVE_HEAD(list, link);
        protobuf_c_message_free_unpacked(packed->message, NULL);
        free(packed);
    }
}

static void forget(ProtobufCMessage **message)
{
    if (*message != NULL)
        protobuf_c_message_free_unpacked(*message, NULL);
    *message = NULL;
}

static ProtobufCMessage *list_take(struct packed_list *list, ProtobufCMessage **holder)
{
    struct packed *packed = STAILQ_FIRST(list);

    forget(holder);
    if (packed == NULL)
        return NULL;
    STAILQ_REMOVE_HEAD(list, link);
    *holder = packed->message;
    free(packed);
    return *holder;
}

static void list_add(struct packed_list *list, const ProtobufCMessage *message, size_t payload)
{
    struct packed *packed = xcalloc(1, sizeof(*packed));

    packed->message = fake_copy(message);
    packed->payload = payload;
    STAILQ_INSERT_TAIL(list, packed, link);
}

/* ---- the daemon's side */

struct stream *asker_open_stream(struct asker *asker, enum rpc rpc, const char *target,
                                 const struct stream_events *events, void *owner)
{
    struct stream *stream = xcalloc(1, sizeof(*stream));

    assert(rpc == RPC_CHANNEL || rpc == RPC_SUPERVISE);
    stream->asker = asker;
    stream->target = xstrdup(target);
    stream->events = events;
    stream->owner = owner;
    stream->room = QUEUE_BYTES;
    stream->armed = true;
    STAILQ_INIT(&stream->sent);
    STAILQ_INIT(&stream->inbox);
    TAILQ_INSERT_TAIL(&asker->control->streams, stream, link);
    return stream;
}

static bool queue(struct stream *stream, const ProtobufCMessage *message, size_t payload)
{
    bool room;

    assert(!stream->finished);
    assert(stream->queued_messages < QUEUE_MESSAGES_ABSURD);
    list_add(&stream->sent, message, payload);
    stream->queued += payload;
    stream->queued_messages++;
    stream->room -= payload < stream->room ? payload : stream->room;
    room = stream->room > 0 && stream->queued_messages < QUEUE_MESSAGES;
    if (!room)
        stream->wants_writable = true;
    return room;
}

bool stream_send(struct stream *stream, const ProtobufCMessage *message)
{
    return queue(stream, message, 0);
}

bool stream_send_data(struct stream *stream, struct bytes payload, uint32_t extended_type)
{
    Policy__ChannelEvent event = POLICY__CHANNEL_EVENT__INIT;
    Policy__ChannelData data = POLICY__CHANNEL_DATA__INIT;

    assert(stream_room(stream) > 0);
    event.event_case = POLICY__CHANNEL_EVENT__EVENT_DATA;
    event.data = &data;
    data.payload.data = (uint8_t *)payload.data;
    data.payload.len = payload.len;
    data.extended_type = extended_type;
    return queue(stream, &event.base, payload.len);
}

size_t stream_largest(const struct stream *stream)
{
    (void)stream;
    return 1 << 20;
}

size_t stream_room(const struct stream *stream)
{
    return stream->queued_messages < QUEUE_MESSAGES ? stream->room : 0;
}

size_t stream_taken(struct stream *stream)
{
    size_t taken = stream->taken;

    stream->taken = 0;
    return taken;
}

const ProtobufCMessage *stream_next(struct stream *stream)
{
    ProtobufCMessage *message = list_take(&stream->inbox, &stream->current);

    if (message == NULL)
        stream->armed = true;
    else
        stream->unread--;
    return message;
}

void stream_finish(struct stream *stream)
{
    stream->finished = true;
}

void stream_close(struct stream **where)
{
    struct stream *stream = *where;
    struct control *control = stream->asker->control;

    *where = NULL;
    TAILQ_REMOVE(&control->streams, stream, link);
    list_clear(&control->closed_sent);
    STAILQ_CONCAT(&control->closed_sent, &stream->sent);
    control->streams_closed++;
    list_clear(&stream->inbox);
    forget(&stream->looked_at);
    forget(&stream->current);
    free(stream->target);
    free(stream->why);
    free(stream);
}

/* ---- the policy's side */

/* A callback may close the stream: nothing may follow a call of this. */
void fake_stream_turn(struct stream *stream)
{
    assert(!fake_in_callback);
    if (stream->unread > 0 && stream->armed) {
        stream->armed = false;
        fake_in_callback = true;
        stream->events->readable(stream->owner);
        fake_in_callback = false;
    } else if (stream->unread == 0 && stream->armed && stream->ending && !stream->told_end) {
        stream->told_end = true;
        fake_in_callback = true;
        stream->events->ended(stream->owner, stream->outcome, stream->why);
        fake_in_callback = false;
    }
}

void fake_stream_push(struct stream *stream, const ProtobufCMessage *message)
{
    assert(!stream->ending);
    list_add(&stream->inbox, message, 0);
    stream->unread++;
    fake_stream_turn(stream);
}

void fake_stream_end(struct stream *stream, enum outcome outcome, const char *why)
{
    assert(!stream->ending);
    stream->ending = true;
    stream->outcome = outcome;
    stream->why = xstrdup(why);
    fake_stream_turn(stream);
}

void fake_stream_fail_now(struct stream *stream, enum outcome outcome, const char *why)
{
    assert(!fake_in_callback && !stream->told_end);
    list_clear(&stream->inbox);
    stream->unread = 0;
    stream->ending = stream->told_end = true;
    stream->outcome = outcome;
    free(stream->why);
    stream->why = xstrdup(why);
    fake_in_callback = true;
    stream->events->ended(stream->owner, outcome, stream->why);
    fake_in_callback = false;
}

bool fake_stream_is_ending(const struct stream *stream)
{
    return stream->ending;
}

bool fake_stream_told_end(const struct stream *stream)
{
    return stream->told_end;
}

void fake_stream_set_room(struct stream *stream, size_t bytes)
{
    stream->room = bytes;
    if (bytes == 0)
        stream->wants_writable = true;
}

void fake_stream_read(struct stream *stream, size_t bytes)
{
    assert(bytes <= stream->queued);
    stream->queued -= bytes;
    stream->taken += bytes;
    stream->room += bytes;
    stream->queued_messages = 0;
    fake_in_callback = true;
    stream->events->writable(stream->owner);
    fake_in_callback = false;
}

const Policy__ChannelEvent *fake_stream_sent(struct stream *stream)
{
    return (const Policy__ChannelEvent *)list_take(&stream->sent, &stream->looked_at);
}

const Policy__SuperviseEvent *fake_supervise_sent(struct stream *stream)
{
    return (const Policy__SuperviseEvent *)list_take(&stream->sent, &stream->looked_at);
}

const Policy__ChannelEvent *fake_closed_stream_sent(struct control *control)
{
    return (const Policy__ChannelEvent *)list_take(&control->closed_sent,
                                                   &control->closed_looked_at);
}

size_t fake_streams_closed(const struct control *control)
{
    return control->streams_closed;
}

bool fake_stream_finished(const struct stream *stream)
{
    return stream->finished;
}

const char *fake_stream_target(const struct stream *stream)
{
    return stream->target;
}

size_t fake_stream_queued(const struct stream *stream)
{
    return stream->queued;
}

size_t fake_stream_queued_messages(const struct stream *stream)
{
    return stream->queued_messages;
}

size_t fake_stream_unread(const struct stream *stream)
{
    return stream->unread;
}

size_t fake_streams(const struct control *control)
{
    const struct stream *stream;
    size_t count = 0;

    TAILQ_FOREACH (stream, &control->streams, link)
        count++;
    return count;
}

struct stream *fake_stream(const struct control *control, size_t index)
{
    struct stream *stream;

    TAILQ_FOREACH (stream, &control->streams, link)
        if (index-- == 0)
            return stream;
    return NULL;
}
