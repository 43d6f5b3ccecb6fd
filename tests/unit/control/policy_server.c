/* The server: what it is told to do, what it saw, and its thread. */
#include "policy_server_internal.h"

#include "base/alloc.h"
#include "base/loop.h"

#include "parley/policy/v1/policy.pb-c.h"

#include <assert.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS 5

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
    call->started = true;
    note_call(call);
    call_play(call);
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
        call_answer(call);
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
