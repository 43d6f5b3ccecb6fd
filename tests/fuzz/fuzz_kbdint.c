/*
 * Dialogues of keyboard-interactive, above the fakes: payloads of the request and of the responses
 * of any shape, in any order, against a policy whose answers the bytes choose as well. Nobody gets
 * in without an allow; what reaches the policy is what it asked for: as many responses as prompts,
 * none too long, none that the client was not asked for.
 *
 * Input: steps of one byte each, 0 and 1 answer a question, 2 to 4 begin a dialogue, 5 and 6
 * respond, 7 is another request.
 */
#include "auth/auth.h"
#include "base/log.h"
#include "base/reader.h"
#include "fakes/transport_fake.h"
#include "fakes/wire.h"
#include "fuzz/feed.h"
#include "fuzz/policy_script.h"

#include <assert.h>
#include <string.h>

enum { REQUEST = 50, FAILURE, SUCCESS, BANNER, INFO_REQUEST = 60, INFO_RESPONSE };

struct target {
    struct transport *transport;
    struct control *control;
    struct auth *auth;
    int faults;
    int prompts; /* that the client may respond to now; -1: none were shown */
    bool allowed;
    size_t validated; /* questions about responses so far */
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
    struct target *target = owner;

    (void)answer;
    assert(target->allowed);
}

static void on_fault(void *owner, uint32_t code, const char *reason)
{
    struct target *target = owner;

    assert(code != 0 && reason != NULL && target->faults < 2);
    target->faults++;
}

static void note_verdict(void *arg, enum rpc rpc, const ProtobufCMessage *question,
                         enum verdict verdict)
{
    struct target *target = arg;

    (void)question;
    if (rpc == RPC_BEGIN_AUTH)
        target->allowed = verdict == VERDICT_YES; /* another user */
    else if (rpc == RPC_VALIDATE_PASSWORD || rpc == RPC_CHANGE_PASSWORD ||
             rpc == RPC_GET_KBDINT_CHALLENGE || rpc == RPC_VALIDATE_KBDINT_RESPONSE)
        target->allowed = target->allowed || verdict == VERDICT_YES;
}

/* ---- the client */

static void send_request(struct transport *t, struct bytes *feed)
{
    struct buf message = {0};
    uint8_t bits = feed_u8(feed);
    struct bytes language = feed_bytes(feed), submethods = feed_bytes(feed);

    wire_put(&message, "sss", bits & 1 ? "alice" : "bob", "ssh-connection", "keyboard-interactive");
    if (bits & 2)
        wire_put(&message, "SS", language, submethods);
    else if (bits & 4)
        wire_put(&message, "SR", language, submethods);
    else
        wire_put(&message, "ss", "", "");
    fake_deliver_bytes(t, REQUEST, buf_bytes(&message));
    buf_clear(&message);
}

static void send_responses(struct target *target, struct bytes *feed)
{
    static const uint8_t filler[1026] = {'x'};
    struct buf message = {0};
    uint8_t bits = feed_u8(feed);
    uint32_t said = bits & 3 ? (uint32_t)(target->prompts < 0 ? 0 : target->prompts) : bits >> 2;
    uint32_t given = bits & 4 ? said : feed_below(feed, 70);

    wire_put(&message, "u", said);
    for (uint32_t i = 0; i < given; i++)
        if (bits & 8)
            wire_put(&message, "S", feed_bytes(feed));
        else
            wire_put(&message, "s", "response");
    if ((bits & 0x70) == 0x10)
        wire_put(&message, "R", feed_bytes(feed));
    if ((bits & 0x70) == 0x20)
        wire_put(&message, "S", bytes_of(filler, sizeof(filler)));
    fake_deliver_bytes(target->transport, (bits & 0x70) == 0x30 ? 62 : INFO_RESPONSE,
                       buf_bytes(&message));
    buf_clear(&message);
}

static void send_other(struct transport *t, struct bytes *feed)
{
    uint8_t bits = feed_u8(feed);
    const char *user = bits & 1 ? "alice" : "bob";

    if (bits & 2)
        fake_deliver(t, REQUEST, "sssbs", user, "ssh-connection", "password", false, "secret");
    else if (bits & 4)
        fake_deliver(t, REQUEST, "sssbss", user, "ssh-connection", "password", true, "old", "new");
    else if (bits & 8)
        fake_deliver_bytes(t, INFO_RESPONSE, feed_bytes(feed));
    else
        fake_deliver(t, REQUEST, "sss", user, "ssh-connection", "none");
}

/* ---- what must hold after each step */

static void check_question(struct target *target, int prompts)
{
    const Policy__ValidateKbdintResponseRequest *question =
        fake_question(target->control, RPC_VALIDATE_KBDINT_RESPONSE);

    assert(question != NULL && prompts >= 0 && question->n_responses == (size_t)prompts);
    for (size_t i = 0; i < question->n_responses; i++)
        assert(strlen(question->responses[i]) <= 1024);
}

static void look(struct target *target)
{
    int prompts = target->prompts;
    struct fake_message sent;

    if (fake_asked(target->control, RPC_VALIDATE_KBDINT_RESPONSE) > target->validated) {
        target->validated++;
        check_question(target, prompts);
        target->prompts = -1;
    }
    assert(fake_asked(target->control, RPC_VALIDATE_KBDINT_RESPONSE) == target->validated);
    while (fake_sent(target->transport, &sent)) {
        struct reader r = reader_of(sent.rest);

        target->prompts = -1;
        if (sent.type != INFO_REQUEST || fake_pending(target->control) > 0)
            continue; /* what waited behind it has ended the dialogue already */
        reader_string(&r);
        reader_string(&r);
        reader_string(&r);
        target->prompts = (int)reader_u32(&r);
        assert(!reader_ok(&r) || target->prompts <= 64); /* else it was a CHANGEREQ */
    }
    assert(!fake_auth_success_sent(target->transport) || target->allowed);
}

static void step(struct target *target, struct bytes *feed)
{
    switch (feed_u8(feed) & 7) {
    case 0:
    case 1:
        script_answer(target->control, feed, true, note_verdict, target);
        break;
    case 5:
    case 6:
        send_responses(target, feed);
        break;
    case 7:
        send_other(target->transport, feed);
        break;
    default:
        send_request(target->transport, feed);
    }
    fake_transport_turn(target->transport);
    look(target);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct transport_events transport_events = {.message = on_message};
    static const struct asker_events asker_events = {on_disconnect, on_banner};
    static const struct auth_events auth_events = {on_completed, on_fault};
    static const struct auth_settings settings = {.max_failures = 6, .max_requests = 40};
    static struct loop *loop;
    struct bytes feed = bytes_of(data, len);
    struct target target = {.prompts = -1};
    struct grant grant = {0};
    struct asker *asker;

    log_set_level(LOG_ERROR);
    if (loop == NULL)
        loop = loop_new();
    target.control = fake_control_new();
    target.transport = fake_transport_new(&transport_events, &target);
    asker = asker_new(target.control, loop, &asker_events, &target);
    target.auth =
        auth_new(target.transport, asker, &grant, "192.0.2.7", &settings, &auth_events, &target);
    fake_deliver(target.transport, 5, "s", "ssh-userauth");
    while (feed.len > 0 && target.faults == 0)
        step(&target, &feed);
    auth_free(&target.auth);
    assert(fake_pending(target.control) == 0);
    grant_clear(&grant);
    asker_free(&asker);
    transport_free(&target.transport);
    fake_control_free(&target.control);
    return 0;
}
