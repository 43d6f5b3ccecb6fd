/*
 * A stream's two halves. pump.c moves messages between gRPC and a bounded queue per direction, on
 * the gRPC thread (and starts an idle direction from the loop); stream.c is what the asker sees, on
 * its loop. The lock lies between them; it is never held across a callback or a gRPC call.
 */
#ifndef PARLEY_CONTROL_PUMP_H
#define PARLEY_CONTROL_PUMP_H

#include "control/codec.h"
#include "control/internal.h"

struct event;

struct stream_message {
    STAILQ_ENTRY(stream_message) entry;
    grpc_byte_buffer *buffer;
    size_t bytes;   /* of the message */
    size_t payload; /* of these, counted by stream_taken() */
};

struct stream_queue {
    STAILQ_HEAD(, stream_message) messages;
    size_t bytes, count;
};

struct stream {
    /* Set once. */
    struct control *control;
    struct loop *loop;
    const struct stream_events *events;
    void *owner;
    enum rpc rpc;
    char connection_id[ID_TEXT_LEN + 1];
    struct link *link; /* NULL: there is none for its target */
    uint64_t started_ms;
    const struct stream_width *width;
    unsigned *open_streams;             /* the asker's count of those of this width */
    size_t queue_bytes, queue_messages; /* of each direction */

    /* The call and its tags; each tag is out once at a time. */
    struct live live; /* call NULL: there was no link to open it on */
    struct tag opened_tag, send_tag, receive_tag, end_tag;
    struct call_metadata metadata;
    grpc_byte_buffer *sending_buffer, *received;
    struct call_end end;

    pthread_mutex_t lock; /* guards what follows */
    struct letter wake;
    bool woken; /* the letter is under way */
    unsigned tags_out;
    bool opened;       /* the policy's initial metadata is here */
    bool sending;      /* send_tag is out, or is about to be */
    bool receiving;    /* likewise */
    bool received_end; /* no message will come any more */
    bool status_in;    /* `end` is filled */
    bool finish;       /* stream_finish() was called */
    bool finished;     /* and the policy was told */
    bool broken;       /* sending failed; the status will say why */
    bool blocked;      /* the asker was told to stop and waits for writable() */
    bool starved;      /* the asker has found no message and waits for readable() */
    bool discard;      /* the asker is gone: inbound messages are dropped */
    size_t discarded;  /* bytes of them */
    struct stream_queue out, in;
    size_t largest_in;        /* message so far: what the next may need */
    size_t taken;             /* payload bytes whose send has completed */
    size_t in_flight_payload; /* of the send that is out */
    uint64_t progress_ms;     /* the last completed send, or when sending began */
    bool any_received;

    /* The loop's own. */
    bool closed; /* stream_close() was called */
    bool delivering;
    bool told_end;
    uint64_t turn;        /* of the loop in which it last came here */
    size_t turn_bytes;    /* read in it */
    enum outcome outcome; /* overrides the status if why is set */
    char *why;
    struct event *timer;
    bool start_pending;             /* the timer is the start deadline */
    struct stream_message *current; /* what stream_next() returned last */
    uint8_t *current_copy;
    size_t current_copy_len;
    struct arena arena;
    struct data_view view;
};

/* Opens the call; false: it could not be started, no tag will come. */
bool pump_open(struct stream *stream, const char *span_id);
/* Takes the message (and its buffer). Returns false if the queue is full now. */
bool pump_send(struct stream *stream, grpc_byte_buffer *buffer, size_t bytes, size_t payload);
void pump_finish(struct stream *stream);
/* No message will be read any more: drops those that wait, and what still comes. */
void pump_discard(struct stream *stream);
/* True once no tag is out and none will be, and no letter is under way: it may be freed. */
bool pump_is_over(struct stream *stream);
/* The next message, or NULL; the caller owns it. Receiving goes on once there is room. `yield`:
 * NULL in any case, and news again if there are more. */
struct stream_message *pump_take(struct stream *stream, bool yield);
void pump_free_message(struct stream_message *message);
void pump_clear_queue(struct stream_queue *queue);
/* Sets *due to when the write that is out, if any, must have made progress; false: none is. */
bool pump_write_due(struct stream *stream, uint64_t *due_ms);
/* What the letter is about; nothing is news twice. */
struct pump_news {
    bool opened, readable, writable, ended;
};
struct pump_news pump_take_news(struct stream *stream);

#endif
