/* Channels whose messages are packets: one CHANNEL_DATA is one packet, never cut, joined or split
 * (OpenSSH PROTOCOL section 2.3). What does not fit is lost, as on any link. */
#include "channels/internal.h"

#include <string.h>

/* OpenSSH counts the length field of each packet against its window and its maximum, too; and only
 * OpenSSH does. */
#define OPENSSH_EXTRA_BYTES 4

/* ---- client to endpoint */

void packet_recv(struct channel *channel, struct bytes message)
{
    struct endpoint *endpoint = channel->endpoint;
    struct buf entry = {0};
    struct bytes packet;

    if (endpoint == NULL || !channel->kind->framing->unwrap(message, &packet)) {
        channel->packets_lost++;
        channel_passed_on(channel, message.len);
        return;
    }
    channel_passed_on(channel, message.len - packet.len);
    if (channel->held.len == 0 && endpoint->ops->write(endpoint, packet, 0) == packet.len)
        return;
    buf_put_u32(&entry, (uint32_t)packet.len);
    buf_put(&entry, packet);
    channel_hold(channel, buf_bytes(&entry));
    buf_clear(&entry);
}

size_t packets_hand_over(struct channel *channel)
{
    struct endpoint *endpoint = channel->endpoint;
    const struct buf *held = &channel->held;
    size_t at = channel->held_done;

    while (at < held->len) {
        struct reader r = reader_of(bytes_of(held->data + at, held->len - at));
        struct bytes packet = reader_string(&r);

        if (endpoint->ops->write(endpoint, packet, 0) == 0)
            break;
        at += sizeof(uint32_t) + packet.len;
    }
    return at - channel->held_done;
}

/* ---- endpoint to client */

/* A client gives window back by the time that it has less than half: until then a packet is worth
 * waiting for, and one that is too large for that will never fit. */
size_t packet_room(struct channel *channel)
{
    uint32_t enough = channel->peer_window_most / 2;

    if (enough > channel->peer_packet_max)
        enough = channel->peer_packet_max;
    if (channel->peer_window > 0 && channel->peer_window >= enough &&
        transport_room(channel->channels->transport) > 0)
        return channel->peer_packet_max;
    channel->starved = true;
    return 0;
}

static uint32_t extra_bytes(const struct channel *channel)
{
    const char *version = transport_peer_version(channel->channels->transport);

    return strstr(version, "OpenSSH") != NULL ? OPENSSH_EXTRA_BYTES : 0;
}

size_t packet_send(struct channel *channel, struct bytes packet, uint32_t extended_type)
{
    struct buf message = {0};
    size_t cost;
    bool fits;

    if (packet_room(channel) == 0)
        return 0;
    fits = extended_type == 0 && packet.len <= channel->peer_packet_max &&
           channel->kind->framing->wrap(packet, &message);
    cost = message.len + extra_bytes(channel);
    if (fits && cost <= channel->peer_packet_max && cost <= channel->peer_window) {
        transport_send_data(channel->channels->transport, channel->peer, 0, buf_bytes(&message));
        channel->peer_window -= (uint32_t)cost;
        channel->bytes_out += message.len;
        channel->channels->last_data_ms = clock_ms();
    } else {
        channel->packets_lost++;
    }
    buf_clear(&message);
    return packet.len;
}
