/* Opening a channel at the upstream (RFC 4254 section 5.1). */
#include "endpoints/upstream/mux_internal.h"

#include "base/alloc.h"

#include <stdlib.h>

#define REASON_MAX_BYTES 1024

/* What is shared out leaves the least window for each of the channels that may still come. */
static uint32_t window_for_next(const struct mux_windows *windows)
{
    uint32_t shared = WINDOWS_MAX_BYTES / 4 * 3;
    uint32_t window = windows->given < shared ? (shared - windows->given) / 4 : 0;

    if (window > WINDOW_MAX_BYTES)
        window = WINDOW_MAX_BYTES;
    return window < WINDOW_MIN_BYTES ? WINDOW_MIN_BYTES : window;
}

static struct mux_channel *ask(struct mux *mux, const char *type, const struct buf *fields,
                               const struct endpoint_events *events, void *events_owner,
                               const struct mux_opened_events *opened, void *owner)
{
    struct mux_channel *channel = mux_channel_new(mux);
    struct buf message = {0};

    channel->events = events;
    channel->owner = events_owner;
    channel->opened = opened;
    channel->opened_owner = owner;
    channel->window = channel->window_size = window_for_next(mux->windows);
    mux->windows->given += channel->window_size;
    buf_put_u8(&message, MSG_CHANNEL_OPEN);
    buf_put_cstring(&message, type);
    buf_put_u32(&message, channel->id);
    buf_put_u32(&message, channel->window);
    buf_put_u32(&message, PACKET_MAX_BYTES);
    buf_put(&message, buf_bytes(fields));
    transport_send(mux->transport, buf_bytes(&message));
    buf_clear(&message);
    return channel;
}

static void put_origin(struct buf *fields, const struct upstream_target *target)
{
    buf_put_cstring(fields, target->origin_host ? target->origin_host : "");
    buf_put_u32(fields, target->origin_port);
}

struct mux_open *mux_open_direct(struct mux *mux, const struct upstream_target *target,
                                 const struct endpoint_events *events, void *events_owner,
                                 const struct mux_opened_events *opened, void *owner)
{
    const char *type = target->path != NULL ? "direct-streamlocal@openssh.com" : "direct-tcpip";
    struct mux_channel *channel;
    struct buf fields = {0};

    if (target->path != NULL) { /* OpenSSH PROTOCOL section 2.4: both after it are reserved */
        buf_put_cstring(&fields, target->path);
        buf_put_cstring(&fields, "");
        buf_put_u32(&fields, 0);
    } else {
        buf_put_cstring(&fields, target->host);
        buf_put_u32(&fields, target->port);
        put_origin(&fields, target);
    }
    channel = ask(mux, type, &fields, events, events_owner, opened, owner);
    buf_clear(&fields);
    return &channel->handle;
}

struct mux_open *mux_open_session(struct mux *mux, struct bytes encoded_session,
                                  const struct endpoint_events *events, void *events_owner,
                                  const struct mux_opened_events *opened, void *owner)
{
    const struct buf none = {0};
    struct mux_channel *channel = ask(mux, "session", &none, events, events_owner, opened, owner);

    channel->is_session = true;
    buf_put(&channel->first, encoded_session);
    return &channel->handle;
}

void mux_open_cancel(struct mux_open **open)
{
    struct mux_open *handle = *open;
    struct mux_channel *channel;

    *open = NULL;
    if (handle == NULL)
        return;
    channel = handle->channel;
    channel->stopped = channel->left = true;
    mux_channel_give_up_window(channel);
    buf_clear_secret(&channel->first);
    mux_channel_await_end(channel, MUX_ABANDONED); /* its number is the upstream's to answer to */
}

/* ---- the upstream's answer */

void mux_open_fail(struct mux_channel *channel, uint32_t code, const char *reason)
{
    channel->stopped = channel->left = true;
    mux_channel_give_up_window(channel);
    channel->opened->refused(channel->opened_owner, code, reason);
}

void mux_recv_confirmation(struct mux_channel *channel, struct reader *r)
{
    uint32_t peer = reader_u32(r), window = reader_u32(r), packet_max = reader_u32(r);
    bool abandoned = channel->state == MUX_ABANDONED;

    if (!reader_end(r) || packet_max == 0) { /* no type that we open has fields of its own here */
        mux_fault(channel->mux, "malformed channel open confirmation");
        return;
    }
    channel->peer = peer;
    channel->peer_window = window;
    channel->peer_packet_max = packet_max < PACKET_MAX_BYTES ? packet_max : PACKET_MAX_BYTES;
    if (abandoned)
        channel->mux->closing--;
    channel->state = MUX_OPEN;
    if (abandoned) {
        mux_channel_send_close(channel);
        return;
    }
    if (channel->is_session)
        mux_session_begin(channel);
    channel->opened->opened(channel->opened_owner, &channel->base);
}

/* A terminal may be what shows it: controls (C0, DEL and C1) are not for it. */
static void defuse(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c != '\0'; c++) {
        if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0) {
            c[0] = '?';
            c[1] = '?';
        } else if (*c < ' ' || *c == 0x7f) {
            *c = '?';
        }
    }
}

/* What of it can be shown; owned. */
static char *clean_reason(struct bytes reason)
{
    char *text;

    if (reason.len > REASON_MAX_BYTES) {
        reason.len = REASON_MAX_BYTES;
        for (size_t i = 0; i < 3 && !text_is_clean(reason); i++)
            reason.len--; /* perhaps a character was cut */
    }
    if (!text_is_clean(reason))
        return xstrdup("");
    text = bytes_to_string(reason);
    defuse(text);
    return text;
}

void mux_recv_failure(struct mux_channel *channel, struct reader *r)
{
    bool abandoned = channel->state == MUX_ABANDONED;
    uint32_t code = reader_u32(r);
    struct bytes reason = reader_string(r);
    char *text;

    (void)reader_string(r); /* language */
    if (!reader_end(r)) {
        mux_fault(channel->mux, "malformed channel open failure");
        return;
    }
    mux_channel_remove(channel);
    if (!abandoned) {
        text = clean_reason(reason);
        mux_open_fail(channel, code, text);
        free(text);
    }
    mux_channel_let_go(channel);
}
