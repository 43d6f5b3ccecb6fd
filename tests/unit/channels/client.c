#include "unit/channels/client.h"

#include "base/alloc.h"
#include "base/log.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool on_message(void *owner, uint8_t type, struct bytes message)
{
    struct client *c = owner;

    return c->channels == NULL || channels_message(c->channels, type, message);
}

static void on_writable(void *owner)
{
    struct client *c = owner;

    channels_writable(c->channels);
}

static const struct transport_events transport_events = {
    .message = on_message,
    .writable = on_writable,
};

static void on_disconnect(void *owner, uint32_t code, const char *reason, const char *language)
{
    (void)owner;
    (void)code;
    (void)reason;
    (void)language;
}

static void on_banner(void *owner, const char *text, const char *language)
{
    (void)owner;
    (void)text;
    (void)language;
}

static const struct asker_events asker_events = {on_disconnect, on_banner};

static void on_fault(void *owner, uint32_t code, const char *reason)
{
    struct client *c = owner;

    assert_int_equal(code, 2);
    c->faults++;
    snprintf(c->fault_reason, sizeof(c->fault_reason), "%s", reason);
}

static void on_global_reply(void *owner)
{
    struct client *c = owner;

    c->global_replies++;
}

static void on_opened(void *owner, const struct channel_note *note)
{
    struct client *c = owner;

    c->opened++;
    c->noted = note->channel;
}

static void on_closed(void *owner, const struct channel_note *note)
{
    struct client *c = owner;

    c->closed++;
    c->noted = note->channel;
    assert_true(c->closed <= c->opened);
}

static void on_listener(void *owner, bool opened, const Policy__ListenerNote *note)
{
    struct client *c = owner;

    c->listeners += opened ? 1 : -1;
    assert_non_null(note->address);
}

static void on_opened_by_policy(void *owner, uint64_t id, const char *error, uint32_t channel)
{
    struct client *c = owner;

    c->done_id = id;
    c->done_channel = channel;
    snprintf(c->done_error, sizeof(c->done_error), "%s", error);
}

static const struct channels_events channels_events = {
    on_fault, on_global_reply, on_opened, on_closed, on_listener, on_opened_by_policy};

int client_setup_later(void **state)
{
    struct client *c = xcalloc(1, sizeof(*c));

    log_set_level(LOG_ERROR);
    c->loop = loop_new();
    c->control = fake_control_new();
    c->transport = fake_transport_new(&transport_events, c);
    c->asker = asker_new(c->control, c->loop, &asker_events, c);
    asker_set_user(c->asker, BYTES("alice"));
    asker_set_authenticated(c->asker);
    transport_send_auth_success(c->transport);
    assert_true(fake_sent_is(c->transport, 52, ""));
    c->settings = (struct channels_settings){
        .max_sessions = 4, .max_channels = 6, .window_bytes = WINDOW, .max_packet_bytes = PACKET};
    c->rules.environment = &c->environment;
    *state = c;
    return 0;
}

void client_start(struct client *c)
{
    c->channels = channels_new(c->transport, c->asker, c->control, &c->settings, &c->rules,
                               &channels_events, c);
}

int client_setup(void **state)
{
    client_setup_later(state);
    client_start(*state);
    return 0;
}

void client_turn(struct client *c)
{
    event_base_loop(loop_events(c->loop), EVLOOP_NONBLOCK);
    fake_transport_turn(c->transport);
}

void client_restart(struct client *c)
{
    struct fake_message message;

    channels_free(&c->channels, NULL);
    client_turn(c);
    while (fake_sent(c->transport, &message))
        ;
    c->faults = 0;
    client_start(c);
}

int client_teardown(void **state)
{
    struct client *c = *state;

    channels_free(&c->channels, "the test is over");
    client_turn(c);
    assert_int_equal(fake_paused(c->transport), 0);
    asker_free(&c->asker);
    transport_free(&c->transport);
    fake_control_free(&c->control);
    loop_free(&c->loop);
    env_clear(&c->environment);
    free(c);
    return 0;
}

/* ---- steps */

void open_asked(struct client *c, uint32_t peer)
{
    fake_deliver(c->transport, OPEN, "suuu", "session", peer, PEER_ROOM, PEER_PACKET);
    expect_asked(c, RPC_SESSION_REQUESTED);
    expect_nothing(c);
}

void open_session(struct client *c, uint32_t peer, uint32_t id)
{
    open_asked(c, peer);
    fake_accept(c->control, RPC_SESSION_REQUESTED);
    expect_sent(c, CONFIRMATION, "uuuu", peer, id, WINDOW, PACKET);
}

void send_channel_request(struct client *c, uint32_t id, const char *name, bool want_reply,
                          const char *format, ...)
{
    struct buf message = {0};
    va_list args;

    wire_put(&message, "usb", id, name, want_reply);
    va_start(args, format);
    wire_vput(&message, format, args);
    va_end(args);
    fake_deliver_bytes(c->transport, REQUEST, buf_bytes(&message));
    buf_clear(&message);
}

void send_exec(struct client *c, uint32_t id, const char *command)
{
    send_channel_request(c, id, "exec", true, "s", command);
}

struct stream *open_exec(struct client *c, uint32_t peer, uint32_t id)
{
    struct stream *stream;
    const Policy__ChannelEvent *event;

    open_session(c, peer, id);
    send_exec(c, id, "run");
    fake_accept_stream(c->control, RPC_EXEC_REQUESTED, "");
    expect_sent(c, SUCCESS, "u", peer);
    stream = fake_stream(c->control, fake_streams(c->control) - 1);
    event = fake_stream_sent(stream);
    assert_int_equal(event->event_case, POLICY__CHANNEL_EVENT__EVENT_OPENED);
    assert_int_equal(event->opened->channel, id);
    assert_string_equal(event->opened->context->user, "alice");
    return stream;
}

/* ---- what must be */

void expect_nothing(struct client *c)
{
    assert_int_equal(fake_sent_waiting(c->transport), 0);
    assert_int_equal(c->faults, 0);
}

void expect_fault(struct client *c)
{
    assert_int_equal(c->faults, 1);
}

void expect_asked(struct client *c, enum rpc rpc)
{
    assert_int_equal(fake_pending(c->control), 1);
    assert_string_equal(rpc_name(fake_pending_rpc(c->control, 0)), rpc_name(rpc));
}

void expect_event(struct stream *stream, Policy__ChannelEvent__EventCase kind)
{
    const Policy__ChannelEvent *event = fake_stream_sent(stream);

    assert_non_null(event);
    assert_int_equal(event->event_case, kind);
}

void expect_event_data(struct stream *stream, const char *text)
{
    const Policy__ChannelEvent *event = fake_stream_sent(stream);

    assert_non_null(event);
    assert_int_equal(event->event_case, POLICY__CHANNEL_EVENT__EVENT_DATA);
    assert_int_equal(event->data->payload.len, strlen(text));
    assert_memory_equal(event->data->payload.data, text, strlen(text));
    assert_int_equal(event->data->extended_type, 0);
}

void expect_no_event(struct stream *stream)
{
    assert_null(fake_stream_sent(stream));
}
