/* The room as a whole: settings, links, counters, start and stop. */
#include "control/internal.h"

#include "base/alloc.h"
#include "base/log.h"
#include "control/policy_exec.h"
#include "control/target.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define AUTH_DEADLINE_MS 10000u
#define DEADLINE_MS      5000u
#define QUEUE_BYTES      (512u * 1024)
#define QUEUE_MESSAGES   64u
#define MAX_IN_FLIGHT    4096u

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value ? value : otherwise;
}

void control_ref(struct control *control)
{
    atomic_fetch_add(&control->refs, 1);
}

/* The last one may be a letter that is delivered when its loop is freed. */
void control_unref(struct control *control)
{
    if (atomic_fetch_sub(&control->refs, 1) > 1)
        return;
    /* Only now: what was in flight at the end is delivered, logged and counted when its loop goes.
     */
    control_log_counts(control);
    link_free(&control->decisions);
    for (struct named_link *bulk = control->bulk; bulk != NULL && bulk->name != NULL; bulk++) {
        for (unsigned kind = 0; kind < LINK_WIDTHS; kind++)
            link_free(&bulk->links[kind]);
        free(bulk->name);
    }
    free(control->bulk);
    grpc_slice_unref(control->bearer);
    if (control->credentials != NULL)
        grpc_channel_credentials_release(control->credentials);
    free(control->daemon_name);
    free(control->policy_target);
    free(control);
    grpc_shutdown();
}

void control_count(struct control *control, enum rpc rpc, int end)
{
    atomic_fetch_add_explicit(&control->ends[rpc][end], 1, memory_order_relaxed);
}

struct control_counts control_counts(const struct control *control, enum rpc rpc)
{
    struct control_counts counts;

    for (int end = ANSWERED; end <= EXPIRED; end++)
        counts.ended[end] = atomic_load_explicit(&control->ends[rpc][end], memory_order_relaxed);
    counts.cancelled =
        atomic_load_explicit(&control->ends[rpc][END_CANCELLED], memory_order_relaxed);
    return counts;
}

void control_log_counts(const struct control *control)
{
    for (unsigned i = 0; i < RPC_COUNT; i++) {
        struct control_counts counts = control_counts(control, (enum rpc)i);
        uint64_t sum = counts.cancelled;

        for (int end = ANSWERED; end <= EXPIRED; end++)
            sum += counts.ended[end];
        if (sum > 0)
            log_info(NULL, "policy-counts", log_str("rpc", rpc_name((enum rpc)i)),
                     log_u64("answered", counts.ended[ANSWERED]),
                     log_u64("absent", counts.ended[ABSENT]),
                     log_u64("unavailable", counts.ended[UNAVAILABLE]),
                     log_u64("expired", counts.ended[EXPIRED]),
                     log_u64("cancelled", counts.cancelled));
    }
}

static char *check_target(const struct control_settings *settings, const char *target)
{
    const char *why;

    switch (target_judge(target, &why)) {
    case TARGET_MALFORMED:
        return xasprintf("policy target \"%s\" %s", target ? target : "", why);
    case TARGET_REMOTE:
        if (settings->ca_file == NULL && !settings->insecure)
            return xasprintf("policy target \"%s\" is beyond this machine and would be plaintext: "
                             "name a policy CA, or allow it as insecure",
                             target);
        break;
    case TARGET_LOCAL:
        break;
    }
    return NULL;
}

/* The token goes into an HTTP header: gRPC would refuse each call of it later, with no word why. */
static bool token_is_legal(const char *token)
{
    for (; *token != '\0'; token++)
        if (*token <= ' ' || *token > '~')
            return false;
    return true;
}

static char *check_settings(const struct control_settings *settings)
{
    const struct control_target *more = settings->targets;
    char *error = NULL;

    if (settings->token != NULL && !token_is_legal(settings->token))
        return xstrdup("policy token: only printable ASCII without spaces can be sent");
    if (settings->policy_exec == NULL)
        error = check_target(settings, settings->policy);
    for (; error == NULL && more != NULL && more->name != NULL; more++)
        error = check_target(settings, more->target);
    return error;
}

static void copy_settings(struct control *control, const struct control_settings *settings)
{
    control->daemon_name = xstrdup(settings->daemon_name ? settings->daemon_name : "");
    control->bearer = grpc_empty_slice();
    if (settings->token != NULL && settings->token[0] != '\0') {
        char *bearer = xasprintf("Bearer %s", settings->token);

        control->bearer = grpc_slice_from_copied_string(bearer);
        secret_free(bearer);
    }
    for (unsigned i = 0; i < RPC_COUNT; i++) {
        bool auth = rpc_row((enum rpc)i)->group == GROUP_AUTH;
        uint32_t group = auth ? or_default(settings->auth_deadline_ms, AUTH_DEADLINE_MS)
                              : or_default(settings->deadline_ms, DEADLINE_MS);

        control->deadline_ms[i] = or_default(settings->rpc_deadline_ms[i], group);
        control->required[i] = settings->rpc_required[i];
    }
    control->stream_start_ms = or_default(settings->stream_start_ms, DEADLINE_MS);
    control->stream_stall_ms = settings->stream_stall_ms;
    control->queue_bytes = settings->queue_bytes ? settings->queue_bytes : QUEUE_BYTES;
    control->queue_messages = settings->queue_messages ? settings->queue_messages : QUEUE_MESSAGES;
    control->max_in_flight = or_default(settings->max_in_flight, MAX_IN_FLIGHT);
}

