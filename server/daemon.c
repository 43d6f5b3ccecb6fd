#include "daemon.h"

#include "base/alloc.h"
#include "base/helpers.h"
#include "control/control.h"
#include "listeners/admission.h"
#include "worker.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__has_feature)
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
    HAS_FEATURE(address_sanitizer) || HAS_FEATURE(thread_sanitizer)
#define UNDER_SANITIZER 1 /* whose leak check traces the process */
#else
#define UNDER_SANITIZER 0
#endif

/* What blocks is short, or waits for somebody else's server: threads cost little, and one client
 * holds one at most. */
#define HELPER_THREADS     16
#define HELPER_MAX_WAITING 256

static const struct timeval shutdown_wait = {5, 0};

enum daemon_state {
    DAEMON_STARTING, /* the policy program is awaited */
    DAEMON_SERVING,
    DAEMON_DRAINING, /* nobody new; the clients are told */
    DAEMON_STOPPED,
};

struct daemon {
    const struct config *config;
    enum daemon_state state;
    int status;
    struct loop *loop;
    struct control *control;
    struct worker_shared shared;
    struct gss_settings gss;
    char hostname[256];
    struct listener_ports ports;
    struct admission *admission;
    struct siphash_key delay_key; /* what the time of a failed login depends on */
    struct worker *workers;
    size_t worker_count;
    size_t draining; /* workers that still have clients */
    int signal_fd;
    struct event *signals;
    struct event *shutdown_timer;
};

static bool fail(struct daemon *daemon, char *error)
{
    fprintf(stderr, "parleyd: %s\n", error);
    free(error);
    daemon->status = 1;
    return false;
}

static void enter(struct daemon *daemon, enum daemon_state state)
{
    static const char *const names[] = {"starting", "ready", "draining", "stopped"};

    daemon->state = state;
    if (daemon->status == 0) /* else the one line that says why is enough */
        log_info(NULL, names[state], log_u64("workers", daemon->worker_count),
                 log_str("version", state == DAEMON_SERVING ? PARLEY_VERSION : NULL));
    if (state == DAEMON_STOPPED)
        loop_stop(daemon->loop);
}

/* ---- settings of the rooms */

static bool make_workers(struct daemon *daemon, size_t count)
{
    char *error = NULL;

    daemon->workers = xcalloc(count, sizeof(*daemon->workers));
    while (error == NULL && daemon->worker_count < count) {
        size_t index = daemon->worker_count++;

        worker_init(&daemon->workers[index], index, &daemon->shared, &error);
    }
    return error == NULL || fail(daemon, error);
}

/* Which handlers exist is the contract's business, so config could not check the names. */
static bool set_handlers(struct daemon *daemon, struct control_settings *settings)
{
    const struct config_list *required = &daemon->config->policy.required_handlers;
    const struct config_list *deadlines = &daemon->config->policy.deadlines;

    for (size_t i = 0; i < required->count + deadlines->count; i++) {
        bool is_deadline = i >= required->count;
        const struct config_item *item =
            is_deadline ? &deadlines->items[i - required->count] : &required->items[i];
        const char *name = is_deadline ? item->name : item->text;
        enum rpc rpc;

        if (!rpc_by_name(name, &rpc))
            return fail(daemon, xasprintf("%s: no handler is named \"%s\"", item->where, name));
        if (is_deadline)
            settings->rpc_deadline_ms[rpc] = (uint32_t)item->number;
        else
            settings->rpc_required[rpc] = true;
    }
    return true;
}

/* Which setting an error of control_new() is about: the one whose value it quotes. */
static const char *culprit(const struct config *config, const char *error)
{
    char *const *members[] = {&config->policy.target, &config->policy.ca, &config->policy.cert,
                              &config->policy.key};

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        if (*members[i] != NULL && strstr(error, *members[i]) != NULL)
            return config_where(config, members[i]);
    for (size_t i = 0; i < config->policy.targets.count; i++)
        if (strstr(error, config->policy.targets.items[i].text) != NULL)
            return config->policy.targets.items[i].where;
    return NULL;
}

