/* What an agent may say, in any pieces and at any time. Each question has one outcome, a failure is
 * the last, and the client may be freed inside any of them. */
#include "fuzz/feed.h"

#include "base/loop.h"
#include "endpoints/upstream/agent.h"

#include <assert.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct target {
    struct agent *agent;
    int far; /* the agent's end; -1: it hung up */
    bool asked_keys, asked_signature, failed, free_inside;
    unsigned sum; /* of all that was given: it must be readable */
};

static void use(struct target *target, struct bytes given)
{
    for (size_t i = 0; i < given.len; i++)
        target->sum += given.data[i];
}

static void end_inside(struct target *target)
{
    if (target->free_inside)
        agent_free(&target->agent);
}

static void on_keys(void *owner, const struct agent_key *keys, size_t count)
{
    struct target *target = owner;

    assert(target->asked_keys && !target->failed);
    target->asked_keys = false;
    assert(count <= AGENT_KEYS_MAX);
    for (size_t i = 0; i < count; i++) {
        assert(keys[i].blob.len > 0 && keys[i].blob.len <= AGENT_MESSAGE_MAX);
        use(target, keys[i].blob);
    }
    end_inside(target);
}

static void on_signature(void *owner, struct bytes signature)
{
    struct target *target = owner;

    assert(target->asked_signature && !target->failed);
    target->asked_signature = false;
    assert(signature.len <= AGENT_MESSAGE_MAX);
    use(target, signature);
    end_inside(target);
}

static void on_failed(void *owner, const char *why)
{
    struct target *target = owner;

    assert(!target->failed && why != NULL && strlen(why) > 5);
    target->failed = true;
    end_inside(target);
}

static const struct agent_events events = {
    .keys = on_keys, .signature = on_signature, .failed = on_failed};

/* ---- the agent */

static void say(const struct target *target, struct bytes bytes)
{
    if (target->far >= 0 && bytes.len > 0)
        (void)!send(target->far, bytes.data, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void say_message(const struct target *target, struct bytes message)
{
    struct buf out = {0};

    buf_put_string(&out, message);
    say(target, buf_bytes(&out));
    buf_clear(&out);
}

/* A list of many keys, as long as a byte can ask for. */
static void say_many(const struct target *target, uint8_t count)
{
    struct buf message = {0};

    buf_put_u8(&message, 12);
    buf_put_u32(&message, count * 2u);
    for (unsigned i = 0; i < count * 2u; i++) {
        buf_put_cstring(&message, "key");
        buf_put_cstring(&message, "");
    }
    say_message(target, buf_bytes(&message));
    buf_clear(&message);
}

static void hear(const struct target *target)
{
    uint8_t data[256];

    while (target->far >= 0 && recv(target->far, data, sizeof(data), MSG_DONTWAIT) > 0)
        ;
}

static void hang_up(struct target *target)
{
    if (target->far >= 0)
        close(target->far);
    target->far = -1;
}

/* ---- its client */

static void ask_for_keys(struct target *target)
{
    if (target->asked_keys || target->asked_signature)
        return;
    target->asked_keys = true;
    agent_list(target->agent);
}

static void ask_for_signature(struct target *target, uint8_t bits)
{
    if (target->asked_keys || target->asked_signature)
        return;
    target->asked_signature = true;
    agent_sign(target->agent, BYTES("key"), BYTES("data"), bits);
}

static void step(struct target *target, struct bytes *feed)
{
    switch (feed_below(feed, 10)) {
    case 0:
        ask_for_keys(target);
        break;
    case 1:
        ask_for_signature(target, 0);
        break;
    case 2:
    case 3:
        say(target, feed_bytes(feed));
        break;
    case 4:
    case 5:
        say_message(target, feed_bytes(feed));
        break;
    case 6:
        hang_up(target);
        break;
    case 7:
        target->free_inside = !target->free_inside;
        break;
    case 8:
        hear(target);
        break;
    case 9:
        say_many(target, feed_u8(feed));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct loop *loop;
    struct bytes feed = bytes_of(data, len);
    struct target target = {0};
    int pair[2];

    if (loop == NULL)
        loop = loop_new();
    assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    target.far = pair[1];
    target.agent = agent_new(loop, pair[0], &events, &target);
    while (feed.len > 0 && target.agent != NULL) {
        bool same_turn = (feed.data[0] & 0x80) != 0; /* the next step comes before they meet */

        step(&target, &feed);
        if (!same_turn)
            event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
    }
    for (int i = 0; i < 16; i++)
        event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
    assert(target.agent == NULL || target.far >= 0 || target.failed);
    agent_free(&target.agent);
    hang_up(&target);
    return 0;
}
