#include "fakes/transport_fake.h"

#include "base/alloc.h"
#include "fakes/wire.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

enum { MSG_USERAUTH_SUCCESS = 52, MSG_CHANNEL_DATA = 94, MSG_CHANNEL_EXTENDED_DATA = 95 };

struct item {
    STAILQ_ENTRY(item) link;
    uint8_t type;
    size_t len;
    uint8_t data[];
};
STAILQ_HEAD(items, item);

struct transport {
    LIST_ENTRY(transport) entry;
    const struct transport_events *events;
    void *owner;
    struct items inbox, outbox, seen;
    size_t undelivered, unseen, not_understood;
    const char *client_version; /* NULL: the usual one */
    bool client;                /* and the test is the server */
    int fd;                     /* a client's */
    char *host_key_algorithms;
    struct buf host_key; /* a client's: what the server shows */
    bool in_callback, keys_exchanged, authenticated, ended, told_no_room;
    int paused;
    size_t room;
    uint64_t received, sent;
    struct fake_disconnect disconnect;
};

struct transport_server {
    struct transport *last;
    bool refuse;
};

static size_t alive;
static LIST_HEAD(, transport) transports = LIST_HEAD_INITIALIZER(transports);

static struct item *item_new(uint8_t type, struct bytes message)
{
    struct item *item = xmalloc(sizeof(*item) + message.len);

    item->type = type;
    item->len = message.len;
    if (message.len > 0)
        memcpy(item->data, message.data, message.len);
    return item;
}

static void items_clear(struct items *items)
{
    struct item *item;

    while ((item = STAILQ_FIRST(items)) != NULL) {
        STAILQ_REMOVE_HEAD(items, link);
        free(item);
    }
}

/* ---- making one */

struct transport *fake_transport_new(const struct transport_events *events, void *owner)
{
    struct transport *t = xcalloc(1, sizeof(*t));

    t->events = events;
    t->owner = owner;
    t->fd = -1;
    t->room = 1024 * 1024;
    STAILQ_INIT(&t->inbox);
    STAILQ_INIT(&t->outbox);
    STAILQ_INIT(&t->seen);
    LIST_INSERT_HEAD(&transports, t, entry);
    alive++;
    return t;
}

struct transport *fake_client_new(const struct transport_events *events, void *owner)
{
    struct transport *t = fake_transport_new(events, owner);

    t->client = true;
    buf_put(&t->host_key, BYTES(FAKE_HOST_KEY));
    return t;
}

struct transport_server *fake_server_new(void)
{
    return xcalloc(1, sizeof(struct transport_server));
}

struct transport *fake_server_last(struct transport_server *server)
{
    return server->last;
}

struct transport *fake_server_take(struct transport_server *server)
{
    struct transport *last = server->last;

    server->last = NULL;
    return last;
}

void fake_server_refuse(struct transport_server *server)
{
    server->refuse = true;
}

void transport_server_free(struct transport_server **server)
{
    free(*server);
    *server = NULL;
}

struct transport *transport_accept(struct transport_server *server, int fd,
                                   const struct transport_events *events, void *owner)
{
    (void)fd;
    server->last = NULL;
    if (!server->refuse)
        server->last = fake_transport_new(events, owner);
    server->refuse = false;
    return server->last;
}

struct transport *transport_connect(struct transport_server *server, int fd,
                                    const char *host_key_algorithms,
                                    const struct transport_events *events, void *owner)
{
    bool refuse = server->refuse;

    server->last = NULL;
    server->refuse = false;
    if (refuse) {
        close(fd);
        return NULL;
    }
    server->last = fake_client_new(events, owner);
    server->last->fd = fd;
    if (host_key_algorithms != NULL)
        server->last->host_key_algorithms = xstrdup(host_key_algorithms);
    return server->last;
}

void transport_free(struct transport **where)
{
    struct transport *t = *where;

    *where = NULL;
    if (t == NULL)
        return;
    assert(!t->in_callback); /* whoever is told something frees us in a later turn */
    items_clear(&t->inbox);
    items_clear(&t->outbox);
    items_clear(&t->seen);
    free((char *)t->disconnect.reason);
    free((char *)t->disconnect.language);
    free(t->host_key_algorithms);
    buf_clear(&t->host_key);
    if (t->fd >= 0)
        close(t->fd);
    LIST_REMOVE(t, entry);
    free(t);
    alive--;
}

size_t fake_transports_alive(void)
{
    return alive;
}

struct transport *fake_transport_nth(size_t index)
{
    struct transport *t = LIST_FIRST(&transports);

    while (t != NULL && index-- > 0)
        t = LIST_NEXT(t, entry);
    return t;
}

/* ---- being the peer */

