#include "endpoints/upstream/agent.h"

#include "base/alloc.h"
#include "base/reader.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { /* draft-miller-ssh-agent section 6.1 */
       MSG_FAILURE = 5,
       MSG_REQUEST_IDENTITIES = 11,
       MSG_IDENTITIES_ANSWER = 12,
       MSG_SIGN_REQUEST = 13,
       MSG_SIGN_RESPONSE = 14,
};

#define HEADER_LEN 4

enum asked { ASKED_NOTHING, ASKED_KEYS, ASKED_SIGNATURE };

struct agent {
    struct loop *loop;
    int fd;
    const struct agent_events *events;
    void *owner;
    enum asked asked;
    bool failed;
    struct event *readable, *writable;
    struct buf in; /* of one message, its length before it */
    struct buf out;
    size_t out_done;
};

/* Comes from the loop only; the owner may free us in it. */
static void fail(struct agent *agent, const char *why)
{
    agent->failed = true;
    event_del(agent->readable);
    event_del(agent->writable);
    agent->events->failed(agent->owner, why);
}

/* ---- answers */

/* What comes is the answer of a program that may be the user's own: it is counted, bounded, and
 * nothing in it but the keys is used. */
static bool read_keys(struct reader *r, struct agent_key keys[AGENT_KEYS_MAX], size_t *count)
{
    uint32_t left = reader_u32(r);

    for (*count = 0; left > 0 && reader_ok(r); left--) {
        struct bytes blob = reader_string(r);

        (void)reader_string(r); /* comment */
        if (blob.len == 0)
            return false;
        if (*count < AGENT_KEYS_MAX)
            keys[(*count)++].blob = blob;
    }
    return reader_end(r);
}

static void take_keys(struct agent *agent, uint8_t type, struct reader *r)
{
    struct agent_key keys[AGENT_KEYS_MAX];
    size_t count = 0;

    if (type == MSG_FAILURE ? !reader_end(r)
                            : type != MSG_IDENTITIES_ANSWER || !read_keys(r, keys, &count))
        fail(agent, "the agent's list of keys is malformed");
    else
        agent->events->keys(agent->owner, keys, count);
}

static void take_signature(struct agent *agent, uint8_t type, struct reader *r)
{
    struct bytes signature = {0};

    if (type == MSG_SIGN_RESPONSE)
        signature = reader_string(r);
    if (!reader_end(r) || (type != MSG_FAILURE && signature.len == 0))
        fail(agent, "the agent's signature is malformed");
    else
        agent->events->signature(agent->owner, signature);
}

/* The agent may be gone afterwards. */
static void take_answer(struct agent *agent)
{
    struct buf message = agent->in; /* outlives the agent, if it must */
    struct reader r = reader_of(buf_bytes(&message));
    enum asked asked = agent->asked;
    uint8_t type;

    (void)reader_u32(&r);
    type = reader_u8(&r);
    agent->in = (struct buf){0};
    agent->asked = ASKED_NOTHING;
    if (asked == ASKED_KEYS)
        take_keys(agent, type, &r);
    else
        take_signature(agent, type, &r);
    buf_clear(&message);
}

/* The agent may be gone afterwards. */
static void take_bytes(struct agent *agent, struct bytes read)
{
    struct reader r;
    uint32_t len;

    if (agent->asked == ASKED_NOTHING || agent->out.len > 0) {
        fail(agent, "the agent answers what it was not asked");
        return;
    }
    buf_put(&agent->in, read);
    if (agent->in.len < HEADER_LEN)
        return;
    r = reader_of(buf_bytes(&agent->in));
    len = reader_u32(&r);
    if (len == 0 || len > AGENT_MESSAGE_MAX)
        fail(agent, "the agent's message is too long, or empty");
    else if (r.left > len)
        fail(agent, "the agent answers more than it was asked");
    else if (r.left == len)
        take_answer(agent);
}

static bool is_pause(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct agent *agent = arg;
    uint8_t *scratch = loop_scratch(agent->loop);
    ssize_t len = read(fd, scratch, LOOP_SCRATCH_BYTES);

    (void)what;
    if (len > 0)
        take_bytes(agent, bytes_of(scratch, (size_t)len));
    else if (len == 0)
        fail(agent, "the agent hung up");
    else if (!is_pause(errno))
        fail(agent, "the connection to the agent broke");
}

/* ---- questions */

/* What is there already is no answer to the question that begins now. */
static bool speaks_unasked(const struct agent *agent)
{
    uint8_t byte;

    return agent->out_done == 0 &&
           recv(agent->fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) > 0;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct agent *agent = arg;
    struct bytes left =
        bytes_of(agent->out.data + agent->out_done, agent->out.len - agent->out_done);
    ssize_t len;

    (void)what;
    if (speaks_unasked(agent)) {
        fail(agent, "the agent answers what it was not asked");
        return;
    }
    len = send(fd, left.data, left.len, MSG_NOSIGNAL);
    if (len < 0 && !is_pause(errno)) {
        fail(agent, "the agent hung up");
        return;
    }
    agent->out_done += len > 0 ? (size_t)len : 0;
    if (agent->out_done < agent->out.len) {
        event_add(agent->writable, NULL);
        return;
    }
    agent->out_done = 0;
    buf_clear(&agent->out);
}

static void ask(struct agent *agent, enum asked what, const struct buf *message)
{
    if (agent->failed)
        return;
    assert(agent->asked == ASKED_NOTHING);
    agent->asked = what;
    buf_put_string(&agent->out, buf_bytes(message));
    event_add(agent->writable, NULL);
}

void agent_list(struct agent *agent)
{
    struct buf message = {0};

    buf_put_u8(&message, MSG_REQUEST_IDENTITIES);
    ask(agent, ASKED_KEYS, &message);
    buf_clear(&message);
}

void agent_sign(struct agent *agent, struct bytes blob, struct bytes data, uint32_t flags)
{
    struct buf message = {0};

    buf_put_u8(&message, MSG_SIGN_REQUEST);
    buf_put_string(&message, blob);
    buf_put_string(&message, data);
    buf_put_u32(&message, flags);
    ask(agent, ASKED_SIGNATURE, &message);
    buf_clear(&message);
}

/* ---- life */

struct agent *agent_new(struct loop *loop, int fd, const struct agent_events *events, void *owner)
{
    struct agent *agent = xcalloc(1, sizeof(*agent));

    agent->loop = loop;
    agent->fd = fd;
    agent->events = events;
    agent->owner = owner;
    agent->readable = event_new(loop_events(loop), fd, EV_READ | EV_PERSIST, on_readable, agent);
    agent->writable = event_new(loop_events(loop), fd, EV_WRITE, on_writable, agent);
    if (agent->readable == NULL || agent->writable == NULL || event_add(agent->readable, NULL) < 0)
        abort(); /* out of memory */
    return agent;
}

void agent_free(struct agent **where)
{
    struct agent *agent = *where;

    *where = NULL;
    if (agent == NULL)
        return;
    event_free(agent->readable);
    event_free(agent->writable);
    close(agent->fd);
    buf_clear(&agent->in);
    buf_clear(&agent->out);
    free(agent);
}
