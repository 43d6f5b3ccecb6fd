/* The channels of one upstream connection: the table, and which message goes where (RFC 4254, as a
 * client). */
#include "endpoints/upstream/mux_internal.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

void mux_fault(struct mux *mux, const char *why)
{
    if (mux == NULL || mux->faulty)
        return;
    mux->faulty = true;
    mux->events->fault(mux->owner, why);
}

void mux_take_slot(struct mux *mux, struct mux_channel *channel)
{
    size_t id = 0, grown;

    while (id < mux->table_size && mux->table[id] != NULL)
        id++;
    if (id == mux->table_size) {
        grown = mux->table_size ? 2 * mux->table_size : 4;
        mux->table = xrealloc(mux->table, grown * sizeof(*mux->table));
        memset(mux->table + mux->table_size, 0, (grown - mux->table_size) * sizeof(*mux->table));
        mux->table_size = grown;
    }
    mux->table[id] = channel;
    channel->id = (uint32_t)id;
}

/* ---- life */

struct mux *mux_new(struct loop *loop, struct transport *transport, struct mux_windows *windows,
                    const struct mux_events *events, void *owner)
{
    struct mux *mux = xcalloc(1, sizeof(*mux));

    mux->loop = loop;
    mux->transport = transport;
    mux->windows = windows;
    mux->events = events;
    mux->owner = owner;
    return mux;
}

static void end_channel(struct mux_channel *channel, const char *why)
{
    bool opening = channel->state == MUX_OPENING;

    mux_channel_remove(channel);
    if (opening) {
        mux_open_fail(channel, OPEN_CONNECT_FAILED, why);
    } else if (!channel->stopped) {
        if (channel->is_session && channel->end_why == NULL)
            mux_channel_tell(channel, why);
        mux_channel_end(channel, false, why);
    }
    mux_channel_let_go(channel);
}

static void free_memory(void *arg)
{
    struct mux *mux = arg;

    free(mux->table);
    free(mux);
}

void mux_free(struct mux **where, const char *why)
{
    struct mux *mux = *where;

    *where = NULL;
    if (mux == NULL)
        return;
    mux->faulty = true;
    for (size_t i = 0; i < mux->table_size; i++)
        if (mux->table[i] != NULL)
            end_channel(mux->table[i], why);
    loop_defer(mux->loop, free_memory, mux); /* we may be inside mux_message() */
}

/* ---- messages that name a channel */

static void recv_window_adjust(struct mux_channel *channel, struct reader *r)
{
    uint32_t bytes = reader_u32(r);

    if (reader_end(r))
        mux_channel_recv_window_adjust(channel, bytes);
    else
        mux_fault(channel->mux, "malformed window adjustment");
}

static void recv_data(struct mux_channel *channel, struct reader *r)
{
    struct bytes data = reader_string(r);

    if (reader_end(r))
        mux_channel_recv_data(channel, 0, data);
    else
        mux_fault(channel->mux, "malformed channel data");
}

static void recv_extended_data(struct mux_channel *channel, struct reader *r)
{
    uint32_t type = reader_u32(r);
    struct bytes data = reader_string(r);

    if (reader_end(r))
        mux_channel_recv_data(channel, type == 1 ? 1 : EXTENDED_UNKNOWN, data);
    else
        mux_fault(channel->mux, "malformed channel data");
}

static void recv_eof(struct mux_channel *channel, struct reader *r)
{
    if (reader_end(r))
        mux_channel_recv_eof(channel);
    else
        mux_fault(channel->mux, "malformed channel EOF");
}

static void recv_close(struct mux_channel *channel, struct reader *r)
{
    if (reader_end(r))
        mux_channel_recv_close(channel);
    else
        mux_fault(channel->mux, "malformed channel close");
}

static void recv_success(struct mux_channel *channel, struct reader *r)
{
    if (reader_end(r))
        mux_session_recv_reply(channel, true);
    else
        mux_fault(channel->mux, "malformed channel reply");
}

static void recv_failure(struct mux_channel *channel, struct reader *r)
{
    if (reader_end(r))
        mux_session_recv_reply(channel, false);
    else
        mux_fault(channel->mux, "malformed channel reply");
}

