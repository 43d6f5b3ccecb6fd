/* One client, from accept to free. */
#include "conn/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct conn_settings conn_defaults = {
    .login_timeout_ms = 120 * 1000,
    .max_failures = 6,
    .max_requests = 40,
    .max_sessions = 10,
    .max_channels = 1000,
    .window_bytes = 2 * 1024 * 1024,
    .max_packet_bytes = 32 * 1024,
    .max_debug_messages = 16,
    .keepalive_interval_s = 0,
    .keepalive_count_max = 3,
};

static const char *const no_answer_text = "Connection refused: the policy service gave no answer";

/* ---- state */

/* States only go forward. False: it is there or beyond already. */
static bool conn_enter(struct conn *conn, enum conn_state state)
{
    if (conn->state >= state)
        return false;
    conn->state = state;
    log_debug(asker_connection_id(conn->asker), "conn_state", log_u64("state", state));
    return true;
}

static void note_end(struct conn *conn, bool clean, uint32_t code, const char *reason)
{
    if (conn->end_reason != NULL)
        return;
    conn->clean = clean;
    conn->end_code = code;
    conn->end_reason = xstrdup(reason);
}

static void conn_free(void *arg)
{
    struct conn *conn = arg;
    struct conns *conns = conn->conns;

    LIST_REMOVE(conn, link);
    conns->count--;
    login_over(conn);
    deadlines_clear(conn);
    decision_cancel(&conn->made);
    channels_free(&conn->channels, conn->end_reason);
    supervise_clear(conn); /* having heard of the last channel */
    auth_free(&conn->auth);
    report_lost(conn);
    transport_free(&conn->transport);
    asker_free(&conn->asker);
    grant_clear(&conn->grant);
    env_clear(&conn->environment);
    free(conn->refusal);
    free(conn->end_reason);
    free(conn);
    if (conns->freed && conns->count == 0)
        free(conns);
}

/* Everything that waits for the policy goes silent at once; the callers up the stack may still hold
 * the rooms. */
static void stop_rooms(void *arg)
{
    struct conn *conn = arg;

    decision_cancel(&conn->made);
    channels_free(&conn->channels, conn->end_reason);
    supervise_clear(conn);
    auth_free(&conn->auth);
}

void conn_disconnect(struct conn *conn, uint32_t code, const char *reason, const char *language)
{
    if (!conn_enter(conn, CONN_CLOSING))
        return;
    note_end(conn, true, code, reason);
    login_judge_end(conn, true, code);
    deadlines_clear(conn);
    transport_disconnect(conn->transport, code, reason, language ? language : "");
    loop_defer(conn->conns->loop, stop_rooms, conn);
}

/* ---- ConnectionMade, asked at accept beside the key exchange */

/* Greeting is over when the keys are exchanged and the policy has answered, whichever comes last.
 */
static void greet(struct conn *conn)
{
    if (conn->state != CONN_GREETING || !conn->keys_exchanged)
        return;
    if (conn->refusal != NULL) {
        if (conn->unwanted)
            login_blame(conn, CONN_LOGIN_REFUSED);
        conn_disconnect(conn, DISCONNECT_BY_APPLICATION, conn->refusal, NULL);
        return;
    }
    if (conn->made == NULL)
        conn_enter(conn, CONN_AUTH);
}

static void refuse(struct conn *conn, const char *reason)
{
    conn->refusal = xstrdup(reason[0] ? reason : "Connection refused");
}

static void on_connection_made(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct conn *conn = owner;
    const Policy__ConnectionMadeAnswer *answer = (const Policy__ConnectionMadeAnswer *)message;

    conn->made = NULL;
    if (outcome == UNAVAILABLE || outcome == EXPIRED) {
        refuse(conn, no_answer_text);
    } else if (outcome == ANSWERED) {
        if (answer->outcome_case != POLICY__CONNECTION_MADE_ANSWER__OUTCOME_ALLOW) {
            conn->unwanted = true;
            refuse(conn, answer->deny->message);
        } else {
            if (answer->supervise)
                supervise_begin(conn, answer->supervise_on_loss);
            grant_add_allow(&conn->grant, answer->allow);
            deadlines_apply(conn, answer->limits);
            deadlines_update(conn);
        }
    }
    if (conn->keys_exchanged && conn->state == CONN_GREETING)
        transport_resume(conn->transport);
    greet(conn);
}

static void on_fault(void *owner, uint32_t code, const char *reason)
{
    conn_disconnect(owner, code, reason, NULL);
}

