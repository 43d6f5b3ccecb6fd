#include "worker.h"

#include "base/alloc.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHUTDOWN_REASON "the server is shutting down"

static const struct timeval drain_interval = {0, 20000};

static const char **host_keys_of(const struct config *config)
{
    const char **files = xcalloc(config->host_keys.count + 1, sizeof(*files));

    for (size_t i = 0; i < config->host_keys.count; i++)
        files[i] = config->host_keys.items[i].text;
    return files;
}

static bool would_fail(struct loop *loop, const struct transport_settings *settings)
{
    char *error = NULL;
    struct transport_server *server = transport_server_new(loop, settings, &error);
    bool failed = server == NULL;

    transport_server_free(&server);
    free(error);
    return failed;
}

/* The setting that transport_server_new() refuses, as the operator wrote it: the one that it also
 * refuses alone. NULL: it is only that some do not go together. */
static const char *culprit(struct loop *loop, const struct config *config, const char *const *keys)
{
    const struct {
        char *const *value;
        struct transport_settings alone;
    } lists[] = {
        {&config->transport.kex, {.kex = config->transport.kex}},
        {&config->transport.ciphers, {.ciphers = config->transport.ciphers}},
        {&config->transport.macs, {.macs = config->transport.macs}},
        {&config->transport.host_key_algorithms,
         {.host_key_algorithms = config->transport.host_key_algorithms}},
    };

    for (size_t i = 0; i < config->host_keys.count; i++) {
        const char *file[] = {config->host_keys.items[i].text, NULL};
        struct transport_settings alone = {.host_key_files = file};

        if (would_fail(loop, &alone))
            return config->host_keys.items[i].where;
    }
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct transport_settings alone = lists[i].alone;

        alone.host_key_files = keys;
        if (*lists[i].value != NULL && would_fail(loop, &alone))
            return config_where(config, lists[i].value);
    }
    return NULL;
}

static void name_culprit(struct loop *loop, const struct config *config, const char *const *keys,
                         char **error)
{
    const char *where = culprit(loop, config, keys);
    char *named;

    if (where == NULL)
        return;
    named = xasprintf("%s: %s", where, *error);
    free(*error);
    *error = named;
}

/* Every worker reads the host keys for itself: no key is shared between threads. */
bool worker_init(struct worker *worker, size_t index, const struct worker_shared *shared,
                 char **error)
{
    const struct config *config = shared->config;
    const char **keys = host_keys_of(config);
    struct transport_settings settings = {
        .host_key_files = keys,
        .version_comment = config->version_comment,
        .kex = config->transport.kex,
        .ciphers = config->transport.ciphers,
        .macs = config->transport.macs,
        .host_key_algorithms = config->transport.host_key_algorithms,
        .rekey_bytes = config->transport.rekey_bytes,
        .rekey_seconds = (uint32_t)(config->transport.rekey_ms / 1000),
        .rekey_answer_ms = (uint32_t)config->transport.rekey_answer_ms,
        .helpers = shared->helpers,
        .gss = config->auth.gssapi_key_exchange ? shared->gss : NULL,
    };

    *worker =
        (struct worker){.index = index, .shared = shared, .config = config, .loop = loop_new()};
    if (worker->loop == NULL) {
        *error = xstrdup("cannot make an event loop: no descriptors left");
    } else {
        worker->server = transport_server_new(worker->loop, &settings, error);
        if (worker->server == NULL)
            name_culprit(worker->loop, config, keys, error);
    }
    free(keys);
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

    if (admission_take(worker->admission, fd, peer))
        conns_accept(worker->conns, fd, peer, local);
}

static void on_login_over(void *owner, const struct address *peer, enum conn_login how)
{
    static const enum offence offences[] = {
        [CONN_LOGIN_DONE] = OFFENCE_NONE,
        [CONN_LOGIN_BLAMELESS] = OFFENCE_NONE,
        [CONN_LOGIN_NOT_TRIED] = OFFENCE_NO_AUTH,
        [CONN_LOGIN_FAILED] = OFFENCE_AUTH_FAIL,
        [CONN_LOGIN_INVALID_USER] = OFFENCE_INVALID_USER,
        [CONN_LOGIN_REFUSED] = OFFENCE_REFUSED,
        [CONN_LOGIN_TOO_SLOW] = OFFENCE_GRACE,
        [CONN_LOGIN_VIOLATION] = OFFENCE_CRASH,
    };
    struct worker *worker = owner;

    admission_over(worker->admission, peer, offences[how]);
}

static const struct conns_events conns_events = {
    .login_over = on_login_over,
};

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

static struct conn_settings conn_settings_of(const struct config *config)
{
    struct conn_settings settings = conn_defaults;

    settings.login_timeout_ms = (uint32_t)config->limits.login_timeout_ms;
    settings.max_failures = (uint32_t)config->limits.max_failures;
    settings.max_requests = (uint32_t)config->limits.max_requests;
    settings.max_sessions = (uint32_t)config->limits.max_sessions;
    settings.max_channels = (uint32_t)config->limits.max_channels;
    settings.max_debug_messages = (uint32_t)config->limits.max_debug_messages;
    settings.keepalive_interval_s = (uint32_t)(config->limits.keepalive_interval_ms / 1000);
    settings.keepalive_count_max = (uint32_t)config->limits.keepalive_count;
    settings.window_bytes = (uint32_t)config->limits.window_bytes;
    settings.max_packet_bytes = (uint32_t)config->limits.max_packet_bytes;
    settings.forward_denied = config->forward.denied;
    settings.forward_denied_count = config->forward.denied_count;
    settings.forward_timeout_ms = (uint32_t)config->forward.connect_timeout_ms;
    settings.upstream_keepalive_ms = (uint32_t)config->upstream.keepalive_ms;
    return settings;
}

bool worker_start(struct worker *worker, struct control *control, struct listener_ports *ports,
                  char **error)
{
    struct conn_settings settings = conn_settings_of(worker->config);
    char name[16];
    int failed;

    settings.helpers = worker->shared->helpers;
    settings.hostbased_trust_claimed_host = worker->config->auth.hostbased_trust_claimed_host;
    settings.gss = worker->shared->gss;
    settings.delay_key = worker->delay_key;
    worker->conns =
        conns_new(worker->loop, control, worker->server, &settings, &conns_events, worker);
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