static bool fail_control(struct daemon *daemon, char *error)
{
    const char *where = culprit(daemon->config, error);
    char *named = xasprintf("%s%s%s", where ? where : "", where ? ": " : "", error);

    free(error);
    return fail(daemon, named);
}

static bool make_control(struct daemon *daemon)
{
    const struct config *config = daemon->config;
    const struct config_list *list = &config->policy.targets;
    struct control_target *targets = xcalloc(list->count + 1, sizeof(*targets));
    char host[256] = "parleyd";
    char *error = NULL;
    struct control_settings settings = {
        .policy = config->policy.target,
        .targets = targets,
        .policy_exec = config->policy.exec,
        .ca_file = config->policy.ca,
        .cert_file = config->policy.cert,
        .key_file = config->policy.key,
        .insecure = config->policy.insecure,
        .token = config->policy.token,
        .daemon_name = config->daemon_name ? config->daemon_name : host,
        .auth_deadline_ms = (uint32_t)config->policy.auth_deadline_ms,
        .deadline_ms = (uint32_t)config->policy.deadline_ms,
        .stream_start_ms = (uint32_t)config->policy.stream_start_ms,
        .stream_stall_ms = (uint32_t)config->policy.stream_stall_ms,
        .queue_bytes = config->policy.queue_bytes,
        .queue_messages = config->policy.queue_messages,
    };

    gethostname(host, sizeof(host) - 1);
    for (size_t i = 0; i < list->count; i++)
        targets[i] = (struct control_target){list->items[i].name, list->items[i].text};
    if (set_handlers(daemon, &settings)) {
        daemon->control = control_new(&settings, &error);
        if (daemon->control == NULL)
            fail_control(daemon, error);
    }
    free(targets);
    return daemon->control != NULL;
}

static void make_admission(struct daemon *daemon)
{
    const struct config_admission *config = &daemon->config->admission;
    struct admission_settings settings = {
        .begin = config->begin,
        .rate = config->rate,
        .full = config->full,
        .per_source = (uint32_t)config->per_source,
        .v4_bits = config->v4_bits,
        .v6_bits = config->v6_bits,
        .penalties = config->penalties,
        .penalty_ms = {[OFFENCE_CRASH] = config->crash_ms,
                       [OFFENCE_AUTH_FAIL] = config->auth_fail_ms,
                       [OFFENCE_INVALID_USER] = config->invalid_user_ms,
                       [OFFENCE_NO_AUTH] = config->no_auth_ms,
                       [OFFENCE_GRACE] = config->grace_ms,
                       [OFFENCE_REFUSED] = config->refused_ms},
        .penalty_min_ms = config->min_ms,
        .penalty_max_ms = config->max_ms,
        .max_sources = config->penalty_sources,
        .overflow_denies = config->overflow_denies,
        .exempt = config->exempt,
        .exempt_count = config->penalty_exempt.count,
    };

    daemon->admission = admission_new(&settings);
}

/* The keytab's key is the one for our own name, unless the operator says more. It is tried at once:
 * nobody wants to hear from the first user that it is not there. */
static bool make_gss(struct daemon *daemon)
{
    const struct config *config = daemon->config;
    struct gss_exchange *exchange;
    bool ok;

    if (!config->auth.gssapi)
        return true;
    gethostname(daemon->hostname, sizeof(daemon->hostname) - 1);
    daemon->gss.keytab = config->auth.gssapi_keytab;
    if (!config->auth.gssapi_any_host)
        daemon->gss.hostname =
            config->auth.gssapi_hostname ? config->auth.gssapi_hostname : daemon->hostname;
    exchange = gss_exchange_new();
    ok = gss_exchange_acquire(exchange, &daemon->gss) ||
         fail(daemon, xasprintf("%s: %s", config_where(config, &config->auth.gssapi),
                                gss_exchange_error(exchange)));
    gss_exchange_free(&exchange);
    daemon->shared.gss = &daemon->gss;
    return ok;
}

