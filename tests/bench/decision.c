/*
 * parley-bench-decision unix:/path ROUNDS CALLS: a decision of control/ beside a bare call of gRPC
 * C core with the same question, in turns. Prints one JSON line a round.
 */
#include "decision.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP 200

struct worker {
    int to, from;
    pid_t pid;
};

struct result {
    double p50, p99;
};

double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

/* The child: a round for each byte that comes. */
static void serve(const struct side *kind, const char *policy, size_t calls, int in, int out)
{
    double *us = calloc(calls > WARM_UP ? calls : WARM_UP, sizeof(*us));
    void *side = kind->open(policy);
    char go;

    kind->ask(side, us, WARM_UP);
    while (read(in, &go, 1) == 1) {
        struct result result;

        kind->ask(side, us, calls);
        qsort(us, calls, sizeof(*us), compare);
        result = (struct result){us[calls / 2], us[calls * 99 / 100]};
        if (write(out, &result, sizeof(result)) != (ssize_t)sizeof(result))
            break;
    }
    kind->close(side);
    free(us);
}

/* `other`: a worker started before, whose pipe the new one must not hold open. */
static struct worker start(const struct side *kind, const char *policy, size_t calls,
                           const struct worker *other)
{
    struct worker worker;
    int down[2], up[2];

    if (pipe(down) != 0 || pipe(up) != 0)
        exit(1);
    worker = (struct worker){.to = down[1], .from = up[0], .pid = fork()};
    if (worker.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(down[1]);
        close(up[0]);
        if (other != NULL)
            close(other->to);
        serve(kind, policy, calls, down[0], up[1]);
        exit(0);
    }
    close(down[0]);
    close(up[1]);
    return worker;
}

static struct result run(const struct worker *worker)
{
    struct result result;

    if (write(worker->to, "", 1) != 1 ||
        read(worker->from, &result, sizeof(result)) != (ssize_t)sizeof(result)) {
        fprintf(stderr, "bench decision: a side ended\n");
        exit(1);
    }
    return result;
}

int main(int argc, char **argv)
{
    struct worker asker, bare;
    int rounds, calls;

    if (argc != 4 || (rounds = atoi(argv[2])) < 1 || (calls = atoi(argv[3])) < 1) {
        fprintf(stderr, "usage: parley-bench-decision unix:/path ROUNDS CALLS\n");
        return 2;
    }
    asker = start(&side_asker, argv[1], (size_t)calls, NULL);
    bare = start(&side_bare, argv[1], (size_t)calls, &asker);
    for (int i = 0; i < rounds; i++) {
        struct result of_asker = run(&asker), of_bare = run(&bare);

        printf("{\"asker_p50_us\": %.2f, \"asker_p99_us\": %.2f, \"bare_p50_us\": %.2f, "
               "\"bare_p99_us\": %.2f}\n",
               of_asker.p50, of_asker.p99, of_bare.p50, of_bare.p99);
    }
    close(asker.to);
    close(bare.to);
    waitpid(asker.pid, NULL, 0);
    waitpid(bare.pid, NULL, 0);
    return 0;
}
