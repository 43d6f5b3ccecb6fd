/* Channels that a client opens to go on somewhere else (RFC 4254 section 7.2, OpenSSH PROTOCOL
 * section 2.4): the policy says where they end. */
#include "channels/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MAX_S 3600

/* What the client asked for, and the way there. */
struct direct {
    Policy__ConnectionRequestedRequest *tcp;      /* one of the two, without a Context */
    Policy__UnixConnectionRequestedRequest *path; /* likewise */
    char *detail;
    Policy__ChannelOptions options; /* of the answer, while the connection is being made */
    struct dial *dial;
    struct upstream_opening *upstream;
};

static struct bytes direct_detail(const struct channel *channel)
{
    return bytes_of_string(channel->direct->detail);
}

static const char *direct_misfit(const struct channel *channel)
{
    const struct channels_rules *rules = &channel->channels->rules;
    const struct direct *direct = channel->direct;

    return direct->tcp != NULL ? permit_open(rules, direct->tcp->dest_host, direct->tcp->dest_port)
                               : permit_path(rules);
}

static void direct_clear(struct channel *channel)
{
    struct direct *direct = channel->direct;

    channel->direct = NULL;
    dial_cancel(&direct->dial);
    upstream_cancel(&direct->upstream);
    if (direct->tcp != NULL)
        policy__connection_requested_request__free_unpacked(direct->tcp, NULL);
    if (direct->path != NULL)
        policy__unix_connection_requested_request__free_unpacked(direct->path, NULL);
    free(direct->detail);
    free(direct);
}

static const struct channel_kind direct_tcpip_kind = {
    .name = "direct-tcpip",
    .clear = direct_clear,
    .detail = direct_detail,
    .misfit = direct_misfit,
};

static const struct channel_kind direct_streamlocal_kind = {
    .name = "direct-streamlocal@openssh.com",
    .clear = direct_clear,
    .detail = direct_detail,
    .misfit = direct_misfit,
};

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
    };
    struct endpoint *endpoint;

    opened.channel = channel->id;
    if (channel->direct->tcp != NULL) {
        opened.kind_case = POLICY__CHANNEL_OPENED__KIND_DIRECT_TCPIP;
        opened.direct_tcpip = channel->direct->tcp;
    } else {
        opened.kind_case = POLICY__CHANNEL_OPENED__KIND_DIRECT_STREAMLOCAL;
        opened.direct_streamlocal = channel->direct->path;
    }
    endpoint = endpoint_policy_new(&start, channel->channels->control, answer->stream);
    if (endpoint == NULL)
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED,
                        "The stream target is not configured");
    else
        begin(channel, endpoint, answer->options);
}

static void on_dialled(void *owner, int fd, const char *why)
{
    struct channel *channel = owner;
    const char *misfit = channel_misfit(channel); /* the rules may have tightened meanwhile */

    channel->direct->dial = NULL;
    if (fd < 0) {
        open_refuse_for(channel, OPEN_CONNECT_FAILED, why);
    } else if (misfit != NULL) {
        close(fd);
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED, misfit);
    } else {
        begin(channel,
              endpoint_socket_new(channels_loop(channel->channels), &channel_endpoint_events,
                                  channel, fd),
              &channel->direct->options);
    }
}

/* Offered to the client once the connection stands. */
static void keep_options(struct direct *direct, const Policy__ChannelOptions *options)
{
    if (options == NULL)
        return;
    direct->options.window_bytes = options->window_bytes;
    direct->options.max_packet_bytes = options->max_packet_bytes;
}

static void on_upstream(void *owner, struct endpoint *endpoint, uint32_t code, const char *reason)
{
    struct channel *channel = owner;
    const char *misfit = channel_misfit(channel); /* as on_dialled() */

    channel->direct->upstream = NULL;
    if (endpoint == NULL) {
        open_refuse_for(channel, code, reason);
    } else if (misfit != NULL) {
        endpoint->ops->stop(endpoint, misfit);
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED, misfit);
    } else {
        begin(channel, endpoint, &channel->direct->options);
    }
}

