/* Opens of direct-* channels and requests to listen: their payloads, the answers to them, rules
 * that tighten between. Each question ends once; what is told as opened is told as closed; nothing
 * is left. No socket is opened: where the daemon would connect or listen by itself, the answers are
 * such that cannot. */
#include "fuzz/feed.h"

#include "channels/channels.h"
#include "fakes/answers_fake.h"
#include "fakes/control_fake.h"
#include "fakes/transport_fake.h"
#include "fakes/wire.h"

#include "base/alloc.h"
#include "base/log.h"

#include <assert.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

struct target {
    struct channels *channels;
    int faults, open, listeners;
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

static void on_opened(void *owner, const struct channel_note *note)
{
    struct target *target = owner;

    assert(note->kind != NULL);
    target->open++;
}

static void on_closed(void *owner, const struct channel_note *note)
{
    struct target *target = owner;

    (void)note;
    target->open--;
    assert(target->open >= 0);
}

static void on_listener(void *owner, bool opened, const Policy__ListenerNote *note)
{
    struct target *target = owner;

    assert(note->address != NULL && note->managed);
    target->listeners += opened ? 1 : -1;
    assert(target->listeners >= 0);
}

static void on_opened_by_policy(void *owner, uint64_t id, const char *error, uint32_t channel)
{
    (void)owner;
    (void)id;
    (void)channel;
    assert(error != NULL);
}

static const struct transport_events transport_events = {.message = on_message,
                                                         .writable = on_writable};
static const struct asker_events asker_events;
static const struct channels_events channels_events = {
    on_fault, on_global_reply, on_opened, on_closed, on_listener, on_opened_by_policy};

/* ---- the client */

static void open_channel(struct transport *t, struct bytes *feed)
{
    static const char *const types[] = {"direct-tcpip", "direct-streamlocal@openssh.com"};
    uint8_t bits = feed_u8(feed);
    const char *type = types[bits & 1];

    if (bits & 2)
        fake_deliver(t, 90, "suuuR", type, bits >> 4, 100, 50, feed_bytes(feed));
    else if (bits & 1)
        fake_deliver(t, 90, "suuuSsu", type, bits >> 4, 100, 50, feed_bytes(feed), "", 0);
    else
        fake_deliver(t, 90, "suuuSuSu", type, bits >> 4, 100, 50, feed_bytes(feed),
                     bits & 4 ? 80 : feed_u8(feed) * 700u, feed_bytes(feed), 1);
}

static void ask_globally(struct transport *t, struct bytes *feed)
{
    static const char *const names[] = {"tcpip-forward", "cancel-tcpip-forward",
                                        "streamlocal-forward@openssh.com",
                                        "cancel-streamlocal-forward@openssh.com"};
    uint8_t bits = feed_u8(feed);
    const char *name = names[bits & 3];

    if (bits & 4)
        fake_deliver(t, 80, "sbR", name, bits & 8, feed_bytes(feed));
    else if (bits & 2)
        fake_deliver(t, 80, "sbS", name, bits & 8, feed_bytes(feed));
    else
        fake_deliver(t, 80, "sbSu", name, bits & 8, feed_bytes(feed),
                     bits & 16 ? 0 : feed_u8(feed) * 700u);
}

static void use_channel(struct transport *t, struct bytes *feed)
{
    uint8_t bits = feed_u8(feed);

    if (bits & 1)
        fake_deliver(t, 94, "uS", bits >> 6, feed_bytes(feed));
    else if (bits & 2)
        fake_deliver(t, 98, "usbR", bits >> 6, "exec", true, feed_bytes(feed));
    else if (bits & 8) /* to an open by the policy, or to none */
        fake_deliver(t, 91, "uuuu", bits >> 6, bits, 1000, 100);
    else if (bits & 16)
        fake_deliver(t, 92, "uuSs", bits >> 6, 1, feed_bytes(feed), "");
    else
        fake_deliver(t, bits & 4 ? 96 : 97, "u", bits >> 6);
}

/* ---- the policy */

static void answer_open(struct control *control, struct bytes *feed)
{
    Policy__OpenAnswer answer = POLICY__OPEN_ANSWER__INIT;
    Policy__Refuse refuse = POLICY__REFUSE__INIT;
    Policy__StreamEndpoint stream = POLICY__STREAM_ENDPOINT__INIT;
    Policy__ForwardEndpoint forward = POLICY__FORWARD_ENDPOINT__INIT;
    Policy__ChannelOptions options = POLICY__CHANNEL_OPTIONS__INIT;
    uint8_t bits = feed_u8(feed);

    if (bits & 1) {
        answer.endpoint_case = POLICY__OPEN_ANSWER__ENDPOINT_STREAM;
        answer.stream = &stream;
        stream.target = bits & 8 ? "nowhere" : "";
    } else if (bits & 2) {
        answer.endpoint_case = POLICY__OPEN_ANSWER__ENDPOINT_FORWARD;
        answer.forward = &forward;
        forward.host = "127.1"; /* which is never connected to */
        forward.port = bits & 8 ? 70000 : 9;
    } else {
        answer.endpoint_case = POLICY__OPEN_ANSWER__ENDPOINT_REFUSE;
        answer.refuse = &refuse;
        refuse.code = bits >> 4;
        refuse.reason = "no";
    }
    options.window_bytes = feed_u8(feed);
    options.max_packet_bytes = feed_u8(feed);
    answer.options = bits & 4 ? &options : NULL;
    fake_answer_nth(control, 0, &answer.base);
}

static void answer_listen(struct control *control, struct bytes *feed)
{
    Policy__ListenAnswer answer = POLICY__LISTEN_ANSWER__INIT;
    Policy__Refuse refuse = POLICY__REFUSE__INIT;
    Policy__ManagedListener managed = POLICY__MANAGED_LISTENER__INIT;
    Policy__ListenEndpoint listen = POLICY__LISTEN_ENDPOINT__INIT;
    uint8_t bits = feed_u8(feed);

    if (bits & 1) {
        answer.listener_case = POLICY__LISTEN_ANSWER__LISTENER_MANAGED;
        answer.managed = &managed;
        managed.port = feed_u8(feed) * 300u;
    } else if (bits & 2) {
        answer.listener_case = POLICY__LISTEN_ANSWER__LISTENER_LISTEN;
        answer.listen = &listen;
        listen.host = "no address";
        listen.port = 1;
    } else {
        answer.listener_case = POLICY__LISTEN_ANSWER__LISTENER_REFUSE;
        answer.refuse = &refuse;
    }
    fake_answer_nth(control, 0, &answer.base);
}

static void answer(struct control *control, struct bytes *feed)
{
    enum rpc rpc;

    if (fake_pending(control) == 0)
        return;
    rpc = fake_pending_rpc(control, 0);
    if (feed_below(feed, 5) == 0)
        fake_fail_nth(control, 0, feed_u8(feed) & 1 ? ABSENT : EXPIRED);
    else if (rpc == RPC_CONNECTION_REQUESTED || rpc == RPC_UNIX_CONNECTION_REQUESTED)
        answer_open(control, feed);
    else
        answer_listen(control, feed);
}

/* What Supervise would do. */
static void act(struct target *target, struct bytes *feed, Policy__Restrictions *restrictions)
{
    Policy__Restrictions *list[] = {restrictions};
    struct channels_rules rules = {.restrictions = list, .restriction_count = 1};
    Policy__OpenToClient open = POLICY__OPEN_TO_CLIENT__INIT;
    Policy__Address address = POLICY__ADDRESS__INIT;
    uint8_t bits = feed_u8(feed);

    address.ip = bits & 1 ? "a" : "";
    address.port = feed_u8(feed) * 300u;
    open.listened = &address;
    switch (bits >> 5) {
    case 0:
        restrictions->no_port_forwarding = bits & 2;
        channels_tighten(target->channels, &rules);
        channels_tighten(target->channels, &(struct channels_rules){0}); /* `list` ends here */
        break;
    case 1:
        channels_close_listener(target->channels, &address);
        break;
    case 2:
        channels_close_one(target->channels, bits & 3, "enough");
        break;
    default:
        channels_open_by_policy(target->channels, bits,
                                POLICY__SUPERVISE_ACTION__ACTION_OPEN_FORWARDED_TCPIP + (bits & 3),
                                &open);
    }
}

static void step(struct transport *t, struct target *target, struct control *control,
                 struct loop *loop, struct bytes *feed)
{
    static Policy__Restrictions restrictions = POLICY__RESTRICTIONS__INIT;