static void open_bulk(struct control *control, struct named_link *bulk, const char *name,
                      const char *target)
{
    bulk->name = xstrdup(name);
    for (unsigned kind = 0; kind < LINK_WIDTHS; kind++)
        bulk->links[kind] = link_new(control, target, (enum link_kind)kind);
}

static void open_links(struct control *control, const struct control_settings *settings)
{
    const struct control_target *more = settings->targets;
    size_t count = 0;

    while (more != NULL && more[count].name != NULL)
        count++;
    control->decisions = link_new(control, control->policy_target, LINK_DECISIONS);
    /* Bulk data has sockets of its own: a decision must not queue behind it. */
    control->bulk = xcalloc(count + 2, sizeof(control->bulk[0]));
    open_bulk(control, &control->bulk[0], "", control->policy_target);
    for (size_t i = 0; i < count; i++)
        open_bulk(control, &control->bulk[i + 1], more[i].name, more[i].target);
}

static struct control *give_up(struct control *control)
{
    control_unref(control);
    return NULL;
}

struct control *control_new(const struct control_settings *settings, char **error)
{
    struct control *control;

    *error = check_settings(settings);
    if (*error != NULL)
        return NULL;
    cq_log_setup();
    grpc_init();
    control = xcalloc(1, sizeof(*control));
    control->refs = 1;
    copy_settings(control, settings);
    control->credentials = credentials_new(settings, error);
    if (control->credentials == NULL)
        return give_up(control);
    if (settings->policy_exec != NULL) {
        control->exec = policy_exec_new(settings->policy_exec, error);
        if (control->exec == NULL)
            return give_up(control);
        control->policy_target = xstrdup(policy_exec_target(control->exec));
    } else {
        control->policy_target = xstrdup(settings->policy);
    }
    if (!cq_start(&control->cq)) {
        *error = xstrdup("cannot start a thread");
        policy_exec_free(&control->exec);
        return give_up(control);
    }
    open_links(control, settings);
    return control;
}

/* ---- start */

struct start {
    struct letter letter;
    struct control *control; /* NULL: it is gone, and nobody listens */
    void (*ready)(void *owner, const char *error);
    void *owner;
};

static void on_started(struct letter *letter)
{
    struct start *start = CONTAINER(letter, struct start, letter);

    if (start->control != NULL) {
        start->control->start = NULL;
        start->ready(start->owner, NULL);
    }
    free(start);
}

static void on_program_ready(void *owner, const char *error)
{
    struct control *control = owner;

    control->ready(control->ready_owner, error);
}

/* It listens now: no reason to sit out a backoff. */
static void on_program_up(void *owner)
{
    struct control *control = owner;

    link_hurry(control->decisions);
    for (const struct named_link *bulk = control->bulk; bulk->name != NULL; bulk++)
        for (unsigned kind = 0; kind < LINK_WIDTHS; kind++)
            link_hurry(bulk->links[kind]);
    if (!control->watching)
        link_watch(control->decisions);
    control->watching = true;
}

void control_start(struct control *control, struct loop *loop,
                   void (*ready)(void *owner, const char *error), void *owner)
{
    static const struct policy_exec_events program_events = {on_program_ready, on_program_up};
    struct start *start;

    if (control->exec != NULL) {
        control->ready = ready;
        control->ready_owner = owner;
        policy_exec_start(control->exec, loop, &program_events, control);
        return;
    }
    link_watch(control->decisions);
    start = xcalloc(1, sizeof(*start));
    start->letter.deliver = on_started;
    start->control = control;
    control->start = start;
    start->ready = ready;
    start->owner = owner;
    loop_post(loop, &start->letter);
}

void control_free(struct control **where)
{
    struct control *control = *where;

    *where = NULL;
    if (control == NULL)
        return;
    if (control->start != NULL)
        control->start->control = NULL;
    cq_cancel_all(&control->cq);
    link_close(control->decisions);
    for (struct named_link *bulk = control->bulk; bulk->name != NULL; bulk++)
        for (unsigned kind = 0; kind < LINK_WIDTHS; kind++)
            link_close(bulk->links[kind]);
    cq_stop(&control->cq);
    policy_exec_free(&control->exec);
    control_unref(control);
}

bool control_is_connected(const struct control *control)
{
    return atomic_load(&control->decisions->connected);
}

const struct named_link *control_bulk(const struct control *control, const char *target)
{
    for (const struct named_link *bulk = control->bulk; bulk->name != NULL; bulk++)
        if (strcmp(bulk->name, target) == 0)
            return bulk;
    return NULL;
}

bool control_has_target(const struct control *control, const char *target)
{
    return control_bulk(control, target) != NULL;
}
