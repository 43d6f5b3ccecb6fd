/* The room's door: the table of channels, and which message goes where (RFC 4254). */
#include "channels/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>

#define GLOBALS_MAX_MESSAGES 32
#define GLOBALS_MAX_BYTES    65536

struct loop *channels_loop(const struct channels *channels)
{
    return asker_loop(channels->asker);
}

void channels_fault(struct channels *channels, const char *reason)
{
    if (channels->faulty)
        return;
    channels->faulty = true;
    channels->events->fault(channels->owner, DISCONNECT_PROTOCOL_ERROR, reason);
}

void channels_pressure(void *owner, bool full)
{
    struct channels *channels = owner;

    if (full)
        transport_pause(channels->transport);
    else
        transport_resume(channels->transport);
}

void channels_set_rules(struct channels *channels, const struct channels_rules *rules)
{
    channels->rules = *rules;
    buf_clear(&channels->forced_command);
    buf_put(&channels->forced_command, rules->forced_command);
    channels->rules.forced_command = buf_bytes(&channels->forced_command);
}

struct channels *channels_new(struct transport *transport, struct asker *asker,
                              struct control *control, const struct channels_settings *settings,
                              const struct channels_rules *rules,
                              const struct channels_events *events, void *owner)
{
    struct channels *channels = xcalloc(1, sizeof(*channels));

    channels->transport = transport;
    channels->asker = asker;
    channels->control = control;
    channels->settings = *settings;
    channels_set_rules(channels, rules);
    channels->events = events;
    channels->owner = owner;
    channels->last_data_ms = clock_ms();
    lane_init(&channels->globals, global_run, channels_pressure, channels, GLOBALS_MAX_MESSAGES,
              GLOBALS_MAX_BYTES);
    return channels;
}

void channels_free(struct channels **where, const char *error)
{
    struct channels *channels = *where;

    *where = NULL;
    if (channels == NULL)
        return;
    channels->faulty = true;
    for (size_t i = 0; i < channels->table_size; i++)
        if (channels->table[i] != NULL)
            channel_drop(channels->table[i], error);
    upstreams_free(&channels->upstreams);
    decision_cancel(&channels->asking);
    remotes_clear(channels);
    lane_clear(&channels->globals);
    buf_clear(&channels->forced_command);
    free(channels->table);
    free(channels);
}

/* ---- messages that name a channel */

static void recv_window_adjust(struct channel *channel, struct reader *r)
{
    uint32_t bytes = reader_u32(r);

    if (reader_end(r))
        channel_recv_window_adjust(channel, bytes);
    else
        channels_fault(channel->channels, "Malformed window adjustment");
}

static void recv_data(struct channel *channel, struct reader *r)
{
    struct bytes data = reader_string(r);

    if (reader_end(r))
        channel_recv_data(channel, 0, data);
    else
        channels_fault(channel->channels, "Malformed channel data");
}

static void recv_extended_data(struct channel *channel, struct reader *r)
{
    uint32_t type = reader_u32(r);
    struct bytes data = reader_string(r);

    if (reader_end(r))
        channel_recv_data(channel, type, data);
    else
        channels_fault(channel->channels, "Malformed channel data");
}

static void recv_eof(struct channel *channel, struct reader *r)
{
    if (reader_end(r))
        channel_recv_eof(channel);
    else
        channels_fault(channel->channels, "Malformed channel EOF");
}

static void recv_close(struct channel *channel, struct reader *r)
{
    if (reader_end(r))
        channel_recv_close(channel);
    else
        channels_fault(channel->channels, "Malformed channel close");
}

static void recv_request(struct channel *channel, struct reader *r)
{
    if (channel->state == CHANNEL_OPEN)
        lane_push(&channel->lane, MSG_CHANNEL_REQUEST, reader_rest(r));
}

static void recv_reply(struct channel *channel, struct reader *r)
{
    /* We ask for none; a stray one does no harm. */
    (void)channel;
    (void)r;
}

/* A channel that we offered takes its answer, once; one that is open takes the rest. */
static const struct {
    uint8_t type;
    void (*recv)(struct channel *channel, struct reader *r);
} channel_messages[] = {
    {MSG_CHANNEL_OPEN_CONFIRMATION, offer_recv_confirmation},
    {MSG_CHANNEL_OPEN_FAILURE, offer_recv_failure},
    {MSG_CHANNEL_WINDOW_ADJUST, recv_window_adjust},
    {MSG_CHANNEL_DATA, recv_data},
    {MSG_CHANNEL_EXTENDED_DATA, recv_extended_data},
    {MSG_CHANNEL_EOF, recv_eof},
    {MSG_CHANNEL_CLOSE, recv_close},
    {MSG_CHANNEL_REQUEST, recv_request},
    {MSG_CHANNEL_SUCCESS, recv_reply},
    {MSG_CHANNEL_FAILURE, recv_reply},
};

static bool answers_an_open(uint8_t type)
{
    return type == MSG_CHANNEL_OPEN_CONFIRMATION || type == MSG_CHANNEL_OPEN_FAILURE;
}

static struct channel *find_channel(struct channels *channels, uint8_t type, uint32_t id)
{
    struct channel *channel = id < channels->table_size ? channels->table[id] : NULL;

    if (channel == NULL)
        return NULL;
    switch (channel->state) {
    case CHANNEL_OFFERED:
    case CHANNEL_ABANDONED:
        return answers_an_open(type) ? channel : NULL;
    case CHANNEL_OPEN:
    case CHANNEL_CLOSING:
        return answers_an_open(type) ? NULL : channel;
    default: /* until it is confirmed the peer cannot know its number */
        return NULL;
    }
}

static bool recv_for_channel(struct channels *channels, uint8_t type, struct bytes message)
{
    struct reader r = reader_of(message);
    struct channel *channel = find_channel(channels, type, reader_u32(&r));

    for (size_t i = 0; i < sizeof(channel_messages) / sizeof(channel_messages[0]); i++) {
        if (channel_messages[i].type != type)
            continue;
        if (channel == NULL)
            channels_fault(channels, answers_an_open(type)
                                         ? "Reply to a channel open that is not under way"
                                         : "Message for a channel that is not open");
        else
            channel_messages[i].recv(channel, &r);
        return true;
    }
    return false;
}

bool channels_message(struct channels *channels, uint8_t type, struct bytes message)
{
    if (channels->faulty)
        return true;
    switch (type) {
    case MSG_GLOBAL_REQUEST:
        lane_push(&channels->globals, type, message);
        return true;
    case MSG_REQUEST_SUCCESS:
    case MSG_REQUEST_FAILURE:
        channels->events->global_reply(channels->owner);
        return true;
    case MSG_CHANNEL_OPEN:
        open_recv(channels, message);
        return true;
    default:
        return recv_for_channel(channels, type, message);
    }
}

/* Every starved channel in turn, so that none can keep the others from the wire. */
void channels_writable(struct channels *channels)
{
    for (size_t i = 0; i < channels->table_size && transport_room(channels->transport) > 0; i++) {
        struct channel *channel = channels->table[channels->turn++ % channels->table_size];

        if (channel != NULL && channel->starved)
            channel_resume(channel);
    }
}

void channels_set_limits(struct channels *channels, uint32_t max_sessions, uint32_t max_channels)
{
    channels->settings.max_sessions = max_sessions;
    channels->settings.max_channels = max_channels;
}

size_t channels_count(const struct channels *channels)
{
    return channels->count;
}

uint64_t channels_last_data_ms(const struct channels *channels)
{
    return channels->last_data_ms;
}