    switch (feed_below(feed, 7)) {
    case 0:
        open_channel(t, feed);
        break;
    case 1:
        ask_globally(t, feed);
        break;
    case 2:
        use_channel(t, feed);
        break;
    case 3:
        act(target, feed, &restrictions);
        break;
    case 4:
        event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
        break;
    default:
        answer(control, feed);
    }
    fake_transport_turn(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct channels_settings settings = {
        .max_sessions = 1, .max_channels = 4, .window_bytes = 9000, .max_packet_bytes = 500};
    static struct loop *loop;
    struct bytes feed = bytes_of(data, len);
    struct channels_rules rules = {0};
    struct target target = {0};
    struct control *control = fake_control_new();
    struct transport *t = fake_transport_new(&transport_events, &target);
    struct asker *asker;

    log_set_level(LOG_ERROR);
    if (loop == NULL)
        loop = loop_new();
    asker = asker_new(control, loop, &asker_events, &target);
    transport_send_auth_success(t);
    target.channels = channels_new(t, asker, control, &settings, &rules, &channels_events, &target);
    while (feed.len > 0 && target.faults == 0)
        step(t, &target, control, loop, &feed);
    channels_free(&target.channels, "the end");
    assert(fake_pending(control) == 0 && fake_streams(control) == 0 && fake_paused(t) == 0);
    assert(target.open == 0);
    event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
    asker_free(&asker);
    transport_free(&t);
    fake_control_free(&control);
    return 0;
}
