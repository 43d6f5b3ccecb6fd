/*
 * One question and its answer. Lives on the asker's loop; the gRPC thread only posts it as a letter
 * when its one tag comes back. Freed when that letter is delivered, or later by its owner if it
 * ended without the callback.
 */
#include "control/internal.h"

#include "base/alloc.h"
#include "base/log.h"
#include "control/codec.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum decision_state {
    DECISION_ASKED,   /* its letter will come */
    DECISION_TELLING, /* its letter is being delivered */
    DECISION_SILENT,  /* ended in a disconnect, without the callback; waits for decision_cancel() or
                         asker_free() */
};

struct decision {
    struct letter letter;
    LIST_ENTRY(decision) entry; /* of the asker, until cancelled */
    struct control *control;
    struct asker *asker; /* NULL: cancelled, or a report whose asker is gone */
    struct loop *loop;
    struct link *link;
    unsigned generation; /* of the link, when it was asked */
    enum decision_state state;
    enum rpc rpc;
    bool probe, report;
    bool counted; /* among those in flight */
    unsigned epoch;
    answer_fn *done;
    void *owner;
    char connection_id[ID_TEXT_LEN + 1], question_id[ID_TEXT_LEN + 1];
    uint64_t started_ms;

    /* The call; NULL: nothing was sent. */
    struct live live;
    struct tag tag;
    struct call_metadata metadata;
    grpc_byte_buffer *request, *answer;
    struct call_end end;

    /* How it ended, and why if not ANSWERED. */
    enum outcome outcome;
    char *why;
};

const char *outcome_name(enum outcome outcome)
{
    static const char *const names[] = {
        [ANSWERED] = "answered",
        [ABSENT] = "absent",
        [UNAVAILABLE] = "unavailable",
        [EXPIRED] = "expired",
    };

    return names[outcome];
}

static void leave_flight(struct decision *decision)
{
    if (decision->counted)
        atomic_fetch_sub(&decision->control->in_flight, 1);
    decision->counted = false;
}

static void decision_free(struct decision *decision)
{
    struct control *control = decision->control;

    if (decision->asker != NULL)
        LIST_REMOVE(decision, entry);
    call_wipe(decision->answer);
    if (decision->request != NULL)
        grpc_byte_buffer_destroy(decision->request);
    call_metadata_clear(&decision->metadata);
    call_end_clear(&decision->end);
    if (decision->live.call != NULL)
        grpc_call_unref(decision->live.call);
    leave_flight(decision);
    free(decision->why);
    free(decision);
    control_unref(control);
}

/* ---- the end */

#define LOG_MAP_MAX 16 /* entries of Common.log that reach the line */

static void log_decision(const struct decision *decision, const ProtobufCMessage *answer,
                         const Policy__Common *common)
{
    struct log_field fields[9 + LOG_MAP_MAX];
    size_t count = 0;
    bool failed = decision->outcome != ANSWERED;

    if (!log_wanted(LOG_INFO))
        return;
    fields[count++] = log_str("rpc", rpc_name(decision->rpc));
    fields[count++] = log_str("question", decision->question_id);
    fields[count++] = log_str("outcome", outcome_name(decision->outcome));
    fields[count++] = log_str("verdict", answer ? codec_verdict(answer) : NULL);
    fields[count++] = log_u64("ms", clock_ms() - decision->started_ms);
    fields[count++] = log_str("link", decision->control->policy_target);
    fields[count++] = failed ? log_str("reason", decision->why) : log_none();
    for (size_t i = 0; common != NULL && i < common->n_log && i < LOG_MAP_MAX; i++) {
        char *key = xasprintf("policy.%.48s", common->log[i]->key);

        fields[count++] = log_str(key, common->log[i]->value);
    }
    fields[count] = (struct log_field){0};
    log_write(LOG_INFO, decision->connection_id, "decision", fields);
    for (size_t i = 7; i < count; i++)
        free((char *)fields[i].key);
}

static void unavailable(struct decision *decision, char *why)
{
    free(decision->why);
    decision->why = why;
    decision->outcome = UNAVAILABLE;
}

/* The answer, if it is one; else the outcome says what it was. */
static const ProtobufCMessage *decode(struct decision *decision, struct arena *arena)
{
    const ProtobufCMessage *answer = NULL;
    struct bytes wire;
    uint8_t *owned;
    char *why = NULL;

    if (decision->answer == NULL) {
        unavailable(decision, xstrdup("status OK without an answer"));
        return NULL;
    }
    if (call_bytes(decision->answer, &wire, &owned))
        answer = codec_decode(rpc_output(decision->rpc), wire, rpc_row(decision->rpc)->max_answer,
                              arena, &why);
    else
        why = xstrdup("compressed, which was not offered");
    if (owned != NULL) {
        explicit_bzero(owned, wire.len);
        free(owned);
    }
    if (answer == NULL) {
        unavailable(decision, xasprintf("malformed answer: %s", why));
        free(why);
    }
    return answer;
}

