/* Logging in elsewhere: each credential, what each sends and when, and servers that misbehave. */
#include "unit/cmocka_unit.h"

#include "base/alloc.h"
#include "base/log.h"
#include "endpoints/upstream/agent.h"
#include "endpoints/upstream/login.h"
#include "fakes/transport_fake.h"
#include "fakes/wire.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST_BOUND "publickey-hostbound-v00@openssh.com"

struct server {
    struct loop *loop;
    struct transport *t;
    struct hop hop;
    struct login *login;
    int agent; /* our end of its connection; -1: there is none */
    bool agent_taken;
    int ends;
    uint32_t code;
    char *why;
    char *how;
};

static bool on_message(void *owner, uint8_t type, struct bytes message)
{
    struct server *s = owner;

    return login_message(s->login, type, message);
}

static void on_keys(void *owner)
{
    (void)owner;
}

static const struct transport_events transport_events = {.keys_exchanged = on_keys,
                                                         .message = on_message};

static void on_done(void *owner, uint32_t code, const char *why)
{
    struct server *s = owner;

    s->ends++;
    s->code = code;
    s->why = why ? xstrdup(why) : NULL;
    s->how = xstrdup(login_how(s->login));
    hop_forget_credential(&s->hop); /* as the link does */
}

static int client_agent(void *owner)
{
    struct server *s = owner;
    int pair[2];

    s->agent_taken = true;
    if (s->agent < 0)
        return -1;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    s->agent = pair[1];
    return pair[0];
}

static int setup(void **state)
{
    struct server *s = xcalloc(1, sizeof(*s));

    s->loop = loop_new();
    s->agent = -1;
    s->t = fake_client_new(&transport_events, s);
    fake_exchange_keys(s->t);
    *state = s;
    return 0;
}

static void turn(struct server *s)
{
    for (int i = 0; i < 4; i++)
        event_base_loop(loop_events(s->loop), EVLOOP_NONBLOCK);
}

static int teardown(void **state)
{
    struct server *s = *state;

    login_free(&s->login);
    turn(s);
    transport_free(&s->t);
    hop_clear(&s->hop);
    if (s->agent > 0)
        close(s->agent);
    loop_free(&s->loop);
    assert_int_equal(fake_transports_alive(), 0);
    assert_int_equal(fake_private_keys_alive(), 0);
    free(s->why);
    free(s->how);
    free(s);
    return 0;
}

/* ---- the answer's hop */

static Policy__UpstreamHop hop_of(void)
{
    Policy__UpstreamHop hop = POLICY__UPSTREAM_HOP__INIT;

    hop.host = "gw.example.org";
    hop.user = "alice";
    hop.known_hosts = (ProtobufCBinaryData){1, (uint8_t *)"#"};
    return hop;
}

static void start(struct server *s, const Policy__UpstreamHop *answer)
{
    struct login_start begin = {
        .transport = s->t,
        .loop = s->loop,
        .hop = &s->hop,
        .agent = client_agent,
        .agent_owner = s,
    };
    const char *why;

    assert_true(hop_init(&s->hop, answer, "somebody", &why));
    s->login = login_new(&begin, on_done, s);
    assert_true(fake_sent_is(s->t, 5, "s", "ssh-userauth"));
    assert_int_equal(fake_sent_waiting(s->t), 0);
}

static void start_password(struct server *s)
{
    Policy__UpstreamHop hop = hop_of();

    hop.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PASSWORD;
    hop.password = "tiger";
    start(s, &hop);
}

static void start_key_text(struct server *s, const char *text, struct bytes certificate)
{
    Policy__UpstreamHop hop = hop_of();

    hop.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PRIVATE_KEY;
    hop.private_key = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
    hop.certificate = (ProtobufCBinaryData){certificate.len, (uint8_t *)certificate.data};
    start(s, &hop);
}

static void start_agent(struct server *s, bool there)
{
    Policy__UpstreamHop hop = hop_of();

    s->agent = there ? 0 : -1;
    hop.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_CLIENT_AGENT;
    start(s, &hop);
}

static void accept_service(struct server *s)
{
    fake_deliver(s->t, 6, "s", "ssh-userauth");
}

static void expect_end(struct server *s, uint32_t code, const char *why)
{
    assert_int_equal(s->ends, 1);
    assert_int_equal(s->code, code);
    if (why == NULL)
        assert_null(s->why);
    else
        assert_string_equal(s->why, why);
    assert_int_equal(fake_sent_waiting(s->t), 0);
}

