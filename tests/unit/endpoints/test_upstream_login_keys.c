/* Logging in elsewhere with a key, ours or the client's agent's. */
#include "unit/endpoints/login_world.h"

#include "base/alloc.h"
#include "endpoints/upstream/agent.h"

#include <string.h>
#include <unistd.h>

#define HOST_BOUND "publickey-hostbound-v00@openssh.com"

/* ---- keys */

static void put_request(struct buf *out, const char *method, const char *algorithm,
                        struct bytes blob, bool bound)
{
    wire_put(out, "sssbsS", "alice", "ssh-connection", method, 1, algorithm, blob);
    if (bound)
        wire_put(out, "s", FAKE_HOST_KEY);
}

/* The next message is this request, signed by `key`. */
static void expect_signed(struct login_world *s, const char *method, const char *algorithm,
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
    struct login_world *s = *state;

    login_start_key_text(s, FAKE_PRIVATE_KEY("ssh-ed25519:me"), BYTES(""));
    login_accept_service(s);
    expect_signed(s, "publickey", "ssh-ed25519", "ssh-ed25519", BYTES("ssh-ed25519:me"),
                  "ssh-ed25519:me");
    fake_deliver(s->t, 52, "");
    login_expect_end(s, 0, NULL);
    assert_string_equal(s->how, "publickey SHA256:ssh-ed25519:me");
}

static void a_key_is_bound_to_the_host_where_that_is_known(void **state)
{
    struct login_world *s = *state;

    login_start_key_text(s, FAKE_PRIVATE_KEY("ssh-ed25519:me"), BYTES(""));
    fake_deliver(s->t, 7, "ussss", 2u, "publickey-hostbound@openssh.com", "0", "ping@openssh.com",
                 "0");
    login_accept_service(s);
    expect_signed(s, HOST_BOUND, "ssh-ed25519", "ssh-ed25519", BYTES("ssh-ed25519:me"),
                  "ssh-ed25519:me");
    fake_deliver(s->t, 51, "sb", "publickey", 0);
    login_expect_end(s, 14, "permission denied (publickey)");
}

static void rsa(struct login_world *s, const char *algorithms, const char *wanted)
{
    login_start_key_text(s, FAKE_PRIVATE_KEY("ssh-rsa:me"), BYTES(""));
    if (algorithms != NULL)
        fake_deliver(s->t, 7, "uss", 1u, "server-sig-algs", algorithms);
    login_accept_service(s);
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
    struct login_world *s = *state;

    rsa(s, "ssh-rsa,ssh-ed25519", NULL);
    login_expect_end(s, 14, "it takes no safe signature of this kind of key");
}

static void put_certificate(struct buf *out)
{
    struct fake_certificate draft = {
        .kind = CERTIFICATE_USER, .valid_before = 1, .signer = FAKE_AUTHORITY};

    fake_certify(out, &draft);
}

static void a_certificate_goes_with_its_key(void **state)
{
    struct login_world *s = *state;
    struct buf blob = {0};

    put_certificate(&blob);
    login_start_key_text(s, FAKE_PRIVATE_KEY("ssh-ed25519:a"), buf_bytes(&blob));
    login_accept_service(s);
    expect_signed(s, "publickey", FAKE_CERTIFICATE_TYPE, "ssh-ed25519", buf_bytes(&blob),
                  "ssh-ed25519:a");
    fake_deliver(s->t, 52, "");
    login_expect_end(s, 0, NULL);
    buf_clear(&blob);
}

static void nobody_asked_for_a_probe(void **state)
{
    struct login_world *s = *state;

    login_start_key_text(s, FAKE_PRIVATE_KEY("ssh-ed25519:me"), BYTES(""));
    login_accept_service(s);
    expect_signed(s, "publickey", "ssh-ed25519", "ssh-ed25519", BYTES("ssh-ed25519:me"),
                  "ssh-ed25519:me");
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:me");
    login_expect_end(s, 2, "it broke the protocol: an answer that does not fit what was asked");
}

/* ---- the client's agent */

static void agent_says(struct login_world *s, const char *format, ...)
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
    login_turn(s);
}

static void agent_was_asked(struct login_world *s, const char *format, ...)
{
    struct buf message = {0}, framed = {0};
    uint8_t got[2048];
    ssize_t len;
    va_list args;

    login_turn(s);
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

static void agent_has(struct login_world *s, const char *first, const char *second)
{
    login_start_agent(s, true);
    assert_false(s->agent_taken);
    login_accept_service(s);
    agent_was_asked(s, "c", 11);
    agent_says(s, "cussss", 12, 2u, first, "a comment", second, "");
}

static void expect_probe(struct login_world *s, const char *algorithm, const char *blob)
{
    assert_true(fake_sent_is(s->t, 50, "sssbss", "alice", "ssh-connection", "publickey", 0,
                             algorithm, blob));
}

/* What the agent is given to sign, and says. */
static void agent_signs(struct login_world *s, const char *algorithm, const char *blob,
                        uint32_t flags, const char *with)
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
    struct login_world *s = *state;

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
    login_expect_end(s, 0, NULL);
    assert_string_equal(s->how, "agent SHA256:ssh-rsa:two");
}

