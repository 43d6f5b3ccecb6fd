/*
 * Bytes between a non-blocking descriptor and a channel, with back-pressure: what an endpoint that
 * ends in a descriptor (a program's pipes, its terminal, a socket) is made of. Idle ones hold no
 * buffer: bytes are read into the loop's scratch, and only what the channel does not take is
 * copied.
 *
 * The descriptor stays the caller's: it clears reader and writer, then closes it. A half close is
 * the caller's too (shutdown(), or closing a pipe's end after fdio_writer_clear()): the channel
 * passes the client's EOF on only once every byte before it has been taken.
 *
 * Reader and writer are members of the endpoint, whose memory must outlive them to the end of the
 * turn: free it by loop_defer(). Functions call back from inside only where they say so.
 */
#ifndef PARLEY_ENDPOINTS_FDIO_H
#define PARLEY_ENDPOINTS_FDIO_H

#include "endpoints/endpoint.h"

struct event;
struct fdio_reader;
struct fdio_writer;

struct fdio_events {
    /* Once, after the last data() was taken whole. `error`: 0 at the end of the file, else errno.
     * The owner may clear anything in here, and tell the channel that it has ended. */
    void (*read_ended)(void *owner, struct fdio_reader *reader, int error);
    /* Once: nobody takes what is written (EPIPE and the like). What the client still sends is
     * swallowed, its window opened again. Same freedom. */
    void (*write_failed)(void *owner, struct fdio_writer *writer, int error);
};

/* Copied; what it points at is borrowed. */
struct fdio_side {
    struct loop *loop;
    const struct endpoint_events *channel_events;
    void *channel; /* their owner */
    const struct fdio_events *events;
    void *owner;
};

/* ---- from the descriptor to the channel */

struct fdio_reader {
    struct fdio_side side;
    int fd;
    uint32_t extended_type;
    struct event *readable;
    struct buf rest; /* read, and not taken by the channel */
    size_t rest_done;
    bool waiting;             /* for fdio_reader_resume() */
    bool over;                /* the last byte has been read */
    int error;                /* how it ended */
    unsigned streak;          /* reads in a row that took much, and all there was */
    struct event *rest_timer; /* set while it rests, to let more gather; NULL if it never did */
    bool last;                /* fdio_reader_finish() */
    size_t budget;            /* bytes that are still read then */
};

/* Reads from the next turn on, at most 64 KiB a turn. */
void fdio_reader_init(struct fdio_reader *reader, const struct fdio_side *side, int fd,
                      uint32_t extended_type);
/* Somebody may wait for an answer: no rest is taken, which is for a source that only pours. */
void fdio_reader_hurry(struct fdio_reader *reader);
/* For ops->resume(): data() has room again. Calls back before it returns. */
void fdio_reader_resume(struct fdio_reader *reader);
/* What is there now is the last: it is read (bounded, if somebody keeps on writing), then
 * read_ended(). For a terminal whose program has gone. */
void fdio_reader_finish(struct fdio_reader *reader);
/* Silent afterwards. Twice is fine, also zero-initialised. */
void fdio_reader_clear(struct fdio_reader *reader);

/* ---- from the channel to the descriptor */

struct fdio_writer {
    struct fdio_side side;
    int fd;
    struct event *writable;
    size_t passed; /* written, and not told yet by writable() */
    bool blocked;  /* the kernel takes no more for now */
    bool enlarged; /* it did not once, and was asked for more room */
    bool failed;
    bool failure_told;
    bool telling; /* at the end of the turn */
    int error;
};

void fdio_writer_init(struct fdio_writer *writer, const struct fdio_side *side, int fd);
/* For ops->write(): how many bytes were taken. The channel's writable() follows, with what has been
 * passed on at the end of each turn, and when the kernel takes more after it did not. */
size_t fdio_writer_write(struct fdio_writer *writer, struct bytes data);
void fdio_writer_clear(struct fdio_writer *writer);

#endif
