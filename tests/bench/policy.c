/* parley-bench-policy unix:/path [KEY HOST_KEY]: serves until TERM or INT. One completion queue,
 * one thread. */
#include "policy.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>

static void *run(void *arg)
{
    struct policy *policy = arg;

    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(policy->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        struct tag *tag = event.tag;

        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        if (tag->done != NULL)
            tag->done(tag, event.success != 0);
        else
            grpc_completion_queue_shutdown(policy->queue); /* the server has ended */
    }
}

static bool serve(struct policy *policy, const char *address)
{
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    int bound;

    policy->queue = grpc_completion_queue_create_for_next(NULL);
    policy->server = grpc_server_create(NULL, NULL);
    grpc_server_register_completion_queue(policy->server, policy->queue, NULL);
    asks_register(policy);
    channels_register(policy);
    bound = grpc_server_add_http2_port(policy->server, address, credentials);
    grpc_server_credentials_release(credentials);
    if (bound == 0)
        return false;
    grpc_server_start(policy->server);
    asks_arm(policy);
    channels_arm(policy);
    return true;
}

int main(int argc, char **argv)
{
    struct policy policy = {0};
    struct tag ended = {NULL};
    pthread_t thread;
    sigset_t stop;
    int signal;

    if ((argc != 2 && argc != 4) || (argc == 4 && !upstream_load(argv[2], argv[3]))) {
        fprintf(stderr, "usage: parley-bench-policy unix:/path [KEY HOST_KEY]\n");
        return 2;
    }
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
    grpc_init();
    if (!serve(&policy, argv[1])) {
        fprintf(stderr, "bench policy: cannot listen on %s\n", argv[1]);
        return 1;
    }
    pthread_create(&thread, NULL, run, &policy);
    printf("ready\n");
    fflush(stdout);
    sigwait(&stop, &signal);
    grpc_server_shutdown_and_notify(policy.server, policy.queue, &ended);
    grpc_server_cancel_all_calls(policy.server);
    pthread_join(thread, NULL);
    grpc_server_destroy(policy.server);
    grpc_completion_queue_destroy(policy.queue);
    grpc_shutdown();
    return 0;
}