/* ---- events of auth */

static void on_auth_completed(void *owner, const Policy__AuthCompletedAnswer *answer)
{
    struct conn *conn = owner;

    if (answer != NULL && answer->supervise)
        supervise_begin(conn, answer->supervise_on_loss);
    deadlines_apply(conn, answer ? answer->limits : NULL);
    if (!conn_enter(conn, CONN_OPEN))
        return;
    login_over(conn);
    conn_open_channels(conn);
    deadlines_login_done(conn);
    channels_announce_host_keys(conn->channels);
}

static const struct auth_events auth_events = {
    .completed = on_auth_completed,
    .fault = on_fault,
};

/* ---- events of the asker: what any answer may order */

static void on_ordered_disconnect(void *owner, uint32_t code, const char *reason,
                                  const char *language)
{
    login_blame(owner, CONN_LOGIN_REFUSED);
    conn_disconnect(owner, code ? code : DISCONNECT_BY_APPLICATION, reason, language);
}

static void on_ordered_banner(void *owner, const char *text, const char *language)
{
    struct conn *conn = owner;

    if (conn->auth != NULL)
        auth_banner(conn->auth, text, language);
}

static const struct asker_events asker_events = {
    .disconnect = on_ordered_disconnect,
    .banner = on_ordered_banner,
};

/* ---- events of transport */

static void on_keys_exchanged(void *owner)
{
    struct conn *conn = owner;

    conn->keys_exchanged = true;
    asker_set_client_version(conn->asker, transport_peer_version(conn->transport));
    asker_set_session_id(conn->asker, transport_session_id(conn->transport));
    log_info(asker_connection_id(conn->asker), "keys_exchanged",
             log_str("client", transport_peer_version(conn->transport)),
             log_str("algorithms", transport_algorithms(conn->transport)));
    if (conn->made != NULL)
        transport_pause(conn->transport); /* nothing is answered before ConnectionMade is */
    greet(conn);
}

static bool recv_debug(struct conn *conn, uint8_t type, struct bytes message)
{
    (void)type;
    report_debug(conn, message);
    return true;
}

static bool recv_ignored(struct conn *conn, uint8_t type, struct bytes message)
{
    (void)conn;
    (void)type;
    (void)message;
    return true;
}

static bool recv_auth(struct conn *conn, uint8_t type, struct bytes message)
{
    return auth_message(conn->auth, type, message);
}

static bool recv_connection(struct conn *conn, uint8_t type, struct bytes message)
{
    return channels_message(conn->channels, type, message);
}

/* RFC 4250 section 4.1: which room a message is for, and from which state on. */
static const struct {
    uint8_t first, last;
    enum conn_state from;
    bool (*recv)(struct conn *conn, uint8_t type, struct bytes message);
} message_rooms[] = {
    {4, 4, CONN_GREETING, recv_debug},     /* DEBUG */
    {5, 5, CONN_AUTH, recv_auth},          /* SERVICE_REQUEST */
    {7, 7, CONN_GREETING, recv_ignored},   /* EXT_INFO: nothing in it concerns us */
    {50, 79, CONN_AUTH, recv_auth},        /* RFC 4252 */
    {80, 127, CONN_OPEN, recv_connection}, /* RFC 4254 */
};

static bool on_message(void *owner, uint8_t type, struct bytes message)
{
    struct conn *conn = owner;

    if (conn->state >= CONN_CLOSING)
        return true;
    for (size_t i = 0; i < sizeof(message_rooms) / sizeof(message_rooms[0]); i++) {
        if (type < message_rooms[i].first || type > message_rooms[i].last)
            continue;
        if (conn->state >= message_rooms[i].from)
            return message_rooms[i].recv(conn, type, message);
        conn_disconnect(conn, DISCONNECT_PROTOCOL_ERROR, "Message out of order", NULL);
        return true;
    }
    return false;
}

static void on_writable(void *owner)
{
    struct conn *conn = owner;

    if (conn->channels != NULL)
        channels_writable(conn->channels);
}

static void on_ended(void *owner, const struct transport_end *end)
{
    struct conn *conn = owner;
    bool clean = end->kind == TRANSPORT_END_LOCAL ||
                 (end->kind == TRANSPORT_END_PEER && end->code == DISCONNECT_BY_APPLICATION);

    note_end(conn, clean, end->code, end->reason);
    login_judge_end(conn, end->kind == TRANSPORT_END_PROTOCOL, end->code);
    if (conn_enter(conn, CONN_CLOSED))
        loop_defer(conn->conns->loop, conn_free, conn);
}

