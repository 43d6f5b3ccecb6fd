/* A policy in the test's own process: a gRPC core server on a Unix socket, told for each handler
 * what to do. */
#ifndef PARLEY_TESTS_CONTROL_POLICY_SERVER_H
#define PARLEY_TESTS_CONTROL_POLICY_SERVER_H

#include "base/bytes.h"

#include <grpc/status.h>
#include <protobuf-c/protobuf-c.h>

enum script_kind {
    SCRIPT_STATUS,        /* ends with `status` and `text`; the default, UNIMPLEMENTED */
    SCRIPT_ANSWER,        /* `answer`, status OK */
    SCRIPT_HANG,          /* never answers */
    SCRIPT_ECHO_PASSWORD, /* ValidatePassword: denies with the password as its message */
    /* streams */
    SCRIPT_ECHO,   /* each data comes back; ends OK after the client's end */
    SCRIPT_SINK,   /* reads all, then answers exit_status 0 and ends OK */
    SCRIPT_STALL,  /* reads nothing */
    SCRIPT_SOURCE, /* sends `count` times data of `size` bytes, then ends OK */
    SCRIPT_SEND,   /* sends `answer`, then `status` (OK is sent, too) */
};

struct script {
    enum script_kind kind;
    grpc_status_code status;
    const char *text;
    struct bytes answer; /* borrowed until the policy is stopped */
    unsigned delay_ms;   /* a random delay up to this before the answer */
    size_t count, size;
    bool compressed; /* the answer, with gzip */
};

struct policy_server;

/* tls_cert, tls_key, tls_client_ca: PEM text; NULL: plaintext. target: "unix:/path" or
 * "127.0.0.1:0" (see the port). */
struct policy_server *policy_server_start(const char *target, const char *tls_cert,
                                          const char *tls_key, const char *tls_client_ca);
int policy_server_port(const struct policy_server *server);
void policy_server_set(struct policy_server *server, const char *rpc, struct script script);
/* Cancels every call and is gone when this returns. */
void policy_server_stop(struct policy_server **server);

/* What it saw. */
unsigned policy_server_calls(struct policy_server *server, const char *rpc);
/* The last request of this handler and its metadata "key=value\n..."; owned by the caller. */
struct buf policy_server_last_request(struct policy_server *server, const char *rpc);
char *policy_server_last_metadata(struct policy_server *server, const char *rpc);
/* Bytes of payload that streams received, and their FNV-1a hash in order. */
uint64_t policy_server_received(struct policy_server *server, uint64_t *hash);
uint64_t fnv1a(uint64_t hash, struct bytes b);
#define FNV1A_START UINT64_C(14695981039346656037)

/* Packed with malloc(). */
struct bytes packed(const ProtobufCMessage *message);

#endif
