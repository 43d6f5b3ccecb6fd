#include "endpoints/fdio.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <unistd.h>

#define TERMINAL_MIN_BYTES 2048 /* who gave from so much */
#define TERMINAL_MAX_BYTES 4096 /* to so much may have more: a terminal gives that at once */
#define PIPE_BYTES         (512 * 1024)  /* of a pipe that fills, where there is room for it */
#define FINISH_MAX_BYTES   (1024 * 1024) /* after the program has gone, from who still writes */

/* A source that pours in pieces that are smaller than a read is left alone for a moment, once it
 * has done so for a while: each read costs a turn of the loop and a write to the client. */
#define REST_MIN_BYTES 4096
#define REST_AFTER     8
static const struct timeval rest_time = {.tv_usec = 1000};

static bool is_pause(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/* ---- from the descriptor to the channel */

/* Until there is room: nothing is read. */
static void reader_wait(struct fdio_reader *reader)
{
    reader->waiting = true;
    event_del(reader->readable);
}

static void reader_watch(struct fdio_reader *reader)
{
    static const struct timeval at_once = {0, 0};

    event_add(reader->readable, reader->last ? &at_once : NULL);
}

static void reader_tell_end(struct fdio_reader *reader)
{
    event_del(reader->readable);
    reader->side.events->read_ended(reader->side.owner, reader, reader->error);
}

/* Fills `out` as far as the descriptor has bytes now. */
static size_t gather(struct fdio_reader *reader, uint8_t *out, size_t max)
{
    size_t len = 0;
    ssize_t got;

    do {
        got = read(reader->fd, out + len, max - len);
        if (got > 0)
            len += (size_t)got;
    } while (got >= TERMINAL_MIN_BYTES && got <= TERMINAL_MAX_BYTES && len < max);
    if (got == 0 || (got < 0 && !is_pause(errno))) {
        reader->over = true;
        reader->error = got < 0 ? errno : 0;
    } else if (got < 0 && reader->last && errno != EINTR) {
        reader->over = true;
    }
    return len;
}

static size_t bytes_wanted(const struct fdio_reader *reader)
{
    const struct endpoint_events *events = reader->side.channel_events;
    size_t room = events->room ? events->room(reader->side.channel) : LOOP_SCRATCH_BYTES;

    if (reader->last && room > reader->budget)
        room = reader->budget;
    return room < LOOP_SCRATCH_BYTES ? room : LOOP_SCRATCH_BYTES;
}

static void spend(struct fdio_reader *reader, size_t len)
{
    if (!reader->last)
        return;
    reader->budget -= len;
    reader->over = reader->over || reader->budget == 0;
}

static void read_some(struct fdio_reader *reader);

static void on_rested(evutil_socket_t fd, short what, void *arg)
{
    struct fdio_reader *reader = arg;

    (void)fd;
    (void)what;
    if (reader->waiting)
        return;
    reader_watch(reader);
    read_some(reader);
}

static void rest(struct fdio_reader *reader)
{
    if (reader->rest_timer == NULL) {
        reader->rest_timer = event_new(loop_events(reader->side.loop), -1, 0, on_rested, reader);
        fcntl(reader->fd, F_SETPIPE_SZ, PIPE_BYTES); /* where it is a pipe and there is room */
    }
    event_del(reader->readable);
    event_add(reader->rest_timer, &rest_time);
}

/* After a read that the channel took. */
static void rest_if_pouring(struct fdio_reader *reader, size_t len, size_t wanted)
{
    if (len < REST_MIN_BYTES)
        reader->streak = 0;
    else if (len < wanted && ++reader->streak >= REST_AFTER)
        rest(reader);
}

void fdio_reader_hurry(struct fdio_reader *reader)
{
    reader->streak = 0;
    if (reader->rest_timer == NULL || !event_pending(reader->rest_timer, EV_TIMEOUT, NULL))
        return;
    event_del(reader->rest_timer);
    reader_watch(reader);
}

/* Ends in reader_tell_end(), after which the reader may be gone. */
static void read_some(struct fdio_reader *reader)
{
    uint8_t *scratch = loop_scratch(reader->side.loop);
    size_t wanted = bytes_wanted(reader);
    size_t len, taken = 0;

    if (wanted == 0) {
        reader_wait(reader);
        return;
    }
    len = gather(reader, scratch, wanted);
    spend(reader, len);
    if (len > 0)
        taken = reader->side.channel_events->data(reader->side.channel, bytes_of(scratch, len),
                                                  reader->extended_type);
    if (taken < len) {
        buf_put(&reader->rest, bytes_of(scratch + taken, len - taken));
        reader_wait(reader);
    } else if (reader->over) {
        reader_tell_end(reader);
    } else if (reader->last) {
        reader_watch(reader);
    } else {
        rest_if_pouring(reader, len, wanted);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    read_some(arg);
}

void fdio_reader_init(struct fdio_reader *reader, const struct fdio_side *side, int fd,
                      uint32_t extended_type)
{
    *reader = (struct fdio_reader){
        .side = *side,
        .fd = fd,
        .extended_type = extended_type,
        .readable =
            event_new(loop_events(side->loop), fd, EV_READ | EV_PERSIST, on_readable, reader),
    };
    reader_watch(reader);
}

/* False: a rest is still left. */
static bool pass_rest(struct fdio_reader *reader)
{
    struct buf *rest = &reader->rest;

    if (rest->len > reader->rest_done)
        reader->rest_done += reader->side.channel_events->data(
            reader->side.channel,
            bytes_of(rest->data + reader->rest_done, rest->len - reader->rest_done),
            reader->extended_type);
    if (rest->len > reader->rest_done)
        return false;
    reader->rest_done = 0;
    buf_clear(rest);
    return true;
}

void fdio_reader_resume(struct fdio_reader *reader)
{
    if (!reader->waiting || !pass_rest(reader))
        return;
    reader->waiting = false;
    if (reader->over) {
        reader_tell_end(reader);
        return;
    }
    reader_watch(reader);
    read_some(reader);
}

void fdio_reader_finish(struct fdio_reader *reader)
{
    if (reader->readable == NULL || reader->last)
        return;
    reader->last = true;
    reader->budget = FINISH_MAX_BYTES;
    if (!reader->waiting && !reader->over)
        reader_watch(reader);
}

void fdio_reader_clear(struct fdio_reader *reader)
{
    if (reader->readable != NULL)
        event_free(reader->readable);
    reader->readable = NULL;
    if (reader->rest_timer != NULL)
        event_free(reader->rest_timer);
    reader->rest_timer = NULL;
    reader->waiting = false;
    buf_clear(&reader->rest);
}

/* ---- from the channel to the descriptor */

/* The owner may clear the writer in the callback: nothing follows it. */
static void writer_tell(struct fdio_writer *writer)
{
    size_t passed = writer->passed;

    writer->passed = 0;
    writer->side.channel_events->writable(writer->side.channel, passed);
    if (!writer->failed || writer->failure_told || writer->writable == NULL)
        return;
    writer->failure_told = true;
    writer->side.events->write_failed(writer->side.owner, writer, writer->error);
}

static void on_turn_end(void *arg)
{
    struct fdio_writer *writer = arg;

    writer->telling = false;
    if (writer->writable != NULL)
        writer_tell(writer);
}

static void tell_later(struct fdio_writer *writer, size_t passed)
{
    writer->passed += passed;
    if (writer->telling)
        return;
    writer->telling = true;
    loop_defer(writer->side.loop, on_turn_end, writer);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct fdio_writer *writer = arg;

    (void)fd;
    (void)what;
    writer->blocked = false;
    writer_tell(writer);
}

void fdio_writer_init(struct fdio_writer *writer, const struct fdio_side *side, int fd)
{
    *writer = (struct fdio_writer){
        .side = *side,
        .fd = fd,
        .writable = event_new(loop_events(side->loop), fd, EV_WRITE, on_writable, writer),
    };
}

/* What the kernel takes now; less than all: it is full. */
static size_t write_some(struct fdio_writer *writer, struct bytes data)
{
    ssize_t written;

    do
        written = write(writer->fd, data.data, data.len);
    while (written < 0 && errno == EINTR);
    if (written >= 0)
        return (size_t)written;
    if (!is_pause(errno)) {
        writer->failed = true;
        writer->error = errno;
    }
    return 0;
}

size_t fdio_writer_write(struct fdio_writer *writer, struct bytes data)
{
    size_t taken = 0;

    if (writer->blocked || data.len == 0)
        return 0;
    if (!writer->failed)
        taken = write_some(writer, data);
    if (taken < data.len && !writer->failed && !writer->enlarged) {
        writer->enlarged = true;
        if (fcntl(writer->fd, F_SETPIPE_SZ, PIPE_BYTES) > 0)
            taken += write_some(writer, bytes_of(data.data + taken, data.len - taken));
    }
    if (writer->failed)
        taken = data.len;
    if (taken < data.len) {
        writer->blocked = true;
        event_add(writer->writable, NULL);
    }
    if (taken > 0)
        tell_later(writer, taken);
    return taken;
}

void fdio_writer_clear(struct fdio_writer *writer)
{
    if (writer->writable != NULL)
        event_free(writer->writable);
    writer->writable = NULL;
}
