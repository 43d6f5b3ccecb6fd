/*
 * USERAUTH messages of any shape, above the fakes. The policy allows nothing but probes, so nobody
 * may ever get in.
 *
 * Input: steps of one byte each, 0 answers a question, 1 delivers raw bytes of any type, others
 * deliver a request whose fields the bytes fill.
 */
#include "auth/auth.h"
#include "base/log.h"
#include "fakes/transport_fake.h"
#include "fakes/wire.h"
#include "fuzz/feed.h"
#include "fuzz/policy_script.h"

#include <assert.h>

struct target {
    struct auth *auth;
    int faults;
};

static bool on_message(void *owner, uint8_t type, struct bytes message)
{
    struct target *target = owner;

    return target->faults > 0 || auth_message(target->auth, type, message);
}

static void on_disconnect(void *owner, uint32_t code, const char *reason, const char *language)
{
    struct target *target = owner;

    (void)code;
    (void)reason;
    (void)language;
    target->faults++;
}

static void on_banner(void *owner, const char *text, const char *language)
{
    struct target *target = owner;

    auth_banner(target->auth, text, language);
}

static void on_completed(void *owner, const Policy__AuthCompletedAnswer *answer)
{
    (void)owner;
    (void)answer;
    assert(!"nobody may get in");
}

static void on_fault(void *owner, uint32_t code, const char *reason)
{
    struct target *target = owner;

    assert(code != 0 && reason != NULL && target->faults < 2);
    target->faults++;
}

static const struct transport_events transport_events = {.message = on_message};
static const struct asker_events asker_events = {on_disconnect, on_banner};
static const struct auth_events auth_events = {on_completed, on_fault};

static void tell_nobody(void *arg, enum rpc rpc, const ProtobufCMessage *question,
                        enum verdict verdict)
{
    (void)arg;
    (void)question;
    (void)verdict;
    assert(rpc != RPC_AUTH_COMPLETED);
}

static void send_request(struct transport *t, struct bytes *feed, const char *method)
{
    struct buf message = {0};
    uint8_t bits = feed_u8(feed);
    struct bytes first = feed_bytes(feed), second = feed_bytes(feed);

    wire_put(&message, "sss", bits & 1 ? "alice" : "bob", "ssh-connection", method);
    wire_put(&message, "b", bits & 2);
    if (method[0] == 'p' && method[1] == 'u')
        wire_put(&message, "ss", "ssh-ed25519", "ssh-ed25519:k");
    wire_put(&message, "S", first);
    if (bits & 4)
        wire_put(&message, "S", second);
    else
        wire_put(&message, "R", second);
    fake_deliver_bytes(t, 50, buf_bytes(&message));
    buf_clear(&message);
}

static void step(struct transport *t, struct control *control, struct bytes *feed)
{
    static const char *const methods[] = {"none", "password", "publickey",
                                          "publickey-hostbound-v00@openssh.com"};
    uint8_t kind = feed_u8(feed), type;

    switch (kind & 7) {
    case 0:
        script_answer(control, feed, false, tell_nobody, NULL);
        break;
    case 1:
        type = feed_u8(feed);
        if (type < 80 && (type == 5 || type >= 50))
            fake_deliver_bytes(t, type, feed_bytes(feed));
        break;
    case 2:
        fake_deliver_bytes(t, 50, feed_bytes(feed));
        break;
    default:
        send_request(t, feed, methods[(kind >> 3) & 3]);
    }
    fake_transport_turn(t);
    assert(!fake_auth_success_sent(t));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct loop *loop;
    static const struct auth_settings settings = {6, 40};
    struct bytes feed = bytes_of(data, len);
    struct control *control = fake_control_new();
    struct grant grant = {0};
    struct target target = {0};
    struct transport *t = fake_transport_new(&transport_events, &target);
    struct asker *asker;

    log_set_level(LOG_ERROR);
    if (loop == NULL)
        loop = loop_new();
    asker = asker_new(control, loop, &asker_events, &target);
    target.auth = auth_new(t, asker, &grant, "192.0.2.7", &settings, &auth_events, &target);
    fake_deliver(t, 5, "s", "ssh-userauth");
    while (feed.len > 0 && target.faults == 0)
        step(t, control, &feed);
    auth_free(&target.auth);
    assert(fake_pending(control) == 0);
    grant_clear(&grant);
    asker_free(&asker);
    transport_free(&t);
    fake_control_free(&control);
    return 0;
}
