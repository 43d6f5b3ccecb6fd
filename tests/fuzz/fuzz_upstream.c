/* What upstream servers can say, in any order, to links, logins and channels, while users come,
 * open, write and leave. A user hears once how his link is; no server hears anything before its key
 * is trusted, nor a password where none belongs; nothing is left. */
#include "fuzz/feed.h"

#include "base/alloc.h"
#include "base/log.h"
#include "endpoints/upstream/link.h"
#include "fakes/control_fake.h"
#include "fakes/transport_fake.h"
#include "fakes/wire.h"

#include <assert.h>
#include <event2/event.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PASSWORD    "tiger-in-the-tank"
#define HOST_KEY    "ssh-ed25519:host"
#define REVOKED_KEY "ssh-ed25519:lost"
#define AGENT_KEY   "ssh-ed25519:one"
#define USERS       4

/* ---- in the place of dial.c: what is dialled ends when the fuzzer says so */

struct dial {
    struct dial **where; /* of the only one, or of none */
    dial_fn *done;
    void *owner;
};

static struct dial *dials[64];

struct dial *dial_new(struct loop *loop, const struct dial_settings *settings,
                      const struct dial_target *target, dial_fn *done, void *owner)
{
    struct dial *dial = xcalloc(1, sizeof(*dial));
    size_t i = 0;

    (void)loop;
    assert(settings != NULL && target->host != NULL && target->path == NULL);
    while (dials[i] != NULL)
        i++;
    assert(i + 1 < sizeof(dials) / sizeof(dials[0]));
    dial->where = &dials[i];
    dials[i] = dial;
    dial->done = done;
    dial->owner = owner;
    return dial;
}

void dial_cancel(struct dial **where)
{
    struct dial *dial = *where;

    *where = NULL;
    if (dial == NULL)
        return;
    *dial->where = NULL;
    free(dial);
}

bool dial_is_odd_address(const char *host)
{
    return host[0] == '0';
}

static void end_dial(bool good)
{
    for (size_t i = 0; i < sizeof(dials) / sizeof(dials[0]); i++)
        if (dials[i] != NULL) {
            struct dial dial = *dials[i];

            dial_cancel(&dials[i]);
            dial.done(dial.owner, good ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1,
                      good ? "" : "Connection refused");
            return;
        }
}

/* ---- users */

struct user {
    struct link_use *use;
    struct mux_open *opening;
    struct endpoint *endpoint;
    bool told, session;
    uint8_t room;
};

struct world {
    struct loop *loop;
    struct upstreams *upstreams;
    struct user users[USERS];
    int agent; /* our end of its last connection; -1: none */
};

static size_t on_data(void *owner, struct bytes data, uint32_t extended_type)
{
    struct user *user = owner;
    size_t len = data.len < user->room ? data.len : user->room;

    assert(user->endpoint != NULL && extended_type <= 1);
    user->room -= (uint8_t)len;
    return len;
}

static void on_nothing(void *owner)
{
    assert(((struct user *)owner)->endpoint != NULL);
}

static void on_exit_status(void *owner, uint32_t status)
{
    (void)status;
    on_nothing(owner);
}

static void on_exit_signal(void *owner, const Policy__ExitSignal *exit)
{
    assert(exit->name != NULL);
    on_nothing(owner);
}

static void on_flow_control(void *owner, bool can_do)
{
    (void)can_do;
    on_nothing(owner);
}

static void on_break_answer(void *owner, uint32_t id, bool handled)
{
    (void)id;
    (void)handled;
    on_nothing(owner);
}

static void on_writable(void *owner, size_t taken)
{
    (void)taken;
    on_nothing(owner);
}

static void stop(struct user *user)
{
    struct endpoint *endpoint = user->endpoint;

    user->endpoint = NULL;
    endpoint->ops->stop(endpoint, NULL);
}

static void on_ended(void *owner, bool in_order, const char *why)
{
    (void)in_order;
    assert(why != NULL);
    on_nothing(owner);
    stop(owner);
}

static const struct endpoint_events endpoint_events = {
    .data = on_data,
    .eof = on_nothing,
    .deaf = on_nothing,
    .exit_status = on_exit_status,
    .exit_signal = on_exit_signal,
    .client_flow_control = on_flow_control,
    .break_answer = on_break_answer,
    .writable = on_writable,
    .ended = on_ended,
};

static void on_opened(void *owner, struct endpoint *endpoint)
{
    struct user *user = owner;

    assert(user->opening != NULL && user->endpoint == NULL);
    user->opening = NULL;
    user->endpoint = endpoint;
}

static void on_refused(void *owner, uint32_t code, const char *reason)
{
    struct user *user = owner;

    (void)code;
    assert(user->opening != NULL && reason != NULL);
    user->opening = NULL;
    link_release(&user->use);
}

