/* Login and exec in a loop. */
#include "load.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct runner {
    const struct options *options;
    atomic_uint *next;
    pthread_t thread;
    unsigned failed;
    struct samples login, total;
};

static bool run_one(struct runner *runner, unsigned index)
{
    double start = now_ms(), in;
    ssh_session session = client_login(runner->options, index);
    ssh_channel channel;
    int status = -1;

    if (session == NULL)
        return false;
    in = now_ms();
    channel = client_exec(session, runner->options->command);
    if (channel != NULL)
        client_drain(channel, &status);
    client_close(session, channel);
    if (status != 0)
        return false;
    samples_add(&runner->login, in - start);
    samples_add(&runner->total, now_ms() - start);
    return true;
}

static void *run(void *arg)
{
    struct runner *runner = arg;
    unsigned index;

    while ((index = atomic_fetch_add(runner->next, 1)) < runner->options->count)
        runner->failed += !run_one(runner, index);
    return NULL;
}

int load_login(const struct options *options)
{
    struct runner *runners = calloc(options->parallel, sizeof(*runners));
    struct samples login = {0}, total = {0};
    atomic_uint next = 0;
    unsigned failed = 0;
    double start = now_ms(), seconds;

    for (unsigned i = 0; i < options->parallel; i++) {
        runners[i].options = options;
        runners[i].next = &next;
        pthread_create(&runners[i].thread, NULL, run, &runners[i]);
    }
    for (unsigned i = 0; i < options->parallel; i++) {
        pthread_join(runners[i].thread, NULL);
        failed += runners[i].failed;
        samples_join(&login, &runners[i].login);
        samples_join(&total, &runners[i].total);
        samples_clear(&runners[i].login);
        samples_clear(&runners[i].total);
    }
    seconds = (now_ms() - start) / 1e3;
    free(runners);
    printf("{\"mode\": \"login\", \"done\": %zu, \"failed\": %u, \"seconds\": %.4f, "
           "\"per_second\": %.2f, \"login_p50_ms\": %.3f, \"login_p99_ms\": %.3f, "
           "\"total_p50_ms\": %.3f, \"total_p99_ms\": %.3f}\n",
           total.count, failed, seconds, (double)total.count / seconds, samples_at(&login, 0.5),
           samples_at(&login, 0.99), samples_at(&total, 0.5), samples_at(&total, 0.99));
    samples_clear(&login);
    samples_clear(&total);
    return failed > 0;
}
