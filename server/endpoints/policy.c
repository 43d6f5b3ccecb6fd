/* StreamEndpoint: the bytes of a channel travel over the Channel RPC (channel.proto). */
#include "endpoints/endpoint.h"

#include "base/alloc.h"

#include <stdlib.h>

/* The policy asked for in one message at most; larger SSH writes are cut, smaller ones are not
 * joined here. */
#define MESSAGE_MAX_BYTES 65536

/* Small messages that arrived together leave as one SSH packet: each would cost a MAC, a header and
 * padding. Never held back for more to come, so a keystroke echoes at once. */
#define JOIN_SMALL_BYTES 1024
#define JOIN_MAX_BYTES   (32 * 1024)

struct policy_endpoint {
    struct endpoint base;
    const struct endpoint_events *events;
    void *owner;
    bool packets; /* one is one message */
    struct stream *stream;
    const Policy__ChannelAction *action; /* the one being carried out, borrowed from the stream */
    size_t action_done;                  /* bytes of its data that the channel has taken */
    struct buf joined;                   /* small messages, before the action */
    size_t joined_done;                  /* likewise */
    uint32_t joined_type;                /* their extended_type */
    bool joined_waits;                   /* the channel did not take them all: no more is read */
    bool readable;                       /* the stream has messages that we have not looked at */
    bool full;                           /* the policy does not read: no events until writable() */
    bool resized;                        /* `size` waits for that */
    Policy__WindowSize size;
    char *end; /* the stream has ended, for this reason; told once action is done */
    bool end_in_order;
};

static struct policy_endpoint *self(struct endpoint *endpoint)
{
    return (struct policy_endpoint *)endpoint;
}

/* ---- client to policy */

static size_t write_packet(struct policy_endpoint *policy, struct bytes packet)
{
    if (stream_room(policy->stream) == 0)
        return 0;
    if (!stream_send_data(policy->stream, packet, 0))
        policy->full = true;
    return packet.len;
}

static size_t policy_write(struct endpoint *endpoint, struct bytes data, uint32_t extended_type)
{
    struct policy_endpoint *policy = self(endpoint);
    size_t done = 0;

    if (policy->packets)
        return write_packet(policy, data);
    while (done < data.len) {
        size_t room = stream_room(policy->stream);
        size_t len = data.len - done;

        if (room == 0)
            break;
        if (len > room)
            len = room;
        if (len > MESSAGE_MAX_BYTES)
            len = MESSAGE_MAX_BYTES;
        if (!stream_send_data(policy->stream, bytes_of(data.data + done, len), extended_type))
            policy->full = true;
        done += len;
    }
    return done;
}

static void send_event(struct policy_endpoint *policy, Policy__ChannelEvent__EventCase kind,
                       ProtobufCMessage *message)
{
    Policy__ChannelEvent event = POLICY__CHANNEL_EVENT__INIT;

    event.event_case = kind;
    event.opened = (void *)message; /* every member of the oneof is a message pointer */
    if (!stream_send(policy->stream, &event.base))
        policy->full = true;
}

static void policy_eof(struct endpoint *endpoint)
{
    Policy__ChannelEof eof = POLICY__CHANNEL_EOF__INIT;

    send_event(self(endpoint), POLICY__CHANNEL_EVENT__EVENT_EOF, &eof.base);
}

/* Requests cost the client no window: while the policy does not read, only the last size is kept,
 * and signals and breaks are lost (a break that wants a reply gets its failure in time). */
static void policy_window_change(struct endpoint *endpoint, const Policy__WindowSize *size)
{
    struct policy_endpoint *policy = self(endpoint);

    policy->size = *size;
    policy->resized = policy->full;
    if (!policy->full)
        send_event(policy, POLICY__CHANNEL_EVENT__EVENT_WINDOW_CHANGE, &policy->size.base);
}

