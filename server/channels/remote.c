/* What a client asks us to listen on (RFC 4254 section 7.1, OpenSSH PROTOCOL section 2.4): the
 * policy says where and how, or that it opens the channels itself. */
#include "channels/remote.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define REMOTES_MAX 128 /* of one connection */
#define PATH_MODE   0600
#define DENIED      "Listening is not permitted"

static const char *remote_misfit(const struct remote *remote)
{
    const struct channels_rules *rules = &remote->channels->rules;

    return remote->path != NULL ? permit_path(rules)
                                : permit_listen(rules, remote->host, remote->port);
}

/* ---- for Supervise and the log */

void remote_fill_address(const struct remote *remote, Policy__Address *address)
{
    policy__address__init(address);
    if (remote->path != NULL) {
        address->path.data = (uint8_t *)remote->path;
        address->path.len = strlen(remote->path);
    } else {
        address->ip = remote->host;
        address->port = remote->port;
    }
}

static void tell(const struct remote *remote, bool opened)
{
    struct channels *channels = remote->channels;
    Policy__ListenerNote note = POLICY__LISTENER_NOTE__INIT;
    Policy__Address address;

    remote_fill_address(remote, &address);
    note.address = &address;
    note.managed = remote->managed;
    channels->events->listener(channels->owner, opened, &note);
}

void remote_log(const struct remote *remote, const char *outcome, const char *why)
{
    log_info(asker_connection_id(remote->channels->asker), "listen",
             remote->path ? log_str("path", remote->path) : log_str("host", remote->host),
             remote->path ? log_none() : log_u64("port", remote->port), log_str("outcome", outcome),
             log_str("why", why));
}

/* ---- life */

static void remote_free(struct remote *remote)
{
    LIST_REMOVE(remote, link);
    remote->channels->remote_count--;
    forwarded_orphan(remote);
    remote_listener_free(&remote->listener);
    free(remote->host);
    free(remote->path);
    free(remote);
}

static void remote_close(struct remote *remote, const char *why)
{
    remote_log(remote, "closed", why);
    tell(remote, false);
    remote_free(remote);
}

void remotes_clear(struct channels *channels)
{
    struct remote *remote;

    while ((remote = LIST_FIRST(&channels->remotes)) != NULL) {
        remote_log(remote, "closed", "the connection ended");
        remote_free(remote);
    }
    forwarded_clear_all(channels);
}

void remotes_tighten(struct channels *channels)
{
    struct remote *remote, *next;

    for (remote = LIST_FIRST(&channels->remotes); remote != NULL; remote = next) {
        const char *why = remote->open ? remote_misfit(remote) : NULL;

        next = LIST_NEXT(remote, link);
        if (why != NULL)
            remote_close(remote, why);
    }
    forwarded_tighten(channels);
}

static struct remote *find(const struct channels *channels, const char *host, uint32_t port,
                           const char *path)
{
    struct remote *remote;

    LIST_FOREACH (remote, &channels->remotes, link)
        if (path != NULL
                ? remote->path != NULL && strcmp(remote->path, path) == 0
                : remote->path == NULL && remote->port == port && strcmp(remote->host, host) == 0)
            return remote;
    return NULL;
}

struct remote *remote_find(const struct channels *channels, const Policy__Address *address)
{
    char *path = address->path.len > 0
                     ? bytes_to_string(bytes_of(address->path.data, address->path.len))
                     : NULL;
    struct remote *remote = find(channels, address->ip, address->port, path);

    free(path);
    return remote;
}

bool channels_close_listener(struct channels *channels, const Policy__Address *address)
{
    struct remote *remote = remote_find(channels, address);

    if (remote == NULL || !remote->open)
        return false;
    remote_close(remote, "closed by the policy");
    return true;
}

/* ---- the request */

/* The reply carries the port only if the client left it to us (RFC 4254 section 7.1). */
static void confirm(struct remote *remote, bool tell_port)
{
    struct buf fields = {0};

    remote->open = true;
    remote_log(remote, "accepted", remote->managed ? "managed by the policy" : NULL);
    if (tell_port)
        buf_put_u32(&fields, remote->port);
    tell(remote, true);
    global_done(remote->channels, true, buf_bytes(&fields));
    buf_clear(&fields);
}

static void refuse(struct remote *remote, const char *why)
{
    struct channels *channels = remote->channels;

    remote_log(remote, "refused", why);
    remote_free(remote);
    global_done(channels, false, (struct bytes){0});
}

/* NULL: why. */
static const char *listen_as_told(struct remote *remote, const Policy__ListenEndpoint *answer)
{
    struct loop *loop = channels_loop(remote->channels);
    const char *why = NULL;

    remote->ask_each = answer->ask_each;
    if (remote->path != NULL) {
        ProtobufCBinaryData path = answer->path;
        char *chosen =
            path.len > 0 ? bytes_to_string(bytes_of(path.data, path.len)) : xstrdup(remote->path);

        if (answer->host[0] != '\0' || answer->port != 0 || answer->path_mode > 0777 ||
            strlen(chosen) < path.len)
            why = "the answer does not fit a Unix socket";
        else
            remote->listener = remote_listener_path(
                loop, chosen, answer->path_mode ? answer->path_mode : PATH_MODE, forwarded_accepted,
                remote, &why);
        free(chosen);
        return why;
    }
    if (answer->path.len > 0 || answer->path_mode != 0 || answer->port > UINT16_MAX)
        return "the answer does not fit a port";
    remote->listener = remote_listener_tcp(loop, answer->host,
                                           answer->port ? (uint16_t)answer->port : remote->port,
                                           forwarded_accepted, remote, &why);
    if (why == NULL && remote->port == 0)
        remote->port = remote_listener_port(remote->listener);
    return why;
}

