/* One channel: its windows, its data, its end (RFC 4254 sections 5.2 and 5.3). */
#include "channels/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define LANE_MAX_MESSAGES 32
#define LANE_MAX_BYTES    (256 * 1024)
#define HELD_KEEP_BYTES   65536 /* a larger buffer is given back once it is empty */

/* ---- life */

/* What is shared out leaves the least window for each one that may still come, as far as a quarter
 * of the whole goes. */
static uint32_t window_for_next(const struct channels *channels)
{
    uint64_t reserve = (uint64_t)channels->settings.max_channels * WINDOW_MIN_BYTES;
    uint32_t shared = WINDOWS_MAX_BYTES -
                      (uint32_t)(reserve < WINDOWS_MAX_BYTES / 4 ? reserve : WINDOWS_MAX_BYTES / 4);
    uint32_t left = channels->windows < shared ? shared - channels->windows : 0;
    uint32_t window = channels->settings.window_bytes;

    if (window > left / 4)
        window = left / 4;
    return window < WINDOW_MIN_BYTES ? WINDOW_MIN_BYTES : window;
}

static bool take_slot(struct channels *channels, struct channel *channel)
{
    size_t id = 0, grown;

    if (channels->count >= channels->settings.max_channels)
        return false;
    while (id < channels->table_size && channels->table[id] != NULL)
        id++;
    if (id == channels->table_size) {
        grown = channels->table_size ? 2 * channels->table_size : 4;
        channels->table = xrealloc(channels->table, grown * sizeof(*channels->table));
        memset(channels->table + channels->table_size, 0,
               (grown - channels->table_size) * sizeof(*channels->table));
        channels->table_size = grown;
    }
    channels->table[id] = channel;
    channels->count++;
    channel->id = (uint32_t)id;
    return true;
}

struct channel *channel_new(struct channels *channels, const struct channel_kind *kind)
{
    struct channel *channel = xcalloc(1, sizeof(*channel));

    if (!take_slot(channels, channel)) {
        free(channel);
        return NULL;
    }
    channel->channels = channels;
    channel->kind = kind;
    channel->opened_ms = clock_ms();
    channel->window_size = window_for_next(channels);
    channel->packet_max = channels->settings.max_packet_bytes;
    channels->windows += channel->window_size;
    lane_init(&channel->lane, request_run, request_pressure, channel, LANE_MAX_MESSAGES,
              LANE_MAX_BYTES);
    if (kind->init != NULL)
        kind->init(channel);
    return channel;
}

void channel_set_peer(struct channel *channel, uint32_t peer, uint32_t window, uint32_t packet_max)
{
    uint32_t ours = channel->channels->settings.max_packet_bytes;

    channel->peer = peer;
    channel->peer_window = channel->peer_window_most = window;
    channel->peer_packet_max = packet_max < ours ? packet_max : ours;
}

static void channel_free(void *arg)
{
    struct channel *channel = arg;

    buf_clear_secret(&channel->held);
    free(channel->end_reason);
    free(channel->session);
    free(channel);
}

void channel_give_up_window(struct channel *channel)
{
    channel->channels->windows -= channel->window_size;
    channel->window_size = 0;
}

/* Out of the table, silent from here on; its memory goes at the end of the turn. */
static void channel_remove(struct channel *channel, const char *error)
{
    struct channels *channels = channel->channels;

    if (channel->state == CHANNEL_CLOSED)
        return;
    channel->state = CHANNEL_CLOSED;
    decision_cancel(&channel->asking);
    lane_clear(&channel->lane);
    offer_clear(channel);
    if (channel->kind->clear != NULL)
        channel->kind->clear(channel);
    if (channel->endpoint != NULL)
        channel->endpoint->ops->stop(channel->endpoint, error);
    channel->endpoint = NULL;
    channels->table[channel->id] = NULL;
    channels->count--;
    channel_give_up_window(channel);
    loop_defer(channels_loop(channels), channel_free, channel);
}

static struct channel_note note_of(const struct channel *channel)
{
    return (struct channel_note){
        .channel = channel->id,
        .kind = channel->kind->name,
        .detail = channel->kind->detail ? channel->kind->detail(channel) : (struct bytes){0},
        .bytes_from_client = channel->bytes_in,
        .bytes_to_client = channel->bytes_out,
    };
}

void channel_note_opened(const struct channel *channel)
{
    struct channel_note note = note_of(channel);

    channel->channels->events->opened(channel->channels->owner, &note);
}

