/* tun@openssh.com: IP packets or Ethernet frames between a device of the client's and whatever the
 * policy says (OpenSSH PROTOCOL section 2.3). */
#include "channels/internal.h"

#include "base/alloc.h"
#include "base/log.h"
#include "endpoints/tun.h"

#include <stdlib.h>

enum { TUNNEL_POINT_TO_POINT = 1, TUNNEL_ETHERNET = 2 };

#define UNIT_ANY 0x7fffffffu /* and the highest that can be sent */

enum { FAMILY_INET = 2, FAMILY_INET6 = 24 }; /* OpenBSD's numbers, on every system */

#define IPV4_MIN_BYTES     20
#define IPV6_MIN_BYTES     40
#define ETHERNET_MIN_BYTES 14

struct tunnel {
    Policy__TunTapRequestedRequest asked; /* without a Context */
    char *detail;
};

/* ---- what travels */

/* What a packet's first octet says it is; 0: neither, or too short to be. */
static uint32_t family_of(struct bytes packet)
{
    uint8_t version = packet.len > 0 ? packet.data[0] >> 4 : 0;

    if (version == 4 && packet.len >= IPV4_MIN_BYTES)
        return FAMILY_INET;
    return version == 6 && packet.len >= IPV6_MIN_BYTES ? FAMILY_INET6 : 0;
}

static bool unwrap_ip(struct bytes message, struct bytes *packet)
{
    struct reader r = reader_of(message);
    uint32_t family = reader_u32(&r);

    *packet = reader_rest(&r);
    return reader_ok(&r) && family != 0 && family == family_of(*packet);
}

static bool wrap_ip(struct bytes packet, struct buf *message)
{
    uint32_t family = family_of(packet);

    if (family == 0)
        return false;
    buf_put_u32(message, family);
    buf_put(message, packet);
    return true;
}

static bool unwrap_frame(struct bytes message, struct bytes *packet)
{
    *packet = message;
    return message.len >= ETHERNET_MIN_BYTES;
}

static bool wrap_frame(struct bytes packet, struct buf *message)
{
    buf_put(message, packet);
    return packet.len >= ETHERNET_MIN_BYTES;
}

static const struct framing ip_framing = {unwrap_ip, wrap_ip};
static const struct framing frame_framing = {unwrap_frame, wrap_frame};

/* ---- what the table of channels needs */

static struct bytes tunnel_detail(const struct channel *channel)
{
    return bytes_of_string(channel->tunnel->detail);
}

static const char *tunnel_misfit(const struct channel *channel)
{
    return permit_tunnel(&channel->channels->rules);
}

static void tunnel_clear(struct channel *channel)
{
    struct tunnel *tunnel = channel->tunnel;

    channel->tunnel = NULL;
    if (channel->packets_lost > 0)
        log_info(asker_connection_id(channel->channels->asker), "packets_lost",
                 log_u64("channel", channel->id), log_u64("packets", channel->packets_lost));
    free(tunnel->detail);
    free(tunnel);
}

static const struct channel_kind tun_kind = {
    .name = "tun@openssh.com",
    .clear = tunnel_clear,
    .detail = tunnel_detail,
    .misfit = tunnel_misfit,
    .framing = &ip_framing,
};

static const struct channel_kind tap_kind = {
    .name = "tun@openssh.com",
    .clear = tunnel_clear,
    .detail = tunnel_detail,
    .misfit = tunnel_misfit,
    .framing = &frame_framing,
};

static bool is_tap(const struct channel *channel)
{
    return channel->kind == &tap_kind;
}

/* ---- where it ends */

static void begin(struct channel *channel, struct endpoint *endpoint,
                  const Policy__ChannelOptions *options)
{
    open_log(channel, "accepted", NULL);
    channel_confirm(channel, options);
    channel_attach(channel, endpoint);
}

static void begin_stream(struct channel *channel, const Policy__OpenAnswer *answer)
{
    Policy__ChannelOpened opened = POLICY__CHANNEL_OPENED__INIT;
    struct endpoint_start start = {
        .asker = channel->channels->asker,
        .opened = &opened,
        .events = &channel_endpoint_events,
        .owner = channel,
        .packets = true,
    };
    struct endpoint *endpoint;

    opened.channel = channel->id;
    opened.kind_case =
        is_tap(channel) ? POLICY__CHANNEL_OPENED__KIND_TAP : POLICY__CHANNEL_OPENED__KIND_TUN;
    opened.tun = &channel->tunnel->asked; /* `tap` is the same member */
    endpoint = endpoint_policy_new(&start, channel->channels->control, answer->stream);
    if (endpoint == NULL)
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED,
                        "The stream target is not configured");
    else
        begin(channel, endpoint, answer->options);
}