static void begin_upstream(struct channel *channel, const Policy__OpenAnswer *answer)
{
    struct direct *direct = channel->direct;
    struct upstream_target target = {0};
    char *path = NULL;
    const char *why;

    if (!endpoint_upstream_check(answer->upstream, &why)) {
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED, why);
        return;
    }
    if (direct->tcp != NULL) {
        target.host = direct->tcp->dest_host;
        target.port = direct->tcp->dest_port;
        target.origin_host = direct->tcp->orig_host;
        target.origin_port = direct->tcp->orig_port;
    } else {
        path = bytes_to_string(bytes_of(direct->path->dest_path.data, direct->path->dest_path.len));
        target.path = path;
    }
    keep_options(direct, answer->options);
    direct->upstream =
        upstream_open(channels_upstreams(channel->channels), answer->upstream, &target,
                      &channel_endpoint_events, channel, on_upstream, channel);
    free(path);
}

/* As asked, or as rewritten; a port may become a path, and a path a port. False: not a place to
 * connect to. */
static bool find_target(const struct direct *direct, const Policy__ForwardEndpoint *forward,
                        struct dial_target *target, char **path)
{
    bool to_host = direct->tcp != NULL ? forward->path.len == 0 : forward->host[0] != '\0';
    const ProtobufCBinaryData *asked = direct->tcp != NULL ? NULL : &direct->path->dest_path;
    const ProtobufCBinaryData *chosen = forward->path.len > 0 ? &forward->path : asked;
    uint32_t port;

    if (forward->device_case != POLICY__FORWARD_ENDPOINT__DEVICE__NOT_SET ||
        (forward->path.len > 0 && forward->host[0] != '\0'))
        return false;
    if (!to_host) {
        *path = bytes_to_string(bytes_of(chosen->data, chosen->len));
        target->path = *path;
        return place_is_path(bytes_of(chosen->data, chosen->len));
    }
    port = forward->port != 0 ? forward->port : direct->tcp != NULL ? direct->tcp->dest_port : 0;
    target->host = forward->host[0] ? forward->host : direct->tcp->dest_host;
    target->port = (uint16_t)port;
    return port >= 1 && port <= UINT16_MAX;
}

static void begin_forward(struct channel *channel, const Policy__OpenAnswer *answer)
{
    const Policy__ForwardEndpoint *forward = answer->forward;
    struct dial_target target = {.source_address = forward->source_address};
    char *path = NULL;

    if (forward->connect_timeout_s > 0)
        target.timeout_ms =
            1000 * (forward->connect_timeout_s < TIMEOUT_MAX_S ? forward->connect_timeout_s
                                                               : TIMEOUT_MAX_S);
    if (!find_target(channel->direct, forward, &target, &path)) {
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED,
                        "The policy chose no place to connect to");
    } else {
        keep_options(channel->direct, answer->options);
        channel->direct->dial =
            dial_new(channels_loop(channel->channels), &channel->channels->settings.dial, &target,
                     on_dialled, channel);
    }
    free(path);
}

static void on_answer(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct channel *channel = owner;
    const Policy__OpenAnswer *answer = (const Policy__OpenAnswer *)message;
    const char *misfit = channel_misfit(channel);

    channel->asking = NULL;
    if (outcome != ANSWERED)
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED,
                        outcome == ABSENT ? "Port forwarding is not permitted"
                                          : "The policy service gave no answer");
    else if (misfit != NULL)
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED, misfit);
    else if (answer->endpoint_case == POLICY__OPEN_ANSWER__ENDPOINT_REFUSE)
        open_refuse(channel, answer->refuse, "Port forwarding is not permitted");
    else if (answer->endpoint_case == POLICY__OPEN_ANSWER__ENDPOINT_STREAM)
        begin_stream(channel, answer);
    else if (answer->endpoint_case == POLICY__OPEN_ANSWER__ENDPOINT_FORWARD)
        begin_forward(channel, answer);
    else if (answer->endpoint_case == POLICY__OPEN_ANSWER__ENDPOINT_UPSTREAM)
        begin_upstream(channel, answer);
    else
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED,
                        "The policy chose an endpoint that this server does not have");
}

