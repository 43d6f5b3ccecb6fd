/*
 * Channel and global messages of any shape after a login, above the fakes; the policy and its
 * streams do as the bytes say.
 */
#include "base/log.h"
#include "channels/channels.h"
#include "channels/env.h"
#include "channels/internal.h"
#include "fakes/transport_fake.h"
#include "fakes/wire.h"
#include "fuzz/feed.h"
#include "fuzz/policy_script.h"

#include <assert.h>
#include <event2/event.h>
#include <stdlib.h>

struct target {
    struct channels *channels;
    int faults;
    int offered, taken, refused, stopped; /* channels that we open to the client */
};

static bool on_message(void *owner, uint8_t type, struct bytes message)
{
    struct target *target = owner;

    return target->faults > 0 || channels_message(target->channels, type, message);
}

static void on_writable(void *owner)
{
    struct target *target = owner;

    channels_writable(target->channels);
}

static void on_disconnect(void *owner, uint32_t code, const char *reason, const char *language)
{
    struct target *target = owner;

    (void)code;
    (void)reason;
    (void)language;
    target->faults++;
}

static void on_banner(void *owner, const char *text, const char *language)
{
    (void)owner;
    (void)text;
    (void)language;
}

static void on_fault(void *owner, uint32_t code, const char *reason)
{
    struct target *target = owner;

    assert(code != 0 && reason != NULL);
    target->faults++;
}

static void on_global_reply(void *owner)
{
    (void)owner;
}

static const struct transport_events transport_events = {.message = on_message,
                                                         .writable = on_writable};
static const struct asker_events asker_events = {on_disconnect, on_banner};
static void on_note(void *owner, const struct channel_note *note)
{
    (void)owner;
    (void)note;
}

static void on_listener(void *owner, bool opened, const Policy__ListenerNote *note)
{
    (void)owner;
    (void)opened;
    (void)note;
}

static void on_opened_by_policy(void *owner, uint64_t id, const char *error, uint32_t channel)
{
    (void)owner;
    (void)id;
    (void)error;
    (void)channel;
}

static const struct channels_events channels_events = {
    on_fault, on_global_reply, on_note, on_note, on_listener, on_opened_by_policy};

/* ---- channels that we open to the client: each offer ends once, each endpoint stops once */

struct sink {
    struct endpoint base;
    struct target *target;
    struct channel *channel;
};

static size_t sink_write(struct endpoint *endpoint, struct bytes data, uint32_t extended_type)
{
    (void)endpoint;
    assert(extended_type == 0);
    return data.len & 1 ? data.len / 2 : data.len;
}

static void sink_eof(struct endpoint *endpoint)
{
    (void)endpoint;
}

static void sink_stop(struct endpoint *endpoint, const char *error)
{
    struct sink *sink = (struct sink *)endpoint;

    (void)error;
    sink->target->stopped++;
    free(sink);
}

static const struct endpoint_ops sink_ops = {
    .name = "sink", .write = sink_write, .eof = sink_eof, .resume = sink_eof, .stop = sink_stop};

static struct endpoint *on_taken(void *arg, struct channel *channel)
{
    struct target *target = arg;
    struct sink *sink = calloc(1, sizeof(*sink));

    target->taken++;
    *sink = (struct sink){{&sink_ops}, target, channel};
    return &sink->base;
}

static void on_refused(void *arg, uint32_t code, const char *reason)
{
    struct target *target = arg;

    (void)code;
    assert(reason != NULL);
    target->refused++;
}

static const struct offer_events offer_events = {on_taken, on_refused};

static void offer(struct transport *t, struct target *target, struct bytes *feed)
{
    uint8_t bits = feed_u8(feed);

    if ((bits & 7) == 0)
        target->offered += channel_offer(target->channels, bits & 8 ? &x11_kind : &agent_kind,
                                         feed_bytes(feed), &offer_events, target);
    else if (bits & 1)
        fake_deliver(t, 91, "uuuu", bits >> 6, feed_u8(feed), feed_u8(feed) * 20, feed_u8(feed));
    else
        fake_deliver(t, 92, "uuSs", bits >> 6, feed_u8(feed), feed_bytes(feed), "");
}

/* ---- what the client sends */

static void tell_nobody(void *arg, enum rpc rpc, const ProtobufCMessage *question,
                        enum verdict verdict)
{
    (void)arg;
    (void)rpc;
    (void)question;
    (void)verdict;
}

