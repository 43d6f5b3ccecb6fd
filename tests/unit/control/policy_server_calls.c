/* One call at the policy: a question and its scripted answer, or a stream. */
#include "policy_server_internal.h"

#include "base/alloc.h"
#include "base/loop.h"
#include "base/random.h"

#include "parley/policy/v1/policy.pb-c.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- questions */

static void batch(struct call *call, const grpc_op *ops, size_t count, struct tag *tag,
                  step_fn *step)
{
    grpc_call_error error;

    tag->call = call;
    tag->step = step;
    call->tags_out++;
    tsan_release(tag);
    error = grpc_call_start_batch(call->call, ops, count, tag, NULL);
    assert(error == GRPC_CALL_OK);
    (void)error;
}

static void on_done(struct call *call, bool ok)
{
    (void)call;
    (void)ok;
}

/* Sends the initial metadata alone: the stream is accepted. */
static void accept_stream(struct call *call)
{
    grpc_op op = {.op = GRPC_OP_SEND_INITIAL_METADATA};

    call->sent_initial = true;
    batch(call, &op, 1, &call->accept_tag, on_done);
}

static void on_end(struct call *call, bool ok)
{
    (void)ok;
    if (call->out != NULL)
        grpc_byte_buffer_destroy(call->out);
    call->out = NULL;
}

static grpc_byte_buffer *buffer_of(struct bytes b)
{
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)b.data, b.len);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    return buffer;
}

/* Ends the call; takes `message`, which may be NULL. */
static void end(struct call *call, grpc_byte_buffer *message, grpc_status_code status,
                const char *text)
{
    grpc_slice details = grpc_slice_from_copied_string(text ? text : "");
    /* What gRPC itself asks its compressing filter with. */
    grpc_metadata gzip = {.key = grpc_slice_from_static_string("grpc-internal-encoding-request"),
                          .value = grpc_slice_from_static_string("gzip")};
    grpc_op ops[3] = {0};
    size_t count = 0;

    if (call->ending)
        return;
    call->ending = true;
    if (!call->sent_initial) {
        ops[count].op = GRPC_OP_SEND_INITIAL_METADATA;
        ops[count].data.send_initial_metadata.count = call->script.compressed;
        ops[count++].data.send_initial_metadata.metadata = &gzip;
    }
    call->sent_initial = true;
    if (message != NULL) {
        call->out = message;
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = message;
    }
    ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[count].data.send_status_from_server.status = status;
    ops[count++].data.send_status_from_server.status_details = &details;
    batch(call, ops, count, &call->end_tag, on_end);
    grpc_slice_unref(details);
}

static struct buf contents(grpc_byte_buffer *buffer)
{
    grpc_byte_buffer_reader reader;
    grpc_slice slice;
    struct buf out = {0};

    grpc_byte_buffer_reader_init(&reader, buffer);
    slice = grpc_byte_buffer_reader_readall(&reader);
    buf_put(&out, bytes_of(GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice)));
    grpc_slice_unref(slice);
    grpc_byte_buffer_reader_destroy(&reader);
    return out;
}

static void answer_password(struct call *call)
{
    struct buf request = contents(call->in);
    Policy__ValidatePasswordRequest *asked =
        policy__validate_password_request__unpack(NULL, request.len, request.data);
    Policy__PasswordAnswer answer = POLICY__PASSWORD_ANSWER__INIT;
    Policy__Deny deny = POLICY__DENY__INIT;
    struct bytes wire;

    assert(asked != NULL);
    deny.message = asked->password;
    answer.outcome_case = POLICY__PASSWORD_ANSWER__OUTCOME_DENY;
    answer.deny = &deny;
    wire = packed(&answer.base);
    end(call, buffer_of(wire), GRPC_STATUS_OK, NULL);
    free((void *)wire.data);
    policy__validate_password_request__free_unpacked(asked, NULL);
    buf_clear(&request);
}

void call_answer(struct call *call)
{
    const struct script *script = &call->script;

    switch (script->kind) {
    case SCRIPT_ANSWER:
        end(call, buffer_of(script->answer), GRPC_STATUS_OK, NULL);
        break;
    case SCRIPT_ECHO_PASSWORD:
        answer_password(call);
        break;
    case SCRIPT_STATUS:
        end(call, NULL, script->status, script->text);
        break;
    default:
        break;
    }
}

static void note_request(struct call *call)
{
    struct policy_server *server = call->server;
    struct buf request = contents(call->in);

    pthread_mutex_lock(&server->lock);
    buf_clear(&call->served->last_request);
    call->served->last_request = request;
    pthread_mutex_unlock(&server->lock);
}

static void on_request(struct call *call, bool ok)
{
    if (!ok || call->in == NULL) {
        end(call, NULL, GRPC_STATUS_INTERNAL, "no request");
        return;
    }
    note_request(call);
    if (call->script.delay_ms > 0) {
        call->due_ms = clock_ms() + random_below(call->script.delay_ms);
        call->is_delayed = true;
        LIST_INSERT_HEAD(&call->server->delayed, call, entry);
        return;
    }
    call_answer(call);
}

