/* Bytes between a descriptor and a channel: short writes both ways, ends, and what is bounded. */
#include "unit/cmocka_unit.h"

#include "base/alloc.h"
#include "endpoints/fdio.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct side {
    struct loop *loop;
    struct fdio_reader reader;
    struct fdio_writer writer;
    int in[2], out[2]; /* pipes: the reader's, the writer's */
    size_t room, largest, taken;
    struct buf seen;
    uint32_t type;
    int ended, error, writables, failures;
    bool know_room;
};

static size_t on_data(void *owner, struct bytes data, uint32_t extended_type)
{
    struct side *s = owner;
    size_t len = data.len < s->room ? data.len : s->room;

    assert_int_equal(s->ended, 0);
    assert_true(data.len > 0);
    if (data.len > s->largest)
        s->largest = data.len;
    s->type = extended_type;
    buf_put(&s->seen, bytes_of(data.data, len));
    s->room -= len;
    return len;
}

static size_t on_room(void *owner)
{
    struct side *s = owner;

    return s->know_room ? s->room : SIZE_MAX;
}

static void on_writable(void *owner, size_t taken)
{
    struct side *s = owner;

    s->writables++;
    s->taken += taken;
}

static const struct endpoint_events channel_events = {
    .data = on_data,
    .room = on_room,
    .writable = on_writable,
};

static void on_read_ended(void *owner, struct fdio_reader *reader, int error)
{
    struct side *s = owner;

    assert_ptr_equal(reader, &s->reader);
    s->ended++;
    s->error = error;
    fdio_reader_clear(reader); /* allowed in here */
}

static void on_write_failed(void *owner, struct fdio_writer *writer, int error)
{
    struct side *s = owner;

    s->failures++;
    assert_int_equal(error, EPIPE);
    fdio_writer_clear(writer);
}

static const struct fdio_events events = {on_read_ended, on_write_failed};

/* One turn; a second one for what was deferred in it. */
static void turn(struct side *s)
{
    event_base_loop(loop_events(s->loop), EVLOOP_NONBLOCK);
    event_base_loop(loop_events(s->loop), EVLOOP_NONBLOCK);
}

static int setup(void **state)
{
    struct side *s = xcalloc(1, sizeof(*s));
    struct fdio_side side;

    signal(SIGPIPE, SIG_IGN);
    s->loop = loop_new();
    side = (struct fdio_side){s->loop, &channel_events, s, &events, s};
    assert_int_equal(pipe2(s->in, O_NONBLOCK), 0);
    assert_int_equal(pipe2(s->out, O_NONBLOCK), 0);
    s->room = SIZE_MAX / 2;
    fdio_reader_init(&s->reader, &side, s->in[0], 1);
    fdio_writer_init(&s->writer, &side, s->out[1]);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct side *s = *state;

    fdio_reader_clear(&s->reader);
    fdio_writer_clear(&s->writer);
    for (size_t i = 0; i < 2; i++) {
        close(s->in[i]);
        close(s->out[i]);
    }
    loop_free(&s->loop); /* what is deferred runs: the side must still be there */
    buf_clear(&s->seen);
    free(s);
    return 0;
}

static void give(struct side *s, const char *text)
{
    assert_int_equal(write(s->in[1], text, strlen(text)), (ssize_t)strlen(text));
}

#define assert_seen(s, text) assert_true(bytes_are(buf_bytes(&(s)->seen), text))

static void test_what_is_written_arrives_and_the_end_behind_it(void **state)
{
    struct side *s = *state;

    turn(s);
    assert_int_equal(s->seen.len, 0);
    give(s, "hello");
    turn(s);
    assert_seen(s, "hello");
    assert_int_equal(s->type, 1);
    give(s, ", world");
    close(s->in[1]);
    s->in[1] = -1;
    turn(s);
    assert_seen(s, "hello, world");
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->error, 0);
}

static void test_a_short_take_stops_reading_until_resume(void **state)
{
    struct side *s = *state;

    s->room = 3;
    give(s, "abcdef");
    turn(s);
    assert_seen(s, "abc");
    give(s, "gh");
    close(s->in[1]);
    s->in[1] = -1;
    turn(s);
    assert_seen(s, "abc");
    s->room = 2;
    fdio_reader_resume(&s->reader);
    assert_seen(s, "abcde");
    fdio_reader_resume(&s->reader);
    assert_seen(s, "abcde");
    assert_int_equal(s->ended, 0);
    s->room = 100;
    fdio_reader_resume(&s->reader);
    turn(s);
    assert_seen(s, "abcdefgh");
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->reader.rest.cap, 0);
}

static void test_no_more_is_read_than_there_is_room_for(void **state)
{
    struct side *s = *state;

    s->know_room = true;
    s->room = 4;
    give(s, "abcdef");
    turn(s);
    assert_seen(s, "abcd");
    assert_int_equal(s->largest, 4);
    assert_int_equal(s->reader.rest.cap, 0);
    turn(s);
    assert_true(s->reader.waiting);
    s->room = 100;
    fdio_reader_resume(&s->reader);
    assert_seen(s, "abcdef");
}

static void test_an_end_behind_a_rest_waits_for_it(void **state)
{
    struct side *s = *state;

    s->room = 1;
    give(s, "xyz");
    close(s->in[1]);
    s->in[1] = -1;
    turn(s);
    assert_int_equal(s->ended, 0);
    s->room = 1;
    fdio_reader_resume(&s->reader);
    assert_int_equal(s->ended, 0);
    s->room = 9;
    fdio_reader_resume(&s->reader);
    turn(s);
    assert_seen(s, "xyz");
    assert_int_equal(s->ended, 1);
}

