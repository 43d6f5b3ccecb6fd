/* Connections to what a client has us listen on: each becomes a channel to the client, or, if the
 * policy says so, a stream to the policy. */
#include "channels/remote.h"

#include "base/alloc.h"
#include "endpoints/splice.h"

#include <stdlib.h>
#include <unistd.h>

void forwarded_free(struct forwarded **where)
{
    struct forwarded *forwarded = *where;

    *where = NULL;
    if (forwarded == NULL)
        return;
    free(forwarded->host);
    free(forwarded->path);
    free(forwarded);
}

static void forwarded_clear(struct channel *channel)
{
    forwarded_free(&channel->forwarded);
}

static const char *forwarded_misfit(const struct channel *channel)
{
    const struct channels_rules *rules = &channel->channels->rules;
    const struct forwarded *forwarded = channel->forwarded;

    if (forwarded == NULL)
        return NULL;
    return forwarded->path != NULL ? permit_path(rules)
                                   : permit_listen(rules, forwarded->host, forwarded->port);
}

const struct channel_kind forwarded_tcpip_kind = {
    .name = "forwarded-tcpip",
    .clear = forwarded_clear,
    .misfit = forwarded_misfit,
};

const struct channel_kind forwarded_streamlocal_kind = {
    .name = "forwarded-streamlocal@openssh.com",
    .clear = forwarded_clear,
    .misfit = forwarded_misfit,
};

static struct forwarded *origin_of(const struct remote *remote)
{
    struct forwarded *forwarded = xcalloc(1, sizeof(*forwarded));

    forwarded->host = remote->host ? xstrdup(remote->host) : NULL;
    forwarded->path = remote->path ? xstrdup(remote->path) : NULL;
    forwarded->port = remote->port;
    return forwarded;
}

static void accepted_free(struct accepted *accepted)
{
    forwarded_free(&accepted->from);
    LIST_REMOVE(accepted, link);
    accepted->channels->accepted_count--;
    decision_cancel(&accepted->asking);
    splice_free(&accepted->splice);
    if (accepted->fd >= 0)
        close(accepted->fd);
    free(accepted);
}

void forwarded_orphan(struct remote *remote)
{
    struct accepted *accepted, *next;

    for (accepted = LIST_FIRST(&remote->channels->accepted); accepted != NULL; accepted = next) {
        next = LIST_NEXT(accepted, link);
        if (accepted->remote == remote && accepted->asking != NULL)
            accepted_free(accepted);
        else if (accepted->remote == remote)
            accepted->remote = NULL;
    }
}

/* Those that are the policy's have no channel that would be closed. */
void forwarded_tighten(struct channels *channels)
{
    struct accepted *accepted, *next;

    for (accepted = LIST_FIRST(&channels->accepted); accepted != NULL; accepted = next) {
        struct channel homeless = {.channels = channels, .forwarded = accepted->from};

        next = LIST_NEXT(accepted, link);
        if (accepted->splice != NULL && forwarded_misfit(&homeless) != NULL)
            accepted_free(accepted);
    }
}

void forwarded_clear_all(struct channels *channels)
{
    struct accepted *accepted;

    while ((accepted = LIST_FIRST(&channels->accepted)) != NULL)
        accepted_free(accepted);
}

/* ---- a connection */

static void put_fields(struct buf *fields, const struct remote *remote, const char *ip,
                       uint32_t port)
{
    if (remote->path != NULL) {
        buf_put_cstring(fields, remote->path);
        buf_put_cstring(fields, "");
    } else {
        buf_put_cstring(fields, remote->host);
        buf_put_u32(fields, remote->port);
        buf_put_cstring(fields, ip);
        buf_put_u32(fields, port);
    }
}

static const struct channel_kind *kind_of(const struct remote *remote)
{
    return remote->path != NULL ? &forwarded_streamlocal_kind : &forwarded_tcpip_kind;
}

/* By the policy, through Supervise: only where the client asked us to listen, and was allowed to.
 */
const struct channel_kind *remote_kind(const struct channels *channels,
                                       const Policy__OpenToClient *open, struct buf *fields,
                                       struct forwarded **from)
{
    const struct remote *remote =
        open->listened != NULL ? remote_find(channels, open->listened) : NULL;
    const Policy__Address *originator = open->originator;

    if (remote == NULL || !remote->open)
        return NULL;
    put_fields(fields, remote, originator ? originator->ip : "", originator ? originator->port : 0);
    *from = origin_of(remote);
    return kind_of(remote);
}

