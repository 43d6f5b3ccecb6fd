/*
 * Supervise (connection.proto): the policy hears what happens on a connection, and acts without
 * being asked. Its stream is opened when ConnectionMade or AuthCompleted wants it; when it ends, in
 * whatever way, the connection is lost to its supervisor and OnLoss decides.
 */
#include "conn/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define BANNER_MAX_BYTES     8192
#define DEBUG_TEXT_MAX_BYTES 4096
#define LANGUAGE_MAX_BYTES   64

struct supervise {
    struct conn *conn;
    struct stream *stream;
    Policy__OnLoss on_loss;
    bool readable; /* actions wait that we have not looked at */
    bool full; /* the policy does not read its events: no action is carried out before it does */
};

/* ---- events */

static void send_event(struct supervise *s, Policy__SuperviseEvent__EventCase kind,
                       ProtobufCMessage *message)
{
    Policy__SuperviseEvent event = POLICY__SUPERVISE_EVENT__INIT;

    event.event_case = kind;
    event.started = (void *)message; /* every member of the oneof is a message pointer */
    if (!stream_send(s->stream, &event.base))
        s->full = true;
}

static void send_started(struct supervise *s)
{
    Policy__SuperviseStarted started = POLICY__SUPERVISE_STARTED__INIT;

    started.context = asker_context(s->conn->asker);
    send_event(s, POLICY__SUPERVISE_EVENT__EVENT_STARTED, &started.base);
}

/* Commands and destinations are bytes on the wire and text in a note: what is no text is left out.
 */
static void send_note(struct conn *conn, Policy__SuperviseEvent__EventCase kind,
                      const struct channel_note *note)
{
    Policy__ChannelNote message = POLICY__CHANNEL_NOTE__INIT;

    if (conn->supervise == NULL)
        return;
    message.channel = note->channel;
    message.kind = (char *)note->kind;
    message.detail = bytes_to_string(text_is_clean(note->detail) ? note->detail : BYTES(""));
    message.bytes_from_client = note->bytes_from_client;
    message.bytes_to_client = note->bytes_to_client;
    send_event(conn->supervise, kind, &message.base);
    free(message.detail);
}

void supervise_channel_opened(struct conn *conn, const struct channel_note *note)
{
    send_note(conn, POLICY__SUPERVISE_EVENT__EVENT_CHANNEL_OPENED, note);
}

void supervise_channel_closed(struct conn *conn, const struct channel_note *note)
{
    send_note(conn, POLICY__SUPERVISE_EVENT__EVENT_CHANNEL_CLOSED, note);
}

void supervise_listener(struct conn *conn, bool opened, const Policy__ListenerNote *note)
{
    if (conn->supervise != NULL)
        send_event(conn->supervise,
                   opened ? POLICY__SUPERVISE_EVENT__EVENT_LISTENER_OPENED
                          : POLICY__SUPERVISE_EVENT__EVENT_LISTENER_CLOSED,
                   (ProtobufCMessage *)&note->base);
}

void supervise_done(struct conn *conn, uint64_t id, const char *error, uint32_t channel)
{
    Policy__ActionDone done = POLICY__ACTION_DONE__INIT;

    done.id = id;
    done.error = (char *)error;
    done.channel = channel;
    if (conn->supervise != NULL)
        send_event(conn->supervise, POLICY__SUPERVISE_EVENT__EVENT_DONE, &done.base);
}

/* ---- actions: NULL, or why it was not done */

/* What a policy sends without end must not pile up here for a client that does not read. */
static const char not_read[] = "the client does not read";

static const char later[] = "later"; /* supervise_done() follows */

static const char *do_disconnect(struct conn *conn, const Policy__SuperviseAction *action)
{
    const Policy__Disconnect *order = action->disconnect;

    conn_disconnect(conn, order->code ? order->code : DISCONNECT_BY_APPLICATION, order->reason,
                    order->language);
    return NULL;
}

static const char *do_debug(struct conn *conn, const Policy__SuperviseAction *action)
{
    const Policy__DebugMessage *debug = action->debug;
    struct buf message = {0};

    if (!conn->keys_exchanged)
        return "no keys have been exchanged yet";
    if (transport_room(conn->transport) == 0)
        return not_read;
    if (strlen(debug->message) > DEBUG_TEXT_MAX_BYTES ||
        strlen(debug->language) > LANGUAGE_MAX_BYTES)
        return "the text is too long";
    buf_put_u8(&message, MSG_DEBUG);
    buf_put_bool(&message, debug->always_display);
    buf_put_cstring(&message, debug->message);
    buf_put_cstring(&message, debug->language);
    transport_send(conn->transport, buf_bytes(&message));
    buf_clear(&message);
    return NULL;
}

static const char *do_banner(struct conn *conn, const Policy__SuperviseAction *action)
{
    const Policy__Banner *banner = action->banner;

    if (conn->auth == NULL || auth_is_done(conn->auth))
        return "after login there are no banners";
    if (conn->keys_exchanged && transport_room(conn->transport) == 0)
        return not_read;
    if (strlen(banner->text) > BANNER_MAX_BYTES || strlen(banner->language) > LANGUAGE_MAX_BYTES)
        return "the text is too long";
    auth_banner(conn->auth, banner->text, banner->language);
    return NULL;
}

static const char *do_close_channel(struct conn *conn, const Policy__SuperviseAction *action)
{
    if (conn->channels == NULL ||
        !channels_close_one(conn->channels, action->close_channel->channel, "closed by the policy"))
        return "no such channel";
    return NULL;
}

static const char *do_close_listener(struct conn *conn, const Policy__SuperviseAction *action)
{
    if (conn->channels == NULL || !channels_close_listener(conn->channels, action->close_listener))
        return "no such listener";
    return NULL;
}

