/* Idle connections, logged in, without a channel (or with one, if a command is given). */
#include "load.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

struct holder {
    const struct options *options;
    ssh_session *sessions;
    atomic_uint *next;
    pthread_t thread;
};

static void *run(void *arg)
{
    struct holder *holder = arg;
    const char *command = holder->options->command;
    unsigned index;

    while ((index = atomic_fetch_add(holder->next, 1)) < holder->options->count) {
        ssh_session session = client_login(holder->options, index);

        /* The channel lives as long as its session. */
        if (session != NULL && command[0] != '\0' && client_exec(session, command) == NULL) {
            client_close(session, NULL);
            session = NULL;
        }
        holder->sessions[index] = session;
    }
    return NULL;
}

/* The server has not closed it. */
static bool is_alive(ssh_session session)
{
    char byte;
    ssize_t got = recv(ssh_get_fd(session), &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    return got != 0;
}

static unsigned count_alive(ssh_session *sessions, unsigned count)
{
    unsigned alive = 0;

    for (unsigned i = 0; i < count; i++)
        alive += sessions[i] != NULL && is_alive(sessions[i]);
    return alive;
}

int load_hold(const struct options *options)
{
    struct holder *holders = calloc(options->parallel, sizeof(*holders));
    ssh_session *sessions = calloc(options->count, sizeof(ssh_session));
    atomic_uint next = 0;
    unsigned alive;
    double start = now_ms();

    for (unsigned i = 0; i < options->parallel; i++) {
        holders[i] = (struct holder){.options = options, .sessions = sessions, .next = &next};
        pthread_create(&holders[i].thread, NULL, run, &holders[i]);
    }
    for (unsigned i = 0; i < options->parallel; i++)
        pthread_join(holders[i].thread, NULL);
    alive = count_alive(sessions, options->count);
    printf("{\"mode\": \"hold\", \"held\": %u, \"seconds\": %.3f}\n", alive,
           (now_ms() - start) / 1e3);
    load_wait("holding");
    alive = count_alive(sessions, options->count);
    printf("{\"mode\": \"held\", \"alive\": %u}\n", alive);
    for (unsigned i = 0; i < options->count; i++)
        if (sessions[i] != NULL)
            client_close(sessions[i], NULL);
    free(sessions);
    free(holders);
    return alive != options->count;
}
