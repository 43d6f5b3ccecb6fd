/*
 * USERAUTH messages of any shape, above the fakes. The policy allows nothing but probes, so nobody
 * may ever get in.
 *
 * Input: a byte of settings, then steps of one byte each: 0 answers a question, 1 delivers raw
 * bytes of any type, 3 ends a helper's job, 4 is a host that vouches, 5 a message of GSSAPI; others
 * deliver a request whose fields the bytes fill.
 */
#include "auth/auth.h"
#include "base/alloc.h"
#include "base/log.h"
#include "fakes/helpers_fake.h"
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

/* Signed right, so that what follows the signature is reached. */
static void put_vouching(struct buf *message, uint8_t bits, struct bytes host, struct bytes user)
{
    struct buf body = {0}, data = {0}, signature = {0};
    struct bytes key = bits & 8 ? BYTES("sk-ssh-ed25519@openssh.com:h") : BYTES("ssh-ed25519:h");

    wire_put(&body, "ssssSSS", bits & 1 ? "alice" : "bob", "ssh-connection", "hostbased",
             "ssh-ed25519", key, host, user);
    wire_put(&data, "scR", FAKE_SESSION_ID, 50, buf_bytes(&body));
    fake_sign(&signature, key, "ssh-ed25519", bits & 2 ? buf_bytes(&data) : user);
    wire_put(message, "RS", buf_bytes(&body), buf_bytes(&signature));
    buf_clear(&body);
    buf_clear(&data);
    buf_clear(&signature);
}

static void send_vouching(struct transport *t, struct bytes *feed)
{
    struct buf message = {0};
    uint8_t bits = feed_u8(feed);
    struct bytes host = feed_bytes(feed), user = feed_bytes(feed);

    if (bits & 16)
        host = BYTES("client.example");
    put_vouching(&message, bits, host, user);
    fake_deliver_bytes(t, 50, buf_bytes(&message));
    buf_clear(&message);
}

/* The right code for a request of alice's, or what the feed says. */
static void put_mic(struct buf *out, const char *method, bool right, struct bytes *feed)
{
    if (right)
        wire_put(out, "scsss", FAKE_SESSION_ID, 50, "alice", "ssh-connection", method);
    else
        buf_put(out, feed_bytes(feed));
}

static void send_gssapi(struct transport *t, struct bytes *feed)
{
    uint8_t bits = feed_u8(feed);
    struct buf mic = {0};

    switch (bits & 7) {
    case 0:
        fake_deliver(t, 50, "sssuS", bits & 8 ? "alice" : "bob", "ssh-connection",
                     "gssapi-with-mic", (uint32_t)1, GSS_KERBEROS_OID);
        break;
    case 1:
        fake_deliver(t, 61, "s", bits & 8 ? FAKE_GSS_MORE : "final:alice@EXAMPLE");
        break;
    case 2:
        put_mic(&mic, "gssapi-with-mic", bits & 8, feed);
        fake_deliver(t, 66, "S", buf_bytes(&mic));
        break;
    case 3:
        fake_deliver(t, 61 + (bits >> 3) % 6, "S", feed_bytes(feed));
        break;
    case 4:
        put_mic(&mic, "gssapi-keyex", bits & 8, feed);
        fake_deliver(t, 50, "sssS", bits & 16 ? "alice" : "bob", "ssh-connection", "gssapi-keyex",
                     buf_bytes(&mic));
        break;
    default:
        fake_deliver(t, 50, "sssuR", "alice", "ssh-connection", "gssapi-with-mic",
                     (uint32_t)(bits >> 3), feed_bytes(feed));
    }
    buf_clear(&mic);
}

/* Well signed, with options of any shape. */
static void put_certificate(struct buf *message, uint8_t bits, struct bytes critical,
                            struct bytes extensions)
{
    struct fake_certificate draft = {
        .kind = 1 + (bits & 16) / 16u,
        .valid_before = UINT32_MAX,
        .principals = bits & 32 ? BYTES("\0\0\0\5alice") : BYTES("\0\0\0\3bob"),
        .critical = critical,
        .extensions = extensions,
        .signer = FAKE_AUTHORITY,
    };
    struct buf blob = {0};

    fake_certify(&blob, &draft);
    wire_put(message, "sS", FAKE_CERTIFICATE_TYPE, buf_bytes(&blob));
    buf_clear(&blob);
}

static void send_request(struct transport *t, struct bytes *feed, const char *method)
{
    struct buf message = {0};
    uint8_t bits = feed_u8(feed);
    struct bytes first = feed_bytes(feed), second = feed_bytes(feed);

    wire_put(&message, "sss", bits & 1 ? "alice" : "bob", "ssh-connection", method);
    wire_put(&message, "b", bits & 2);
    if (method[0] == 'p' && method[1] == 'u' && bits & 8)
        put_certificate(&message, bits, bits & 64 ? BYTES("") : first, second);
    else if (method[0] == 'p' && method[1] == 'u')
        wire_put(&message, "ss", "ssh-ed25519", "ssh-ed25519:k");
    if (bits & 128)
        fake_deliver_bytes(t, 50, buf_bytes(&message)); /* as a probe of a key has it */
    wire_put(&message, "S", first);
    if (bits & 4)
        wire_put(&message, "S", second);
    else
        wire_put(&message, "R", second);
    fake_deliver_bytes(t, 50, buf_bytes(&message));
    buf_clear(&message);
}

static void end_job(struct helpers *helpers, uint8_t how)
{
    static const enum helper_outcome outcomes[] = {HELPER_DONE, HELPER_EXPIRED, HELPER_REFUSED};

    if (fake_jobs(helpers) > 0)
        fake_help(helpers, outcomes[how < 3 ? how : 0]);
}

static char *host_name(const char *ip)
{
    (void)ip;
    return xstrdup("client.example");
}

static void step(struct transport *t, struct control *control, struct helpers *helpers,
                 struct bytes *feed)
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
    case 3:
        end_job(helpers, kind >> 3);
        break;
    case 4:
        send_vouching(t, feed);
        break;
    case 5:
        send_gssapi(t, feed);
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
    static const struct gss_settings gss;
    struct helpers *helpers = helpers_new(1, 1);
    struct auth_settings settings = {.max_failures = 6, .max_requests = 40};
    struct bytes feed = bytes_of(data, len);
    struct control *control = fake_control_new();
    struct grant grant = {0};
    struct target target = {0};
    struct transport *t = fake_transport_new(&transport_events, &target);
    struct asker *asker;
    struct gss_exchange *unused;

    log_set_level(LOG_ERROR);
    if (loop == NULL)
        loop = loop_new();
    asker = asker_new(control, loop, &asker_events, &target);
    switch (feed_u8(&feed) & 3) {
    case 3:
        fake_gss_key_exchange("alice@EXAMPLE");
        /* fallthrough */
    case 1:
        settings.gss = &gss;
    }
    settings.help = (struct auth_help){loop, helpers, host_name};
    target.auth = auth_new(t, asker, &grant, "192.0.2.7", &settings, &auth_events, &target);
    fake_deliver(t, 5, "s", "ssh-userauth");
    while (feed.len > 0 && target.faults == 0)
        step(t, control, helpers, &feed);
    auth_free(&target.auth);
    assert(fake_pending(control) == 0);
    grant_clear(&grant);
    asker_free(&asker);
    unused = transport_take_gss(t); /* if BeginAuth was never asked */
    transport_free(&t);
    fake_control_free(&control);
    helpers_free(&helpers);
    gss_exchange_free(&unused);
    assert(fake_gss_alive() == 0);
    return 0;
}
