/* CHANNEL_OPEN (RFC 4254 section 5.1): which handler decides, and what its answer does. */
#include "channels/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

void open_fail(struct channels *channels, const struct opening *opening, uint32_t code,
               const char *reason)
{
    struct buf message = {0};

    buf_put_u8(&message, MSG_CHANNEL_OPEN_FAILURE);
    buf_put_u32(&message, opening->peer);
    buf_put_u32(&message, code);
    buf_put_cstring(&message, reason);
    buf_put_cstring(&message, "");
    transport_send(channels->transport, buf_bytes(&message));
    buf_clear(&message);
}

void open_log(const struct channel *channel, const char *outcome, const char *why)
{
    log_info(asker_connection_id(channel->channels->asker), "channel_open",
             log_str("kind", channel->kind->name), log_u64("channel", channel->id),
             log_str("outcome", outcome), log_str("why", why));
}

void open_refuse(struct channel *channel, const Policy__Refuse *refuse, const char *unsaid)
{
    open_log(channel, "refused", refuse->reason);
    channel_refuse(channel, refuse->code, refuse->reason[0] ? refuse->reason : unsaid,
                   refuse->language);
}

void open_refuse_for(struct channel *channel, uint32_t code, const char *reason)
{
    open_log(channel, "refused", reason);
    channel_refuse(channel, code, reason, NULL);
}

struct channel *open_new(struct channels *channels, const struct opening *opening,
                         const struct channel_kind *kind)
{
    struct channel *channel = channel_new(channels, kind);

    if (channel == NULL)
        open_fail(channels, opening, OPEN_RESOURCE_SHORTAGE, "Too many channels");
    else
        channel_set_peer(channel, opening->peer, opening->window, opening->packet_max);
    return channel;
}

/* ---- sessions */

static void refuse_for(struct channel *channel, const char *reason)
{
    open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED, reason);
}

static void refuse_why(struct channel *channel, const char *why)
{
    char *reason = xasprintf("Session refused: %s", why);

    refuse_for(channel, reason);
    free(reason);
}

static void on_session_requested(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct channel *channel = owner;
    const Policy__SessionAnswer *answer = (const Policy__SessionAnswer *)message;
    const char *why;

    channel->asking = NULL;
    if (outcome == ABSENT) {
        refuse_for(channel, "Session refused");
        return;
    }
    if (outcome != ANSWERED) {
        refuse_for(channel, "Session refused: the policy service gave no answer");
        return;
    }
    if (answer->recording != NULL) {
        refuse_for(channel, "Session refused: recording was ordered, which this server cannot do");
        return;
    }
    if (answer->endpoint_case == POLICY__SESSION_ANSWER__ENDPOINT_REFUSE) {
        open_refuse(channel, answer->refuse, "Session refused");
        return;
    }
    if (!session_choose(channel, answer, &why)) {
        refuse_why(channel, why);
        return;
    }
    open_log(channel, "accepted", NULL);
    channel_confirm(channel, answer->options);
}

static void open_session(struct channels *channels, const struct opening *opening, struct reader *r)
{
    Policy__SessionRequestedRequest question = POLICY__SESSION_REQUESTED_REQUEST__INIT;
    struct channel *channel;

    if (!reader_end(r)) {
        channels_fault(channels, "Malformed session open");
        return;
    }
    if (channels->no_more_sessions) {
        channels_fault(channels, "Session open after no-more-sessions");
        return;
    }
    if (channels->sessions >= channels->settings.max_sessions) {
        open_fail(channels, opening, OPEN_RESOURCE_SHORTAGE, "Too many sessions");
        return;
    }
    channel = open_new(channels, opening, &session_kind);
    if (channel == NULL)
        return;
    question.channel = channel->id;
    channel->asking = asker_ask(channels->asker, RPC_SESSION_REQUESTED, &question.base, 0,
                                on_session_requested, channel);
}

/* One row per channel type. */
static const struct {
    const char *type;
    void (*open)(struct channels *channels, const struct opening *opening, struct reader *r);
} channel_types[] = {
    {"session", open_session},
    {"direct-tcpip", direct_open_tcpip},
    {"direct-streamlocal@openssh.com", direct_open_streamlocal},
    {"tun@openssh.com", tunnel_open},
};

void open_recv(struct channels *channels, struct bytes message)
{
    struct reader r = reader_of(message);
    struct bytes type = reader_string(&r);
    struct opening opening;

    opening.peer = reader_u32(&r);
    opening.window = reader_u32(&r);
    opening.packet_max = reader_u32(&r);
    if (!reader_ok(&r)) {
        channels_fault(channels, "Malformed channel open");
        return;
    }
    if (opening.packet_max == 0) {
        open_fail(channels, &opening, OPEN_ADMINISTRATIVELY_PROHIBITED,
                  "A maximum packet size of 0 lets nothing through");
        return;
    }
    for (size_t i = 0; i < sizeof(channel_types) / sizeof(channel_types[0]); i++) {
        if (!bytes_are(type, channel_types[i].type))
            continue;
        channel_types[i].open(channels, &opening, &r);
        return;
    }
    open_fail(channels, &opening, OPEN_UNKNOWN_CHANNEL_TYPE, "Unknown channel type");
}