static void expect_password(struct server *s)
{
    assert_true(fake_sent_is(s->t, 50, "sssbs", "alice", "ssh-connection", "password", 0, "tiger"));
}

/* ---- passwords */

static void a_password_goes_once_the_service_is_there(void **state)
{
    struct server *s = *state;

    start_password(s);
    fake_deliver(s->t, 7, "u", 0u);
    assert_int_equal(fake_sent_waiting(s->t), 0);
    accept_service(s);
    expect_password(s);
    fake_deliver(s->t, 53, "ss", "Welcome\r\n", "");
    fake_deliver(s->t, 52, "");
    expect_end(s, 0, NULL);
    assert_string_equal(s->how, "password");
}

static void a_wrong_password_is_denied(void **state)
{
    struct server *s = *state;

    start_password(s);
    accept_service(s);
    expect_password(s);
    fake_deliver(s->t, 51, "sb", "publickey,password", 0);
    expect_end(s, 14, "permission denied (publickey,password)");
}

static void what_the_server_says_is_clean(void **state)
{
    struct server *s = *state;

    start_password(s);
    accept_service(s);
    expect_password(s);
    fake_deliver(s->t, 51, "sb", "a\x1b]0;b\n,\xff", 0);
    expect_end(s, 14, "permission denied (a?]0;b?,?)");
}

static void a_second_factor_is_not_had(void **state)
{
    struct server *s = *state;

    start_password(s);
    accept_service(s);
    expect_password(s);
    fake_deliver(s->t, 51, "sb", "publickey", 1);
    expect_end(s, 14, "it wants more than this credential (publickey)");
}

static void an_expired_password_is_not_changed(void **state)
{
    struct server *s = *state;

    start_password(s);
    accept_service(s);
    expect_password(s);
    fake_deliver(s->t, 60, "ss", "New password", "");
    expect_end(s, 14, "the password has expired and must be changed first");
}

static void to_kbdint(struct server *s)
{
    start_password(s);
    accept_service(s);
    expect_password(s);
    fake_deliver(s->t, 51, "sb", "publickey,keyboard-interactive", 0);
    assert_true(
        fake_sent_is(s->t, 50, "sssss", "alice", "ssh-connection", "keyboard-interactive", "", ""));
}

static void the_one_hidden_question_is_answered(void **state)
{
    struct server *s = *state;

    to_kbdint(s);
    fake_deliver(s->t, 60, "sssusb", "", "Hello", "", 1u, "Password: ", 0);
    assert_true(fake_sent_is(s->t, 61, "us", 1u, "tiger"));
    fake_deliver(s->t, 60, "sssu", "", "Your password is old", "", 0u);
    assert_true(fake_sent_is(s->t, 61, "u", 0u));
    fake_deliver(s->t, 52, "");
    expect_end(s, 0, NULL);
    assert_string_equal(s->how, "keyboard-interactive");
}

static void a_wrong_response_is_denied(void **state)
{
    struct server *s = *state;

    to_kbdint(s);
    fake_deliver(s->t, 60, "sssusb", "", "", "", 1u, "Password: ", 0);
    assert_true(fake_sent_is(s->t, 61, "us", 1u, "tiger"));
    fake_deliver(s->t, 51, "sb", "publickey,keyboard-interactive", 0);
    expect_end(s, 14, "permission denied (publickey,keyboard-interactive)");
}

static void a_visible_question_gets_no_password(void **state)
{
    struct server *s = *state;

    to_kbdint(s);
    fake_deliver(s->t, 60, "sssusb", "", "", "", 1u, "Name: ", 1);
    expect_end(s, 14, "it asks for more than a password");
}

static void two_questions_get_no_password(void **state)
{
    struct server *s = *state;

    to_kbdint(s);
    fake_deliver(s->t, 60, "sssusbsb", "", "", "", 2u, "Password: ", 0, "Code: ", 0);
    expect_end(s, 14, "it asks for more than a password");
}

static void the_password_is_a_response_once(void **state)
{
    struct server *s = *state;

    to_kbdint(s);
    fake_deliver(s->t, 60, "sssusb", "", "", "", 1u, "Password: ", 0);
    assert_true(fake_sent_is(s->t, 61, "us", 1u, "tiger"));
    fake_deliver(s->t, 60, "sssusb", "", "", "", 1u, "Code: ", 0);
    expect_end(s, 14, "it asks for more than a password");
}

