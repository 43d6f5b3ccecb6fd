/* X11 and the agent (RFC 4254 section 6.3, OpenSSH PROTOCOL): the client offers its own to the
 * session's program. For a program on this machine they are sockets, and each connection to one is
 * a channel to the client. */
#include "channels/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROTOCOL_MAX_BYTES 64
#define COOKIE_MAX_BYTES   256 /* MIT-MAGIC-COOKIE-1's has 16 */
#define SCREEN_MAX         255

struct forwards {
    struct channel *channel;
    struct display *display;
    struct private_socket *agent;
    bool single;       /* the display takes one connection */
    bool display_used; /* and has taken it */
    bool cleared;
};

static void log_grant(const struct channel *channel, const char *what, const char *outcome,
                      const char *why)
{
    log_info(asker_connection_id(channel->channels->asker), "forward",
             log_u64("channel", channel->id), log_str("what", what), log_str("outcome", outcome),
             log_str("why", why));
}

/* ---- x11-req */

static void x11_free(Policy__X11 **where)
{
    Policy__X11 *x11 = *where;

    *where = NULL;
    if (x11 == NULL)
        return;
    free(x11->auth_protocol);
    secret_free(x11->auth_cookie); /* lets in whoever shows it */
    free(x11);
}

/* What xauth(1) would take as one word. */
static bool is_protocol(struct bytes name)
{
    if (name.len == 0 || name.len > PROTOCOL_MAX_BYTES)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            (c == '\0' || strchr("-._", c) == NULL))
            return false;
    }
    return true;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* False: not hex of a length that may be. */
static bool decode_cookie(struct bytes hex, struct buf *out)
{
    if (hex.len == 0 || hex.len % 2 != 0 || hex.len > COOKIE_MAX_BYTES * 2)
        return false;
    for (size_t i = 0; i < hex.len; i += 2) {
        int high = hex_digit(hex.data[i]), low = hex_digit(hex.data[i + 1]);

        if (high < 0 || low < 0)
            return false;
        buf_put_u8(out, (uint8_t)(high << 4 | low));
    }
    return true;
}

static bool is_cookie(struct bytes hex)
{
    struct buf cookie = {0};
    bool good = decode_cookie(hex, &cookie);

    buf_clear_secret(&cookie);
    return good;
}

static void on_x11_answer(void *owner, enum outcome outcome, const ProtobufCMessage *answer)
{
    struct channel *channel = owner;
    bool granted = outcome == ANSWERED && session_is_granted(channel, "x11", answer);

    channel->asking = NULL;
    if (!granted)
        x11_free(&channel->session->x11);
    log_grant(channel, "x11", granted ? "granted" : "refused", NULL);
    request_done(channel, granted);
}

void session_x11_req(struct channel *channel, struct reader *r)
{
    Policy__X11RequestedRequest question = POLICY__X11_REQUESTED_REQUEST__INIT;
    struct session *session = channel->session;
    bool single = reader_bool(r);
    struct bytes protocol = reader_string(r), cookie = reader_string(r);
    uint32_t screen = reader_u32(r);

    if (!reader_end(r)) {
        request_malformed(channel);
        return;
    }
    if (session->state != SESSION_NEW || session->x11 != NULL || channel->channels->rules.no_x11 ||
        !is_protocol(protocol) || !is_cookie(cookie) || screen > SCREEN_MAX) {
        log_grant(channel, "x11", "refused", "not allowed here, or not well-formed");
        request_done(channel, false);
        return;
    }
    /* taken away again unless the answer allows it; nothing runs before */
    session->x11 = xmalloc(sizeof(*session->x11));
    policy__x11__init(session->x11);
    session->x11->single_connection = single;
    session->x11->auth_protocol = bytes_to_string(protocol);
    session->x11->auth_cookie = bytes_to_string(cookie);
    session->x11->screen = screen;
    question.channel = channel->id;
    question.x11 = session->x11;
    channel->asking = asker_ask(channel->channels->asker, RPC_X11_REQUESTED, &question.base, 0,
                                on_x11_answer, channel);
}

/* ---- auth-agent-req@openssh.com */

static void on_agent_answer(void *owner, enum outcome outcome, const ProtobufCMessage *answer)
{
    struct channel *channel = owner;

    channel->asking = NULL;
    channel->session->agent = outcome == ANSWERED && session_is_granted(channel, "agent", answer);
    log_grant(channel, "agent", channel->session->agent ? "granted" : "refused", NULL);
    request_done(channel, channel->session->agent);
}

void session_agent_req(struct channel *channel, struct reader *r)
{
    Policy__AgentRequestedRequest question = POLICY__AGENT_REQUESTED_REQUEST__INIT;
    struct session *session = channel->session;

    if (!reader_end(r)) {
        request_malformed(channel);
        return;
    }
    if (session->state != SESSION_NEW || session->agent || channel->channels->rules.no_agent) {
        log_grant(channel, "agent", "refused", "not allowed here");
        request_done(channel, false);
        return;
    }
    question.channel = channel->id;
    channel->asking = asker_ask(channel->channels->asker, RPC_AGENT_REQUESTED, &question.base, 0,
                                on_agent_answer, channel);
}

/* ---- connections of the program's */

/* One that waits for the client to take its channel. */
struct accepted {
    struct loop *loop;
    int fd;
};

static struct endpoint *on_taken(void *arg, struct channel *channel)
{
    struct accepted *accepted = arg;
    struct endpoint *endpoint = NULL;

    if (channel_misfit(channel) == NULL) /* the rules may have tightened meanwhile */
        endpoint =
            endpoint_socket_new(accepted->loop, &channel_endpoint_events, channel, accepted->fd);
    else
        close(accepted->fd);
    free(accepted);
    return endpoint;
}

