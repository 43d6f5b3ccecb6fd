/* What a login opens: the channels, under the rules that its grant makes. */
#include "conn/internal.h"

#include "base/log.h"

static void on_fault(void *owner, uint32_t code, const char *reason)
{
    conn_disconnect(owner, code, reason, NULL);
}

static void on_global_reply(void *owner)
{
    deadlines_alive(owner);
}

static void on_channel_opened(void *owner, const struct channel_note *note)
{
    supervise_channel_opened(owner, note);
}

static void on_channel_closed(void *owner, const struct channel_note *note)
{
    supervise_channel_closed(owner, note);
}

static void on_listener(void *owner, bool opened, const Policy__ListenerNote *note)
{
    supervise_listener(owner, opened, note);
}

static void on_opened_by_policy(void *owner, uint64_t id, const char *error, uint32_t channel)
{
    supervise_done(owner, id, error, channel);
}

static const struct channels_events channels_events = {
    .fault = on_fault,
    .global_reply = on_global_reply,
    .opened = on_channel_opened,
    .closed = on_channel_closed,
    .listener = on_listener,
    .opened_by_policy = on_opened_by_policy,
};

/* ---- the rules */

static void keep_variable(void *arg, struct bytes name, struct bytes value)
{
    struct conn *conn = arg;

    if (!env_put(&conn->environment, name, value))
        log_warn(asker_connection_id(conn->asker), "environment_not_kept", log_bytes("name", name));
}

/* Borrows from the grant and from conn->environment. */
static struct channels_rules make_rules(struct conn *conn)
{
    struct channels_rules rules = {
        .no_pty = grant_no_pty(&conn->grant),
        .no_x11 = grant_no_x11(&conn->grant),
        .no_agent = grant_no_agent(&conn->grant),
        .restrictions = conn->grant.list,
        .restriction_count = conn->grant.count,
        .environment = &conn->environment,
    };

    rules.forced = grant_forced_command(&conn->grant, &rules.forced_command);
    env_clear(&conn->environment);
    grant_environment(&conn->grant, keep_variable, conn);
    return rules;
}

void conn_open_channels(struct conn *conn)
{
    struct channels_rules rules = make_rules(conn);

    conn->channels = channels_new(conn->transport, conn->asker, conn->conns->control,
                                  &conn->channel_limits, &rules, &channels_events, conn);
}

void conn_apply_rules(struct conn *conn)
{
    struct channels_rules rules;

    if (conn->channels == NULL)
        return;
    rules = make_rules(conn);
    channels_tighten(conn->channels, &rules);
}