static struct endpoint *on_taken(void *arg, struct channel *channel)
{
    struct accepted *accepted = arg;
    struct endpoint *endpoint = NULL;

    channel->forwarded = accepted->from;
    accepted->from = NULL;
    if (channel_misfit(channel) == NULL) { /* the rules may have tightened meanwhile */
        endpoint = endpoint_socket_new(channels_loop(accepted->channels), &channel_endpoint_events,
                                       channel, accepted->fd);
        accepted->fd = -1;
    }
    accepted_free(accepted);
    return endpoint;
}

static void on_refused(void *arg, uint32_t code, const char *reason)
{
    (void)code;
    (void)reason;
    accepted_free(arg);
}

static const struct offer_events offer_events = {on_taken, on_refused};

static void offer(struct accepted *accepted)
{
    struct remote *remote = accepted->remote;
    struct buf fields = {0};

    put_fields(&fields, remote, accepted->peer.ip, accepted->peer.port);
    if (!channel_offer(accepted->channels, kind_of(remote), buf_bytes(&fields), &offer_events,
                       accepted)) {
        remote_log(remote, "refused", "too many channels");
        accepted_free(accepted);
    }
    buf_clear(&fields);
}

static void on_splice_ended(void *owner)
{
    accepted_free(owner);
}

static void give_to_policy(struct accepted *accepted, const Policy__StreamEndpoint *stream)
{
    Policy__ChannelOpened opened = POLICY__CHANNEL_OPENED__INIT;
    Policy__ForwardAcceptedRequest forwarded = POLICY__FORWARD_ACCEPTED_REQUEST__INIT;
    Policy__Address listened, originator = POLICY__ADDRESS__INIT;
    int fd = accepted->fd;

    remote_fill_address(accepted->remote, &listened);
    originator.ip = accepted->peer.ip;
    originator.port = accepted->peer.port;
    forwarded.listened = &listened;
    forwarded.originator = &originator;
    opened.kind_case = POLICY__CHANNEL_OPENED__KIND_FORWARDED;
    opened.forwarded = &forwarded;
    accepted->fd = -1;
    accepted->splice = splice_new(accepted->channels->asker, accepted->channels->control, &opened,
                                  stream, fd, on_splice_ended, accepted);
    if (accepted->splice == NULL) {
        remote_log(accepted->remote, "refused", "the stream target is not configured");
        accepted_free(accepted);
    }
}

static void on_accepted_answer(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct accepted *accepted = owner;
    const Policy__ForwardAcceptedAnswer *answer = (const Policy__ForwardAcceptedAnswer *)message;

    accepted->asking = NULL;
    if (outcome == ANSWERED &&
        answer->outcome_case == POLICY__FORWARD_ACCEPTED_ANSWER__OUTCOME_ACCEPT) {
        offer(accepted);
    } else if (outcome == ANSWERED &&
               answer->outcome_case == POLICY__FORWARD_ACCEPTED_ANSWER__OUTCOME_STREAM) {
        give_to_policy(accepted, answer->stream);
    } else {
        remote_log(accepted->remote, "refused",
                   outcome == ANSWERED ? answer->refuse->reason : outcome_name(outcome));
        accepted_free(accepted);
    }
}

static void ask_about(struct accepted *accepted)
{
    Policy__ForwardAcceptedRequest question = POLICY__FORWARD_ACCEPTED_REQUEST__INIT;
    Policy__Address listened, originator = POLICY__ADDRESS__INIT;

    remote_fill_address(accepted->remote, &listened);
    originator.ip = accepted->peer.ip;
    originator.port = accepted->peer.port;
    question.listened = &listened;
    question.originator = &originator;
    accepted->asking = asker_ask(accepted->channels->asker, RPC_FORWARD_ACCEPTED, &question.base, 0,
                                 on_accepted_answer, accepted);
}

void forwarded_accepted(void *owner, int fd, const struct address *peer,
                        const struct address *local)
{
    struct remote *remote = owner;
    struct channels *channels = remote->channels;
    struct accepted *accepted;

    (void)local;
    if (channels->faulty || channels->accepted_count >= channels->settings.max_channels) {
        close(fd);
        return;
    }
    accepted = xcalloc(1, sizeof(*accepted));
    accepted->channels = channels;
    accepted->remote = remote;
    accepted->peer = *peer;
    accepted->fd = fd;
    accepted->from = origin_of(remote);
    LIST_INSERT_HEAD(&channels->accepted, accepted, link);
    channels->accepted_count++;
    if (remote->ask_each)
        ask_about(accepted);
    else
        offer(accepted);
}
