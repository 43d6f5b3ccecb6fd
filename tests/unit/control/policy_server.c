#include "policy_server.h"

#include "base/alloc.h"
#include "base/loop.h"
#include "base/random.h"

#include "parley/policy/v1/policy.pb-c.h"

#include <assert.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define RPCS_MAX 64
#define POLL_MS  5

#if defined(__SANITIZE_THREAD__)
void __tsan_release(void *address);
void __tsan_acquire(void *address);
#define tsan_release __tsan_release
#define tsan_acquire __tsan_acquire
#else
#define tsan_release(address) ((void)(address))
#define tsan_acquire(address) ((void)(address))
#endif

struct served {
    char name[48];
    struct script script;
    unsigned calls;
    struct buf last_request;
    char *last_metadata;
};

struct policy_server {
    grpc_server *server;
    grpc_completion_queue *cq;
    pthread_t thread;
    int port;
    atomic_bool stopping;
    pthread_mutex_t lock; /* guards what follows */
    struct served served[RPCS_MAX];
    size_t served_count;
    uint64_t received, hash;
    /* The thread's own. */
    LIST_HEAD(, call) delayed;
    unsigned calls;
    bool down; /* no new calls will come */
};

struct call;
typedef void step_fn(struct call *call, bool ok);
struct tag {
    struct call *call;
    step_fn *step;
};

struct call {
    LIST_ENTRY(call) entry;
    bool is_delayed;
    uint64_t due_ms;
    struct policy_server *server;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *in, *out;
    int cancelled;
    unsigned tags_out;
    bool started, sent_initial, ending;
    struct served *served;
    struct script script;
    size_t sent;
    struct tag new_tag, in_tag, out_tag, close_tag, end_tag, accept_tag;
};

uint64_t fnv1a(uint64_t hash, struct bytes b)
{
    for (size_t i = 0; i < b.len; i++)
        hash = (hash ^ b.data[i]) * UINT64_C(1099511628211);
    return hash;
}

struct bytes packed(const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *data = xmalloc(len + 1);

    protobuf_c_message_pack(message, data);
    return bytes_of(data, len);
}

static struct served *find(struct policy_server *server, const char *name)
{
    struct served *served;

    for (size_t i = 0; i < server->served_count; i++)
        if (strcmp(server->served[i].name, name) == 0)
            return &server->served[i];
    assert(server->served_count < RPCS_MAX);
    served = &server->served[server->served_count++];
    snprintf(served->name, sizeof(served->name), "%s", name);
    served->script.status = GRPC_STATUS_UNIMPLEMENTED;
    return served;
}

/* ---- one call */

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

static void answer_now(struct call *call)
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
    answer_now(call);
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

/* ---- arrivals */

static void note_call(struct call *call)
{
    struct policy_server *server = call->server;
    const char *path = (const char *)GRPC_SLICE_START_PTR(call->details.method);
    size_t len = GRPC_SLICE_LENGTH(call->details.method);
    const char *prefix = "/parley.policy.v1.Policy/";
    struct buf metadata = {0};
    char *name;

    assert(len > strlen(prefix) && memcmp(path, prefix, strlen(prefix)) == 0);
    name = bytes_to_string(bytes_of(path + strlen(prefix), len - strlen(prefix)));
    for (size_t i = 0; i < call->metadata.count; i++) {
        grpc_metadata *item = &call->metadata.metadata[i];

        buf_put(&metadata, bytes_of(GRPC_SLICE_START_PTR(item->key), GRPC_SLICE_LENGTH(item->key)));
        buf_put_u8(&metadata, '=');
        buf_put(&metadata,
                bytes_of(GRPC_SLICE_START_PTR(item->value), GRPC_SLICE_LENGTH(item->value)));
        buf_put_u8(&metadata, '\n');
    }
    pthread_mutex_lock(&server->lock);
    call->served = find(server, name);
    call->served->calls++;
    call->script = call->served->script;
    free(call->served->last_metadata);
    call->served->last_metadata = bytes_to_string(buf_bytes(&metadata));
    pthread_mutex_unlock(&server->lock);
    buf_clear(&metadata);
    free(name);
}

static void begin(struct call *call)
{
    grpc_op close = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                     .data.recv_close_on_server.cancelled = &call->cancelled};

    call->started = true;
    note_call(call);
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

static void accept_call(struct policy_server *server);

static void on_new(struct call *call, bool ok)
{
    if (!ok)
        return; /* the server is shutting down */
    accept_call(call->server);
    begin(call);
}

static void accept_call(struct policy_server *server)
{
    struct call *call = xcalloc(1, sizeof(*call));
    grpc_call_error error;

    call->server = server;
    server->calls++;
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    call->new_tag = (struct tag){call, on_new};
    call->tags_out = 1;
    tsan_release(&call->new_tag);
    error = grpc_server_request_call(server->server, &call->call, &call->details, &call->metadata,
                                     server->cq, server->cq, &call->new_tag);
    assert(error == GRPC_CALL_OK);
    (void)error;
}

static void call_free(struct call *call)
{
    call->server->calls--;
    if (call->is_delayed)
        LIST_REMOVE(call, entry);
    if (call->in != NULL)
        grpc_byte_buffer_destroy(call->in);
    if (call->out != NULL)
        grpc_byte_buffer_destroy(call->out);
    grpc_call_details_destroy(&call->details);
    grpc_metadata_array_destroy(&call->metadata);
    if (call->call != NULL)
        grpc_call_unref(call->call);
    free(call);
}

