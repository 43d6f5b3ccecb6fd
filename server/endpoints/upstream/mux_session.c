/* A session at an upstream: what it begins with, and the requests either way (RFC 4254 section 6,
 * RFC 4335, OpenSSH PROTOCOL section 2.1). */
#include "endpoints/upstream/mux_internal.h"

#include "base/alloc.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

/* ---- what it begins with: each request as a string of its kind, and its name, want_reply and
 * fields */

static void put_request(struct buf *out, enum expected_kind kind, const char *name, bool want_reply,
                        struct buf *fields)
{
    struct buf request = {0};

    buf_put_cstring(&request, name);
    buf_put_bool(&request, want_reply);
    buf_put(&request, buf_bytes(fields));
    buf_put_u8(out, (uint8_t)kind);
    buf_put_bool(out, want_reply);
    buf_put_string(out, buf_bytes(&request));
    buf_clear_secret(&request);
    buf_clear_secret(fields);
}

static void put_size(struct buf *fields, const Policy__WindowSize *size)
{
    static const Policy__WindowSize unknown = POLICY__WINDOW_SIZE__INIT;

    if (size == NULL)
        size = &unknown;
    buf_put_u32(fields, size->columns);
    buf_put_u32(fields, size->rows);
    buf_put_u32(fields, size->width_px);
    buf_put_u32(fields, size->height_px);
}

static void put_pty(struct buf *out, const Policy__Pty *pty)
{
    struct buf fields = {0}, modes = {0};

    for (size_t i = 0; i < pty->n_modes; i++) {
        buf_put_u8(&modes, (uint8_t)pty->modes[i]->opcode);
        buf_put_u32(&modes, pty->modes[i]->value);
    }
    buf_put_u8(&modes, 0); /* TTY_OP_END */
    buf_put_cstring(&fields, pty->term);
    put_size(&fields, pty->size);
    buf_put_string(&fields, buf_bytes(&modes));
    put_request(out, EXPECT_PTY, "pty-req", true, &fields);
    buf_clear(&modes);
}

static void put_variable(struct buf *out, const Policy__EnvVar *variable)
{
    struct buf fields = {0};

    buf_put_string(&fields, bytes_of(variable->name.data, variable->name.len));
    buf_put_string(&fields, bytes_of(variable->value.data, variable->value.len));
    put_request(out, EXPECT_PTY, "env", false, &fields);
}

static void put_program(struct buf *out, const Policy__SessionStart *session)
{
    const ProtobufCBinaryData *text = NULL;
    const char *name = "shell";
    struct buf fields = {0};

    if (session->program_case == POLICY__SESSION_START__PROGRAM_EXEC) {
        name = "exec";
        text = &session->exec->command;
    } else if (session->program_case == POLICY__SESSION_START__PROGRAM_SUBSYSTEM) {
        name = "subsystem";
        text = &session->subsystem->name;
    }
    if (text != NULL)
        buf_put_string(&fields, bytes_of(text->data, text->len));
    put_request(out, EXPECT_PROGRAM, name, true, &fields);
}

void mux_encode_session(const Policy__SessionStart *session, struct buf *out)
{
    if (session->pty != NULL)
        put_pty(out, session->pty);
    for (size_t i = 0; i < session->n_environment; i++)
        put_variable(out, session->environment[i]);
    put_program(out, session);
}

/* ---- its end of output */

/* Most programs end with their output, and their status is to go first. A client that has sent its
 * own EOF closes the channel on ours, and would never learn how the program ended: that one waits
 * for its end. */
static const struct timeval eof_delay = {.tv_usec = 200 * 1000};

bool mux_session_may_pass_eof(const struct mux_channel *channel)
{
    return !channel->is_session || channel->exit_seen || channel->end_why != NULL ||
           (channel->eof_waited && !channel->eof_sent);
}

static void on_eof_timer(evutil_socket_t fd, short what, void *arg)
{
    struct mux_channel *channel = arg;

    (void)fd;
    (void)what;
    channel->eof_waited = true;
    mux_channel_pass_on(channel);
}

