/* One channel at an upstream, as an endpoint: its windows, its data, its end (RFC 4254 sections 5.2
 * and 5.3). */
#include "endpoints/upstream/mux_internal.h"

#include "base/alloc.h"

#include <event2/event.h>
#include <stdlib.h>

static struct mux_channel *self(struct endpoint *endpoint)
{
    return (struct mux_channel *)endpoint;
}

/* ---- life */

struct mux_channel *mux_channel_new(struct mux *mux)
{
    struct mux_channel *channel = xcalloc(1, sizeof(*channel));

    channel->base.ops = &mux_channel_ops;
    channel->handle.channel = channel;
    channel->mux = mux;
    channel->windows = mux->windows;
    channel->loop = mux->loop;
    mux_take_slot(mux, channel);
    return channel;
}

static void free_memory(void *arg)
{
    struct mux_channel *channel = arg;

    if (channel->patience != NULL)
        event_free(channel->patience);
    if (channel->eof_timer != NULL)
        event_free(channel->eof_timer);
    if (channel->exit_signal != NULL)
        policy__exit_signal__free_unpacked(channel->exit_signal, NULL);
    buf_clear_secret(&channel->first);
    buf_clear(&channel->words);
    held_clear(&channel->held);
    free(channel->end_why);
    free(channel);
}

void mux_channel_give_up_window(struct mux_channel *channel)
{
    channel->windows->given -= channel->window_size;
    channel->window_size = 0;
}

static void leave(struct mux_channel *channel)
{
    if (channel->left)
        return;
    channel->left = true;
    channel->opened->closed(channel->opened_owner);
}

void mux_channel_let_go(struct mux_channel *channel)
{
    if (channel->state != MUX_CLOSED || !channel->stopped || channel->going)
        return;
    channel->going = true;
    loop_defer(channel->loop, free_memory, channel);
    leave(channel);
}

/* ---- messages */

void mux_channel_begin(struct mux_channel *channel, struct buf *message, uint8_t type)
{
    buf_put_u8(message, type);
    buf_put_u32(message, channel->peer);
}

void mux_channel_send(struct mux_channel *channel, struct buf *message)
{
    transport_send(channel->mux->transport, buf_bytes(message));
    buf_clear_secret(message);
}

static void send_plain(struct mux_channel *channel, uint8_t type)
{
    struct buf message = {0};

    mux_channel_begin(channel, &message, type);
    mux_channel_send(channel, &message);
}

void mux_channel_await_end(struct mux_channel *channel, enum mux_state state)
{
    channel->state = state;
    if (++channel->mux->closing > CLOSING_MAX)
        mux_fault(channel->mux, state == MUX_CLOSING
                                    ? "it does not close its channels"
                                    : "it does not answer when channels are opened");
}

void mux_channel_send_close(struct mux_channel *channel)
{
    if (channel->state != MUX_OPEN)
        return;
    send_plain(channel, MSG_CHANNEL_CLOSE);
    mux_channel_await_end(channel, MUX_CLOSING);
}

/* ---- upstream to client */

/* Opens the window again for what has been passed on; in halves, to spare messages. */
static void give_back(struct mux_channel *channel, size_t taken)
{
    struct buf message = {0};

    channel->window_owed += (uint32_t)taken;
    if (channel->window_owed == 0 || channel->window_owed < channel->window_size / 2 ||
        channel->state != MUX_OPEN || channel->eof)
        return;
    mux_channel_begin(channel, &message, MSG_CHANNEL_WINDOW_ADJUST);
    buf_put_u32(&message, channel->window_owed);
    mux_channel_send(channel, &message);
    channel->window += channel->window_owed;
    channel->window_owed = 0;
}

/* False: something is left for resume(). */
static bool pass_data(struct mux_channel *channel)
{
    uint32_t type;
    struct bytes first;
    size_t taken;

    while ((first = held_first(&channel->held, &type)).len > 0) {
        taken = channel->events->data(channel->owner, first, type);
        held_take(&channel->held, taken);
        give_back(channel, taken);
        if (taken < first.len)
            return false;
    }
    while (channel->words_done < channel->words.len) {
        taken = channel->events->data(channel->owner,
                                      bytes_of(channel->words.data + channel->words_done,
                                               channel->words.len - channel->words_done),
                                      1);
        channel->words_done += taken;
        if (channel->words_done < channel->words.len)
            return false;
    }
    return true;
}