static bool is_deaf(const struct transport *t)
{
    return t->ended || t->disconnect.called;
}

void fake_exchange_keys(struct transport *t)
{
    assert(!t->keys_exchanged && !t->in_callback);
    if (is_deaf(t))
        return;
    t->keys_exchanged = true;
    t->in_callback = true;
    t->events->keys_exchanged(t->owner);
    t->in_callback = false;
}

/* 1-3 and 20-49 are the transport's own; whose the others are, transport.h says. */
static bool may_come(const struct transport *t, uint8_t type)
{
    if (type == 4 || type == 7 || type >= 80)
        return true;
    return t->client ? type == 6 || (type >= 51 && type <= 66) : type == 5 || type >= 50;
}

/* 80 and above wait for the login. */
static void deliver_one(struct transport *t, struct item *item)
{
    assert(may_come(t, item->type));
    if (item->type >= 80 && !t->authenticated) {
        fake_end(t, TRANSPORT_END_PROTOCOL, 2, "connection message before login");
        return;
    }
    t->in_callback = true;
    if (!t->events->message(t->owner, item->type, bytes_of(item->data, item->len)))
        t->not_understood++;
    t->in_callback = false;
}

bool fake_transport_turn(struct transport *t)
{
    struct item *item;
    bool any = false;

    assert(!t->in_callback);
    while (t->paused == 0 && !is_deaf(t) && (item = STAILQ_FIRST(&t->inbox)) != NULL) {
        STAILQ_REMOVE_HEAD(&t->inbox, link);
        t->undelivered--;
        deliver_one(t, item);
        free(item);
        any = true;
    }
    return any;
}

void fake_deliver_bytes(struct transport *t, uint8_t type, struct bytes message)
{
    struct item *item = item_new(type, message);

    STAILQ_INSERT_TAIL(&t->inbox, item, link);
    t->undelivered++;
    fake_transport_turn(t);
}

void fake_deliver(struct transport *t, uint8_t type, const char *format, ...)
{
    struct buf message = {0};
    va_list args;

    va_start(args, format);
    wire_vput(&message, format, args);
    va_end(args);
    fake_deliver_bytes(t, type, buf_bytes(&message));
    buf_clear(&message);
}

size_t fake_undelivered(const struct transport *t)
{
    return t->undelivered;
}

size_t fake_not_understood(const struct transport *t)
{
    return t->not_understood;
}

void fake_set_room(struct transport *t, size_t room)
{
    bool tell = t->told_no_room && room > 0 && !is_deaf(t);

    t->room = room;
    if (!tell)
        return;
    t->told_no_room = false;
    t->in_callback = true;
    t->events->writable(t->owner);
    t->in_callback = false;
}

void fake_set_bytes(struct transport *t, uint64_t received, uint64_t sent)
{
    t->received = received;
    t->sent = sent;
}

void fake_end(struct transport *t, enum transport_end_kind kind, uint32_t code, const char *reason)
{
    struct transport_end end = {kind, code, reason};

    assert(!t->ended && !t->in_callback);
    t->ended = true;
    t->in_callback = true;
    t->events->ended(t->owner, &end);
    t->in_callback = false;
}

void fake_flush_disconnect(struct transport *t)
{
    assert(t->disconnect.called);
    fake_end(t, TRANSPORT_END_LOCAL, t->disconnect.code, t->disconnect.reason);
}

bool fake_has_ended(const struct transport *t)
{
    return t->ended;
}

/* ---- what was sent */

static void record(struct transport *t, uint8_t type, struct bytes rest)
{
    struct item *item;

    if (is_deaf(t))
        return;                            /* transport.h: ignored */
    assert(type < 80 || t->authenticated); /* nobody gets connection messages before login */
    assert(type < 50 || type >= 80 || !t->authenticated || type == MSG_USERAUTH_SUCCESS);
    assert(!t->client || t->keys_exchanged); /* the key is to be checked first */
    item = item_new(type, rest);
    STAILQ_INSERT_TAIL(&t->outbox, item, link);
    t->unseen++;
}

void transport_send(struct transport *t, struct bytes message)
{
    assert(message.len > 0 && message.data[0] != MSG_USERAUTH_SUCCESS);
    assert(message.len < TRANSPORT_MESSAGE_MAX);
    record(t, message.data[0], bytes_of(message.data + 1, message.len - 1));
}

void transport_send_data(struct transport *t, uint32_t recipient, uint32_t extended_type,
                         struct bytes data)
{
    struct buf message = {0};

    buf_put_u32(&message, recipient);
    if (extended_type != 0)
        buf_put_u32(&message, extended_type);
    buf_put_string(&message, data);
    t->room -= data.len < t->room ? data.len : t->room;
    record(t, extended_type ? MSG_CHANNEL_EXTENDED_DATA : MSG_CHANNEL_DATA, buf_bytes(&message));
    buf_clear(&message);
}