static void rounds_are_counted(void **state)
{
    struct server *s = *state;

    to_kbdint(s);
    for (int i = 0; i < 8; i++) {
        fake_deliver(s->t, 60, "sssu", "", "", "", 0u);
        assert_true(fake_sent_is(s->t, 61, "u", 0u));
    }
    fake_deliver(s->t, 60, "sssu", "", "", "", 0u);
    expect_end(s, 14, "it asks without end");
}

static void a_malformed_question_is_a_fault(void **state)
{
    struct server *s = *state;

    to_kbdint(s);
    fake_deliver(s->t, 60, "sssusb", "", "", "", 0xffffffffu, "Password: ", 0);
    expect_end(s, 2, "it broke the protocol: a malformed question");
}

/* ---- keys */

static void put_request(struct buf *out, const char *method, const char *algorithm,
                        struct bytes blob, bool bound)
{
    wire_put(out, "sssbsS", "alice", "ssh-connection", method, 1, algorithm, blob);
    if (bound)
        wire_put(out, "s", FAKE_HOST_KEY);
}

/* The next message is this request, signed by `key`. */
static void expect_signed(struct server *s, const char *method, const char *algorithm,
                          const char *plain, struct bytes blob, const char *key)
{
    bool bound = strcmp(method, "publickey") != 0;
    struct buf request = {0}, data = {0}, signature = {0};

    put_request(&request, method, algorithm, blob, bound);
    wire_put(&data, "scR", FAKE_SESSION_ID, 50, buf_bytes(&request));
    fake_sign(&signature, bytes_of_string(key), plain, buf_bytes(&data));
    assert_true(fake_sent_is(s->t, 50, "RS", buf_bytes(&request), buf_bytes(&signature)));
    buf_clear(&request);
    buf_clear(&data);
    buf_clear(&signature);
}

static void a_key_signs_at_once(void **state)
{
    struct server *s = *state;

    start_key_text(s, FAKE_PRIVATE_KEY("ssh-ed25519:me"), BYTES(""));
    accept_service(s);
    expect_signed(s, "publickey", "ssh-ed25519", "ssh-ed25519", BYTES("ssh-ed25519:me"),
                  "ssh-ed25519:me");
    fake_deliver(s->t, 52, "");
    expect_end(s, 0, NULL);
    assert_string_equal(s->how, "publickey SHA256:ssh-ed25519:me");
}

static void a_key_is_bound_to_the_host_where_that_is_known(void **state)
{
    struct server *s = *state;

    start_key_text(s, FAKE_PRIVATE_KEY("ssh-ed25519:me"), BYTES(""));
    fake_deliver(s->t, 7, "ussss", 2u, "publickey-hostbound@openssh.com", "0", "ping@openssh.com",
                 "0");
    accept_service(s);
    expect_signed(s, HOST_BOUND, "ssh-ed25519", "ssh-ed25519", BYTES("ssh-ed25519:me"),
                  "ssh-ed25519:me");
    fake_deliver(s->t, 51, "sb", "publickey", 0);
    expect_end(s, 14, "permission denied (publickey)");
}

static void rsa(struct server *s, const char *algorithms, const char *wanted)
{
    start_key_text(s, FAKE_PRIVATE_KEY("ssh-rsa:me"), BYTES(""));
    if (algorithms != NULL)
        fake_deliver(s->t, 7, "uss", 1u, "server-sig-algs", algorithms);
    accept_service(s);
    if (wanted != NULL)
        expect_signed(s, "publickey", wanted, wanted, BYTES("ssh-rsa:me"), "ssh-rsa:me");
}

static void rsa_signs_with_what_the_server_takes(void **state)
{
    rsa(*state, "ssh-ed25519,ssh-rsa,rsa-sha2-256,rsa-sha2-512", "rsa-sha2-512");
}

static void rsa_signs_with_the_lesser_one(void **state)
{
    rsa(*state, "ssh-rsa,rsa-sha2-256,rsa-sha2-5123", "rsa-sha2-256");
}

static void rsa_signs_with_the_better_one_unasked(void **state)
{
    rsa(*state, NULL, "rsa-sha2-512");
}

static void rsa_never_signs_with_sha1(void **state)
{
    struct server *s = *state;

    rsa(s, "ssh-rsa,ssh-ed25519", NULL);
    expect_end(s, 14, "it takes no safe signature of this kind of key");
}

static void put_certificate(struct buf *out)
{
    struct fake_certificate draft = {
        .kind = CERTIFICATE_USER, .valid_before = 1, .signer = FAKE_AUTHORITY};

    fake_certify(out, &draft);
}

