/*
 * The order of events: bytes choose what clients, sockets and the policy do next to up to three
 * whole connections. Whatever the order: every decision ends once or is cancelled, nothing is left,
 * every connection is reported once, and nobody gets in, or to a channel, without an explicit allow
 * for that very user.
 */
#include "base/log.h"
#include "conn/conn.h"
#include "fakes/transport_fake.h"
#include "fakes/wire.h"
#include "fuzz/feed.h"
#include "fuzz/policy_script.h"

#include <assert.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#define SLOTS 3

struct slot {
    struct transport *t; /* NULL: free */
    char id[ID_TEXT_LEN + 1];
    char begun[256];   /* the user of the last BeginAuth */
    char allowed[256]; /* the user whose credential was allowed last; "" for none */
    bool is_allowed, is_completed, has_keys;
};

struct world {
    struct loop *loop;
    struct control *control;
    struct transport_server *server;
    struct conns *conns;
    struct slot slots[SLOTS];
    size_t connected;
};

/* ---- what the policy says, and what it means */

static struct slot *slot_of(struct world *w, const ProtobufCMessage *question)
{
    /* every question starts with its Context */
    const Policy__Context *context = ((const Policy__BeginAuthRequest *)question)->context;

    for (size_t i = 0; i < SLOTS; i++)
        if (w->slots[i].t != NULL && strcmp(w->slots[i].id, context->connection_id) == 0)
            return &w->slots[i];
    assert(!"a question of no connection");
    return NULL;
}

static void note_verdict(void *arg, enum rpc rpc, const ProtobufCMessage *question,
                         enum verdict verdict)
{
    struct world *w = arg;
    struct slot *slot = slot_of(w, question);
    const Policy__Context *context = ((const Policy__BeginAuthRequest *)question)->context;
    bool credential = rpc == RPC_VALIDATE_PASSWORD || rpc == RPC_CHANGE_PASSWORD ||
                      rpc == RPC_VALIDATE_HOST_BASED_USER || rpc == RPC_VALIDATE_GSS_PRINCIPAL ||
                      rpc == RPC_GET_KBDINT_CHALLENGE || rpc == RPC_VALIDATE_KBDINT_RESPONSE ||
                      (rpc == RPC_VALIDATE_PUBLIC_KEY &&
                       ((const Policy__ValidatePublicKeyRequest *)question)->use->phase ==
                           POLICY__KEY_PHASE__KEY_PHASE_PROVEN);

    if (rpc == RPC_BEGIN_AUTH)
        snprintf(slot->begun, sizeof(slot->begun), "%s", context->user);
    else if (rpc != RPC_CONNECTION_MADE)
        assert(strcmp(slot->begun, context->user) == 0);
    if (rpc >= RPC_SESSION_REQUESTED)
        assert(slot->is_completed && context->authenticated);
    if (rpc == RPC_AUTH_COMPLETED) {
        assert(slot->is_allowed && strcmp(slot->allowed, context->user) == 0);
        slot->is_completed = verdict == VERDICT_YES;
    }
    if (verdict == VERDICT_YES && (credential || rpc == RPC_BEGIN_AUTH)) {
        slot->is_allowed = true;
        snprintf(slot->allowed, sizeof(slot->allowed), "%s", context->user);
    } else if (rpc == RPC_BEGIN_AUTH) {
        slot->is_allowed = false; /* another user */
    }
}

static void check(struct world *w)
{
    for (size_t i = 0; i < SLOTS; i++) {
        struct slot *slot = &w->slots[i];

        if (slot->t != NULL && fake_auth_success_sent(slot->t))
            assert(slot->is_allowed);
    }
}

/* ---- sockets */

static void turn(struct world *w)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (w->slots[i].t != NULL && fake_has_ended(w->slots[i].t))
            w->slots[i].t = NULL; /* its owner frees it now */
    event_base_loop(loop_events(w->loop), EVLOOP_NONBLOCK);
}

static void connect_slot(struct world *w, struct slot *slot)
{
    struct address peer = {.ip = "192.0.2.7", .port = 1}, local = {.ip = "::1", .port = 22};
    const ProtobufCMessage *question;
    size_t last = fake_pending(w->control);

    conns_accept(w->conns, -1, &peer, &local);
    question = fake_nth_question(w->control, last);
    *slot = (struct slot){.t = fake_server_last(w->server)};
    snprintf(slot->id, sizeof(slot->id), "%s",
             ((const Policy__ConnectionMadeRequest *)question)->context->connection_id);
    w->connected++;
}

static void socket_step(struct world *w, struct slot *slot, struct bytes *feed)
{
    uint8_t how = feed_u8(feed);

    switch (how & 7) {
    case 0:
        if (!fake_has_ended(slot->t))
            fake_end(slot->t, how & 8 ? TRANSPORT_END_EOF : TRANSPORT_END_PEER, how & 16 ? 11 : 0,
                     "the peer went");
        break;
    case 1:
    case 2:
        if (fake_disconnected(slot->t).called && !fake_has_ended(slot->t))
            fake_flush_disconnect(slot->t);
        break;
    case 3:
        fake_set_room(slot->t, (how >> 3) * 50u);
        break;
    case 4:
        if (how == 0xfc)
            conns_disconnect_all(w->conns, "drain");
        break;
    default:
        turn(w);
    }
}

/* ---- the client */