/* ---- the thread */

static void answer_delayed(struct policy_server *server)
{
    uint64_t now = clock_ms();
    struct call *call, *next;

    for (call = LIST_FIRST(&server->delayed); call != NULL; call = next) {
        next = LIST_NEXT(call, entry);
        if (call->due_ms > now)
            continue;
        LIST_REMOVE(call, entry);
        call->is_delayed = false;
        answer_now(call);
    }
}

static void *serve(void *arg)
{
    struct policy_server *server = arg;

    for (;;) {
        gpr_timespec until =
            gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(POLL_MS, GPR_TIMESPAN));
        grpc_event event = grpc_completion_queue_next(server->cq, until, NULL);

        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        if (event.type == GRPC_OP_COMPLETE && event.tag != server) {
            struct tag *tag = event.tag;
            struct call *call = tag->call;

            tsan_acquire(tag);
            call->tags_out--;
            tag->step(call, event.success != 0);
            if (call->tags_out == 0)
                call_free(call);
        } else if (event.type == GRPC_OP_COMPLETE) {
            server->down = true;
        }
        if (server->down && server->calls == 0) {
            grpc_completion_queue_shutdown(server->cq);
            server->down = false;
        }
        if (!atomic_load(&server->stopping))
            answer_delayed(server);
    }
}

static grpc_server_credentials *credentials(const char *cert, const char *key,
                                            const char *client_ca)
{
    grpc_ssl_pem_key_cert_pair pair = {key, cert};

    if (cert == NULL)
        return grpc_insecure_server_credentials_create();
    return grpc_ssl_server_credentials_create_ex(
        client_ca, &pair, 1,
        client_ca ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                  : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
        NULL);
}

struct policy_server *policy_server_start(const char *target, const char *tls_cert,
                                          const char *tls_key, const char *tls_client_ca)
{
    grpc_arg args[] = {
        {GRPC_ARG_INTEGER, (char *)GRPC_ARG_HTTP2_BDP_PROBE, {.integer = 0}},
        {GRPC_ARG_INTEGER, (char *)GRPC_ARG_ALLOW_REUSEPORT, {.integer = 0}},
    };
    grpc_channel_args list = {2, args};
    struct policy_server *server = xcalloc(1, sizeof(*server));
    grpc_server_credentials *creds;

    grpc_init();
    pthread_mutex_init(&server->lock, NULL);
    LIST_INIT(&server->delayed);
    server->hash = FNV1A_START;
    server->cq = grpc_completion_queue_create_for_next(NULL);
    server->server = grpc_server_create(&list, NULL);
    grpc_server_register_completion_queue(server->server, server->cq, NULL);
    creds = credentials(tls_cert, tls_key, tls_client_ca);
    server->port = grpc_server_add_http2_port(server->server, target, creds);
    grpc_server_credentials_release(creds);
    assert(server->port != 0);
    grpc_server_start(server->server);
    for (int i = 0; i < 8; i++)
        accept_call(server);
    pthread_create(&server->thread, NULL, serve, server);
    return server;
}

int policy_server_port(const struct policy_server *server)
{
    return server->port;
}

void policy_server_set(struct policy_server *server, const char *rpc, struct script script)
{
    pthread_mutex_lock(&server->lock);
    find(server, rpc)->script = script;
    pthread_mutex_unlock(&server->lock);
}

void policy_server_stop(struct policy_server **where)
{
    struct policy_server *server = *where;

    *where = NULL;
    atomic_store(&server->stopping, true);
    grpc_server_shutdown_and_notify(server->server, server->cq, server);
    grpc_server_cancel_all_calls(server->server);
    pthread_join(server->thread, NULL);
    grpc_server_destroy(server->server);
    grpc_completion_queue_destroy(server->cq);
    for (size_t i = 0; i < server->served_count; i++) {
        buf_clear(&server->served[i].last_request);
        free(server->served[i].last_metadata);
    }
    pthread_mutex_destroy(&server->lock);
    free(server);
    grpc_shutdown();
}

unsigned policy_server_calls(struct policy_server *server, const char *rpc)
{
    unsigned calls;

    pthread_mutex_lock(&server->lock);
    calls = find(server, rpc)->calls;
    pthread_mutex_unlock(&server->lock);
    return calls;
}

struct buf policy_server_last_request(struct policy_server *server, const char *rpc)
{
    struct buf copy = {0};

    pthread_mutex_lock(&server->lock);
    buf_put(&copy, buf_bytes(&find(server, rpc)->last_request));
    pthread_mutex_unlock(&server->lock);
    return copy;
}

char *policy_server_last_metadata(struct policy_server *server, const char *rpc)
{
    char *copy;

    pthread_mutex_lock(&server->lock);
    copy = xstrdup(find(server, rpc)->last_metadata ? find(server, rpc)->last_metadata : "");
    pthread_mutex_unlock(&server->lock);
    return copy;
}

uint64_t policy_server_received(struct policy_server *server, uint64_t *hash)
{
    uint64_t received;

    pthread_mutex_lock(&server->lock);
    received = server->received;
    if (hash != NULL)
        *hash = server->hash;
    pthread_mutex_unlock(&server->lock);
    return received;
}