static void a_certificate_goes_with_its_key(void **state)
{
    struct server *s = *state;
    struct buf blob = {0};

    put_certificate(&blob);
    start_key_text(s, FAKE_PRIVATE_KEY("ssh-ed25519:a"), buf_bytes(&blob));
    accept_service(s);
    expect_signed(s, "publickey", FAKE_CERTIFICATE_TYPE, "ssh-ed25519", buf_bytes(&blob),
                  "ssh-ed25519:a");
    fake_deliver(s->t, 52, "");
    expect_end(s, 0, NULL);
    buf_clear(&blob);
}

static void nobody_asked_for_a_probe(void **state)
{
    struct server *s = *state;

    start_key_text(s, FAKE_PRIVATE_KEY("ssh-ed25519:me"), BYTES(""));
    accept_service(s);
    expect_signed(s, "publickey", "ssh-ed25519", "ssh-ed25519", BYTES("ssh-ed25519:me"),
                  "ssh-ed25519:me");
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:me");
    expect_end(s, 2, "it broke the protocol: an answer that does not fit what was asked");
}

/* ---- the client's agent */

static void agent_says(struct server *s, const char *format, ...)
{
    struct buf message = {0}, framed = {0};
    va_list args;

    va_start(args, format);
    wire_vput(&message, format, args);
    va_end(args);
    buf_put_string(&framed, buf_bytes(&message));
    assert_int_equal(write(s->agent, framed.data, framed.len), framed.len);
    buf_clear(&message);
    buf_clear(&framed);
    turn(s);
}

static void agent_was_asked(struct server *s, const char *format, ...)
{
    struct buf message = {0}, framed = {0};
    uint8_t got[2048];
    ssize_t len;
    va_list args;

    turn(s);
    va_start(args, format);
    wire_vput(&message, format, args);
    va_end(args);
    buf_put_string(&framed, buf_bytes(&message));
    len = read(s->agent, got, sizeof(got));
    assert_int_equal(len, framed.len);
    assert_memory_equal(got, framed.data, framed.len);
    buf_clear(&message);
    buf_clear(&framed);
}

static void agent_has(struct server *s, const char *first, const char *second)
{
    start_agent(s, true);
    assert_false(s->agent_taken);
    accept_service(s);
    agent_was_asked(s, "c", 11);
    agent_says(s, "cussss", 12, 2u, first, "a comment", second, "");
}

static void expect_probe(struct server *s, const char *algorithm, const char *blob)
{
    assert_true(fake_sent_is(s->t, 50, "sssbss", "alice", "ssh-connection", "publickey", 0,
                             algorithm, blob));
}

/* What the agent is given to sign, and says. */
static void agent_signs(struct server *s, const char *algorithm, const char *blob, uint32_t flags,
                        const char *with)
{
    struct buf request = {0}, data = {0}, signature = {0};

    put_request(&request, "publickey", algorithm, bytes_of_string(blob), false);
    wire_put(&data, "scR", FAKE_SESSION_ID, 50, buf_bytes(&request));
    agent_was_asked(s, "csSu", 13, blob, buf_bytes(&data), flags);
    fake_sign(&signature, bytes_of_string(blob), with, buf_bytes(&data));
    agent_says(s, "cS", 14, buf_bytes(&signature));
    buf_clear(&request);
    buf_clear(&data);
    buf_clear(&signature);
}

static void the_agent_signs_for_the_key_that_is_wanted(void **state)
{
    struct server *s = *state;

    agent_has(s, "ssh-ed25519:one", "ssh-rsa:two");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:one");
    fake_deliver(s->t, 51, "sb", "publickey", 0);
    expect_probe(s, "rsa-sha2-512", "ssh-rsa:two");
    fake_deliver(s->t, 60, "ss", "rsa-sha2-512", "ssh-rsa:two");
    assert_true(login_awaits_agent(s->login));
    agent_signs(s, "rsa-sha2-512", "ssh-rsa:two", AGENT_RSA_SHA2_512, "rsa-sha2-512");
    expect_signed(s, "publickey", "rsa-sha2-512", "rsa-sha2-512", BYTES("ssh-rsa:two"),
                  "ssh-rsa:two");
    fake_deliver(s->t, 52, "");
    expect_end(s, 0, NULL);
    assert_string_equal(s->how, "agent SHA256:ssh-rsa:two");
}