static void on_closed(void *owner)
{
    struct user *user = owner;

    assert(user->use != NULL && user->opening == NULL);
    link_release(&user->use);
}

static void open_session(struct user *user, struct mux *mux, const struct mux_opened_events *events)
{
    Policy__SessionStart start = POLICY__SESSION_START__INIT;
    struct buf encoded = {0};

    mux_encode_session(&start, &encoded);
    user->opening =
        mux_open_session(mux, buf_bytes(&encoded), &endpoint_events, user, events, user);
    buf_clear_secret(&encoded);
}

static void on_ready(void *owner, struct mux *mux)
{
    static const struct mux_opened_events events = {on_opened, on_refused, on_closed};
    struct upstream_target target = {.host = "there", .port = 80, .origin_host = ""};
    struct user *user = owner;

    assert(!user->told && user->use != NULL);
    user->told = true;
    if (user->session)
        open_session(user, mux, &events);
    else
        user->opening = mux_open_direct(mux, &target, &endpoint_events, user, &events, user);
}

static void on_failed(void *owner, const char *why)
{
    struct user *user = owner;

    assert(!user->told && user->use != NULL);
    for (const char *c = why; *c != '\0'; c++)
        assert(*c >= ' ' && *c < 0x7f); /* it is for a terminal */
    assert(strstr(why, PASSWORD) == NULL);
    user->told = true;
    user->use = NULL;
}

static bool is_free(const struct user *user)
{
    return user->use == NULL && user->endpoint == NULL && user->opening == NULL;
}

static void leave(struct user *user)
{
    if (user->opening != NULL) {
        mux_open_cancel(&user->opening);
        link_release(&user->use);
    } else if (user->endpoint != NULL) {
        stop(user); /* on_closed() follows */
    } else if (!user->told) {
        link_release(&user->use);
    }
}

/* ---- answers */

static void put_known_host(struct buf *out, const char *marker, const char *key)
{
    unsigned char text[128];
    char *line;

    EVP_EncodeBlock(text, (const unsigned char *)key, (int)strlen(key));
    line = xasprintf("%s* ssh-ed25519 %s\n", marker, (char *)text);
    buf_put(out, bytes_of_string(line));
    free(line);
}

static void set_credential(Policy__UpstreamHop *hop, uint8_t kind)
{
    static Policy__ClientAgent agent = POLICY__CLIENT_AGENT__INIT;

    if (kind == 0) {
        hop->credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PRIVATE_KEY;
        hop->private_key = (ProtobufCBinaryData){strlen(FAKE_PRIVATE_KEY("ssh-rsa:me")),
                                                 (uint8_t *)FAKE_PRIVATE_KEY("ssh-rsa:me")};
    } else if (kind == 1) {
        hop->credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_CLIENT_AGENT;
        hop->client_agent = &agent;
    } else {
        hop->credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PASSWORD;
        hop->password = PASSWORD;
    }
}

static void begin(struct world *w, struct user *user, struct bytes *feed)
{
    static const struct link_events events = {on_ready, on_failed};
    Policy__UpstreamHop first = POLICY__UPSTREAM_HOP__INIT, second = first;
    Policy__UpstreamHop *hops[] = {&first, &second};
    Policy__UpstreamEndpoint answer = POLICY__UPSTREAM_ENDPOINT__INIT;
    struct buf known_hosts = {0};
    uint8_t bits = feed_u8(feed);

    put_known_host(&known_hosts, "", HOST_KEY);
    put_known_host(&known_hosts, "@revoked ", REVOKED_KEY);
    first.host = "one.example.org";
    second.host = "two.example.org";
    first.known_hosts = second.known_hosts =
        (ProtobufCBinaryData){known_hosts.len, known_hosts.data};
    set_credential(&first, bits & 3);
    set_credential(&second, bits >> 2 & 3);
    answer.hops = hops;
    answer.n_hops = bits & 16 ? 2 : 1;
    *user = (struct user){.session = bits & 32, .room = feed_u8(feed)};
    user->use = link_use(w->upstreams, &answer, &events, user);
    assert(!user->told);
    buf_clear(&known_hosts);
}

static int client_agent(void *owner)
{
    struct world *w = owner;
    int pair[2];

    if (w->agent >= 0)
        close(w->agent);
    w->agent = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    w->agent = pair[1];
    return pair[0];
}

/* ---- what happens */

