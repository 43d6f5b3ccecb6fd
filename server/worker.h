/* One worker: a thread with its loop, its own host keys and listeners, and its connections for
 * life. */
#ifndef PARLEY_WORKER_H
#define PARLEY_WORKER_H

#include "base/helpers.h"
#include "config/config.h"
#include "conn/conn.h"
#include "listeners/admission.h"
#include "listeners/listener.h"

#include <pthread.h>

/* What all workers borrow from the daemon. */
struct worker_shared {
    const struct config *config;
    struct helpers *helpers;
    const struct gss_settings *gss; /* NULL: GSSAPI is off */
};

/* Belongs to its own thread from worker_start() to worker_join(), but for the letters' way. */
struct worker {
    size_t index;
    const struct worker_shared *shared;
    const struct config *config;
    struct loop *loop;
    struct transport_server *server;
    struct conns *conns;
    /* The process's, given before the start */
    struct admission *admission;
    const struct siphash_key *delay_key;
    struct listener **listeners;
    size_t listener_count;

    struct event *drain_check;
    void *owner;           /* the caller's, for drained.deliver() */
    struct letter drain;   /* to us: accept no more, disconnect everyone */
    struct letter drained; /* to the main loop: nobody is left */
    struct loop *main_loop;

    pthread_t thread;
    bool has_thread;
};

/* Main thread. Loop and host keys; false: *error is set. */
bool worker_init(struct worker *worker, size_t index, const struct worker_shared *shared,
                 char **error);
/* Takes its socket of each port. */
bool worker_start(struct worker *worker, struct control *control, struct listener_ports *ports,
                  char **error);
/* Posts worker->drained to `main_loop` when the last client has gone; its deliver() is the caller's
 * to set before. */
void worker_drain(struct worker *worker, struct loop *main_loop);
/* Ends what is left. The loop lives on: control may still hand letters over until control_free().
 */
void worker_join(struct worker *worker);
void worker_clear(struct worker *worker);

#endif