/* What the status means, before any answer is looked at. */
static void judge(struct decision *decision)
{
    if (decision->live.call == NULL)
        return; /* it ended before it was sent */
    decision->outcome = call_end_outcome(&decision->end, &decision->why);
    /* A status that says so before the time is the policy's own. */
    if (decision->outcome == EXPIRED &&
        clock_ms() - decision->started_ms >= decision->control->deadline_ms[decision->rpc])
        link_unanswered(decision->link, decision->started_ms);
    else
        link_heard(decision->link);
    if (decision->outcome == ABSENT)
        link_remember_absent(decision->link, decision->rpc, decision->generation);
}

/* A required handler that is not there refuses. */
static void insist(struct decision *decision)
{
    if (decision->outcome == ABSENT && decision->control->required[decision->rpc])
        unavailable(decision, xstrdup("a required handler is absent"));
}

/* What the answer does to the connection. False: the decision has ended and its callback must not
 * be made. */
static bool apply_common(struct decision *decision, const Policy__Common *common)
{
    void *owner;
    const struct asker_events *events = asker_events(decision->asker, &owner);

    if (common == NULL)
        return true;
    if (common->new_state_case == POLICY__COMMON__NEW_STATE_STATE && !decision->probe)
        asker_set_state(decision->asker, bytes_of(common->state.data, common->state.len),
                        decision->epoch);
    if (common->disconnect != NULL) {
        if (events != NULL && events->disconnect != NULL)
            events->disconnect(owner, common->disconnect->code, common->disconnect->reason,
                               common->disconnect->language);
        return false;
    }
    if (common->banner != NULL && events != NULL && events->banner != NULL)
        events->banner(owner, common->banner->text, common->banner->language);
    return decision->asker != NULL; /* unless the callback cancelled it */
}

static void tell(struct decision *decision)
{
    const Policy__Common *common = NULL;
    const ProtobufCMessage *answer = NULL;
    struct arena arena = {0};
    bool go_on = true;

    decision->state = DECISION_TELLING;
    judge(decision);
    if (decision->outcome == ANSWERED)
        answer = decode(decision, &arena);
    insist(decision);
    if (answer != NULL)
        common = codec_submessage(answer, "common", &policy__common__descriptor);
    log_decision(decision, answer, common);
    control_count(decision->control, decision->rpc, decision->outcome);
    if (decision->asker != NULL && !decision->report)
        go_on = apply_common(decision, common);
    if (!go_on && decision->asker != NULL) {
        decision->state = DECISION_SILENT;
    } else if (decision->asker != NULL) {
        LIST_REMOVE(decision, entry); /* the callback may free the asker */
        decision->asker = NULL;
        if (decision->done != NULL)
            decision->done(decision->owner, decision->outcome, answer);
    }
    arena_clear(&arena);
}

static void deliver(struct letter *letter)
{
    struct decision *decision = CONTAINER(letter, struct decision, letter);

    if (decision->asker != NULL || decision->report)
        tell(decision);
    /* After a disconnect its owner may still hold the handle, and cancel it later. */
    if (decision->state == DECISION_SILENT)
        return;
    decision_free(decision);
}

static void on_end(struct tag *tag, bool ok)
{
    struct decision *decision = CONTAINER(tag, struct decision, tag);
    struct loop *loop = decision->loop;

    (void)ok; /* the status says it all */
    cq_remove(&decision->control->cq, &decision->live);
    loop_post(loop, &decision->letter);
}

/* ---- the beginning */