static void send_key(struct transport *t, const char *user, bool is_signed, bool good)
{
    struct buf data = {0}, signature = {0};

    wire_put(&data, "scsssbss", FAKE_SESSION_ID, 50, user, "ssh-connection", "publickey", true,
             "ssh-ed25519", "ssh-ed25519:k");
    if (good)
        fake_sign(&signature, BYTES("ssh-ed25519:k"), "ssh-ed25519", buf_bytes(&data));
    if (is_signed)
        fake_deliver(t, 50, "sssbssS", user, "ssh-connection", "publickey", true, "ssh-ed25519",
                     "ssh-ed25519:k", buf_bytes(&signature));
    else
        fake_deliver(t, 50, "sssbss", user, "ssh-connection", "publickey", false, "ssh-ed25519",
                     "ssh-ed25519:k");
    buf_clear(&data);
    buf_clear(&signature);
}

static void login_step(struct transport *t, struct bytes *feed)
{
    uint8_t how = feed_u8(feed);
    const char *user = how & 8 ? "alice" : how & 16 ? "bob" : "alice";

    switch (how & 7) {
    case 0:
        fake_deliver(t, 5, "s", "ssh-userauth");
        break;
    case 1:
        fake_deliver(t, 50, "sss", user, "ssh-connection", "none");
        break;
    case 2:
    case 3:
        fake_deliver(t, 50, "sssbs", user, "ssh-connection", "password", false, "secret");
        break;
    case 4:
        fake_deliver(t, 50, "sssbss", user, "ssh-connection", "password", true, "old", "new");
        break;
    case 5:
        if (how & 32)
            fake_deliver(t, 50, "sssss", user, "ssh-connection", "keyboard-interactive", "", "");
        else if (how & 64)
            fake_deliver(t, 61, "us", 1, "secret");
        else
            fake_deliver_bytes(t, 50, feed_bytes(feed));
        break;
    default:
        send_key(t, user, (how & 1) != 0, how < 0xf0);
    }
}

static void session_step(struct transport *t, struct bytes *feed)
{
    uint8_t how = feed_u8(feed);
    uint32_t id = how >> 6;

    switch (how & 15) {
    case 0:
    case 1:
        fake_deliver(t, 90, "suuu", "session", how, 400, 100);
        break;
    case 2:
        fake_deliver(t, 98, "usbsuuuus", id, "pty-req", true, "vt100", 1, 2, 3, 4, "");
        break;
    case 3:
        fake_deliver(t, 98, "usbss", id, "env", true, "LANG", "C");
        break;
    case 4:
        fake_deliver(t, 98, "usb", id, "shell", true);
        break;
    case 5:
        fake_deliver(t, 98, "usbs", id, "exec", true, "run");
        break;
    case 6:
        fake_deliver(t, 98, "usbs", id, "signal", false, "INT");
        break;
    case 7:
        fake_deliver(t, 98, "usbu", id, "break", true, 1);
        break;
    case 8:
        fake_deliver(t, 98, "usbuuuu", id, "window-change", false, 1, 2, 3, 4);
        break;
    case 9:
    case 10:
        fake_deliver(t, 94, "us", id, "some data of the client");
        break;
    case 11:
        fake_deliver(t, 93, "uu", id, 300);
        break;
    case 12:
        fake_deliver(t, 96, "u", id);
        break;
    case 13:
        fake_deliver(t, 97, "u", id);
        break;
    case 14:
        fake_deliver(t, 80, "sb", how & 64 ? "no-more-sessions@openssh.com" : "x", true);
        break;
    default:
        fake_deliver_bytes(t, 4 + 76 * (how >> 7), feed_bytes(feed));
    }
}

static void slot_step(struct world *w, struct slot *slot, struct bytes *feed, uint8_t kind)
{
    if (slot->t == NULL) {
        connect_slot(w, slot);
    } else if (fake_has_ended(slot->t)) {
        turn(w);
    } else if (!slot->has_keys && kind < 4) {
        slot->has_keys = true;
        fake_exchange_keys(slot->t);
    } else if (kind == 3) {
        socket_step(w, slot, feed);
    } else if (slot->has_keys) {
        if (kind == 0 || !slot->is_completed)
            login_step(slot->t, feed);
        else
            session_step(slot->t, feed);
    }
    if (slot->t != NULL)
        fake_transport_turn(slot->t);
}

static void step(struct world *w, struct bytes *feed)
{
    uint8_t kind = feed_u8(feed);

    switch (kind & 7) {
    case 4:
    case 5:
        script_answer(w->control, feed, true, note_verdict, w);
        break;
    case 6:
        script_stream(w->control, feed);
        break;
    case 7:
        if (kind == 0xff)
            script_death(w->control);
        else
            turn(w);
        break;
    default:
        slot_step(w, &w->slots[(kind >> 3) % SLOTS], feed, kind & 3);
    }
    check(w);
}

static void on_login_over(void *owner, const struct address *peer, enum conn_login how)
{
    (void)peer;
    assert(how <= CONN_LOGIN_VIOLATION);
    ++*(size_t *)owner;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct conns_events events = {.login_over = on_login_over};
    static struct loop *loop;
    struct bytes feed = bytes_of(data, len);
    size_t logins_over = 0;
    struct conn_settings settings = conn_defaults;
    struct world w = {0};

    log_set_level(LOG_ERROR);
    if (loop == NULL)
        loop = loop_new();
    settings.login_timeout_ms = 0;
    settings.window_bytes = 9000;
    settings.max_sessions = 3;
    w.loop = loop;
    w.control = fake_control_new();
    w.server = fake_server_new();
    w.conns = conns_new(loop, w.control, w.server, &settings, &events, &logins_over);
    while (feed.len > 0)
        step(&w, &feed);
    conns_free(&w.conns);
    assert(fake_pending(w.control) == 0 && fake_streams(w.control) == 0);
    event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
    assert(fake_transports_alive() == 0);
    assert(fake_reports(w.control, RPC_CONNECTION_LOST) == w.connected);
    assert(logins_over == w.connected); /* each place is given back once */
    fake_control_free(&w.control);
    transport_server_free(&w.server);
    return 0;
}