static const char *do_open(struct conn *conn, const Policy__SuperviseAction *action)
{
    const char *why = "nobody is logged in";

    if (conn->channels != NULL)
        why = channels_open_by_policy(conn->channels, action->id, action->action_case,
                                      action->open_x11); /* all four have one type */
    return why != NULL ? why : later;
}

static const char *do_set_limits(struct conn *conn, const Policy__SuperviseAction *action)
{
    deadlines_apply(conn, action->set_limits);
    if (conn->channels != NULL)
        channels_set_limits(conn->channels, conn->channel_limits.max_sessions,
                            conn->channel_limits.max_channels);
    return NULL;
}

static const char *do_tighten(struct conn *conn, const Policy__SuperviseAction *action)
{
    const char *refusal;

    grant_tighten(&conn->grant, action->tighten);
    conn_apply_rules(conn);
    refusal = grant_refusal(&conn->grant, conn->peer.ip);
    if (refusal != NULL)
        conn_disconnect(conn, DISCONNECT_BY_APPLICATION, refusal, NULL);
    return NULL;
}

/* One row per action of the contract. */
static const struct action_row {
    Policy__SuperviseAction__ActionCase action;
    const char *name;
    const char *(*run)(struct conn *conn, const Policy__SuperviseAction *action);
} action_rows[] = {
    {POLICY__SUPERVISE_ACTION__ACTION_DISCONNECT, "disconnect", do_disconnect},
    {POLICY__SUPERVISE_ACTION__ACTION_DEBUG, "debug", do_debug},
    {POLICY__SUPERVISE_ACTION__ACTION_BANNER, "banner", do_banner},
    {POLICY__SUPERVISE_ACTION__ACTION_CLOSE_CHANNEL, "close_channel", do_close_channel},
    {POLICY__SUPERVISE_ACTION__ACTION_CLOSE_LISTENER, "close_listener", do_close_listener},
    {POLICY__SUPERVISE_ACTION__ACTION_OPEN_FORWARDED_TCPIP, "open_forwarded_tcpip", do_open},
    {POLICY__SUPERVISE_ACTION__ACTION_OPEN_FORWARDED_STREAMLOCAL, "open_forwarded_streamlocal",
     do_open},
    {POLICY__SUPERVISE_ACTION__ACTION_OPEN_X11, "open_x11", do_open},
    {POLICY__SUPERVISE_ACTION__ACTION_OPEN_AGENT, "open_agent", do_open},
    {POLICY__SUPERVISE_ACTION__ACTION_SET_LIMITS, "set_limits", do_set_limits},
    {POLICY__SUPERVISE_ACTION__ACTION_TIGHTEN, "tighten", do_tighten},
};

static const struct action_row *find_row(const Policy__SuperviseAction *action)
{
    for (size_t i = 0; i < sizeof(action_rows) / sizeof(action_rows[0]); i++)
        if (action_rows[i].action == action->action_case)
            return &action_rows[i];
    return NULL;
}

static void carry_out(struct supervise *s, const Policy__SuperviseAction *action)
{
    const struct action_row *row = find_row(action);
    const char *error = row ? row->run(s->conn, action) : "this daemon cannot do that";

    log_info(asker_connection_id(s->conn->asker), "supervised",
             log_str("action", row ? row->name : "unknown"),
             log_str("outcome", error == NULL    ? "done"
                                : error == later ? "begun"
                                                 : "refused"),
             error != later ? log_str("why", error) : log_none());
    if (error != later)
        supervise_done(s->conn, action->id, error ? error : "", 0);
}

static void carry_on(struct supervise *s)
{
    while (s->readable && !s->full && s->conn->state < CONN_CLOSING) {
        const ProtobufCMessage *action = stream_next(s->stream);

        if (action == NULL)
            s->readable = false;
        else
            carry_out(s, (const Policy__SuperviseAction *)action);
    }
}

/* ---- the stream */

static void on_readable(void *owner)
{
    struct supervise *s = owner;

    s->readable = true;
    carry_on(s);
}

static void on_writable(void *owner)
{
    struct supervise *s = owner;

    s->full = false;
    carry_on(s);
}

static void on_ended(void *owner, enum outcome outcome, const char *why)
{
    struct supervise *s = owner;
    struct conn *conn = s->conn;
    bool keep = s->on_loss == POLICY__ON_LOSS__ON_LOSS_KEEP;

    log_warn(asker_connection_id(conn->asker), "supervision_lost",
             log_str("outcome", outcome_name(outcome)), log_str("why", why),
             log_str("connection", keep ? "kept" : "disconnected"));
    supervise_clear(conn);
    if (!keep)
        conn_disconnect(conn, DISCONNECT_BY_APPLICATION, "The connection is supervised no longer",
                        NULL);
}

static const struct stream_events supervise_events = {
    .readable = on_readable,
    .writable = on_writable,
    .ended = on_ended,
};

void supervise_begin(struct conn *conn, Policy__OnLoss on_loss)
{
    struct supervise *s = conn->supervise;

    if (s == NULL) {
        s = xcalloc(1, sizeof(*s));
        s->conn = conn;
        s->stream = asker_open_stream(conn->asker, RPC_SUPERVISE, "", &supervise_events, s);
        conn->supervise = s;
        send_started(s);
    }
    s->on_loss = on_loss;
}

void supervise_clear(struct conn *conn)
{
    struct supervise *s = conn->supervise;

    conn->supervise = NULL;
    if (s == NULL)
        return;
    stream_finish(s->stream);
    stream_close(&s->stream);
    free(s);
}
