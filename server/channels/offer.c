/* Channels that we open to the client (RFC 4254 section 5.1): CHANNEL_OPEN goes out, and what the
 * channel ends in begins once the client has confirmed it. */
#include "channels/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <event2/event.h>
#include <stdlib.h>

#define ANSWER_DEFAULT_MS 60000

struct offer {
    const struct offer_events *events;
    void *arg;
    struct event *deadline;
};

/* ---- the kinds: what was granted may be taken back */

static const char *x11_misfit(const struct channel *channel)
{
    return channel->channels->rules.no_x11 ? "X11 forwarding is not allowed any more" : NULL;
}

static const char *agent_misfit(const struct channel *channel)
{
    return channel->channels->rules.no_agent ? "agent forwarding is not allowed any more" : NULL;
}

const struct channel_kind x11_kind = {.name = "x11", .misfit = x11_misfit};
const struct channel_kind agent_kind = {.name = "auth-agent@openssh.com", .misfit = agent_misfit};

/* ---- the offer */

static void log_offer(const struct channel *channel, const char *outcome, uint32_t code,
                      struct bytes why)
{
    log_info(asker_connection_id(channel->channels->asker), "channel_open",
             log_str("kind", channel->kind->name), log_u64("channel", channel->id),
             log_str("outcome", outcome), code ? log_u64("code", code) : log_none(),
             why.len ? log_bytes("why", why) : log_none());
}

/* The offer ends; who made it is left to the caller to tell. */
static struct offer take_offer(struct channel *channel)
{
    struct offer offer = *channel->offer;

    event_free(offer.deadline);
    free(channel->offer);
    channel->offer = NULL;
    return offer;
}

static void refuse_offer(struct channel *channel, uint32_t code, const char *reason)
{
    struct offer offer = take_offer(channel);

    offer.events->refused(offer.arg, code, reason);
}

void offer_clear(struct channel *channel)
{
    if (channel->offer != NULL)
        refuse_offer(channel, OPEN_CONNECT_FAILED, "The connection ended");
}

/* The client may still answer, and its answer must find the channel: the number stays taken. */
static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct channel *channel = arg;

    (void)fd;
    (void)what;
    log_offer(channel, "expired", 0, (struct bytes){0});
    channel->state = CHANNEL_ABANDONED;
    channel_give_up_window(channel);
    refuse_offer(channel, OPEN_CONNECT_FAILED, "The client did not answer in time");
}

static struct offer *offer_new(struct channel *channel, const struct offer_events *events,
                               void *arg)
{
    uint32_t ms = channel->channels->settings.open_answer_ms;
    struct offer *offer = xmalloc(sizeof(*offer));
    struct timeval patience;

    if (ms == 0)
        ms = ANSWER_DEFAULT_MS;
    patience = (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    *offer = (struct offer){
        .events = events,
        .arg = arg,
        .deadline =
            event_new(loop_events(channels_loop(channel->channels)), -1, 0, on_deadline, channel),
    };
    if (offer->deadline == NULL || event_add(offer->deadline, &patience) < 0)
        abort(); /* out of memory */
    return offer;
}

bool channel_offer(struct channels *channels, const struct channel_kind *kind, struct bytes fields,
                   const struct offer_events *events, void *arg)
{
    struct buf message = {0};
    struct channel *channel;

    if (channels->faulty || (channel = channel_new(channels, kind)) == NULL)
        return false;
    channel->state = CHANNEL_OFFERED;
    channel->window = channel->window_size;
    channel->offer = offer_new(channel, events, arg);
    buf_put_u8(&message, MSG_CHANNEL_OPEN);
    buf_put_cstring(&message, kind->name);
    buf_put_u32(&message, channel->id);
    buf_put_u32(&message, channel->window);
    buf_put_u32(&message, channel->packet_max);
    buf_put(&message, fields);
    transport_send(channels->transport, buf_bytes(&message));
    buf_clear(&message);
    return true;
}

/* ---- the client's answer */

static void begin(struct channel *channel)
{
    struct offer offer = take_offer(channel);
    struct endpoint *endpoint = offer.events->taken(offer.arg, channel);

    if (endpoint != NULL)
        channel_attach(channel, endpoint);
    else
        channel_close(channel, "what it was for is gone");
}

void offer_recv_confirmation(struct channel *channel, struct reader *r)
{
    uint32_t peer = reader_u32(r), window = reader_u32(r), packet_max = reader_u32(r);
    bool abandoned = channel->state == CHANNEL_ABANDONED;

    /* A type may have fields of its own here; none that we open has. */
    if (!reader_end(r) || packet_max == 0) {
        channels_fault(channel->channels, "Malformed channel open confirmation");
        return;
    }
    channel_set_peer(channel, peer, window, packet_max);
    channel->state = CHANNEL_OPEN;
    channel_note_opened(channel);
    if (abandoned) {
        channel_close(channel, "confirmed too late");
        return;
    }
    log_offer(channel, "accepted", 0, (struct bytes){0});
    begin(channel);
}

void offer_recv_failure(struct channel *channel, struct reader *r)
{
    uint32_t code = reader_u32(r);
    struct bytes reason = reader_string(r);
    char *text;

    (void)reader_string(r); /* language */
    if (!reader_end(r)) {
        channels_fault(channel->channels, "Malformed channel open failure");
        return;
    }
    log_offer(channel, "refused", code, reason);
    if (channel->offer != NULL) {
        text = text_is_clean(reason) ? bytes_to_string(reason) : xstrdup("");
        refuse_offer(channel, code, text);
        free(text);
    }
    channel_drop(channel, NULL);
}