static void send_channel_request(struct transport *t, struct bytes *feed)
{
    static const char *const names[] = {"pty-req",
                                        "env",
                                        "shell",
                                        "exec",
                                        "signal",
                                        "subsystem",
                                        "break",
                                        "window-change",
                                        "x11-req",
                                        "eow@openssh.com",
                                        "auth-agent-req@openssh.com",
                                        "?"};
    uint8_t bits = feed_u8(feed);
    const char *name = names[feed_below(feed, 12)];
    struct bytes fields = feed_bytes(feed);

    if (bits & 16)
        fake_deliver(t, 98, "usbsuuuuS", bits >> 6, "pty-req", bits & 1, "vt100", 1, 2, 3, 4,
                     fields);
    else if (bits & 32)
        fake_deliver(t, 98, "usbbsSu", bits >> 6, "x11-req", bits & 1, bits & 2, "MAGIC", fields,
                     1);
    else if (bits & 4) /* the string that most of them start with */
        fake_deliver(t, 98, "usbSR", bits >> 6, name, bits & 1, fields,
                     bits & 8 ? feed_bytes(feed) : bytes_of(NULL, 0));
    else if (bits & 2) /* four numbers */
        fake_deliver(t, 98, "usbuuuu", bits >> 6, name, bits & 1, 1, 2, 3, 4);
    else
        fake_deliver(t, 98, "usbR", bits >> 6, name, bits & 1, fields);
}

static void send_data(struct transport *t, struct bytes *feed)
{
    static const uint8_t xs[3000];
    uint8_t bits = feed_u8(feed);
    size_t len = feed_u8(feed);

    fake_deliver(t, 94, "uS", bits >> 6, bytes_of(xs, bits & 1 ? len * 10 : len));
}

static void client_step(struct transport *t, struct bytes *feed, uint8_t kind)
{
    uint8_t bits = feed_u8(feed);

    switch (kind) {
    case 0:
        fake_deliver(t, 90, "suuu", bits & 1 ? "session" : "direct-tcpip", bits, feed_u8(feed) * 20,
                     feed_u8(feed));
        break;
    case 1:
        send_channel_request(t, feed);
        break;
    case 2:
        send_data(t, feed);
        break;
    case 3:
        fake_deliver(t, 93, "uu", bits >> 6, bits & 1 ? feed_u8(feed) * 16777216u : feed_u8(feed));
        break;
    case 4:
        fake_deliver(t, bits & 1 ? 96 : 97, "u", bits >> 6);
        break;
    case 5:
        fake_deliver_bytes(t, 80 + bits % 48, feed_bytes(feed));
        break;
    default:
        fake_deliver(t, 80, "sbS", bits & 1 ? "hostkeys-prove-00@openssh.com" : "tcpip-forward",
                     bits & 2, bits & 4 ? BYTES(FAKE_HOST_KEY) : feed_bytes(feed));
    }
}

static void step(struct transport *t, struct target *target, struct control *control,
                 struct loop *loop, struct bytes *feed)
{
    uint8_t kind = feed_u8(feed);

    switch (kind & 15) {
    case 7:
        offer(t, target, feed);
        break;
    case 8:
    case 9:
    case 10:
        script_answer(control, feed, true, tell_nobody, NULL);
        break;
    case 11:
    case 12:
        script_stream(control, feed);
        break;
    case 13:
        fake_set_room(t, feed_u8(feed) * 8u);
        break;
    case 14:
        event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
        break;
    case 15:
        if (kind == 0xff)
            script_death(control);
        break;
    default:
        client_step(t, feed, kind & 7);
    }
    fake_transport_turn(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct loop *loop;
    static const struct channels_settings settings = {
        .max_sessions = 3, .max_channels = 4, .window_bytes = 9000, .max_packet_bytes = 500};
    struct bytes feed = bytes_of(data, len);
    struct channels_rules rules = {.no_pty = feed_u8(&feed) == 1,
                                   .no_x11 = len % 7 == 0,
                                   .no_agent = len % 7 == 1,
                                   .forced = feed_u8(&feed) & 1};
    struct env_list environment = {0};
    struct control *control = fake_control_new();
    struct target target = {0};
    struct transport *t = fake_transport_new(&transport_events, &target);
    struct asker *asker;

    log_set_level(LOG_ERROR);
    if (loop == NULL)
        loop = loop_new();
    rules.forced_command = BYTES("forced");
    rules.environment = &environment;
    env_put(&environment, BYTES("ROLE"), BYTES("guest"));
    asker = asker_new(control, loop, &asker_events, &target);
    transport_send_auth_success(t);
    target.channels = channels_new(t, asker, control, &settings, &rules, &channels_events, &target);
    while (feed.len > 0 && target.faults == 0)
        step(t, &target, control, loop, &feed);
    channels_free(&target.channels, "the end");
    assert(fake_pending(control) == 0 && fake_streams(control) == 0 && fake_paused(t) == 0);
    assert(target.offered == target.taken + target.refused && target.taken == target.stopped);
    event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
    asker_free(&asker);
    transport_free(&t);
    fake_control_free(&control);
    env_clear(&environment);
    return 0;
}