/* Somebody else still has the other end open. */
static void test_finish_reads_what_is_there_and_ends(void **state)
{
    struct side *s = *state;

    give(s, "last words");
    fdio_reader_finish(&s->reader);
    assert_int_equal(s->ended, 0);
    for (int i = 0; i < 4 && s->ended == 0; i++)
        turn(s);
    assert_seen(s, "last words");
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->error, 0);
}

static void test_finish_ends_even_if_somebody_writes_for_ever(void **state)
{
    static const char chunk[4096];
    struct side *s = *state;

    fdio_reader_finish(&s->reader);
    for (int i = 0; i < 10000 && s->ended == 0; i++) {
        while (write(s->in[1], chunk, sizeof(chunk)) > 0)
            ;
        turn(s);
    }
    assert_int_equal(s->ended, 1);
    assert_true(s->seen.len <= 1024 * 1024);
}

static void test_finish_waits_for_room(void **state)
{
    struct side *s = *state;

    s->room = 2;
    give(s, "abc");
    turn(s);
    fdio_reader_finish(&s->reader);
    turn(s);
    assert_int_equal(s->ended, 0);
    s->room = 10;
    fdio_reader_resume(&s->reader);
    turn(s);
    assert_seen(s, "abc");
    assert_int_equal(s->ended, 1);
}

static void pour(struct side *s)
{
    static const char chunk[8192];

    assert_int_equal(write(s->in[1], chunk, sizeof(chunk)), sizeof(chunk));
    event_base_loop(loop_events(s->loop), EVLOOP_NONBLOCK);
}

/* It may gather more meanwhile; whoever waits for an answer has it at once. */
static void test_a_source_that_pours_is_given_a_rest(void **state)
{
    struct side *s = *state;
    size_t poured = 0;

    while (s->reader.rest_timer == NULL) {
        pour(s);
        poured += 8192;
        assert_int_equal(s->seen.len, poured);
    }
    assert_true(event_pending(s->reader.rest_timer, EV_TIMEOUT, NULL));
    fdio_reader_hurry(&s->reader);
    assert_false(event_pending(s->reader.rest_timer, EV_TIMEOUT, NULL));
    pour(s);
    assert_int_equal(s->seen.len, poured + 8192);
    for (int i = 0; i < 20; i++)
        pour(s);
    event_base_loop(loop_events(s->loop), EVLOOP_ONCE); /* the rest is over by itself */
    turn(s);
    close(s->in[1]);
    s->in[1] = -1;
    while (s->ended == 0)
        event_base_loop(loop_events(s->loop), EVLOOP_ONCE);
    assert_int_equal(s->seen.len, poured + 21 * 8192);
}

static void test_what_was_written_is_told_at_the_end_of_the_turn(void **state)
{
    struct side *s = *state;
    char got[16];

    assert_int_equal(fdio_writer_write(&s->writer, BYTES("one")), 3);
    assert_int_equal(fdio_writer_write(&s->writer, BYTES("two")), 3);
    assert_int_equal(s->writables, 0);
    turn(s);
    assert_int_equal(s->writables, 1);
    assert_int_equal(s->taken, 6);
    assert_int_equal(read(s->out[0], got, sizeof(got)), 6);
    assert_memory_equal(got, "onetwo", 6);
}

static void test_a_full_descriptor_takes_less_and_says_when_it_takes_more(void **state)
{
    static uint8_t large[1024 * 1024];
    struct side *s = *state;
    size_t taken = fdio_writer_write(&s->writer, bytes_of(large, sizeof(large)));
    size_t drained = 0;
    ssize_t got;

    assert_true(taken > 0 && taken < sizeof(large));
    assert_int_equal(fdio_writer_write(&s->writer, BYTES("x")), 0);
    turn(s);
    assert_int_equal(s->taken, taken);
    assert_int_equal(fdio_writer_write(&s->writer, BYTES("x")), 0);
    while ((got = read(s->out[0], large, sizeof(large))) > 0)
        drained += (size_t)got;
    assert_int_equal(drained, taken);
    turn(s);
    assert_int_equal(s->writables, 2);
    assert_int_equal(fdio_writer_write(&s->writer, BYTES("x")), 1);
}

static void test_what_nobody_reads_is_swallowed_and_said_once(void **state)
{
    struct side *s = *state;

    close(s->out[0]);
    s->out[0] = -1;
    assert_int_equal(fdio_writer_write(&s->writer, BYTES("lost")), 4);
    assert_int_equal(s->failures, 0);
    turn(s);
    assert_int_equal(s->failures, 1);
    assert_int_equal(s->taken, 4);
}

static void test_nothing_is_told_after_clear(void **state)
{
    struct side *s = *state;

    give(s, "unseen");
    assert_int_equal(fdio_writer_write(&s->writer, BYTES("one")), 3);
    fdio_reader_clear(&s->reader);
    fdio_writer_clear(&s->writer);
    turn(s);
    assert_int_equal(s->seen.len, 0);
    assert_int_equal(s->writables, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_written_arrives_and_the_end_behind_it),
        TEST(test_a_short_take_stops_reading_until_resume),
        TEST(test_no_more_is_read_than_there_is_room_for),
        TEST(test_an_end_behind_a_rest_waits_for_it),
        TEST(test_finish_reads_what_is_there_and_ends),
        TEST(test_finish_ends_even_if_somebody_writes_for_ever),
        TEST(test_finish_waits_for_room),
        TEST(test_a_source_that_pours_is_given_a_rest),
        TEST(test_what_was_written_is_told_at_the_end_of_the_turn),
        TEST(test_a_full_descriptor_takes_less_and_says_when_it_takes_more),
        TEST(test_what_nobody_reads_is_swallowed_and_said_once),
        TEST(test_nothing_is_told_after_clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