/* False: the call could not start; *why. */
static bool start_call(struct decision *decision, ProtobufCMessage *request)
{
    struct control *control = decision->control;
    gpr_timespec deadline =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                     gpr_time_from_millis(control->deadline_ms[decision->rpc], GPR_TIMESPAN));
    grpc_slice packed;

    codec_set_context(request, asker_context_for(decision->asker, decision->question_id));
    if (!call_pack(request, &packed, &decision->why)) {
        codec_set_context(request, NULL);
        return false;
    }
    codec_set_context(request, NULL);
    decision->request = grpc_raw_byte_buffer_create(&packed, 1);
    grpc_slice_unref(packed);
    call_metadata_init(&decision->metadata, control, decision->connection_id,
                       decision->question_id);
    decision->live.call = link_call(decision->link, decision->rpc, deadline);
    decision->tag.done = on_end;
    cq_add(&control->cq, &decision->live);

    const grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA,
         .data.send_initial_metadata = {.count = decision->metadata.count,
                                        .metadata = decision->metadata.items}},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = decision->request},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &decision->end.initial},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &decision->answer},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {.trailing_metadata = &decision->end.trailing,
                                        .status = &decision->end.status,
                                        .status_details = &decision->end.details,
                                        .error_string = &decision->end.debug}},
    };
    if (cq_batch(decision->live.call, ops, sizeof(ops) / sizeof(ops[0]), &decision->tag))
        return true;
    cq_remove(&control->cq, &decision->live);
    grpc_call_unref(decision->live.call);
    decision->live.call = NULL;
    decision->why = xstrdup("gRPC refused the call");
    return false;
}

static struct decision *decision_new(struct asker *asker, enum rpc rpc)
{
    struct decision *decision = xcalloc(1, sizeof(*decision));

    decision->control = asker_control(asker);
    control_ref(decision->control);
    decision->asker = asker;
    LIST_INSERT_HEAD(asker_decisions(asker), decision, entry);
    decision->loop = asker_loop(asker);
    decision->link = decision->control->decisions;
    decision->generation = link_generation(decision->link);
    decision->rpc = rpc;
    decision->epoch = asker_epoch(asker);
    decision->started_ms = clock_ms();
    decision->letter.deliver = deliver;
    memcpy(decision->connection_id, asker_connection_id(asker), sizeof(decision->connection_id));
    random_id(decision->question_id);
    call_end_init(&decision->end);
    return decision;
}

/* Nobody waits for a report: a flood of clients that leave again must not take the room of
 * questions that somebody does wait for. */
static bool is_full(struct decision *decision)
{
    unsigned most = decision->control->max_in_flight;

    decision->counted = true;
    return atomic_fetch_add(&decision->control->in_flight, 1) >=
           (decision->report ? most / 2 : most);
}

/* Sends it, or lets it end on the loop, later, if there is no sense in that. */
static void decision_start(struct decision *decision, ProtobufCMessage *request)
{
    assert(request->descriptor == rpc_input(decision->rpc));
    if (link_is_absent(decision->link, decision->rpc)) {
        decision->outcome = ABSENT;
        decision->why = xstrdup("remembered");
    } else if (is_full(decision)) {
        unavailable(decision, xstrdup("too many decisions in flight"));
    } else if (start_call(decision, request)) {
        return;
    } else {
        decision->outcome = UNAVAILABLE;
    }
    leave_flight(decision); /* it only waits to be heard */
    loop_post(decision->loop, &decision->letter);
}

struct decision *asker_ask(struct asker *asker, enum rpc rpc, ProtobufCMessage *request, int flags,
                           answer_fn *done, void *owner)
{
    struct decision *decision = decision_new(asker, rpc);

    assert(rpc_row(rpc)->verb != RPC_STREAM);
    decision->probe = (flags & ASK_PROBE) != 0;
    decision->done = done;
    decision->owner = owner;
    decision_start(decision, request);
    return decision;
}

void asker_report(struct asker *asker, enum rpc rpc, ProtobufCMessage *request)
{
    struct decision *decision = decision_new(asker, rpc);

    assert(rpc_row(rpc)->verb != RPC_STREAM);
    decision->report = true;
    decision_start(decision, request);
}

/* ---- the end from our side */

void decision_cancel(struct decision **where)
{
    struct decision *decision = *where;

    *where = NULL;
    if (decision == NULL)
        return;
    decision->done = NULL;
    if (decision->asker != NULL)
        LIST_REMOVE(decision, entry);
    decision->asker = NULL;
    switch (decision->state) {
    case DECISION_ASKED:
        control_count(decision->control, decision->rpc, END_CANCELLED);
        if (decision->live.call != NULL)
            grpc_call_cancel(decision->live.call, NULL);
        break;
    case DECISION_TELLING:
        break;
    case DECISION_SILENT:
        decision_free(decision);
        break;
    }
}

void decisions_leave(struct decision_list *list)
{
    struct decision *decision;

    while ((decision = LIST_FIRST(list)) != NULL) {
        assert(decision->report || decision->state == DECISION_SILENT);
        LIST_REMOVE(decision, entry);
        decision->asker = NULL;
        if (!decision->report)
            decision_free(decision);
    }
}
