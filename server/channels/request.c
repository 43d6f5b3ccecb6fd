/* CHANNEL_REQUEST (RFC 4254 section 5.4): one lane per channel, so that replies keep the order of
 * the requests. */
#include "channels/internal.h"

#include "base/log.h"

static void end_of_write(struct channel *channel, struct reader *r);

const struct request_type session_requests[] = {
    {"pty-req", session_pty_req},
    {"env", session_env},
    {"shell", session_shell},
    {"exec", session_exec},
    {"subsystem", session_subsystem},
    {"window-change", session_window_change},
    {"signal", session_signal},
    {"break", session_break},
    {"eow@openssh.com", end_of_write},
    {"x11-req", session_x11_req},
    {"auth-agent-req@openssh.com", session_agent_req},
    {0},
};

static const struct request_type *find_type(const struct channel_kind *kind, struct bytes name)
{
    for (const struct request_type *row = kind->requests; row != NULL && row->name != NULL; row++)
        if (bytes_are(name, row->name))
            return row;
    return NULL;
}

/* OpenSSH PROTOCOL section 2.1: the client has nowhere to put the program's output, and says so
 * before it has stopped sending. */
static void end_of_write(struct channel *channel, struct reader *r)
{
    if (!reader_end(r)) {
        request_malformed(channel);
        return;
    }
    if (channel->endpoint != NULL && !channel->output_unwanted) {
        channel->output_unwanted = true;
        channel->endpoint->ops->unwanted(channel->endpoint);
        if (channel->starved)
            channel_resume(channel); /* what waited for the client's window has no use for it */
    }
    request_done(channel, channel->endpoint != NULL);
}

static void send_reply(struct channel *channel, bool success)
{
    struct buf message = {0};

    if (!channel->want_reply || channel->state != CHANNEL_OPEN)
        return;
    buf_put_u8(&message, success ? MSG_CHANNEL_SUCCESS : MSG_CHANNEL_FAILURE);
    buf_put_u32(&message, channel->peer);
    transport_send(channel->channels->transport, buf_bytes(&message));
    buf_clear(&message);
}

/* The lane is not resumed from within its own run(): a request that ended at once is found there.
 */
void request_done(struct channel *channel, bool success)
{
    send_reply(channel, success);
    if (channel->running)
        channel->running = false;
    else
        lane_resume(&channel->lane);
}

void request_pressure(void *owner, bool full)
{
    struct channel *channel = owner;

    channels_pressure(channel->channels, full);
}

void request_malformed(struct channel *channel)
{
    channel->running = false;
    channels_fault(channel->channels, "Malformed channel request");
}

enum lane_step request_run(void *owner, uint8_t type, struct bytes message)
{
    struct channel *channel = owner;
    struct reader r = reader_of(message);
    struct bytes name = reader_string(&r);
    bool want_reply = reader_bool(&r);
    const struct request_type *row = find_type(channel->kind, name);

    (void)type;
    if (channel->channels->faulty || channel->state != CHANNEL_OPEN)
        return LANE_DONE;
    channel->want_reply = want_reply;
    channel->running = true;
    if (!reader_ok(&r)) {
        request_malformed(channel);
    } else if (row == NULL) {
        request_done(channel, false);
    } else {
        row->run(channel, &r);
    }
    if (!channel->running)
        return LANE_DONE;
    channel->running = false;
    return LANE_WAIT;
}
