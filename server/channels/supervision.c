/* What the connection may do to its channels without the client's asking: close one, and tighten
 * the rules for all. */
#include "channels/internal.h"

#include "base/alloc.h"

#include <stdlib.h>

bool channels_close_one(struct channels *channels, uint32_t id, const char *why)
{
    struct channel *channel = id < channels->table_size ? channels->table[id] : NULL;

    if (channel == NULL || channel->state != CHANNEL_OPEN)
        return false;
    channel_close(channel, why);
    return true;
}

const char *channel_misfit(const struct channel *channel)
{
    return channel->kind->misfit != NULL ? channel->kind->misfit(channel) : NULL;
}

void channels_tighten(struct channels *channels, const struct channels_rules *rules)
{
    channels_set_rules(channels, rules);
    remotes_tighten(channels);
    for (size_t i = 0; i < channels->table_size; i++) {
        struct channel *channel = channels->table[i];
        const char *why = channel != NULL ? channel_misfit(channel) : NULL;

        if (why != NULL && channel->state == CHANNEL_OPEN)
            channel_close(channel, why);
    }
}

/* ---- channels that the policy opens to the client */

struct by_policy {
    struct channels *channels;
    uint64_t id;
    struct forwarded *from;
    ProtobufCBinaryData token; /* owned */
    char *target;
};

static void by_policy_free(struct by_policy *by)
{
    forwarded_free(&by->from);
    free(by->token.data);
    free(by->target);
    free(by);
}

static struct endpoint *on_taken(void *arg, struct channel *channel)
{
    struct by_policy *by = arg;
    struct channels *channels = by->channels;
    Policy__ChannelOpened opened = POLICY__CHANNEL_OPENED__INIT;
    Policy__OpenedByPolicy token = POLICY__OPENED_BY_POLICY__INIT;
    Policy__StreamEndpoint stream = POLICY__STREAM_ENDPOINT__INIT;
    struct endpoint_start start = {
        .asker = channels->asker,
        .opened = &opened,
        .events = &channel_endpoint_events,
        .owner = channel,
    };
    struct endpoint *endpoint;

    opened.channel = channel->id;
    opened.kind_case = POLICY__CHANNEL_OPENED__KIND_OPENED_BY_POLICY;
    opened.opened_by_policy = &token;
    token.token = by->token;
    stream.target = by->target;
    channel->forwarded = by->from;
    by->from = NULL;
    channels->events->opened_by_policy(channels->owner, by->id, "", channel->id);
    endpoint = channel_misfit(channel) == NULL
                   ? endpoint_policy_new(&start, channels->control, &stream)
                   : NULL;
    by_policy_free(by);
    return endpoint;
}

static void on_refused(void *arg, uint32_t code, const char *reason)
{
    struct by_policy *by = arg;

    (void)code;
    by->channels->events->opened_by_policy(by->channels->owner, by->id,
                                           reason[0] ? reason : "The client refused", 0);
    by_policy_free(by);
}

static const struct offer_events by_policy_events = {on_taken, on_refused};

static bool any_session_has(const struct channels *channels, bool (*has)(const struct session *))
{
    for (size_t i = 0; i < channels->table_size; i++) {
        const struct channel *channel = channels->table[i];

        if (channel != NULL && channel->state == CHANNEL_OPEN && channel->session != NULL &&
            has(channel->session))
            return true;
    }
    return false;
}

static bool has_x11(const struct session *session)
{
    return session->x11 != NULL && session->state == SESSION_RUNNING;
}

static bool has_agent(const struct session *session)
{
    return session->agent && session->state == SESSION_RUNNING;
}

static const struct channel_kind *kind_of(const struct channels *channels,
                                          Policy__SuperviseAction__ActionCase action,
                                          const Policy__OpenToClient *open, struct buf *fields,
                                          struct forwarded **from)
{
    const struct channel_kind *kind;

    switch (action) {
    case POLICY__SUPERVISE_ACTION__ACTION_OPEN_X11:
        if (channels->rules.no_x11 || !any_session_has(channels, has_x11))
            return NULL;
        buf_put_cstring(fields, open->originator ? open->originator->ip : "");
        buf_put_u32(fields, open->originator ? open->originator->port : 0);
        return &x11_kind;
    case POLICY__SUPERVISE_ACTION__ACTION_OPEN_AGENT:
        return channels->rules.no_agent || !any_session_has(channels, has_agent) ? NULL
                                                                                 : &agent_kind;
    default:
        kind = remote_kind(channels, open, fields, from);
        return kind == (action == POLICY__SUPERVISE_ACTION__ACTION_OPEN_FORWARDED_TCPIP
                            ? &forwarded_tcpip_kind
                            : &forwarded_streamlocal_kind)
                   ? kind
                   : NULL;
    }
}

const char *channels_open_by_policy(struct channels *channels, uint64_t id,
                                    Policy__SuperviseAction__ActionCase action,
                                    const Policy__OpenToClient *open)
{
    struct by_policy *by = xcalloc(1, sizeof(*by));
    struct buf fields = {0};
    const struct channel_kind *kind = kind_of(channels, action, open, &fields, &by->from);
    const char *why = NULL;

    by->channels = channels;
    by->id = id;
    by->target = xstrdup(open->target);
    by->token.len = open->token.len;
    by->token.data = open->token.len ? xmemdup(open->token.data, open->token.len) : NULL;
    if (kind == NULL)
        why = "that was not granted";
    else if (!control_has_target(channels->control, open->target))
        why = "the stream target is not configured";
    else if (!channel_offer(channels, kind, buf_bytes(&fields), &by_policy_events, by))
        why = "too many channels";
    buf_clear(&fields);
    if (why != NULL)
        by_policy_free(by);
    return why;
}