static void on_answer(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct remote *remote = owner;
    const Policy__ListenAnswer *answer = (const Policy__ListenAnswer *)message;
    bool any_port = remote->path == NULL && remote->port == 0;
    const char *why = remote_misfit(remote); /* the rules may have tightened meanwhile */

    remote->channels->asking = NULL;
    if (outcome != ANSWERED) {
        why = outcome_name(outcome);
    } else if (why == NULL) {
        switch (answer->listener_case) {
        case POLICY__LISTEN_ANSWER__LISTENER_LISTEN:
            why = listen_as_told(remote, answer->listen);
            break;
        case POLICY__LISTEN_ANSWER__LISTENER_MANAGED:
            remote->managed = true;
            if (any_port)
                remote->port = (uint16_t)answer->managed->port;
            if (remote->path == NULL && (remote->port == 0 || answer->managed->port > UINT16_MAX))
                why = "the policy named no port";
            break;
        default:
            why = answer->refuse->reason[0] ? answer->refuse->reason : DENIED;
        }
    }
    if (why == NULL && any_port &&
        find(remote->channels, remote->host, remote->port, NULL) != remote)
        why = "that port is taken already";
    if (why != NULL)
        refuse(remote, why);
    else
        confirm(remote, any_port);
}

static struct remote *remote_new(struct channels *channels, char *host, uint16_t port, char *path)
{
    struct remote *remote = xcalloc(1, sizeof(*remote));

    remote->channels = channels;
    remote->host = host;
    remote->port = port;
    remote->path = path;
    LIST_INSERT_HEAD(&channels->remotes, remote, link);
    channels->remote_count++;
    return remote;
}

static bool has_room(const struct channels *channels)
{
    return channels->remote_count < REMOTES_MAX;
}

static void ask_tcp(struct channels *channels, char *host, uint16_t port)
{
    Policy__ServerRequestedRequest question = POLICY__SERVER_REQUESTED_REQUEST__INIT;
    struct remote *remote;

    if (!has_room(channels) || permit_listen(&channels->rules, host, port) != NULL ||
        (port != 0 && find(channels, host, port, NULL) != NULL)) {
        free(host);
        global_done(channels, false, (struct bytes){0});
        return;
    }
    remote = remote_new(channels, host, port, NULL);
    question.listen_host = host;
    question.listen_port = port;
    channels->asking =
        asker_ask(channels->asker, RPC_SERVER_REQUESTED, &question.base, 0, on_answer, remote);
}

void remote_listen_tcp(struct channels *channels, struct reader *r)
{
    struct bytes host = reader_string(r);
    uint32_t port = reader_u32(r);

    if (!reader_end(r))
        channels_fault(channels, "Malformed tcpip-forward request");
    else if (!place_is_host(host) || port > UINT16_MAX)
        global_done(channels, false, (struct bytes){0});
    else
        ask_tcp(channels, bytes_to_string(host), (uint16_t)port);
}

void remote_listen_path(struct channels *channels, struct reader *r)
{
    Policy__UnixServerRequestedRequest question = POLICY__UNIX_SERVER_REQUESTED_REQUEST__INIT;
    struct bytes path = reader_string(r);
    struct remote *remote;
    char *text;

    if (!reader_end(r)) {
        channels_fault(channels, "Malformed streamlocal-forward request");
        return;
    }
    text = place_is_path(path) ? bytes_to_string(path) : NULL;
    if (text == NULL || !has_room(channels) || permit_path(&channels->rules) != NULL ||
        find(channels, NULL, 0, text) != NULL) {
        free(text);
        global_done(channels, false, (struct bytes){0});
        return;
    }
    remote = remote_new(channels, NULL, 0, text);
    question.listen_path.data = (uint8_t *)remote->path;
    question.listen_path.len = path.len;
    channels->asking =
        asker_ask(channels->asker, RPC_UNIX_SERVER_REQUESTED, &question.base, 0, on_answer, remote);
}

/* ---- its end */

static void cancel(struct channels *channels, struct remote *remote)
{
    if (remote != NULL)
        remote_close(remote, "cancelled by the client");
    global_done(channels, remote != NULL, (struct bytes){0});
}

void remote_cancel_tcp(struct channels *channels, struct reader *r)
{
    struct bytes host = reader_string(r);
    uint32_t port = reader_u32(r);
    char *text;

    if (!reader_end(r)) {
        channels_fault(channels, "Malformed cancel-tcpip-forward request");
        return;
    }
    text = bytes_to_string(place_is_host(host) ? host : BYTES("\n")); /* which no listener has */
    cancel(channels, find(channels, text, port, NULL));
    free(text);
}

void remote_cancel_path(struct channels *channels, struct reader *r)
{
    struct bytes path = reader_string(r);
    char *text;

    if (!reader_end(r)) {
        channels_fault(channels, "Malformed cancel-streamlocal-forward request");
        return;
    }
    text = bytes_to_string(place_is_path(path) ? path : BYTES(""));
    cancel(channels, find(channels, NULL, 0, text));
    free(text);
}
