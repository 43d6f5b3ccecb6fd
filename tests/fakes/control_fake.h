/*
 * control.h in memory: the test is the policy. Questions wait until the test answers them, reports
 * and stream messages are recorded, and the contract of control.h is asserted on both sides: one
 * outcome a decision, silence after a cancel, nothing left when an asker goes.
 *
 * Messages are packed and unpacked as if they travelled; an answer whose shape control would not
 * let through arrives as UNAVAILABLE.
 */
#ifndef PARLEY_TESTS_FAKES_CONTROL_FAKE_H
#define PARLEY_TESTS_FAKES_CONTROL_FAKE_H

#include "control/control.h"

struct control *fake_control_new(void);
/* Asserts that no asker, decision or stream is left. */
void fake_control_free(struct control **control);
void fake_add_target(struct control *control, const char *name); /* "" is always there */

/* ---- questions */

size_t fake_pending(const struct control *control); /* asked, not answered, not cancelled */
size_t fake_asked(const struct control *control, enum rpc rpc); /* ever; RPC_COUNT: any */
size_t fake_cancelled(const struct control *control);
size_t fake_ended(const struct control *control); /* decisions that had an outcome */
/* The oldest pending question of this kind, or NULL. Borrowed until it ends. */
const void *fake_question(const struct control *control, enum rpc rpc);
/* The kind of the oldest (0), second, ... pending question; RPC_COUNT: there is none. */
enum rpc fake_pending_rpc(const struct control *control, size_t index);
const void *fake_nth_question(const struct control *control, size_t index);
int fake_question_flags(const struct control *control, enum rpc rpc);

/* End the oldest pending question of this kind; it must be there. What the answer's Common orders
 * comes first, as in control.h; a disconnect ends the question without its callback. */
void fake_answer(struct control *control, enum rpc rpc, const ProtobufCMessage *answer);
void fake_answer_wire(struct control *control, enum rpc rpc, struct bytes wire);
void fake_fail(struct control *control, enum rpc rpc, enum outcome outcome); /* not ANSWERED */
/* As fake_fail(), by index: for answers out of order. */
void fake_answer_nth(struct control *control, size_t index, const ProtobufCMessage *answer);
void fake_fail_nth(struct control *control, size_t index, enum outcome outcome);

/* ---- reports */

size_t fake_reports(const struct control *control, enum rpc rpc);
/* The last one of this kind, or NULL; borrowed until control is freed. */
const void *fake_report(const struct control *control, enum rpc rpc);

/* ---- streams */

size_t fake_streams(const struct control *control);                      /* open now */
struct stream *fake_stream(const struct control *control, size_t index); /* the oldest is 0 */
const char *fake_stream_target(const struct stream *stream);
/* The next message that the daemon sent, or NULL; borrowed until the next call on this stream. */
const Policy__ChannelEvent *fake_stream_sent(struct stream *stream);
const Policy__SuperviseEvent *fake_supervise_sent(struct stream *stream); /* likewise */
bool fake_stream_finished(const struct stream *stream);
/* Messages of a stream that was closed: the last one's are kept until the next close. */
const Policy__ChannelEvent *fake_closed_stream_sent(struct control *control);
size_t fake_streams_closed(const struct control *control);
/* The policy sends; readable() comes as control.h says. */
void fake_stream_push(struct stream *stream, const ProtobufCMessage *message);
/* The policy's side ends; told after the last message was taken. */
void fake_stream_end(struct stream *stream, enum outcome outcome, const char *why);
/* It fails: what waits is lost and the end is told at once. What stream_next() gave out last stays
 * valid, as ever, until the next call. */
void fake_stream_fail_now(struct stream *stream, enum outcome outcome, const char *why);
bool fake_stream_is_ending(const struct stream *stream);
bool fake_stream_told_end(const struct stream *stream);
/* Tells what may be told by now (an end behind messages that have been taken). */
void fake_stream_turn(struct stream *stream);
void fake_stream_set_room(struct stream *stream,
                          size_t bytes); /* for stream_send_data(); no call */
/* The policy reads `bytes` of payload: room again, taken, writable(). */
void fake_stream_read(struct stream *stream, size_t bytes);
size_t fake_stream_queued(const struct stream *stream); /* payload that the policy has not read */
size_t fake_stream_queued_messages(const struct stream *stream);
/* What the policy has not sent yet, or the daemon not taken. */
size_t fake_stream_unread(const struct stream *stream);

#endif