static void policy_signal(struct endpoint *endpoint, const char *name)
{
    struct policy_endpoint *policy = self(endpoint);
    Policy__Signal signal = POLICY__SIGNAL__INIT;

    signal.name = (char *)name;
    if (!policy->full)
        send_event(policy, POLICY__CHANNEL_EVENT__EVENT_SIGNAL, &signal.base);
}

/* What a program would find out by writing: what it goes on sending is lost. */
static void policy_unwanted(struct endpoint *endpoint)
{
    policy_signal(endpoint, "PIPE");
}

static void policy_break(struct endpoint *endpoint, uint32_t id, uint32_t length_ms,
                         bool want_reply)
{
    struct policy_endpoint *policy = self(endpoint);
    Policy__Break request = POLICY__BREAK__INIT;

    request.id = id;
    request.length_ms = length_ms;
    request.want_reply = want_reply;
    if (!policy->full)
        send_event(policy, POLICY__CHANNEL_EVENT__EVENT_BREAK_REQUEST, &request.base);
}

/* ---- policy to client */

/* False: the channel took only a part, and resume() follows. */
static bool carry_data(struct policy_endpoint *policy, const Policy__ChannelData *data)
{
    size_t rest = data->payload.len - policy->action_done;

    if (rest > 0)
        policy->action_done += policy->events->data(
            policy->owner, bytes_of(data->payload.data + policy->action_done, rest),
            data->extended_type);
    return policy->action_done == data->payload.len;
}

static bool carry_out(struct policy_endpoint *policy, const Policy__ChannelAction *action)
{
    switch (action->action_case) {
    case POLICY__CHANNEL_ACTION__ACTION_DATA:
        return carry_data(policy, action->data);
    case POLICY__CHANNEL_ACTION__ACTION_EOF:
        policy->events->eof(policy->owner);
        break;
    case POLICY__CHANNEL_ACTION__ACTION_EXIT_STATUS:
        policy->events->exit_status(policy->owner, action->exit_status->status);
        break;
    case POLICY__CHANNEL_ACTION__ACTION_EXIT_SIGNAL:
        policy->events->exit_signal(policy->owner, action->exit_signal);
        break;
    case POLICY__CHANNEL_ACTION__ACTION_CLIENT_FLOW_CONTROL:
        policy->events->client_flow_control(policy->owner, action->client_flow_control->can_do);
        break;
    case POLICY__CHANNEL_ACTION__ACTION_BREAK_ANSWER:
        policy->events->break_answer(policy->owner, action->break_answer->id,
                                     action->break_answer->handled);
        break;
    default: /* control lets no unset or unknown member through */
        break;
    }
    return true;
}

/* False: the channel took only a part, and resume() follows. */
static bool carry_joined(struct policy_endpoint *policy)
{
    size_t rest = policy->joined.len - policy->joined_done;

    if (rest == 0)
        return true;
    policy->joined_done += policy->events->data(
        policy->owner, bytes_of(policy->joined.data + policy->joined_done, rest),
        policy->joined_type);
    policy->joined_waits = policy->joined_done < policy->joined.len;
    if (policy->joined_waits)
        return false;
    buf_clear(&policy->joined);
    policy->joined_done = 0;
    return true;
}

static bool is_small(const struct policy_endpoint *policy, const Policy__ChannelAction *action)
{
    return !policy->packets && action->action_case == POLICY__CHANNEL_ACTION__ACTION_DATA &&
           action->data->payload.len <= JOIN_SMALL_BYTES;
}

/* stdout and stderr stay in their order: only neighbours of one kind are joined. */
static bool joins(const struct policy_endpoint *policy, const Policy__ChannelAction *action)
{
    return is_small(policy, action) &&
           (policy->joined.len == 0 ||
            (policy->joined_type == action->data->extended_type &&
             policy->joined.len + action->data->payload.len <= JOIN_MAX_BYTES));
}

