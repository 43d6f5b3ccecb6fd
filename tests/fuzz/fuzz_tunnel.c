/*
 * Packets of any shape through a tunnel, above the fakes: whatever comes, what goes on is one whole
 * packet a message, in its order, within the client's window and its maximum.
 */
#include "base/log.h"
#include "channels/channels.h"
#include "fakes/answers_fake.h"
#include "fakes/control_fake.h"
#include "fakes/transport_fake.h"
#include "fuzz/feed.h"

#include <assert.h>
#include <event2/event.h>
#include <string.h>

enum { CLIENT_WINDOW = 2000, CLIENT_PACKET = 200, TAP = 2 };

struct target {
    struct channels *channels;
    struct transport *transport;
    bool tap;
    uint64_t client_window; /* as the client counts */
    int faults;
};

static bool on_message(void *owner, uint8_t type, struct bytes message)
{
    return channels_message(((struct target *)owner)->channels, type, message);
}

static void on_writable(void *owner)
{
    channels_writable(((struct target *)owner)->channels);
}

static void on_disconnect(void *owner, uint32_t code, const char *reason, const char *language)
{
    (void)code;
    (void)reason;
    (void)language;
    ((struct target *)owner)->faults++;
}

static void on_banner(void *owner, const char *text, const char *language)
{
    (void)owner;
    (void)text;
    (void)language;
}

static void on_fault(void *owner, uint32_t code, const char *reason)
{
    (void)code;
    (void)reason;
    ((struct target *)owner)->faults++;
}

static void on_note(void *owner, const struct channel_note *note)
{
    (void)owner;
    (void)note;
}

static const struct transport_events transport_events = {.message = on_message,
                                                         .writable = on_writable};
static const struct asker_events asker_events = {on_disconnect, on_banner};
static const struct channels_events channels_events = {
    .fault = on_fault, .opened = on_note, .closed = on_note};

/* ---- what must be */

static uint32_t u32_at(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void check_packet(const struct target *target, struct bytes packet)
{
    uint8_t version = packet.len > 0 ? packet.data[0] >> 4 : 0;

    if (target->tap)
        assert(packet.len >= 14);
    else
        assert((version == 4 && packet.len >= 20) || (version == 6 && packet.len >= 40));
}

static void check_sent(struct target *target)
{
    struct fake_message message;

    while (fake_sent(target->transport, &message)) {
        const uint8_t *data = message.rest.data + 8;
        size_t len;

        if (message.type != 94)
            continue;
        len = message.rest.len - 8;
        assert(u32_at(message.rest.data + 4) == len && len <= CLIENT_PACKET);
        assert(len <= target->client_window);
        target->client_window -= len;
        if (!target->tap) {
            assert(u32_at(data) == (data[4] >> 4 == 4 ? 2 : 24));
            data += 4;
            len -= 4;
        }
        check_packet(target, bytes_of(data, len));
    }
}

static void check_events(struct target *target, struct stream *stream)
{
    const Policy__ChannelEvent *event;

    while ((event = fake_stream_sent(stream)) != NULL)
        if (event->event_case == POLICY__CHANNEL_EVENT__EVENT_DATA)
            check_packet(target, bytes_of(event->data->payload.data, event->data->payload.len));
}

/* ---- what happens */

static void step(struct target *target, struct stream *stream, struct bytes *feed)
{
    uint8_t kind = feed_u8(feed), value = feed_u8(feed);
    uint32_t family = value & 1 ? 2 : 24;

    switch (kind & 7) {
    case 0:
        fake_deliver(target->transport, 94, "uS", 0, feed_bytes(feed));
        break;
    case 1: {
        struct bytes packet = feed_bytes(feed);

        fake_deliver(target->transport, 94, "uuuR", 0, (uint32_t)packet.len + 4, family, packet);
        break;
    }
    case 2:
    case 3:
        fake_push_data(stream, feed_bytes(feed), value == 255);
        break;
    case 4:
        target->client_window += value;
        fake_deliver(target->transport, 93, "uu", 0, value);
        break;
    case 5:
        fake_set_room(target->transport, value * 4u);
        break;
    case 6:
        fake_stream_set_room(stream, value);
        break;
    default:
        fake_stream_read(stream, fake_stream_queued(stream));
    }
    fake_transport_turn(target->transport);
}

static struct stream *open_tunnel(struct target *target, struct control *control)
{
    Policy__OpenAnswer answer = POLICY__OPEN_ANSWER__INIT;
    Policy__StreamEndpoint endpoint = POLICY__STREAM_ENDPOINT__INIT;

    answer.endpoint_case = POLICY__OPEN_ANSWER__ENDPOINT_STREAM;
    answer.stream = &endpoint;
    fake_deliver(target->transport, 90, "suuuuu", "tun@openssh.com", 7, CLIENT_WINDOW,
                 CLIENT_PACKET, target->tap ? TAP : 1, 0);
    fake_answer(control, target->tap ? RPC_TAP_REQUESTED : RPC_TUN_REQUESTED, &answer.base);
    return fake_stream(control, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct channels_settings settings = {
        .max_sessions = 1, .max_channels = 1, .window_bytes = 4096, .max_packet_bytes = 500};
    static const struct channels_rules rules;
    struct bytes feed = bytes_of(data, len);
    struct target target = {.tap = feed_u8(&feed) & 1, .client_window = CLIENT_WINDOW};
    struct loop *loop = loop_new();
    struct control *control = fake_control_new();
    struct transport *transport = fake_transport_new(&transport_events, &target);
    struct asker *asker = asker_new(control, loop, &asker_events, &target);
    struct stream *stream;

    log_set_level(LOG_ERROR);
    transport_send_auth_success(transport);
    target.transport = transport;
    target.channels =
        channels_new(transport, asker, control, &settings, &rules, &channels_events, &target);
    stream = open_tunnel(&target, control);
    while (feed.len > 0 && target.faults == 0) {
        step(&target, stream, &feed);
        check_sent(&target);
        check_events(&target, stream);
    }
    channels_free(&target.channels, "the end");
    event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
    asker_free(&asker);
    transport_free(&transport);
    fake_control_free(&control);
    loop_free(&loop);
    return 0;
}