static void tell_closed(const struct channel *channel, const char *why)
{
    struct channel_note note = note_of(channel);

    log_info(asker_connection_id(channel->channels->asker), "channel_closed",
             log_str("kind", channel->kind->name), log_u64("channel", channel->id),
             log_u64("bytes_in", channel->bytes_in), log_u64("bytes_out", channel->bytes_out),
             log_u64("ms", clock_ms() - channel->opened_ms), log_str("why", why));
    channel->channels->events->closed(channel->channels->owner, &note);
}

void channel_drop(struct channel *channel, const char *why)
{
    if (channel->state >= CHANNEL_OPEN)
        tell_closed(channel, why ? why : channel->end_reason);
    channel_remove(channel, why);
}

/* ---- messages */

static void begin_message(struct channel *channel, struct buf *message, uint8_t type)
{
    buf_put_u8(message, type);
    buf_put_u32(message, channel->peer);
}

static void send_message(struct channel *channel, struct buf *message)
{
    transport_send(channel->channels->transport, buf_bytes(message));
    buf_clear(message);
}

static void send_plain(struct channel *channel, uint8_t type)
{
    struct buf message = {0};

    begin_message(channel, &message, type);
    send_message(channel, &message);
}

void channel_send_request(struct channel *channel, const char *name, struct bytes fields)
{
    struct buf message = {0};

    begin_message(channel, &message, MSG_CHANNEL_REQUEST);
    buf_put_cstring(&message, name);
    buf_put_bool(&message, false);
    buf_put(&message, fields);
    send_message(channel, &message);
}

void channel_confirm(struct channel *channel, const Policy__ChannelOptions *options)
{
    struct buf message = {0};

    if (options != NULL && options->window_bytes != 0 &&
        options->window_bytes < channel->window_size) {
        channel->channels->windows -= channel->window_size - options->window_bytes;
        channel->window_size = options->window_bytes;
    }
    if (options != NULL && options->max_packet_bytes != 0 &&
        options->max_packet_bytes < channel->packet_max)
        channel->packet_max = options->max_packet_bytes;
    channel->window = channel->window_size;
    channel->state = CHANNEL_OPEN;
    begin_message(channel, &message, MSG_CHANNEL_OPEN_CONFIRMATION);
    buf_put_u32(&message, channel->id);
    buf_put_u32(&message, channel->window);
    buf_put_u32(&message, channel->packet_max);
    send_message(channel, &message);
    channel_note_opened(channel);
}

void channel_refuse(struct channel *channel, uint32_t code, const char *reason,
                    const char *language)
{
    struct buf message = {0};

    begin_message(channel, &message, MSG_CHANNEL_OPEN_FAILURE);
    buf_put_u32(&message, code ? code : OPEN_ADMINISTRATIVELY_PROHIBITED);
    buf_put_cstring(&message, reason);
    buf_put_cstring(&message, language ? language : "");
    send_message(channel, &message);
    channel_remove(channel, NULL);
}

/* ---- client to endpoint */

/* Opens the window again for what has been passed on; in halves, to spare messages. */
static void give_back(struct channel *channel, size_t taken)
{
    struct buf message = {0};

    channel->window_owed += (uint32_t)taken;
    if (channel->window_owed == 0 || channel->window_owed < channel->window_size / 2 ||
        channel->state != CHANNEL_OPEN || channel->from_client != FLOW_DATA)
        return;
    begin_message(channel, &message, MSG_CHANNEL_WINDOW_ADJUST);
    buf_put_u32(&message, channel->window_owed);
    send_message(channel, &message);
    channel->window += channel->window_owed;
    channel->window_owed = 0;
}

static void end_drained(void *arg)
{
    struct channel *channel = arg;

    if (channel->state != CHANNEL_DRAINING)
        return;
    send_plain(channel, MSG_CHANNEL_CLOSE);
    tell_closed(channel, channel->end_reason);
    channel_remove(channel, NULL);
}

/* Hands over what was held back, then the EOF behind it. */
static void flush_held(struct channel *channel)
{
    struct endpoint *endpoint = channel->endpoint;
    struct buf *held = &channel->held;

    if (channel->kind->framing != NULL)
        channel->held_done += packets_hand_over(channel);
    else if (channel->held_done < held->len)
        channel->held_done += endpoint->ops->write(
            endpoint, bytes_of(held->data + channel->held_done, held->len - channel->held_done), 0);
    if (channel->held_done < held->len)
        return;
    channel->held_done = 0;
    buf_reset(held);
    if (held->cap > HELD_KEEP_BYTES)
        buf_clear(held);
    if (channel->from_client == FLOW_EOF && !channel->eof_passed) {
        channel->eof_passed = true;
        endpoint->ops->eof(endpoint);
    }
    if (channel->state == CHANNEL_DRAINING) /* the endpoint may be who called us */
        loop_defer(channels_loop(channel->channels), end_drained, channel);
}

