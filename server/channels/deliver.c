/* From a channel's endpoint to the client: data within its window, and what ends a program (RFC
 * 4254 sections 5.2 and 6.10). */
#include "channels/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define PACKET_EXTRA_BYTES 64 /* of a data packet: lengths, padding, MAC */

void channel_tell(struct channel *channel, const char *text)
{
    char *line = xasprintf("%s\r\n", text);
    size_t len = strlen(line);

    if (text[0] != '\0' && channel->state == CHANNEL_OPEN && channel->to_client == FLOW_DATA &&
        len <= channel->peer_window && len <= channel->peer_packet_max) {
        transport_send_data(channel->channels->transport, channel->peer, 1, bytes_of(line, len));
        channel->peer_window -= (uint32_t)len;
    }
    free(line);
}

static void send_flow_control(struct channel *channel)
{
    struct buf fields = {0};

    channel->flow_due = false;
    buf_put_bool(&fields, channel->flow_can_do);
    channel_send_request(channel, "xon-xoff", buf_bytes(&fields));
    buf_clear(&fields);
}

void channel_resume(struct channel *channel)
{
    channel->starved = false;
    if (channel->flow_due && channel->state == CHANNEL_OPEN)
        send_flow_control(channel);
    if (channel->endpoint != NULL)
        channel->endpoint->ops->resume(channel->endpoint);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Takes all that window and transport have room for: a channel is left starved only where news of
 * either will wake it. Others then come first (channels_writable). */
static size_t on_data(void *owner, struct bytes data, uint32_t extended_type)
{
    struct channel *channel = owner;
    struct transport *transport = channel->channels->transport;
    size_t done = 0;

    if (channel->state != CHANNEL_OPEN || channel->to_client != FLOW_DATA)
        return data.len; /* nobody is there to read it */
    if (channel->output_unwanted && extended_type == 0)
        return data.len;
    if (channel->kind->framing != NULL)
        return packet_send(channel, data, extended_type);
    while (done < data.len && channel->peer_window > 0 && transport_room(transport) > 0) {
        size_t len = smaller(data.len - done, channel->peer_packet_max);

        len = smaller(len, channel->peer_window);
        transport_send_data(transport, channel->peer, extended_type,
                            bytes_of(data.data + done, len));
        channel->peer_window -= (uint32_t)len;
        done += len;
    }
    channel->bytes_out += done;
    if (done > 0)
        channel->channels->last_data_ms = clock_ms();
    channel->starved = channel->starved || done < data.len; /* until channel_resume() */
    return done;
}

/* Whole packets, as on_data() cuts them: the transport takes one more while it has any room. */
static size_t on_room(void *owner)
{
    struct channel *channel = owner;
    size_t packet = channel->peer_packet_max;
    size_t room, packets;

    if (channel->state != CHANNEL_OPEN || channel->to_client != FLOW_DATA)
        return SIZE_MAX; /* nobody is there to read it */
    if (channel->kind->framing != NULL)
        return packet_room(channel);
    room = transport_room(channel->channels->transport);
    packets = room / (packet + PACKET_EXTRA_BYTES);
    room = room == 0 ? 0 : smaller(channel->peer_window, packets > 1 ? packets * packet : packet);
    channel->starved = channel->starved || room == 0;
    return room;
}

static void on_eof(void *owner)
{
    struct channel *channel = owner;

    if (channel->state == CHANNEL_OPEN)
        channel_send_eof(channel);
}

/* eow@openssh.com (OpenSSH PROTOCOL section 2.1): only its own clients are known to bear it. */
static void on_deaf(void *owner)
{
    struct channel *channel = owner;
    const char *version = transport_peer_version(channel->channels->transport);

    if (channel->state == CHANNEL_OPEN && channel->kind->has_program &&
        channel->from_client == FLOW_DATA && strstr(version, "OpenSSH") != NULL)
        channel_send_request(channel, "eow@openssh.com", (struct bytes){0});
}

static void on_exit_status(void *owner, uint32_t status)
{
    struct channel *channel = owner;
    struct buf fields = {0};

    if (channel->state != CHANNEL_OPEN || channel->exit_reported)
        return;
    channel->exit_reported = true;
    buf_put_u32(&fields, status);
    channel_send_request(channel, "exit-status", buf_bytes(&fields));
    buf_clear(&fields);
}

static void on_exit_signal(void *owner, const Policy__ExitSignal *exit)
{
    struct channel *channel = owner;
    struct buf fields = {0};

    if (channel->state != CHANNEL_OPEN || channel->exit_reported)
        return;
    channel->exit_reported = true;
    buf_put_cstring(&fields, exit->name);
    buf_put_bool(&fields, exit->core_dumped);
    buf_put_cstring(&fields, exit->message);
    buf_put_cstring(&fields, exit->language);
    channel_send_request(channel, "exit-signal", buf_bytes(&fields));
    buf_clear(&fields);
}

/* It costs whoever sends it no window: while the client does not read, only the last one is kept.
 */
static void on_client_flow_control(void *owner, bool can_do)
{
    struct channel *channel = owner;

    if (channel->state != CHANNEL_OPEN)
        return;
    channel->flow_can_do = can_do;
    channel->flow_due = transport_room(channel->channels->transport) == 0;
    if (channel->flow_due)
        channel->starved = true;
    else
        send_flow_control(channel);
}

static void on_break_answer(void *owner, uint32_t id, bool handled)
{
    session_break_answered(owner, id, handled);
}

static void on_writable(void *owner, size_t taken)
{
    channel_passed_on(owner, taken);
}

static void on_ended(void *owner, bool in_order, const char *why)
{
    struct channel *channel = owner;

    if (!in_order)
        log_warn(asker_connection_id(channel->channels->asker), "stream_failed",
                 log_u64("channel", channel->id), log_str("why", why));
    else if (channel->kind->has_program && !channel->exit_reported)
        log_warn(asker_connection_id(channel->channels->asker), "stream_ended_without_exit",
                 log_u64("channel", channel->id));
    channel_close(channel, in_order ? "the endpoint ended" : why);
}

const struct endpoint_events channel_endpoint_events = {
    .data = on_data,
    .room = on_room,
    .eof = on_eof,
    .deaf = on_deaf,
    .exit_status = on_exit_status,
    .exit_signal = on_exit_signal,
    .client_flow_control = on_client_flow_control,
    .break_answer = on_break_answer,
    .writable = on_writable,
    .ended = on_ended,
};