/* ---- shutdown */

static void on_drained(struct letter *letter)
{
    struct worker *worker = (struct worker *)((char *)letter - offsetof(struct worker, drained));
    struct daemon *daemon = worker->owner;

    if (--daemon->draining == 0 && daemon->state == DAEMON_DRAINING)
        enter(daemon, DAEMON_STOPPED);
}

static void on_shutdown_timer(evutil_socket_t fd, short what, void *arg)
{
    struct daemon *daemon = arg;

    (void)fd;
    (void)what;
    if (daemon->state == DAEMON_DRAINING)
        enter(daemon, DAEMON_STOPPED);
}

static void drain(struct daemon *daemon)
{
    enter(daemon, DAEMON_DRAINING);
    daemon->draining = daemon->worker_count;
    for (size_t i = 0; i < daemon->worker_count; i++)
        worker_drain(&daemon->workers[i], daemon->loop);
    event_add(daemon->shutdown_timer, &shutdown_wait);
}

/* The first TERM or INT lets the clients know; a second one does not wait for them. */
static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    struct daemon *daemon = arg;
    struct signalfd_siginfo info;

    (void)what;
    while (read(fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGHUP)
            log_warn(NULL, "reload-not-supported",
                     log_str("todo", "restart to read the configuration"));
        else if (daemon->state == DAEMON_SERVING)
            drain(daemon);
        else if (daemon->state != DAEMON_STOPPED)
            enter(daemon, DAEMON_STOPPED);
    }
}

/* ---- start */

static bool bind_listeners(struct daemon *daemon)
{
    const struct config_list *list = &daemon->config->listen;

    for (size_t i = 0; i < list->count; i++) {
        const struct config_item *item = &list->items[i];
        char *error = NULL;
        bool ok;

        if (listener_bind(&daemon->ports, item->text, daemon->worker_count, &error))
            continue;
        ok = fail(daemon, xasprintf("%s: cannot listen on %s: %s", item->where, item->text, error));
        free(error);
        return ok;
    }
    return true;
}

static void log_listening(const struct daemon *daemon)
{
    for (size_t i = 0; i < daemon->ports.count; i++) {
        char text[ADDRESS_TEXT_MAX + 16];

        address_format(&daemon->ports.ports[i].address, text);
        log_info(NULL, "listening", log_str("address", text));
    }
}

static bool serve(struct daemon *daemon)
{
    char *error = NULL;

    if (!bind_listeners(daemon))
        return false;
    for (size_t i = 0; i < daemon->worker_count; i++) {
        daemon->workers[i].owner = daemon;
        daemon->workers[i].admission = daemon->admission;
        daemon->workers[i].delay_key = &daemon->delay_key;
        daemon->workers[i].drained.deliver = on_drained;
        if (!worker_start(&daemon->workers[i], daemon->control, &daemon->ports, &error))
            return fail(daemon, error);
    }
    log_listening(daemon);
    enter(daemon, DAEMON_SERVING);
    return true;
}

static void on_policy_ready(void *owner, const char *error)
{
    static const char subject[] = "policy program "; /* control's sentences start with it */
    struct daemon *daemon = owner;
    bool ok;

    if (daemon->state != DAEMON_STARTING)
        return; /* a signal was faster */
    if (error != NULL && strncmp(error, subject, sizeof(subject) - 1) == 0)
        error += sizeof(subject) - 1;
    ok = error ? fail(daemon, xasprintf("policy program: %s", error)) : serve(daemon);
    if (!ok)
        enter(daemon, DAEMON_STOPPED);
}