static void an_agent_that_signs_with_sha1_is_not_used(void **state)
{
    struct server *s = *state;

    agent_has(s, "ssh-rsa:one", "ssh-ed25519:two");
    expect_probe(s, "rsa-sha2-512", "ssh-rsa:one");
    fake_deliver(s->t, 60, "ss", "rsa-sha2-512", "ssh-rsa:one");
    agent_signs(s, "rsa-sha2-512", "ssh-rsa:one", AGENT_RSA_SHA2_512, "ssh-rsa");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:two");
}

/* It is the client's own program, and what it says goes into a message of ours. */
static void an_agent_that_signs_at_length_is_not_used(void **state)
{
    const size_t len = AGENT_MESSAGE_MAX - 64;
    struct server *s = *state;
    struct buf message = {0};
    size_t done = 0;

    agent_has(s, "ssh-ed25519:one", "ssh-ed25519:two");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:one");
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:one");
    turn(s);
    wire_put(&message, "ucu", (uint32_t)(5 + len), 14, (uint32_t)len);
    buf_put_cstring(&message, "ssh-ed25519");
    while (message.len < 9 + len)
        buf_put_u8(&message, 0);
    while (done < message.len) {
        ssize_t wrote = write(s->agent, message.data + done, message.len - done);

        done += wrote > 0 ? (size_t)wrote : 0;
        turn(s);
    }
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:two");
    buf_clear(&message);
}

static void a_key_that_the_agent_withholds_is_left_out(void **state)
{
    struct server *s = *state;

    agent_has(s, "ssh-ed25519:one", "ssh-dss:two");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:one");
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:one");
    turn(s);
    agent_says(s, "c", 5);
    expect_end(s, 14, "permission denied (publickey)");
}

static void keys_are_not_offered_where_none_is_taken(void **state)
{
    struct server *s = *state;

    agent_has(s, "ssh-ed25519:one", "ssh-ed25519:two");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:one");
    fake_deliver(s->t, 51, "sb", "password", 0);
    expect_end(s, 14, "permission denied (password)");
}

static void there_may_be_no_agent(void **state)
{
    struct server *s = *state;

    start_agent(s, false);
    accept_service(s);
    expect_end(s, 14, "the client forwards no agent");
}

static void an_agent_may_be_empty(void **state)
{
    struct server *s = *state;

    start_agent(s, true);
    accept_service(s);
    agent_was_asked(s, "c", 11);
    agent_says(s, "cu", 12, 0u);
    expect_end(s, 14, "the client's agent has no keys");
}

static void an_agent_may_hang_up(void **state)
{
    struct server *s = *state;

    start_agent(s, true);
    accept_service(s);
    turn(s);
    close(s->agent);
    s->agent = -1;
    turn(s);
    assert_int_equal(s->ends, 1);
    assert_non_null(strstr(s->why, "the client's agent: "));
}

static void an_agent_may_hang_up_while_it_is_not_asked(void **state)
{
    struct server *s = *state;

    agent_has(s, "ssh-ed25519:one", "ssh-ed25519:two");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:one");
    close(s->agent);
    s->agent = -1;
    turn(s);
    assert_int_equal(s->ends, 0);
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:one");
    turn(s);
    assert_int_equal(s->ends, 1);
    assert_non_null(strstr(s->why, "the client's agent"));
}

static void another_key_than_was_offered_is_not_signed_for(void **state)
{
    struct server *s = *state;

    agent_has(s, "ssh-ed25519:one", "ssh-ed25519:two");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:one");
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:two");
    expect_end(s, 2, "it broke the protocol: it takes a key that was not offered");
}

static void a_signature_is_wanted_once(void **state)
{
    struct server *s = *state;

    agent_has(s, "ssh-ed25519:one", "ssh-ed25519:two");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:one");
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:one");
    agent_signs(s, "ssh-ed25519", "ssh-ed25519:one", 0, "ssh-ed25519");
    expect_signed(s, "publickey", "ssh-ed25519", "ssh-ed25519", BYTES("ssh-ed25519:one"),
                  "ssh-ed25519:one");
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:one");
    expect_end(s, 2, "it broke the protocol: it takes a key that was not offered");
}

static void the_server_is_silent_while_the_agent_is_asked(void **state)
{
    struct server *s = *state;

    start_agent(s, true);
    accept_service(s);
    fake_deliver(s->t, 52, "");
    expect_end(s, 2, "it broke the protocol: an answer to nothing");
}

/* ---- servers that misbehave */