static void use(struct user *user, struct bytes *feed)
{
    static const uint8_t data[300];
    Policy__WindowSize size = POLICY__WINDOW_SIZE__INIT;
    uint8_t bits = feed_u8(feed);
    struct endpoint *endpoint = user->endpoint;

    if (endpoint == NULL)
        return;
    switch (bits & 7) {
    case 0:
        endpoint->ops->eof(endpoint);
        break;
    case 1:
        user->room = bits;
        endpoint->ops->resume(endpoint);
        break;
    case 2:
        if (user->session)
            endpoint->ops->window_change(endpoint, &size);
        break;
    case 3:
        if (user->session)
            endpoint->ops->break_request(endpoint, bits, 100, bits & 8);
        break;
    case 4:
        if (user->session)
            endpoint->ops->signal(endpoint, "TERM");
        break;
    default:
        endpoint->ops->write(endpoint, bytes_of(data, bits), 0);
    }
}

static void act(struct world *w, struct bytes *feed)
{
    uint8_t bits = feed_u8(feed);
    struct user *user = &w->users[bits % USERS];

    if (is_free(user))
        begin(w, user, feed);
    else if (bits >> 4 == 0)
        leave(user);
    else
        use(user, feed);
}

static void exchange_keys(struct transport *t, struct bytes *feed)
{
    static const char *const keys[] = {REVOKED_KEY, "ssh-ed25519:evil", "ssh-rsa:evil"};
    uint8_t bits = feed_u8(feed);
    struct bytes other;

    if (bits < 3) {
        fake_set_host_key(t, bytes_of_string(keys[bits]));
    } else if (bits == 3) {
        other = feed_bytes(feed);
        fake_set_host_key(t, other.len > 0 ? other : BYTES("?"));
    } else {
        fake_set_host_key(t, BYTES(HOST_KEY));
    }
    fake_exchange_keys(t);
}

/* A message as it should be, in its place or not. */
static void say_well(struct transport *t, struct bytes *feed)
{
    uint8_t bits = feed_u8(feed);
    uint32_t id = bits >> 6;

    switch (bits & 31) {
    case 0:
        fake_deliver(t, 51, "Sb", feed_bytes(feed), bits & 32);
        break;
    case 1:
        fake_deliver(t, 51, "sb", "publickey,keyboard-interactive", 0);
        break;
    case 2:
        fake_deliver(t, 60, "ss", "ssh-ed25519", AGENT_KEY);
        break;
    case 3:
        fake_deliver(t, 60, "sssuSb", "", "", "", 1u, feed_bytes(feed), 0);
        break;
    case 4:
        fake_deliver(t, 60, "sssu", "", "", "", 0u);
        break;
    case 5:
        fake_deliver(t, 7, "usSss", 2u, "server-sig-algs", feed_bytes(feed),
                     "publickey-hostbound@openssh.com", "0");
        break;
    case 6:
        fake_deliver(t, 92, "uuSs", id, bits, feed_bytes(feed), "");
        break;
    case 7:
        fake_deliver(t, 93, "uu", id, bits * 1000u);
        break;
    case 8:
        fake_deliver(t, 94, "uS", id, feed_bytes(feed));
        break;
    case 9:
        fake_deliver(t, 95, "uuS", id, 1u, feed_bytes(feed));
        break;
    case 10:
        fake_deliver(t, 96, "u", id);
        break;
    case 11:
        fake_deliver(t, 97, "u", id);
        break;
    case 12:
        fake_deliver(t, 98, "usbu", id, "exit-status", 0, bits);
        break;
    case 13:
        fake_deliver(t, 98, "usbsbSs", id, "exit-signal", 0, "TERM", 0, feed_bytes(feed), "");
        break;
    case 14:
        fake_deliver(t, 99, "u", id);
        break;
    case 15:
        fake_deliver(t, 100, "u", id);
        break;
    case 16:
        fake_deliver(t, 80, "Sb", feed_bytes(feed), bits & 32);
        break;
    case 17:
        fake_deliver(t, 90, "Suuu", feed_bytes(feed), id, bits, bits);
        break;
    default:
        fake_deliver(t, 91, "uuuu", id, id + 5, bits * 100u, 1000u);
    }
}

/* The next good step of its course. */
static void go_on(struct transport *t, struct bytes *feed)
{
    uint8_t bits = feed_u8(feed);

    if (transport_host_key_used(t).len == 0)
        exchange_keys(t, feed);
    else if (fake_auth_succeeded(t))
        fake_deliver(t, 91, "uuuu", bits >> 6, bits, bits * 100u, 1000u);
    else
        fake_deliver(t, bits & 1 ? 52 : 6, bits & 1 ? "" : "s", "ssh-userauth");
}

/* Types that the transport lets through, with anything in them. */
static void say_anything(struct transport *t, struct bytes *feed)
{
    uint8_t type = feed_u8(feed) & 127;

    if (type == 4 || type == 6 || type == 7 || (type >= 51 && type <= 66) || type >= 80)
        fake_deliver_bytes(t, type, feed_bytes(feed));
}