/* Blocked everywhere and read from a descriptor: no handler ever runs in the middle of anything. */
static bool watch_signals(struct daemon *daemon)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    daemon->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    daemon->loop = loop_new();
    if (daemon->signal_fd < 0 || daemon->loop == NULL)
        return fail(daemon, xstrdup("cannot make an event loop: no descriptors left"));
    daemon->signals = event_new(loop_events(daemon->loop), daemon->signal_fd, EV_READ | EV_PERSIST,
                                on_signal, daemon);
    daemon->shutdown_timer = event_new(loop_events(daemon->loop), -1, 0, on_shutdown_timer, daemon);
    event_add(daemon->signals, NULL);
    return true;
}

/* The process itself: what it may leave behind, and how much it may open. */
static void prepare_process(void)
{
    struct rlimit files, core;
    int fd;

    do /* a socket must never become our stderr */
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    close(fd);
    umask(077);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (UNDER_SANITIZER)
        return;
    if (getrlimit(RLIMIT_CORE, &core) == 0) {
        core.rlim_cur = 0; /* the hard limit is left to the programs of sessions */
        setrlimit(RLIMIT_CORE, &core);
    }
    prctl(PR_SET_DUMPABLE, 0);
}

static size_t worker_count_of(const struct config *config)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (config->workers > 0)
        return (size_t)config->workers;
    return cores > 0 ? (size_t)cores : 1;
}

static bool daemon_init(struct daemon *daemon, const struct config *config, size_t workers)
{
    *daemon = (struct daemon){
        .config = config,
        .signal_fd = -1,
    };
    prepare_process();
    log_setup(config->log.format, config->log.level);
    for (size_t i = 0; i < config->unknown_variables.count; i++)
        log_warn(NULL, "unknown-variable",
                 log_str("name", config->unknown_variables.items[i].text));
    make_admission(daemon);
    daemon->delay_key = siphash_key_new();
    if (!watch_signals(daemon))
        return false;
    if (!transport_global_init())
        return fail(daemon, xstrdup("libssh could not start"));
    daemon->shared.config = config;
    daemon->shared.helpers = helpers_new(HELPER_THREADS, HELPER_MAX_WAITING);
    return make_gss(daemon) && make_workers(daemon, workers) && make_control(daemon);
}

/* control goes before the loops: until then it may hand letters over to them. No connection is left
 * by then, so no helper has one to hand over. */
static void daemon_clear(struct daemon *daemon)
{
    for (size_t i = 0; i < daemon->worker_count; i++)
        worker_join(&daemon->workers[i]);
    listener_ports_clear(&daemon->ports);
    admission_free(&daemon->admission);
    if (daemon->control != NULL)
        control_free(&daemon->control);
    helpers_free(&daemon->shared.helpers);
    for (size_t i = 0; i < daemon->worker_count; i++)
        worker_clear(&daemon->workers[i]);
    free(daemon->workers);
    if (daemon->signals != NULL)
        event_free(daemon->signals);
    if (daemon->shutdown_timer != NULL)
        event_free(daemon->shutdown_timer);
    loop_free(&daemon->loop);
    if (daemon->signal_fd >= 0)
        close(daemon->signal_fd);
}

int daemon_run(const struct config *config)
{
    struct daemon daemon;

    if (daemon_init(&daemon, config, worker_count_of(config))) {
        control_start(daemon.control, daemon.loop, on_policy_ready, &daemon);
        loop_run(daemon.loop);
    }
    daemon_clear(&daemon);
    return daemon.status;
}

int daemon_check(const struct config *config)
{
    struct daemon daemon;

    if (daemon_init(&daemon, config, 1))
        printf("%s: ok\n", config->file ? config->file : "configuration");
    daemon_clear(&daemon);
    return daemon.status;
}

void daemon_print_version(FILE *out)
{
    fprintf(out, "parleyd %s (%s)\n", PARLEY_VERSION, transport_library());
}
