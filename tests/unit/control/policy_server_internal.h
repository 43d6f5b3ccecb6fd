/* What policy_server.c and policy_server_calls.c share. */
#ifndef PARLEY_TESTS_CONTROL_POLICY_SERVER_INTERNAL_H
#define PARLEY_TESTS_CONTROL_POLICY_SERVER_INTERNAL_H

#include "policy_server.h"

#include "control/tsan.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#define RPCS_MAX 64

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

/* Plays the script of a call that has come. */
void call_play(struct call *call);
/* Its question is answered, late or at once. */
void call_answer(struct call *call);

#endif