static void on_refused(void *arg, uint32_t code, const char *reason)
{
    struct accepted *accepted = arg;

    (void)code;
    (void)reason;
    close(accepted->fd);
    free(accepted);
}

static const struct offer_events accepted_events = {on_taken, on_refused};

/* The session goes on, and the login still allows it. */
static bool may_offer(const struct forwards *forwards, bool forbidden)
{
    return forwards->channel->state == CHANNEL_OPEN && !forbidden;
}

static bool offer(struct channels *channels, const struct channel_kind *kind, struct bytes fields,
                  int fd)
{
    struct accepted *accepted = xmalloc(sizeof(*accepted));

    *accepted = (struct accepted){channels_loop(channels), fd};
    if (channel_offer(channels, kind, fields, &accepted_events, accepted))
        return true;
    log_warn(asker_connection_id(channels->asker), "channel_open", log_str("kind", kind->name),
             log_str("outcome", "refused"), log_str("why", "too many channels"));
    on_refused(accepted, OPEN_RESOURCE_SHORTAGE, "Too many channels");
    return false;
}

static void stop_listening(void *arg)
{
    struct forwards *forwards = arg;

    if (!forwards->cleared)
        display_stop_listening(forwards->display);
}

static void on_display(void *owner, int fd, const struct address *peer, const struct address *local)
{
    struct forwards *forwards = owner;
    struct buf fields = {0};

    (void)local;
    if ((forwards->single && forwards->display_used) ||
        !may_offer(forwards, forwards->channel->channels->rules.no_x11)) {
        close(fd);
        return;
    }
    if (forwards->single)
        loop_defer(channels_loop(forwards->channel->channels), stop_listening, forwards);
    forwards->display_used = true;
    buf_put_cstring(&fields, peer->ip);
    buf_put_u32(&fields, peer->port);
    offer(forwards->channel->channels, &x11_kind, buf_bytes(&fields), fd);
    buf_clear(&fields);
}

static void on_agent(void *owner, int fd, const struct address *peer, const struct address *local)
{
    const struct forwards *forwards = owner;

    (void)peer;
    (void)local;
    if (!may_offer(forwards, forwards->channel->channels->rules.no_agent)) {
        close(fd);
        return;
    }
    offer(forwards->channel->channels, &agent_kind, (struct bytes){0}, fd);
}

/* ---- the agent without a program on this machine */

/* As long as a session lives that it was granted to, and the login still allows it. */
static bool agent_is_granted(const struct channels *channels)
{
    if (channels->rules.no_agent)
        return false;
    for (size_t i = 0; i < channels->table_size; i++) {
        const struct channel *channel = channels->table[i];

        if (channel != NULL && channel->state == CHANNEL_OPEN && channel->session != NULL &&
            channel->session->agent)
            return true;
    }
    return false;
}

int channel_open_agent(struct channels *channels)
{
    int pair[2];

    if (!agent_is_granted(channels) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    if (offer(channels, &agent_kind, (struct bytes){0}, pair[0]))
        return pair[1];
    close(pair[1]);
    return -1;
}

/* ---- life */

static const char *const variables[] = {"DISPLAY", "XAUTHORITY", "SSH_AUTH_SOCK"};

static void put_variable(struct session *session, const char *name, const char *value)
{
    env_put(&session->provided, bytes_of_string(name), bytes_of_string(value));
}

static void log_failed(const struct channel *channel, const char *what)
{
    log_warn(asker_connection_id(channel->channels->asker), "forward_failed",
             log_u64("channel", channel->id), log_str("what", what),
             log_str("why", strerror(errno)));
}

static void open_display(struct channel *channel, const struct local_user *user)
{
    struct session *session = channel->session;
    struct forwards *forwards = session->forwards;
    struct buf cookie = {0};
    char *where;

    decode_cookie(bytes_of_string(session->x11->auth_cookie), &cookie);
    forwards->single = session->x11->single_connection;
    forwards->display =
        display_new(channels_loop(channel->channels), user, session->x11->auth_protocol,
                    buf_bytes(&cookie), on_display, forwards);
    buf_clear_secret(&cookie);
    if (forwards->display == NULL) {
        log_failed(channel, "x11");
        return;
    }
    where = xasprintf("localhost:%u.%u", display_number(forwards->display), session->x11->screen);
    put_variable(session, "DISPLAY", where);
    put_variable(session, "XAUTHORITY", display_authority(forwards->display));
    free(where);
}

static void open_agent(struct channel *channel, const struct local_user *user)
{
    struct forwards *forwards = channel->session->forwards;

    forwards->agent =
        private_socket_new(channels_loop(channel->channels), user, on_agent, forwards);
    if (forwards->agent == NULL)
        log_failed(channel, "agent");
    else
        put_variable(channel->session, "SSH_AUTH_SOCK", private_socket_path(forwards->agent));
}

void session_open_forwards(struct channel *channel, const struct local_user *user)
{
    struct session *session = channel->session;

    session->forwards = xcalloc(1, sizeof(*session->forwards));
    session->forwards->channel = channel;
    if (session->x11 != NULL)
        open_display(channel, user);
    if (session->agent)
        open_agent(channel, user);
}

void session_close_forwards(struct channel *channel)
{
    struct session *session = channel->session;
    struct forwards *forwards = session->forwards;

    session->forwards = NULL;
    if (forwards == NULL)
        return;
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
        env_remove(&session->provided, bytes_of_string(variables[i]));
    forwards->cleared = true;
    display_free(&forwards->display);
    private_socket_free(&forwards->agent);
    loop_defer(channels_loop(channel->channels), free, forwards); /* after stop_listening() */
}

void session_clear_forwards(struct channel *channel)
{
    session_close_forwards(channel);
    x11_free(&channel->session->x11);
}