static const struct transport_events transport_events = {
    .keys_exchanged = on_keys_exchanged,
    .message = on_message,
    .writable = on_writable,
    .ended = on_ended,
};

/* ---- the connections of one worker */

struct conns *conns_new(struct loop *loop, struct control *control, struct transport_server *server,
                        const struct conn_settings *settings, const struct conns_events *events,
                        void *owner)
{
    struct conns *conns = xcalloc(1, sizeof(*conns));

    conns->loop = loop;
    conns->control = control;
    conns->server = server;
    conns->settings = *settings;
    conns->events = events;
    conns->owner = owner;
    LIST_INIT(&conns->list);
    return conns;
}

static void begin(struct conn *conn)
{
    const struct conn_settings *settings = &conn->conns->settings;
    struct auth_settings auth = {
        .max_failures = settings->max_failures,
        .max_requests = settings->max_requests,
        .hostbased_trust_claimed_host = settings->hostbased_trust_claimed_host,
        .gss = settings->gss,
        .help = {conn->conns->loop, settings->helpers, address_host_name},
        .delay_key = settings->delay_key,
    };
    Policy__ConnectionMadeRequest question = POLICY__CONNECTION_MADE_REQUEST__INIT;

    conn->channel_limits = (struct channels_settings){
        .helpers = settings->helpers,
        .max_sessions = settings->max_sessions,
        .max_channels = settings->max_channels,
        .window_bytes = settings->window_bytes,
        .max_packet_bytes = settings->max_packet_bytes,
        .dial = {settings->helpers, settings->forward_denied, settings->forward_denied_count,
                 settings->forward_timeout_ms},
        .server = conn->conns->server,
        .upstream_keepalive_ms = settings->upstream_keepalive_ms,
    };
    conn->auth = auth_new(conn->transport, conn->asker, &conn->grant, conn->peer.ip, &auth,
                          &auth_events, conn);
    deadlines_init(conn);
    conn->made =
        asker_ask(conn->asker, RPC_CONNECTION_MADE, &question.base, 0, on_connection_made, conn);
}

void conns_accept(struct conns *conns, int fd, const struct address *peer,
                  const struct address *local)
{
    struct conn *conn = xcalloc(1, sizeof(*conn));
    char from[ADDRESS_TEXT_MAX + 16], to[ADDRESS_TEXT_MAX + 16];

    conn->conns = conns;
    conn->peer = *peer;
    conn->local = *local;
    conn->accepted_ms = conn->debug_counted_ms = clock_ms();
    conn->logging_in = true;
    conn->asker = asker_new(conns->control, conns->loop, &asker_events, conn);
    asker_set_addresses(conn->asker, peer, local);
    address_format(peer, from);
    address_format(local, to);
    log_info(asker_connection_id(conn->asker), "connection", log_str("peer", from),
             log_str("local", to));
    conn->transport = transport_accept(conns->server, fd, &transport_events, conn);
    if (conn->transport == NULL) {
        log_error(asker_connection_id(conn->asker), "accept_failed");
        login_blame(conn, CONN_LOGIN_BLAMELESS);
        login_over(conn);
        asker_free(&conn->asker);
        free(conn);
        return;
    }
    LIST_INSERT_HEAD(&conns->list, conn, link);
    conns->count++;
    begin(conn);
}

size_t conns_count(const struct conns *conns)
{
    return conns->count;
}

void conns_disconnect_all(struct conns *conns, const char *reason)
{
    struct conn *conn;

    LIST_FOREACH (conn, &conns->list, link)
        conn_disconnect(conn, DISCONNECT_BY_APPLICATION, reason, NULL);
}

/* Calls that were deferred for a connection still want to find it: the memory goes after them. */
void conns_free(struct conns **where)
{
    struct conns *conns = *where;
    struct conn *conn;

    *where = NULL;
    if (conns == NULL)
        return;
    conns->freed = true;
    if (conns->count == 0) {
        free(conns);
        return;
    }
    LIST_FOREACH (conn, &conns->list, link) {
        note_end(conn, false, 0, "The server ended");
        login_blame(conn, CONN_LOGIN_BLAMELESS);
        deadlines_clear(conn);
        stop_rooms(conn);
        if (conn_enter(conn, CONN_CLOSED))
            loop_defer(conns->loop, conn_free, conn);
    }
}