void mux_session_delay_eof(struct mux_channel *channel)
{
    channel->eof_timer = event_new(loop_events(channel->loop), -1, 0, on_eof_timer, channel);
    if (channel->eof_timer == NULL || event_add(channel->eof_timer, &eof_delay) < 0)
        abort(); /* out of memory */
}

/* ---- to the upstream */

static void expect(struct mux_channel *channel, enum expected_kind kind, uint32_t id)
{
    channel->expected[channel->expected_count++] = (struct expected){kind, id};
}

void mux_session_begin(struct mux_channel *channel)
{
    struct reader r = reader_of(buf_bytes(&channel->first));

    while (r.left > 0) {
        enum expected_kind kind = reader_u8(&r);
        bool want_reply = reader_bool(&r);
        struct buf message = {0};

        mux_channel_begin(channel, &message, MSG_CHANNEL_REQUEST);
        buf_put(&message, reader_string(&r));
        mux_channel_send(channel, &message);
        if (want_reply)
            expect(channel, kind, 0);
    }
    buf_clear_secret(&channel->first);
}

static void send_request(struct mux_channel *channel, const char *name, bool want_reply,
                         struct buf *fields)
{
    struct buf message = {0};

    mux_channel_begin(channel, &message, MSG_CHANNEL_REQUEST);
    buf_put_cstring(&message, name);
    buf_put_bool(&message, want_reply);
    buf_put(&message, buf_bytes(fields));
    mux_channel_send(channel, &message);
    buf_clear(fields);
}

/* Requests cost the client no window: while the upstream does not read, only the last size is kept,
 * and signals and breaks are lost (a break that wants a reply gets its failure in time). */
static bool may_send(struct mux_channel *channel)
{
    return channel->state == MUX_OPEN && transport_room(channel->mux->transport) > 0;
}

void mux_session_window_change(struct endpoint *endpoint, const Policy__WindowSize *size)
{
    struct mux_channel *channel = (struct mux_channel *)endpoint;
    struct buf fields = {0};

    channel->size = *size;
    channel->resized = !may_send(channel);
    if (channel->resized)
        return;
    put_size(&fields, &channel->size);
    send_request(channel, "window-change", false, &fields);
}

void mux_session_signal(struct endpoint *endpoint, const char *name)
{
    struct mux_channel *channel = (struct mux_channel *)endpoint;
    struct buf fields = {0};

    if (!may_send(channel))
        return;
    buf_put_cstring(&fields, name);
    send_request(channel, "signal", false, &fields);
}

void mux_session_break(struct endpoint *endpoint, uint32_t id, uint32_t length_ms, bool want_reply)
{
    struct mux_channel *channel = (struct mux_channel *)endpoint;
    struct buf fields = {0};

    if (!may_send(channel) || channel->expected_count == EXPECTED_MAX)
        return;
    buf_put_u32(&fields, length_ms);
    send_request(channel, "break", want_reply, &fields);
    if (want_reply)
        expect(channel, EXPECT_BREAK, id);
}

/* Only those who know it bear it. */
void mux_session_unwanted(struct endpoint *endpoint)
{
    struct mux_channel *channel = (struct mux_channel *)endpoint;
    struct buf fields = {0};
    const char *version;

    if (!may_send(channel))
        return;
    version = transport_peer_version(channel->mux->transport);
    if (strstr(version, "OpenSSH") != NULL || strstr(version, "Parley") != NULL)
        send_request(channel, "eow@openssh.com", false, &fields);
}

/* ---- its answers */

static void program_refused(struct mux_channel *channel)
{
    if (channel->exit_seen)
        return;
    mux_channel_send_close(channel);
    channel->exit_seen = channel->has_status = true;
    channel->status = 255; /* as ssh(1) */
    mux_channel_tell(channel, "The upstream server refused to run the program.");
    mux_channel_end(channel, true, "the upstream refused the program");
}

