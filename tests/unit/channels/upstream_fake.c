#include "unit/channels/upstream_fake.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct upstreams {
    struct upstream_settings settings;
    upstream_agent_fn *agent;
    void *owner;
};

struct upstream_opening {
    upstream_opened_fn *opened;
    void *owner;
};

struct fake_upstream fake_upstream;
static struct upstreams *last;
static struct upstream_opening *opening;
static struct endpoint endpoint;
static size_t alive;

void fake_upstream_reset(void)
{
    assert(opening == NULL && (!fake_upstream.started || fake_upstream.stopped));
    buf_clear(&fake_upstream.written);
    fake_upstream = (struct fake_upstream){0};
}

size_t fake_upstreams_alive(void)
{
    return alive;
}

struct upstream_settings fake_upstream_settings(void)
{
    return last->settings;
}

int fake_upstream_agent(void)
{
    return last->agent(last->owner);
}

void fake_upstream_answer(Policy__UpstreamEndpoint *answer, const char *host)
{
    static Policy__UpstreamHop hop;
    static Policy__UpstreamHop *hops[1] = {&hop};

    policy__upstream_endpoint__init(answer);
    policy__upstream_hop__init(&hop);
    hop.host = (char *)host;
    hop.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PASSWORD;
    hop.password = "the-canary-password";
    answer->hops = hops;
    answer->n_hops = 1;
}

/* ---- the endpoint */

static size_t fake_write(struct endpoint *e, struct bytes data, uint32_t extended_type)
{
    (void)e;
    (void)extended_type;
    buf_put(&fake_upstream.written, data);
    return data.len;
}

static void fake_eof(struct endpoint *e)
{
    (void)e;
}

static void fake_resume(struct endpoint *e)
{
    (void)e;
}

static void fake_stop(struct endpoint *e, const char *error)
{
    (void)e;
    assert(fake_upstream.started && !fake_upstream.stopped && alive > 0);
    fake_upstream.stopped = true;
    snprintf(fake_upstream.stop_error, sizeof(fake_upstream.stop_error), "%s", error ? error : "");
}

static const struct endpoint_ops fake_ops = {
    .name = "fake", .write = fake_write, .eof = fake_eof, .resume = fake_resume, .stop = fake_stop};

static struct endpoint *start(void)
{
    assert(!fake_upstream.started);
    fake_upstream.started = true;
    endpoint.ops = &fake_ops;
    return &endpoint;
}

static void remember(const Policy__UpstreamEndpoint *answer, const struct endpoint_events *events,
                     void *owner)
{
    fake_upstream_reset();
    fake_upstream.events = events;
    fake_upstream.owner = owner;
    snprintf(fake_upstream.host, sizeof(fake_upstream.host), "%s", answer->hops[0]->host);
    assert(strcmp(answer->hops[0]->password, "the-canary-password") == 0);
}

/* ---- upstream.h */

struct upstreams *upstreams_new(struct asker *asker, const struct upstream_settings *settings,
                                upstream_agent_fn *agent, void *owner)
{
    (void)asker;
    last = xcalloc(1, sizeof(*last));
    *last = (struct upstreams){*settings, agent, owner};
    alive++;
    return last;
}

void upstreams_free(struct upstreams **upstreams)
{
    if (*upstreams == NULL)
        return;
    assert(opening == NULL && (!fake_upstream.started || fake_upstream.stopped));
    free(*upstreams);
    *upstreams = NULL;
    alive--;
}

bool endpoint_upstream_check(const Policy__UpstreamEndpoint *answer, const char **why)
{
    *why = "There is no upstream";
    return answer->n_hops > 0;
}

static void note_program(const Policy__SessionStart *session)
{
    const ProtobufCBinaryData *text = NULL;
    const char *kind = "shell";

    if (session->program_case == POLICY__SESSION_START__PROGRAM_EXEC) {
        kind = "exec ";
        text = &session->exec->command;
    } else if (session->program_case == POLICY__SESSION_START__PROGRAM_SUBSYSTEM) {
        kind = "subsystem ";
        text = &session->subsystem->name;
    }
    snprintf(fake_upstream.program, sizeof(fake_upstream.program), "%s%.*s", kind,
             text ? (int)text->len : 0, text ? (const char *)text->data : "");
}

struct endpoint *endpoint_upstream_new(const struct endpoint_start *begin,
                                       struct upstreams *upstreams,
                                       const Policy__UpstreamEndpoint *answer, const char **why)
{
    (void)why;
    assert(upstreams == last);
    remember(answer, begin->events, begin->owner);
    note_program(begin->opened->session);
    return start();
}

static void copy(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text ? text : "");
}

struct upstream_opening *upstream_open(struct upstreams *upstreams,
                                       const Policy__UpstreamEndpoint *answer,
                                       const struct upstream_target *target,
                                       const struct endpoint_events *events, void *events_owner,
                                       upstream_opened_fn *opened, void *owner)
{
    assert(upstreams == last);
    remember(answer, events, events_owner);
    copy(fake_upstream.path, sizeof(fake_upstream.path), target->path);
    copy(fake_upstream.target, sizeof(fake_upstream.target), target->host);
    copy(fake_upstream.origin, sizeof(fake_upstream.origin), target->origin_host);
    fake_upstream.port = target->port;
    fake_upstream.origin_port = target->origin_port;
    fake_upstream.asked = true;
    opening = xcalloc(1, sizeof(*opening));
    *opening = (struct upstream_opening){opened, owner};
    return opening;
}

void upstream_cancel(struct upstream_opening **where)
{
    if (*where == NULL)
        return;
    assert(*where == opening);
    free(opening);
    *where = opening = NULL;
    fake_upstream.asked = false;
}

static void answer_opening(struct endpoint *with, uint32_t code, const char *reason)
{
    struct upstream_opening *answered = opening;

    assert(answered != NULL);
    opening = NULL;
    fake_upstream.asked = false;
    answered->opened(answered->owner, with, code, reason);
    free(answered);
}

void fake_upstream_confirm(void)
{
    answer_opening(start(), 0, NULL);
}

void fake_upstream_refuse(uint32_t code, const char *reason)
{
    answer_opening(NULL, code, reason);
}