void transport_auth_succeeded(struct transport *t)
{
    assert(t->client && !t->authenticated && t->keys_exchanged);
    t->authenticated = true;
}

void transport_send_auth_success(struct transport *t)
{
    assert(!t->client && !t->authenticated);
    t->authenticated = true;
    record(t, MSG_USERAUTH_SUCCESS, (struct bytes){0});
}

void transport_disconnect(struct transport *t, uint32_t code, const char *reason,
                          const char *language)
{
    assert(!t->disconnect.called && code != 0 && reason != NULL && language != NULL);
    if (!t->ended)
        t->disconnect = (struct fake_disconnect){true, code, xstrdup(reason), xstrdup(language)};
}

bool transport_is_open(const struct transport *t)
{
    return !t->ended && !t->disconnect.called;
}

size_t transport_room(struct transport *t)
{
    if (t->room == 0)
        t->told_no_room = true;
    return t->room;
}

void transport_pause(struct transport *t)
{
    t->paused++;
}

void transport_resume(struct transport *t)
{
    assert(t->paused > 0);
    t->paused--;
}

bool fake_peek(struct transport *t, struct fake_message *out)
{
    struct item *item = STAILQ_FIRST(&t->outbox);

    if (item == NULL)
        return false;
    *out = (struct fake_message){item->type, bytes_of(item->data, item->len)};
    return true;
}

bool fake_sent(struct transport *t, struct fake_message *out)
{
    struct item *item = STAILQ_FIRST(&t->outbox);

    if (!fake_peek(t, out))
        return false;
    STAILQ_REMOVE_HEAD(&t->outbox, link);
    STAILQ_INSERT_TAIL(&t->seen, item, link);
    t->unseen--;
    return true;
}

size_t fake_sent_waiting(const struct transport *t)
{
    return t->unseen;
}

static void print_message(const char *what, uint8_t type, struct bytes rest)
{
    fprintf(stderr, "%s: %u ", what, type);
    for (size_t i = 0; i < rest.len && i < 200; i++)
        fprintf(stderr, rest.data[i] > ' ' && rest.data[i] < 0x7f ? "%c" : "\\%02x", rest.data[i]);
    fprintf(stderr, "\n");
}

bool fake_sent_is(struct transport *t, uint8_t type, const char *format, ...)
{
    struct fake_message sent = {0};
    struct buf wanted = {0};
    va_list args;
    bool same;

    va_start(args, format);
    wire_vput(&wanted, format, args);
    va_end(args);
    same = fake_sent(t, &sent) && sent.type == type && bytes_equal(sent.rest, buf_bytes(&wanted));
    if (!same) {
        print_message("wanted", type, buf_bytes(&wanted));
        print_message("sent  ", sent.type, sent.rest);
    }
    buf_clear(&wanted);
    return same;
}

int fake_paused(const struct transport *t)
{
    return t->paused;
}

bool fake_auth_success_sent(const struct transport *t)
{
    return t->authenticated;
}

bool fake_auth_succeeded(const struct transport *t)
{
    return t->client && t->authenticated;
}

struct fake_disconnect fake_disconnected(const struct transport *t)
{
    return t->disconnect;
}

/* ---- facts */

int fake_descriptor(const struct transport *t)
{
    return t->fd;
}

const char *fake_host_key_algorithms(const struct transport *t)
{
    return t->host_key_algorithms;
}

void fake_set_host_key(struct transport *t, struct bytes blob)
{
    assert(t->client && !t->keys_exchanged);
    buf_reset(&t->host_key);
    buf_put(&t->host_key, blob);
}

struct bytes transport_host_key_used(const struct transport *t)
{
    if (!t->client)
        return BYTES(FAKE_HOST_KEY);
    return t->keys_exchanged ? buf_bytes(&t->host_key) : bytes_of(NULL, 0);
}

void fake_set_client_version(struct transport *t, const char *version)
{
    t->client_version = version;
}

const char *transport_peer_version(const struct transport *t)
{
    if (t->client_version != NULL)
        return t->client_version;
    return t->keys_exchanged ? "SSH-2.0-Fake_1.0" : "";
}

struct bytes transport_session_id(const struct transport *t)
{
    (void)t;
    return BYTES(FAKE_SESSION_ID);
}

const char *transport_algorithms(const struct transport *t)
{
    (void)t;
    return "kex=fake";
}

uint64_t transport_bytes_received(const struct transport *t)
{
    return t->received;
}

uint64_t transport_bytes_sent(const struct transport *t)
{
    return t->sent;
}