/* A channel that was asked for takes its answer, once; one that is open takes the rest. */
static const struct {
    uint8_t type;
    bool answers_open;
    void (*recv)(struct mux_channel *channel, struct reader *r);
} channel_messages[] = {
    {MSG_CHANNEL_OPEN_CONFIRMATION, true, mux_recv_confirmation},
    {MSG_CHANNEL_OPEN_FAILURE, true, mux_recv_failure},
    {MSG_CHANNEL_WINDOW_ADJUST, false, recv_window_adjust},
    {MSG_CHANNEL_DATA, false, recv_data},
    {MSG_CHANNEL_EXTENDED_DATA, false, recv_extended_data},
    {MSG_CHANNEL_EOF, false, recv_eof},
    {MSG_CHANNEL_CLOSE, false, recv_close},
    {MSG_CHANNEL_REQUEST, false, mux_session_recv_request},
    {MSG_CHANNEL_SUCCESS, false, recv_success},
    {MSG_CHANNEL_FAILURE, false, recv_failure},
};

static bool recv_for_channel(struct mux *mux, uint8_t type, struct bytes message)
{
    struct reader r = reader_of(message);
    uint32_t id = reader_u32(&r);
    struct mux_channel *channel = id < mux->table_size ? mux->table[id] : NULL;
    bool opening;

    for (size_t i = 0; i < sizeof(channel_messages) / sizeof(channel_messages[0]); i++) {
        if (channel_messages[i].type != type)
            continue;
        opening =
            channel != NULL && (channel->state == MUX_OPENING || channel->state == MUX_ABANDONED);
        if (!reader_ok(&r) || channel == NULL || opening != channel_messages[i].answers_open)
            mux_fault(mux, channel_messages[i].answers_open
                               ? "answer to a channel open that is not under way"
                               : "message for a channel that is not open");
        else
            channel_messages[i].recv(channel, &r);
        return true;
    }
    return false;
}

/* ---- the rest */

/* hostkeys-00@openssh.com, keepalive@openssh.com, and whatever there may be: what we trust is said
 * in the answer, and a failure is a sign of life as well. */
static void recv_global_request(struct mux *mux, struct bytes message)
{
    static const uint8_t failure = MSG_REQUEST_FAILURE;
    struct reader r = reader_of(message);
    bool want_reply;

    (void)reader_string(&r);
    want_reply = reader_bool(&r);
    if (!reader_ok(&r))
        mux_fault(mux, "malformed global request");
    else if (want_reply)
        transport_send(mux->transport, bytes_of(&failure, 1));
}

/* Agent, X11 and listeners were not asked for: nothing may be opened to us. */
static void recv_open(struct mux *mux, struct bytes message)
{
    struct reader r = reader_of(message);
    struct buf refusal = {0};
    uint32_t peer;

    (void)reader_string(&r);
    peer = reader_u32(&r);
    (void)reader_u32(&r);
    (void)reader_u32(&r);
    if (!reader_ok(&r)) {
        mux_fault(mux, "malformed channel open");
        return;
    }
    buf_put_u8(&refusal, MSG_CHANNEL_OPEN_FAILURE);
    buf_put_u32(&refusal, peer);
    buf_put_u32(&refusal, OPEN_ADMINISTRATIVELY_PROHIBITED);
    buf_put_cstring(&refusal, "Nothing may be opened to this client");
    buf_put_cstring(&refusal, "");
    transport_send(mux->transport, buf_bytes(&refusal));
    buf_clear(&refusal);
}

bool mux_message(struct mux *mux, uint8_t type, struct bytes message)
{
    if (mux->faulty)
        return true;
    switch (type) {
    case MSG_GLOBAL_REQUEST:
        recv_global_request(mux, message);
        return true;
    case MSG_REQUEST_SUCCESS:
    case MSG_REQUEST_FAILURE:
        mux->events->alive(mux->owner);
        return true;
    case MSG_CHANNEL_OPEN:
        recv_open(mux, message);
        return true;
    default:
        return recv_for_channel(mux, type, message);
    }
}

void mux_send_keepalive(struct mux *mux)
{
    struct buf message = {0};

    buf_put_u8(&message, MSG_GLOBAL_REQUEST);
    buf_put_cstring(&message, "keepalive@openssh.com");
    buf_put_bool(&message, true);
    transport_send(mux->transport, buf_bytes(&message));
    buf_clear(&message);
}

/* Every channel that waits in turn, so that none can keep the others from the wire. */
void mux_writable(struct mux *mux)
{
    for (size_t i = 0; i < mux->table_size && transport_room(mux->transport) > 0; i++) {
        struct mux_channel *channel = mux->table[mux->turn++ % mux->table_size];

        if (channel != NULL)
            mux_channel_wake(channel);
    }
}