/* Before the service was accepted, nothing of this can be meant; no credential follows. */
static void nothing_comes_before_the_service(void **state)
{
    static const uint8_t types[] = {51, 52, 60};

    for (size_t i = 0; i < sizeof(types); i++) {
        struct server *s = *state;

        start_password(s);
        fake_deliver(s->t, types[i], "sb", "password", 0);
        expect_end(s, 2, "it broke the protocol: an answer to nothing");
        accept_service(s);
        assert_int_equal(fake_sent_waiting(s->t), 0);
        assert_int_equal(teardown(state), 0);
        assert_int_equal(setup(state), 0);
    }
}

static void another_service_gets_no_credential(void **state)
{
    struct server *s = *state;

    start_password(s);
    fake_deliver(s->t, 6, "s", "ssh-connection");
    expect_end(s, 2, "it broke the protocol: another service than was asked for");
}

static void the_service_is_accepted_once(void **state)
{
    struct server *s = *state;

    start_password(s);
    accept_service(s);
    expect_password(s);
    accept_service(s);
    expect_end(s, 2, "it broke the protocol: a service that was not asked for");
}

static void an_old_server_does_not_name_the_service(void **state)
{
    struct server *s = *state;

    start_password(s);
    fake_deliver(s->t, 6, "");
    expect_password(s);
}

static void extensions_must_be_whole(void **state)
{
    struct server *s = *state;

    start_password(s);
    fake_deliver(s->t, 7, "us", 1u, "server-sig-algs");
    expect_end(s, 2, "it broke the protocol: malformed extensions");
}

static void refusals_must_be_whole(void **state)
{
    struct server *s = *state;

    start_password(s);
    accept_service(s);
    expect_password(s);
    fake_deliver(s->t, 51, "s", "password");
    expect_end(s, 2, "it broke the protocol: a malformed refusal");
}

static void successes_must_be_whole(void **state)
{
    struct server *s = *state;

    start_password(s);
    accept_service(s);
    expect_password(s);
    fake_deliver(s->t, 52, "s", "more");
    expect_end(s, 2, "it broke the protocol: a malformed success");
}

static void what_is_not_known_is_not_understood(void **state)
{
    struct server *s = *state;

    start_password(s);
    fake_deliver(s->t, 54, "");
    fake_deliver(s->t, 61, "");
    assert_int_equal(fake_not_understood(s->t), 2);
    accept_service(s);
    expect_password(s);
}

int main(void)
{
#define login_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        login_test(a_password_goes_once_the_service_is_there),
        login_test(a_wrong_password_is_denied),
        login_test(what_the_server_says_is_clean),
        login_test(a_second_factor_is_not_had),
        login_test(an_expired_password_is_not_changed),
        login_test(the_one_hidden_question_is_answered),
        login_test(a_wrong_response_is_denied),
        login_test(a_visible_question_gets_no_password),
        login_test(two_questions_get_no_password),
        login_test(the_password_is_a_response_once),
        login_test(rounds_are_counted),
        login_test(a_malformed_question_is_a_fault),
        login_test(a_key_signs_at_once),
        login_test(a_key_is_bound_to_the_host_where_that_is_known),
        login_test(rsa_signs_with_what_the_server_takes),
        login_test(rsa_signs_with_the_lesser_one),
        login_test(rsa_signs_with_the_better_one_unasked),
        login_test(rsa_never_signs_with_sha1),
        login_test(a_certificate_goes_with_its_key),
        login_test(nobody_asked_for_a_probe),
        login_test(the_agent_signs_for_the_key_that_is_wanted),
        login_test(an_agent_that_signs_with_sha1_is_not_used),
        login_test(an_agent_that_signs_at_length_is_not_used),
        login_test(a_key_that_the_agent_withholds_is_left_out),
        login_test(keys_are_not_offered_where_none_is_taken),
        login_test(there_may_be_no_agent),
        login_test(an_agent_may_be_empty),
        login_test(an_agent_may_hang_up),
        login_test(an_agent_may_hang_up_while_it_is_not_asked),
        login_test(another_key_than_was_offered_is_not_signed_for),
        login_test(a_signature_is_wanted_once),
        login_test(the_server_is_silent_while_the_agent_is_asked),
        login_test(nothing_comes_before_the_service),
        login_test(another_service_gets_no_credential),
        login_test(the_service_is_accepted_once),
        login_test(an_old_server_does_not_name_the_service),
        login_test(extensions_must_be_whole),
        login_test(refusals_must_be_whole),
        login_test(successes_must_be_whole),
        login_test(what_is_not_known_is_not_understood),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