static void end(struct transport *t, struct bytes *feed)
{
    uint8_t kind = feed_below(feed, TRANSPORT_END_LOCAL);

    if (fake_has_ended(t))
        return;
    if (fake_disconnected(t).called)
        fake_flush_disconnect(t);
    else
        fake_end(t, kind, kind == TRANSPORT_END_PROTOCOL ? 2 : 0, "the end");
}

static void agent_speaks(struct world *w, struct bytes *feed)
{
    struct buf message = {0}, framed = {0};
    uint8_t bits = feed_u8(feed);
    ssize_t written = 0;

    if (bits & 1)
        wire_put(&message, "cuss", 12, 1u, AGENT_KEY, "");
    else if (bits & 2)
        wire_put(&message, "cS", 14, BYTES("\0\0\0\x0bssh-ed25519\0\0\0\1x"));
    else
        buf_put(&message, feed_bytes(feed));
    buf_put_string(&framed, buf_bytes(&message));
    if (w->agent >= 0)
        written = send(w->agent, framed.data, framed.len, MSG_NOSIGNAL);
    (void)written;
    buf_clear(&message);
    buf_clear(&framed);
}

/* ---- what must hold */

static void check_sent(struct transport *t)
{
    bool trusted = bytes_are(transport_host_key_used(t), HOST_KEY);
    struct fake_message sent;

    while (fake_sent(t, &sent)) {
        assert(trusted);
        if (memmem(sent.rest.data, sent.rest.len, PASSWORD, strlen(PASSWORD)) != NULL)
            assert(sent.type == 50 || sent.type == 61);
    }
}

static void say(struct transport *t, uint8_t how, struct bytes *feed)
{
    if (transport_host_key_used(t).len == 0)
        exchange_keys(t, feed);
    else if (how < 3)
        go_on(t, feed);
    else if (how < 6)
        say_well(t, feed);
    else
        say_anything(t, feed);
}

static void step(struct world *w, struct bytes *feed)
{
    uint8_t bits = feed_u8(feed), what = bits & 15;
    struct transport *t = fake_transport_nth(bits >> 6);

    if (what < 3)
        act(w, feed);
    else if (what == 3)
        end_dial(feed_u8(feed) != 0);
    else if (what == 4)
        agent_speaks(w, feed);
    else if (what < 7)
        event_base_loop(loop_events(w->loop), EVLOOP_NONBLOCK);
    else if (t == NULL)
        end_dial(true);
    else if (what == 7 && bits & 16)
        end(t, feed);
    else if (what == 7)
        fake_set_room(t, feed_u8(feed) * 100u);
    else
        say(t, what - 8, feed);
    for (size_t i = 0; (t = fake_transport_nth(i)) != NULL; i++)
        check_sent(t);
}

/* As a client's connection goes: its channels first. */
static void clear(struct world *w)
{
    for (size_t i = 0; i < USERS; i++)
        leave(&w->users[i]);
    upstreams_free(&w->upstreams);
    for (size_t i = 0; i < USERS; i++)
        assert(is_free(&w->users[i]));
    for (int i = 0; i < 4; i++)
        event_base_loop(loop_events(w->loop), EVLOOP_NONBLOCK);
    if (w->agent >= 0)
        close(w->agent);
    for (size_t i = 0; i < sizeof(dials) / sizeof(dials[0]); i++)
        assert(dials[i] == NULL);
    assert(fake_transports_alive() == 0 && fake_private_keys_alive() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct asker_events asker_events;
    static const struct dial_settings dial;
    static struct loop *loop;
    struct bytes feed = bytes_of(data, len);
    struct world w = {.agent = -1};
    struct control *control;
    struct transport_server *server;
    struct upstream_settings settings = {.dial = &dial};
    struct asker *asker;

    if (len > 0 && memmem(data, len, PASSWORD, strlen(PASSWORD)) != NULL)
        return 0; /* who knows it already may say it */
    log_set_level(LOG_ERROR);
    if (loop == NULL) {
        signal(SIGPIPE, SIG_IGN); /* as the daemon does */
        loop = loop_new();
    }
    w.loop = loop;
    control = fake_control_new();
    settings.server = server = fake_server_new();
    asker = asker_new(control, loop, &asker_events, &w);
    asker_set_user(asker, BYTES("alice"));
    w.upstreams = upstreams_new(asker, &settings, client_agent, &w);
    while (feed.len > 0)
        step(&w, &feed);
    clear(&w);
    asker_free(&asker);
    transport_server_free(&server);
    fake_control_free(&control);
    return 0;
}
