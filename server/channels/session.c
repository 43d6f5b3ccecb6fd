/* What a session gathers: pty, environment; and what reaches its program later (RFC 4254
 * sections 6.2 to 6.9, RFC 4335). */
#include "channels/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#define TERM_MAX_BYTES   256
#define SIGNAL_MAX_BYTES 64

static void session_init(struct channel *channel)
{
    const struct env_list *granted = channel->channels->rules.environment;

    channel->session = xcalloc(1, sizeof(*channel->session));
    channel->channels->sessions++;
    for (size_t i = 0; granted != NULL && i < granted->count; i++)
        env_put(&channel->session->environment,
                bytes_of(granted->vars[i]->name.data, granted->vars[i]->name.len),
                bytes_of(granted->vars[i]->value.data, granted->vars[i]->value.len));
}

static void session_clear(struct channel *channel)
{
    struct session *session = channel->session;

    channel->channels->sessions--;
    session_forget_choice(session);
    if (session->pty != NULL)
        policy__pty__free_unpacked(session->pty, NULL);
    if (session->break_timer != NULL)
        event_free(session->break_timer);
    session_stop_preparing(session);
    session_clear_forwards(channel);
    env_clear(&session->environment);
    env_clear(&session->provided);
    buf_clear(&session->command);
    buf_clear(&session->original);
    *session = (struct session){0};
}

static struct bytes session_detail(const struct channel *channel)
{
    const struct session *session = channel->session;

    return session->state == SESSION_NEW ? (struct bytes){0} : buf_bytes(&session->command);
}

/* A restriction that came while the session was open holds for it, too. */
static const char *session_misfit(const struct channel *channel)
{
    const struct channels_rules *rules = &channel->channels->rules;
    const struct session *session = channel->session;

    if (rules->no_pty && session->pty != NULL)
        return "terminals are not allowed any more";
    if (rules->forced && session->state != SESSION_NEW &&
        !(session->forced && bytes_equal(buf_bytes(&session->command), rules->forced_command)))
        return "another command is forced now";
    return NULL;
}

const struct channel_kind session_kind = {
    .name = "session",
    .init = session_init,
    .clear = session_clear,
    .requests = session_requests,
    .has_program = true,
    .detail = session_detail,
    .misfit = session_misfit,
};

/* ---- grants: pty and env */

bool session_is_granted(struct channel *channel, const char *what, const ProtobufCMessage *message)
{
    const Policy__GrantAnswer *answer = (const Policy__GrantAnswer *)message;

    if (answer->outcome_case != POLICY__GRANT_ANSWER__OUTCOME_ALLOW)
        return false;
    if (answer->allow->restrictions == NULL &&
        answer->allow->lifetime_case == POLICY__ALLOW__LIFETIME__NOT_SET)
        return true;
    log_warn(asker_connection_id(channel->channels->asker), "grant_refused", log_str("what", what),
             log_str("why", "restrictions and lifetimes cannot be kept for this grant"));
    return false;
}

static void on_pty_answer(void *owner, enum outcome outcome, const ProtobufCMessage *answer)
{
    struct channel *channel = owner;
    bool granted =
        outcome == ABSENT || (outcome == ANSWERED && session_is_granted(channel, "pty", answer));

    channel->asking = NULL;
    if (!granted) {
        policy__pty__free_unpacked(channel->session->pty, NULL);
        channel->session->pty = NULL;
    }
    request_done(channel, granted);
}

/* RFC 4254 section 8: opcode and value pairs; TTY_OP_END, or an opcode of 160 and above, ends the
 * list. */
static bool parse_modes(struct bytes encoded, Policy__Pty *pty)
{
    struct reader r = reader_of(encoded);

    pty->modes = xcalloc(TERMINAL_MODES_MAX, sizeof(*pty->modes));
    while (r.left > 0) {
        uint8_t opcode = reader_u8(&r);
        uint32_t value;

        if (opcode == 0 || opcode >= 160)
            return true;
        value = reader_u32(&r);
        if (!reader_ok(&r) || pty->n_modes == TERMINAL_MODES_MAX)
            return false;
        pty->modes[pty->n_modes] = xmalloc(sizeof(**pty->modes));
        policy__terminal_mode__init(pty->modes[pty->n_modes]);
        pty->modes[pty->n_modes]->opcode = opcode;
        pty->modes[pty->n_modes]->value = value;
        pty->n_modes++;
    }
    return true;
}

static Policy__WindowSize read_size(struct reader *r)
{
    Policy__WindowSize size = POLICY__WINDOW_SIZE__INIT;

    size.columns = reader_u32(r);
    size.rows = reader_u32(r);
    size.width_px = reader_u32(r);
    size.height_px = reader_u32(r);
    return size;
}

static Policy__Pty *pty_new(struct bytes term, const Policy__WindowSize *size)
{
    Policy__Pty *pty = xmalloc(sizeof(*pty));

    policy__pty__init(pty);
    pty->term = bytes_to_string(term);
    pty->size = xmalloc(sizeof(*pty->size));
    *pty->size = *size;
    return pty;
}

