#include "worker.h"

#include "base/alloc.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHUTDOWN_REASON "the server is shutting down"

static const struct timeval drain_interval = {0, 20000};

bool worker_init(struct worker *worker, size_t index, const struct transport_settings *settings,
                 char **error)
{
    *worker = (struct worker){.index = index, .loop = loop_new()};
    if (worker->loop == NULL) {
        *error = xstrdup("cannot make an event loop: no descriptors left");
        return false;
    }
    worker->server = transport_server_new(worker->loop, settings, error);
    return worker->server != NULL;
}

static void close_listeners(struct worker *worker)
{
    for (size_t i = 0; i < worker->listener_count; i++)
        listener_free(&worker->listeners[i]);
    worker->listener_count = 0;
}

static void on_drain_check(evutil_socket_t fd, short what, void *arg)
{
    struct worker *worker = arg;

    (void)fd;
    (void)what;
    if (conns_count(worker->conns) > 0)
        event_add(worker->drain_check, &drain_interval);
    else
        loop_post(worker->main_loop, &worker->drained);
}

static void on_drain(struct letter *letter)
{
    struct worker *worker = (struct worker *)((char *)letter - offsetof(struct worker, drain));

    close_listeners(worker);
    conns_disconnect_all(worker->conns, SHUTDOWN_REASON);
    on_drain_check(-1, 0, worker);
}

void worker_drain(struct worker *worker, struct loop *main_loop)
{
    worker->main_loop = main_loop;
    worker->drain.deliver = on_drain;
    loop_post(worker->loop, &worker->drain);
}

static void on_accepted(void *owner, int fd, const struct address *peer,
                        const struct address *local)
{
    struct worker *worker = owner;

    conns_accept(worker->conns, fd, peer, local);
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;

    loop_run(worker->loop);
    close_listeners(worker);
    conns_free(&worker->conns);
    loop_run(
        worker
            ->loop); /* stopped already: runs only what that deferred, while control still exists */
    return NULL;
}

bool worker_start(struct worker *worker, struct control *control,
                  const struct conn_settings *settings, struct listener_ports *ports, char **error)
{
    char name[16];
    int failed;

    worker->conns = conns_new(worker->loop, control, worker->server, settings);
    worker->drain_check = event_new(loop_events(worker->loop), -1, 0, on_drain_check, worker);
    worker->listeners = xcalloc(ports->count, sizeof(*worker->listeners));
    for (size_t i = 0; i < ports->count; i++) {
        int *fd = &ports->ports[i].fds[worker->index];

        worker->listeners[worker->listener_count++] =
            listener_new(worker->loop, *fd, on_accepted, worker);
        *fd = -1;
    }
    failed = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (failed != 0) {
        *error = xasprintf("cannot start a worker thread: %s", strerror(failed));
        return false;
    }
    worker->has_thread = true;
    snprintf(name, sizeof(name), "worker-%u", (unsigned)worker->index & 0xffff);
    pthread_setname_np(worker->thread, name);
    return true;
}

void worker_join(struct worker *worker)
{
    if (worker->loop == NULL)
        return;
    loop_stop(worker->loop);
    if (worker->has_thread)
        pthread_join(worker->thread, NULL);
    else if (worker->conns != NULL)
        worker_main(worker); /* its thread could not be started */
    worker->has_thread = false;
}

void worker_clear(struct worker *worker)
{
    if (worker->drain_check != NULL)
        event_free(worker->drain_check);
    transport_server_free(&worker->server);
    loop_free(&worker->loop);
    free(worker->listeners);
}