/* The device that the client asked for, or the one that the policy put in its place. */
static void begin_device(struct channel *channel, const Policy__OpenAnswer *answer)
{
    const Policy__ForwardEndpoint *forward = answer->forward;
    const Policy__TunTapRequestedRequest *asked = &channel->tunnel->asked;
    bool chosen = forward->device_case == POLICY__FORWARD_ENDPOINT__DEVICE_UNIT;
    bool wanted = asked->wanted_case == POLICY__TUN_TAP_REQUESTED_REQUEST__WANTED_UNIT;
    uint32_t unit = chosen ? forward->unit : asked->unit;
    char name[TUN_NAME_BYTES];
    const char *why;
    int fd;

    if (forward->host[0] != '\0' || forward->port != 0 || forward->path.len > 0 ||
        forward->source_address[0] != '\0') {
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED, "The policy chose no device");
        return;
    }
    fd = tun_open(is_tap(channel), chosen || wanted ? &unit : NULL, name, &why);
    if (fd < 0) {
        open_refuse_for(channel, OPEN_CONNECT_FAILED, why);
        return;
    }
    log_info(asker_connection_id(channel->channels->asker), "tunnel_device",
             log_u64("channel", channel->id), log_str("device", name));
    free(channel->tunnel->detail);
    channel->tunnel->detail = xstrdup(name);
    begin(channel,
          endpoint_tun_new(channels_loop(channel->channels), &channel_endpoint_events, channel, fd),
          answer->options);
}

static void on_answer(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct channel *channel = owner;
    const Policy__OpenAnswer *answer = (const Policy__OpenAnswer *)message;
    const char *misfit = channel_misfit(channel);

    channel->asking = NULL;
    if (outcome != ANSWERED)
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED,
                        outcome == ABSENT ? "Tunnels are not permitted"
                                          : "The policy service gave no answer");
    else if (misfit != NULL)
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED, misfit);
    else if (answer->endpoint_case == POLICY__OPEN_ANSWER__ENDPOINT_REFUSE)
        open_refuse(channel, answer->refuse, "Tunnels are not permitted");
    else if (answer->endpoint_case == POLICY__OPEN_ANSWER__ENDPOINT_STREAM)
        begin_stream(channel, answer);
    else if (answer->endpoint_case == POLICY__OPEN_ANSWER__ENDPOINT_FORWARD)
        begin_device(channel, answer);
    else
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED,
                        "The policy chose an endpoint that this server does not have");
}

/* ---- the question */

static void ask(struct channel *channel)
{
    Policy__TunTapRequestedRequest *asked = &channel->tunnel->asked;
    const char *misfit = channel_misfit(channel);

    if (misfit != NULL) {
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED, misfit);
        return;
    }
    asked->channel = channel->id;
    channel->asking =
        asker_ask(channel->channels->asker, is_tap(channel) ? RPC_TAP_REQUESTED : RPC_TUN_REQUESTED,
                  &asked->base, 0, on_answer, channel);
    asked->context = NULL;
}

void tunnel_open(struct channels *channels, const struct opening *opening, struct reader *r)
{
    uint32_t mode = reader_u32(r);
    uint32_t unit = reader_u32(r);
    struct channel *channel;
    struct tunnel *tunnel;

    if (!reader_end(r)) {
        channels_fault(channels, "Malformed tunnel open");
        return;
    }
    if ((mode != TUNNEL_POINT_TO_POINT && mode != TUNNEL_ETHERNET) || unit > UNIT_ANY) {
        open_fail(channels, opening, OPEN_ADMINISTRATIVELY_PROHIBITED, "No such tunnel");
        return;
    }
    channel = open_new(channels, opening, mode == TUNNEL_ETHERNET ? &tap_kind : &tun_kind);
    if (channel == NULL)
        return;
    channel->tunnel = tunnel = xcalloc(1, sizeof(*tunnel));
    policy__tun_tap_requested_request__init(&tunnel->asked);
    if (unit != UNIT_ANY) {
        tunnel->asked.wanted_case = POLICY__TUN_TAP_REQUESTED_REQUEST__WANTED_UNIT;
        tunnel->asked.unit = unit;
    }
    tunnel->detail = unit == UNIT_ANY
                         ? xasprintf("%s", is_tap(channel) ? "tap" : "tun")
                         : xasprintf("%s%u", is_tap(channel) ? "tap" : "tun", (unsigned)unit);
    ask(channel);
}