static void pass_exit(struct mux_channel *channel)
{
    Policy__ExitSignal *exit_signal = channel->exit_signal;

    if (channel->has_status)
        channel->events->exit_status(channel->owner, channel->status);
    channel->has_status = false;
    channel->exit_signal = NULL;
    if (exit_signal == NULL)
        return;
    channel->events->exit_signal(channel->owner, exit_signal);
    policy__exit_signal__free_unpacked(exit_signal, NULL);
}

void mux_channel_pass_on(struct mux_channel *channel)
{
    if (channel->stopped || !pass_data(channel))
        return;
    pass_exit(channel);
    if (channel->eof && !channel->eof_passed && mux_session_may_pass_eof(channel)) {
        channel->eof_passed = true;
        channel->events->eof(channel->owner);
    }
    if (channel->end_why == NULL || channel->end_told)
        return;
    channel->end_told = true; /* the channel stops us in there */
    channel->events->ended(channel->owner, channel->end_in_order, channel->end_why);
}

void mux_channel_end(struct mux_channel *channel, bool in_order, const char *why)
{
    if (channel->end_why == NULL) {
        channel->end_why = xstrdup(why);
        channel->end_in_order = in_order;
    }
    mux_channel_pass_on(channel);
}

void mux_channel_tell(struct mux_channel *channel, const char *text)
{
    buf_put(&channel->words, bytes_of_string(text));
    buf_put(&channel->words, BYTES("\r\n")); /* there may be a terminal */
    mux_channel_pass_on(channel);
}

void mux_channel_recv_data(struct mux_channel *channel, uint32_t extended_type, struct bytes data)
{
    size_t taken = 0;

    if (channel->eof || data.len > channel->window || data.len > PACKET_MAX_BYTES) {
        mux_fault(channel->mux,
                  channel->eof ? "data after EOF" : "data beyond the window or the packet size");
        return;
    }
    channel->window -= (uint32_t)data.len;
    if (channel->state != MUX_OPEN)
        return; /* sent before our CLOSE arrived */
    if (extended_type > 1 || (extended_type == 1 && !channel->is_session)) {
        give_back(channel, data.len); /* means nothing to anybody here */
        return;
    }
    if (held_len(&channel->held) == 0 && channel->words_done == channel->words.len)
        taken = channel->events->data(channel->owner, data, extended_type);
    give_back(channel, taken);
    if (taken < data.len)
        held_put(&channel->held, extended_type, bytes_of(data.data + taken, data.len - taken));
}

void mux_channel_recv_eof(struct mux_channel *channel)
{
    if (channel->eof) {
        mux_fault(channel->mux, "a second EOF");
        return;
    }
    channel->eof = true;
    if (channel->state == MUX_OPEN && !mux_session_may_pass_eof(channel))
        mux_session_delay_eof(channel);
    mux_channel_pass_on(channel);
}

void mux_channel_recv_close(struct mux_channel *channel)
{
    bool in_order = !channel->is_session || channel->exit_seen;

    mux_channel_send_close(channel);
    mux_channel_remove(channel);
    if (!channel->stopped)
        mux_channel_end(channel, in_order,
                        in_order ? "the upstream closed the channel"
                                 : "the upstream closed the channel without an exit status");
    mux_channel_let_go(channel);
}

static void channel_resume(struct endpoint *endpoint)
{
    mux_channel_pass_on(self(endpoint));
}

/* ---- client to upstream */

static void tell_taken(struct mux_channel *channel)
{
    size_t taken = channel->taken;

    channel->taken = 0;
    channel->blocked = false;
    channel->events->writable(channel->owner, taken);
}

static void on_turn_end(void *arg)
{
    struct mux_channel *channel = arg;

    channel->telling = false;
    if (!channel->stopped && channel->taken > 0)
        tell_taken(channel);
}