/* ---- the question */

/* Takes the direct. */
static void ask(struct channels *channels, const struct opening *opening,
                const struct channel_kind *kind, struct direct *direct)
{
    struct channel *channel = open_new(channels, opening, kind);
    const char *misfit;

    if (channel == NULL) {
        struct channel homeless = {.direct = direct};

        direct_clear(&homeless);
        return;
    }
    channel->direct = direct;
    misfit = channel_misfit(channel);
    if (misfit != NULL) {
        open_refuse_for(channel, OPEN_ADMINISTRATIVELY_PROHIBITED, misfit);
    } else if (direct->tcp != NULL) {
        direct->tcp->channel = channel->id;
        channel->asking = asker_ask(channels->asker, RPC_CONNECTION_REQUESTED, &direct->tcp->base,
                                    0, on_answer, channel);
        direct->tcp->context = NULL;
    } else {
        direct->path->channel = channel->id;
        channel->asking = asker_ask(channels->asker, RPC_UNIX_CONNECTION_REQUESTED,
                                    &direct->path->base, 0, on_answer, channel);
        direct->path->context = NULL;
    }
}

void direct_open_tcpip(struct channels *channels, const struct opening *opening, struct reader *r)
{
    struct bytes host = reader_string(r);
    uint32_t port = reader_u32(r);
    struct bytes origin = reader_string(r);
    uint32_t origin_port = reader_u32(r);
    struct direct *direct;

    if (!reader_end(r)) {
        channels_fault(channels, "Malformed direct-tcpip open");
        return;
    }
    if (host.len == 0 || !place_is_host(host) || port == 0 || port > UINT16_MAX) {
        open_fail(channels, opening, OPEN_ADMINISTRATIVELY_PROHIBITED, "No such host or port");
        return;
    }
    direct = xcalloc(1, sizeof(*direct));
    policy__channel_options__init(&direct->options);
    direct->tcp = xmalloc(sizeof(*direct->tcp));
    policy__connection_requested_request__init(direct->tcp);
    direct->tcp->dest_host = bytes_to_string(host);
    direct->tcp->dest_port = port;
    /* Unproven, and of no use but for the eyes; kept as long as the channel. */
    direct->tcp->orig_host = bytes_to_string(place_is_host(origin) ? origin : BYTES(""));
    direct->tcp->orig_port = origin_port;
    direct->detail = xasprintf("%s:%u", direct->tcp->dest_host, (unsigned)port);
    ask(channels, opening, &direct_tcpip_kind, direct);
}

void direct_open_streamlocal(struct channels *channels, const struct opening *opening,
                             struct reader *r)
{
    struct bytes path = reader_string(r);
    struct direct *direct;

    (void)reader_string(r); /* reserved */
    (void)reader_u32(r);
    if (!reader_end(r)) {
        channels_fault(channels, "Malformed direct-streamlocal open");
        return;
    }
    if (!place_is_path(path)) {
        open_fail(channels, opening, OPEN_ADMINISTRATIVELY_PROHIBITED, "No path of a socket");
        return;
    }
    direct = xcalloc(1, sizeof(*direct));
    policy__channel_options__init(&direct->options);
    direct->path = xmalloc(sizeof(*direct->path));
    policy__unix_connection_requested_request__init(direct->path);
    direct->path->dest_path.data = xmemdup(path.data, path.len);
    direct->path->dest_path.len = path.len;
    direct->detail = bytes_to_string(path);
    ask(channels, opening, &direct_streamlocal_kind, direct);
}
