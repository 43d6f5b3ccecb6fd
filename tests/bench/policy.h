/* The policy that the bench measures with: says yes to everything, at once, on gRPC C core and
 * protobuf-c. */
#ifndef PARLEY_BENCH_POLICY_H
#define PARLEY_BENCH_POLICY_H

#include "parley/policy/v1/policy.pb-c.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTAINER(pointer, type, member)                                                           \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* What a batch is known by; done() runs on the one thread that waits at the queue. */
struct tag {
    void (*done)(struct tag *tag, bool ok);
};

struct policy {
    grpc_server *server;
    grpc_completion_queue *queue;
};

/* ---- policy_ask.c: unary handlers */

void asks_register(struct policy *policy); /* before the server starts */
void asks_arm(struct policy *policy);      /* after */

/* ---- policy_channel.c: Channel */

void channels_register(struct policy *policy);
void channels_arm(struct policy *policy);

/* ---- policy_upstream.c */

/* A user's private key, and the public host key of the servers. */
bool upstream_load(const char *key_file, const char *host_key_file);
/* NULL: this user's channels end here. */
Policy__UpstreamEndpoint *upstream_for(const Policy__Context *context);

/* ---- policy_wire.c */

grpc_byte_buffer *wire_pack(const ProtobufCMessage *message);
/* All bytes of a buffer as one slice; the caller unrefs it. */
grpc_slice wire_read(grpc_byte_buffer *buffer);
/* A ChannelEvent of kind data: offset and length of its payload, read from the first piece. False:
 * another kind. */
bool wire_is_data(grpc_byte_buffer *buffer, size_t *offset, size_t *len);
/* A ChannelAction of kind data. */
grpc_byte_buffer *wire_data(const uint8_t *data, size_t len);
/* A failed start_batch is a mistake of ours. */
void policy_batch(grpc_call *call, const grpc_op *ops, size_t count, struct tag *tag);

#endif