static void an_agent_that_signs_with_sha1_is_not_used(void **state)
{
    struct login_world *s = *state;

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
    struct login_world *s = *state;
    struct buf message = {0};
    size_t done = 0;

    agent_has(s, "ssh-ed25519:one", "ssh-ed25519:two");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:one");
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:one");
    login_turn(s);
    wire_put(&message, "ucu", (uint32_t)(5 + len), 14, (uint32_t)len);
    buf_put_cstring(&message, "ssh-ed25519");
    while (message.len < 9 + len)
        buf_put_u8(&message, 0);
    while (done < message.len) {
        ssize_t wrote = write(s->agent, message.data + done, message.len - done);

        done += wrote > 0 ? (size_t)wrote : 0;
        login_turn(s);
    }
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:two");
    buf_clear(&message);
}

static void a_key_that_the_agent_withholds_is_left_out(void **state)
{
    struct login_world *s = *state;

    agent_has(s, "ssh-ed25519:one", "ssh-dss:two");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:one");
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:one");
    login_turn(s);
    agent_says(s, "c", 5);
    login_expect_end(s, 14, "permission denied (publickey)");
}

static void keys_are_not_offered_where_none_is_taken(void **state)
{
    struct login_world *s = *state;

    agent_has(s, "ssh-ed25519:one", "ssh-ed25519:two");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:one");
    fake_deliver(s->t, 51, "sb", "password", 0);
    login_expect_end(s, 14, "permission denied (password)");
}

static void there_may_be_no_agent(void **state)
{
    struct login_world *s = *state;

    login_start_agent(s, false);
    login_accept_service(s);
    login_expect_end(s, 14, "the client forwards no agent");
}

static void an_agent_may_be_empty(void **state)
{
    struct login_world *s = *state;

    login_start_agent(s, true);
    login_accept_service(s);
    agent_was_asked(s, "c", 11);
    agent_says(s, "cu", 12, 0u);
    login_expect_end(s, 14, "the client's agent has no keys");
}

static void an_agent_may_hang_up(void **state)
{
    struct login_world *s = *state;

    login_start_agent(s, true);
    login_accept_service(s);
    login_turn(s);
    close(s->agent);
    s->agent = -1;
    login_turn(s);
    assert_int_equal(s->ends, 1);
    assert_non_null(strstr(s->why, "the client's agent: "));
}

static void an_agent_may_hang_up_while_it_is_not_asked(void **state)
{
    struct login_world *s = *state;

    agent_has(s, "ssh-ed25519:one", "ssh-ed25519:two");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:one");
    close(s->agent);
    s->agent = -1;
    login_turn(s);
    assert_int_equal(s->ends, 0);
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:one");
    login_turn(s);
    assert_int_equal(s->ends, 1);
    assert_non_null(strstr(s->why, "the client's agent"));
}

static void another_key_than_was_offered_is_not_signed_for(void **state)
{
    struct login_world *s = *state;

    agent_has(s, "ssh-ed25519:one", "ssh-ed25519:two");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:one");
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:two");
    login_expect_end(s, 2, "it broke the protocol: it takes a key that was not offered");
}

static void a_signature_is_wanted_once(void **state)
{
    struct login_world *s = *state;

    agent_has(s, "ssh-ed25519:one", "ssh-ed25519:two");
    expect_probe(s, "ssh-ed25519", "ssh-ed25519:one");
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:one");
    agent_signs(s, "ssh-ed25519", "ssh-ed25519:one", 0, "ssh-ed25519");
    expect_signed(s, "publickey", "ssh-ed25519", "ssh-ed25519", BYTES("ssh-ed25519:one"),
                  "ssh-ed25519:one");
    fake_deliver(s->t, 60, "ss", "ssh-ed25519", "ssh-ed25519:one");
    login_expect_end(s, 2, "it broke the protocol: it takes a key that was not offered");
}

static void the_server_is_silent_while_the_agent_is_asked(void **state)
{
    struct login_world *s = *state;

    login_start_agent(s, true);
    login_accept_service(s);
    fake_deliver(s->t, 52, "");
    login_expect_end(s, 2, "it broke the protocol: an answer to nothing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