static void tell_later(struct mux_channel *channel, size_t taken)
{
    channel->taken += taken;
    if (channel->telling || taken == 0)
        return;
    channel->telling = true;
    loop_defer(channel->loop, on_turn_end, channel);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* As much as window and transport have room for: what is left waits for news of either. */
static size_t send_data(struct mux_channel *channel, struct bytes data)
{
    struct transport *transport = channel->mux->transport;
    size_t done = 0;

    while (done < data.len && channel->peer_window > 0 && transport_room(transport) > 0) {
        size_t len = smaller(data.len - done, channel->peer_packet_max);

        len = smaller(len, channel->peer_window);
        transport_send_data(transport, channel->peer, 0, bytes_of(data.data + done, len));
        channel->peer_window -= (uint32_t)len;
        done += len;
    }
    channel->blocked = done < data.len;
    return done;
}

static size_t channel_write(struct endpoint *endpoint, struct bytes data, uint32_t extended_type)
{
    struct mux_channel *channel = self(endpoint);
    size_t done = data.len;

    (void)extended_type; /* clients have none (RFC 4254 section 5.2) */
    if (channel->state == MUX_OPEN && !channel->deaf && !channel->eof_sent)
        done = send_data(channel, data);
    tell_later(channel, done);
    return done;
}

static void channel_eof(struct endpoint *endpoint)
{
    struct mux_channel *channel = self(endpoint);

    if (channel->state != MUX_OPEN || channel->eof_sent)
        return;
    channel->eof_sent = true;
    send_plain(channel, MSG_CHANNEL_EOF);
}

void mux_channel_recv_window_adjust(struct mux_channel *channel, uint32_t bytes)
{
    if (bytes > UINT32_MAX - channel->peer_window) {
        mux_fault(channel->mux, "a window beyond 2^32 - 1");
        return;
    }
    channel->peer_window += bytes;
    if (transport_room(channel->mux->transport) > 0)
        mux_channel_wake(channel);
}

void mux_channel_wake(struct mux_channel *channel)
{
    if (channel->stopped || channel->state != MUX_OPEN)
        return;
    if (channel->resized)
        mux_session_window_change(&channel->base, &channel->size);
    if (channel->blocked && channel->peer_window > 0)
        tell_taken(channel);
}

void mux_channel_deafen(struct mux_channel *channel)
{
    channel->deaf = true;
    if (channel->blocked && !channel->stopped)
        tell_taken(channel);
}

/* ---- the end */

void mux_channel_remove(struct mux_channel *channel)
{
    struct mux *mux = channel->mux;

    if (channel->state == MUX_CLOSING || channel->state == MUX_ABANDONED)
        mux->closing--;
    mux->table[channel->id] = NULL;
    channel->mux = NULL;
    channel->state = MUX_CLOSED;
    if (channel->patience != NULL)
        event_del(channel->patience);
    mux_channel_deafen(channel);
}

static void on_patience_over(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    leave(arg);
}

/* Who stopped the channel may mean his last bytes to arrive; but not for ever. */
static void wait_for_close(struct mux_channel *channel)
{
    static const struct timeval patience = {.tv_sec = CLOSE_MAX_MS / 1000};

    channel->patience = event_new(loop_events(channel->loop), -1, 0, on_patience_over, channel);
    if (channel->patience == NULL || event_add(channel->patience, &patience) < 0)
        abort(); /* out of memory */
}

static void channel_stop(struct endpoint *endpoint, const char *error)
{
    struct mux_channel *channel = self(endpoint);

    (void)error; /* without an EOF before it, CLOSE says as much */
    channel->stopped = true;
    held_clear(&channel->held);
    mux_channel_give_up_window(channel);
    mux_channel_send_close(channel);
    if (channel->state == MUX_CLOSING)
        wait_for_close(channel);
    mux_channel_let_go(channel);
}

const struct endpoint_ops mux_channel_ops = {
    .name = "upstream",
    .write = channel_write,
    .eof = channel_eof,
    .unwanted = mux_session_unwanted,
    .window_change = mux_session_window_change,
    .signal = mux_session_signal,
    .break_request = mux_session_break,
    .resume = channel_resume,
    .stop = channel_stop,
};