/* ---- streams */

static void read_more(struct call *call, step_fn *step);

static void send_out(struct call *call, grpc_byte_buffer *message, step_fn *step)
{
    grpc_op ops[2] = {0};
    size_t count = 0;

    call->out = message;
    if (!call->sent_initial)
        ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    call->sent_initial = true;
    ops[count].op = GRPC_OP_SEND_MESSAGE;
    ops[count++].data.send_message.send_message = message;
    batch(call, ops, count, &call->out_tag, step);
}

static void send_action(struct call *call, Policy__ChannelAction *action, step_fn *step)
{
    struct bytes wire = packed(&action->base);

    send_out(call, buffer_of(wire), step);
    free((void *)wire.data);
}

static void send_data(struct call *call, struct bytes payload, step_fn *step)
{
    Policy__ChannelAction action = POLICY__CHANNEL_ACTION__INIT;
    Policy__ChannelData data = POLICY__CHANNEL_DATA__INIT;

    data.payload.data = (uint8_t *)payload.data;
    data.payload.len = payload.len;
    action.action_case = POLICY__CHANNEL_ACTION__ACTION_DATA;
    action.data = &data;
    send_action(call, &action, step);
}

static bool drop_out(struct call *call, bool ok)
{
    grpc_byte_buffer_destroy(call->out);
    call->out = NULL;
    if (!ok)
        end(call, NULL, GRPC_STATUS_CANCELLED, NULL);
    return ok;
}

static void on_event(struct call *call, bool ok);

static void on_echoed(struct call *call, bool ok)
{
    if (drop_out(call, ok))
        read_more(call, on_event);
}

static void on_sunk(struct call *call, bool ok)
{
    if (drop_out(call, ok))
        end(call, NULL, GRPC_STATUS_OK, NULL);
}

static void sink_ended(struct call *call)
{
    Policy__ChannelAction action = POLICY__CHANNEL_ACTION__INIT;
    Policy__ExitStatus exit_status = POLICY__EXIT_STATUS__INIT;

    action.action_case = POLICY__CHANNEL_ACTION__ACTION_EXIT_STATUS;
    action.exit_status = &exit_status;
    send_action(call, &action, on_sunk);
}

static void take_event(struct call *call, const Policy__ChannelEvent *event)
{
    struct policy_server *server = call->server;
    struct bytes payload;

    if (event->event_case != POLICY__CHANNEL_EVENT__EVENT_DATA) {
        read_more(call, on_event);
        return;
    }
    payload = bytes_of(event->data->payload.data, event->data->payload.len);
    pthread_mutex_lock(&server->lock);
    server->received += payload.len;
    server->hash = fnv1a(server->hash, payload);
    pthread_mutex_unlock(&server->lock);
    if (call->script.kind == SCRIPT_ECHO)
        send_data(call, payload, on_echoed);
    else
        read_more(call, on_event);
}

static void on_event(struct call *call, bool ok)
{
    struct buf wire;
    Policy__ChannelEvent *event;

    if (!ok || call->in == NULL) {
        if (call->script.kind == SCRIPT_SINK)
            sink_ended(call);
        else
            end(call, NULL, GRPC_STATUS_OK, NULL);
        return;
    }
    wire = contents(call->in);
    grpc_byte_buffer_destroy(call->in);
    call->in = NULL;
    event = policy__channel_event__unpack(NULL, wire.len, wire.data);
    assert(event != NULL);
    take_event(call, event);
    policy__channel_event__free_unpacked(event, NULL);
    buf_clear(&wire);
}

static void read_more(struct call *call, step_fn *step)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->in};

    batch(call, &op, 1, &call->in_tag, step);
}

static void on_source_sent(struct call *call, bool ok);

static void send_next(struct call *call)
{
    uint8_t *payload;

    if (call->sent++ == call->script.count) {
        end(call, NULL, GRPC_STATUS_OK, NULL);
        return;
    }
    payload = xmalloc(call->script.size);
    memset(payload, (int)call->sent, call->script.size);
    send_data(call, bytes_of(payload, call->script.size), on_source_sent);
    free(payload);
}

static void on_source_sent(struct call *call, bool ok)
{
    if (drop_out(call, ok))
        send_next(call);
}

/* ---- what is played */

void call_play(struct call *call)
{
    grpc_op close = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                     .data.recv_close_on_server.cancelled = &call->cancelled};

    batch(call, &close, 1, &call->close_tag, on_done);
    switch (call->script.kind) {
    case SCRIPT_ECHO:
    case SCRIPT_SINK:
        accept_stream(call);
        read_more(call, on_event);
        break;
    case SCRIPT_STALL:
        accept_stream(call);
        break;
    case SCRIPT_SOURCE:
        send_next(call);
        break;
    case SCRIPT_SEND:
        end(call, buffer_of(call->script.answer), call->script.status, call->script.text);
        break;
    default:
        read_more(call, on_request);
    }
}