static void join(struct policy_endpoint *policy, const Policy__ChannelData *data)
{
    policy->joined_type = data->extended_type;
    buf_put(&policy->joined, bytes_of(data->payload.data, data->payload.len));
}

static const Policy__ChannelAction *next_action(struct policy_endpoint *policy)
{
    const Policy__ChannelAction *action = NULL;

    if (policy->readable)
        action = (const Policy__ChannelAction *)stream_next(policy->stream);
    policy->readable = action != NULL;
    policy->action_done = 0;
    return action;
}

/* False: the channel has no room for more. */
static bool carry_out_all(struct policy_endpoint *policy)
{
    if (policy->joined_waits && !carry_joined(policy))
        return false;
    for (;;) {
        if (policy->action == NULL)
            policy->action = next_action(policy);
        if (policy->action == NULL)
            return carry_joined(policy);
        if (!joins(policy, policy->action) && !carry_joined(policy))
            return false;
        if (is_small(policy, policy->action))
            join(policy, policy->action->data);
        else if (!carry_out(policy, policy->action))
            return false;
        policy->action = NULL;
    }
}

/* The channel stops and frees us inside ended(): nothing may follow a call of this. */
static void carry_on(struct policy_endpoint *policy)
{
    if (carry_out_all(policy) && policy->end != NULL)
        policy->events->ended(policy->owner, policy->end_in_order, policy->end);
}

static void policy_resume(struct endpoint *endpoint)
{
    carry_on(self(endpoint));
}

static void on_readable(void *owner)
{
    struct policy_endpoint *policy = owner;

    policy->readable = true;
    carry_on(policy);
}

static void on_writable(void *owner)
{
    struct policy_endpoint *policy = owner;

    policy->full = false;
    if (policy->resized)
        policy_window_change(&policy->base, &policy->size);
    policy->events->writable(policy->owner, stream_taken(policy->stream));
}

static void on_ended(void *owner, enum outcome outcome, const char *why)
{
    struct policy_endpoint *policy = owner;

    policy->end = xstrdup(why);
    policy->end_in_order = outcome == ANSWERED;
    carry_on(policy);
}

/* ---- life */

static void policy_stop(struct endpoint *endpoint, const char *error)
{
    struct policy_endpoint *policy = self(endpoint);
    Policy__ChannelClosed closed = POLICY__CHANNEL_CLOSED__INIT;

    if (error != NULL)
        closed.error = (char *)error;
    send_event(policy, POLICY__CHANNEL_EVENT__EVENT_CLOSED, &closed.base);
    stream_finish(policy->stream);
    stream_close(&policy->stream);
    buf_clear(&policy->joined);
    free(policy->end);
    free(policy);
}

static const struct endpoint_ops policy_ops = {
    .name = "stream",
    .write = policy_write,
    .eof = policy_eof,
    .window_change = policy_window_change,
    .signal = policy_signal,
    .unwanted = policy_unwanted,
    .break_request = policy_break,
    .resume = policy_resume,
    .stop = policy_stop,
};

static const struct stream_events policy_stream_events = {
    .readable = on_readable,
    .writable = on_writable,
    .ended = on_ended,
};

struct endpoint *endpoint_policy_new(const struct endpoint_start *start, struct control *control,
                                     const Policy__StreamEndpoint *answer)
{
    struct policy_endpoint *policy;

    if (!control_has_target(control, answer->target))
        return NULL;
    policy = xcalloc(1, sizeof(*policy));
    policy->base.ops = &policy_ops;
    policy->events = start->events;
    policy->owner = start->owner;
    policy->packets = start->packets;
    policy->stream =
        asker_open_stream(start->asker, RPC_CHANNEL, answer->target, &policy_stream_events, policy);
    start->opened->context = asker_context(start->asker);
    start->opened->max_payload_bytes = (uint32_t)stream_largest(policy->stream);
    send_event(policy, POLICY__CHANNEL_EVENT__EVENT_OPENED, &start->opened->base);
    return &policy->base;
}