void session_pty_req(struct channel *channel, struct reader *r)
{
    Policy__PtyRequestedRequest question = POLICY__PTY_REQUESTED_REQUEST__INIT;
    struct session *session = channel->session;
    struct bytes term = reader_string(r);
    Policy__WindowSize size = read_size(r);
    struct bytes modes = reader_string(r);
    Policy__Pty *pty;

    if (!reader_end(r)) {
        request_malformed(channel);
        return;
    }
    if (session->state != SESSION_NEW || session->pty != NULL || channel->channels->rules.no_pty ||
        term.len > TERM_MAX_BYTES || !text_is_clean(term)) {
        request_done(channel, false);
        return;
    }
    pty = pty_new(term, &size);
    if (!parse_modes(modes, pty)) {
        policy__pty__free_unpacked(pty, NULL);
        request_malformed(channel);
        return;
    }
    session->pty = pty; /* taken away again unless the answer allows it; nothing runs before */
    question.channel = channel->id;
    question.pty = pty;
    channel->asking = asker_ask(channel->channels->asker, RPC_PTY_REQUESTED, &question.base, 0,
                                on_pty_answer, channel);
}

static void keep_variable(struct channel *channel, bool granted)
{
    struct session *session = channel->session;
    struct reader r = reader_of(buf_bytes(&session->command));
    struct bytes name = reader_string(&r), value = reader_string(&r);

    granted = granted && env_put(&session->environment, name, value);
    buf_clear(&session->command);
    request_done(channel, granted);
}

static void on_env_answer(void *owner, enum outcome outcome, const ProtobufCMessage *answer)
{
    struct channel *channel = owner;
    struct reader r = reader_of(buf_bytes(&channel->session->command));

    channel->asking = NULL;
    keep_variable(channel,
                  (outcome == ABSENT && env_is_harmless(reader_string(&r))) ||
                      (outcome == ANSWERED && session_is_granted(channel, "environment", answer)));
}

/* What the grant of the login set is not the client's to change. */
static bool is_granted_variable(const struct channels *channels, struct bytes name)
{
    const struct env_list *granted = channels->rules.environment;

    for (size_t i = 0; granted != NULL && i < granted->count; i++)
        if (bytes_equal(name, bytes_of(granted->vars[i]->name.data, granted->vars[i]->name.len)))
            return true;
    return bytes_are(name, "SSH_ORIGINAL_COMMAND");
}

void session_env(struct channel *channel, struct reader *r)
{
    Policy__EnvRequestedRequest question = POLICY__ENV_REQUESTED_REQUEST__INIT;
    Policy__EnvVar variable = POLICY__ENV_VAR__INIT;
    struct session *session = channel->session;
    struct bytes name = reader_string(r), value = reader_string(r);

    if (!reader_end(r)) {
        request_malformed(channel);
        return;
    }
    if (session->state != SESSION_NEW || !env_is_sane(name, value) ||
        session->environment.count == ENV_MAX_ENTRIES || name.len + value.len > ENV_MAX_BYTES ||
        is_granted_variable(channel->channels, name) ||
        (channel->channels->rules.forced && env_loads_code(name))) {
        request_done(channel, false);
        return;
    }
    /* `command` is free until a program is asked for: it keeps the variable while the policy
     * thinks. */
    buf_put_string(&session->command, name);
    buf_put_string(&session->command, value);
    variable.name.data = (uint8_t *)name.data;
    variable.name.len = name.len;
    variable.value.data = (uint8_t *)value.data;
    variable.value.len = value.len;
    question.channel = channel->id;
    question.variable = &variable;
    channel->asking = asker_ask(channel->channels->asker, RPC_ENV_REQUESTED, &question.base, 0,
                                on_env_answer, channel);
}

/* ---- to the running program */

void session_window_change(struct channel *channel, struct reader *r)
{
    struct session *session = channel->session;
    Policy__WindowSize size = read_size(r);

    if (!reader_end(r)) {
        request_malformed(channel);
        return;
    }
    if (session->pty != NULL) {
        *session->pty->size = size;
        if (channel->endpoint != NULL)
            channel->endpoint->ops->window_change(channel->endpoint, &size);
    }
    request_done(channel, session->pty != NULL);
}

void session_signal(struct channel *channel, struct reader *r)
{
    struct bytes name = reader_string(r);
    char *text;

    if (!reader_end(r)) {
        request_malformed(channel);
        return;
    }
    if (channel->endpoint == NULL || name.len == 0 || name.len > SIGNAL_MAX_BYTES ||
        !text_is_clean(name)) {
        request_done(channel, false);
        return;
    }
    text = bytes_to_string(name);
    channel->endpoint->ops->signal(channel->endpoint, text);
    free(text);
    request_done(channel, true);
}

static void break_done(struct channel *channel, bool handled)
{
    event_free(channel->session->break_timer);
    channel->session->break_timer = NULL;
    request_done(channel, handled);
}

static void on_break_timeout(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    break_done(arg, false);
}

void session_break_answered(struct channel *channel, uint32_t id, bool handled)
{
    if (channel->session->break_timer != NULL && id == channel->session->break_id)
        break_done(channel, handled);
}

void session_break(struct channel *channel, struct reader *r)
{
    static const struct timeval patience = {.tv_sec = BREAK_ANSWER_MAX_MS / 1000};
    struct session *session = channel->session;
    uint32_t length_ms = reader_u32(r);

    if (!reader_end(r)) {
        request_malformed(channel);
        return;
    }
    if (channel->endpoint == NULL) {
        request_done(channel, false);
        return;
    }
    channel->endpoint->ops->break_request(channel->endpoint, ++session->break_id, length_ms,
                                          channel->want_reply);
    if (!channel->want_reply) {
        request_done(channel, true);
        return;
    }
    session->break_timer =
        event_new(loop_events(channels_loop(channel->channels)), -1, 0, on_break_timeout, channel);
    event_add(session->break_timer, &patience);
}