void mux_session_recv_reply(struct mux_channel *channel, bool success)
{
    struct expected head = channel->expected[0];

    if (channel->expected_count == 0 || channel->stopped || channel->state != MUX_OPEN)
        return; /* one that nobody asked for does no harm */
    memmove(channel->expected, channel->expected + 1,
            --channel->expected_count * sizeof(channel->expected[0]));
    if (head.kind == EXPECT_BREAK)
        channel->events->break_answer(channel->owner, head.id, success);
    else if (head.kind == EXPECT_PTY && !success)
        mux_channel_tell(channel, "The upstream server refused a terminal.");
    else if (head.kind == EXPECT_PROGRAM && !success)
        program_refused(channel);
}

/* ---- from the upstream: false is malformed */

static bool exit_status(struct mux_channel *channel, struct reader *r)
{
    uint32_t status = reader_u32(r);

    if (!reader_end(r))
        return false;
    if (!channel->exit_seen) {
        channel->exit_seen = channel->has_status = true;
        channel->status = status;
        mux_channel_pass_on(channel);
    }
    return true;
}

static char *clean(struct bytes text)
{
    return text_is_clean(text) ? bytes_to_string(text) : xstrdup("");
}

static bool exit_signal(struct mux_channel *channel, struct reader *r)
{
    struct bytes name = reader_text(r);
    bool core_dumped = reader_bool(r);
    struct bytes message = reader_string(r), language = reader_string(r);
    Policy__ExitSignal *exit;

    if (!reader_end(r))
        return false;
    if (channel->exit_seen)
        return true;
    channel->exit_seen = true;
    exit = xmalloc(sizeof(*exit));
    policy__exit_signal__init(exit);
    exit->name = bytes_to_string(name);
    exit->core_dumped = core_dumped;
    exit->message = clean(message);
    exit->language = clean(language);
    channel->exit_signal = exit;
    mux_channel_pass_on(channel);
    return true;
}

static bool xon_xoff(struct mux_channel *channel, struct reader *r)
{
    bool can_do = reader_bool(r);

    if (!reader_end(r))
        return false;
    channel->events->client_flow_control(channel->owner, can_do);
    return true;
}

static bool end_of_write(struct mux_channel *channel, struct reader *r)
{
    if (!reader_end(r))
        return false;
    if (!channel->deaf) {
        channel->events->deaf(channel->owner);
        mux_channel_deafen(channel);
    }
    return true;
}

static const struct {
    const char *name;
    bool (*run)(struct mux_channel *channel, struct reader *r);
} request_types[] = {
    {"exit-status", exit_status},
    {"exit-signal", exit_signal},
    {"xon-xoff", xon_xoff},
    {"eow@openssh.com", end_of_write},
};

/* keepalive@openssh.com among others: that it fails is a sign of life as well. */
static bool run(struct mux_channel *channel, struct bytes name, struct reader *r, bool *success)
{
    *success = false;
    for (size_t i = 0; i < sizeof(request_types) / sizeof(request_types[0]); i++) {
        if (!channel->is_session || !bytes_are(name, request_types[i].name))
            continue;
        *success = true;
        return request_types[i].run(channel, r);
    }
    return true;
}

static void reply(struct mux_channel *channel, bool success)
{
    struct buf message = {0};

    if (channel->state != MUX_OPEN)
        return;
    mux_channel_begin(channel, &message, success ? MSG_CHANNEL_SUCCESS : MSG_CHANNEL_FAILURE);
    mux_channel_send(channel, &message);
}

void mux_session_recv_request(struct mux_channel *channel, struct reader *r)
{
    struct bytes name = reader_string(r);
    bool want_reply = reader_bool(r), success;

    if (!reader_ok(r)) {
        mux_fault(channel->mux, "malformed channel request");
        return;
    }
    if (channel->stopped || channel->state != MUX_OPEN)
        return; /* sent before our CLOSE arrived */
    if (!run(channel, name, r, &success))
        mux_fault(channel->mux, "malformed channel request");
    else if (want_reply)
        reply(channel, success);
}