void channel_passed_on(struct channel *channel, size_t taken)
{
    give_back(channel, taken);
    if (channel->endpoint != NULL)
        flush_held(channel);
}

void channel_hold(struct channel *channel, struct bytes data)
{
    struct buf *held = &channel->held;

    if (channel->held_done >
        held->len / 2) { /* what has been handed over makes room at the front */
        memmove(held->data, held->data + channel->held_done, held->len - channel->held_done);
        held->len -= channel->held_done;
        channel->held_done = 0;
    }
    buf_put(held, data);
}

void channel_forget_held(struct channel *channel)
{
    size_t forgotten = channel->held.len - channel->held_done;

    buf_clear_secret(&channel->held);
    channel->held_done = 0;
    give_back(channel, forgotten);
}

void channel_recv_data(struct channel *channel, uint32_t extended_type, struct bytes data)
{
    struct endpoint *endpoint = channel->endpoint;
    size_t taken = 0;

    if (channel->state != CHANNEL_OPEN)
        return; /* sent before our CLOSE arrived */
    if (extended_type != 0 || channel->from_client != FLOW_DATA || data.len > channel->window ||
        data.len > channel->packet_max) {
        channels_fault(channel->channels, extended_type != 0 ? "Extended data from the client"
                                          : channel->from_client != FLOW_DATA
                                              ? "Data after EOF"
                                              : "Data beyond the window or the packet size");
        return;
    }
    channel->window -= (uint32_t)data.len;
    channel->bytes_in += data.len;
    channel->channels->last_data_ms = clock_ms();
    if (channel->kind->framing != NULL) {
        packet_recv(channel, data);
        return;
    }
    if (endpoint != NULL && channel->held.len == 0)
        taken = endpoint->ops->write(endpoint, data, 0);
    if (taken < data.len)
        channel_hold(channel, bytes_of(data.data + taken, data.len - taken));
}

void channel_recv_eof(struct channel *channel)
{
    if (channel->state != CHANNEL_OPEN)
        return;
    if (channel->from_client != FLOW_DATA) {
        channels_fault(channel->channels, "A second EOF");
        return;
    }
    channel->from_client = FLOW_EOF;
    if (channel->endpoint != NULL)
        flush_held(channel);
}

/* Who closes after his last byte means it to arrive; a program ends whatever it has read. */
static bool must_drain(const struct channel *channel)
{
    return channel->state == CHANNEL_OPEN && !channel->kind->has_program &&
           channel->endpoint != NULL && channel->held.len > 0;
}

void channel_recv_close(struct channel *channel)
{
    if (must_drain(channel)) {
        channel->state = CHANNEL_DRAINING;
        channel->from_client = FLOW_EOF;
        lane_clear(&channel->lane);
        decision_cancel(&channel->asking);
        return;
    }
    if (channel->state == CHANNEL_OPEN)
        send_plain(channel, MSG_CHANNEL_CLOSE);
    tell_closed(channel, channel->end_reason);
    channel_remove(channel, NULL);
}

void channel_recv_window_adjust(struct channel *channel, uint32_t bytes)
{
    if (bytes > UINT32_MAX - channel->peer_window) {
        channels_fault(channel->channels, "Window beyond 2^32 - 1");
        return;
    }
    channel->peer_window += bytes;
    if (channel->peer_window > channel->peer_window_most)
        channel->peer_window_most = channel->peer_window;
    if (channel->starved)
        channel_resume(channel);
}

void channel_attach(struct channel *channel, struct endpoint *endpoint)
{
    channel->endpoint = endpoint;
    flush_held(channel);
}

/* ---- end */

void channel_send_eof(struct channel *channel)
{
    if (channel->to_client != FLOW_DATA)
        return;
    channel->to_client = FLOW_EOF;
    send_plain(channel, MSG_CHANNEL_EOF);
}

void channel_close(struct channel *channel, const char *why)
{
    if (channel->state == CHANNEL_DRAINING)
        end_drained(channel);
    if (channel->state != CHANNEL_OPEN)
        return;
    channel_send_eof(channel);
    send_plain(channel, MSG_CHANNEL_CLOSE);
    channel->state = CHANNEL_CLOSING;
    free(channel->end_reason);
    channel->end_reason = why ? xstrdup(why) : NULL;
    decision_cancel(&channel->asking);
    lane_clear(&channel->lane);
    buf_clear_secret(&channel->held);
    if (channel->endpoint != NULL)
        channel->endpoint->ops->stop(channel->endpoint, NULL);
    channel->endpoint = NULL;
}
