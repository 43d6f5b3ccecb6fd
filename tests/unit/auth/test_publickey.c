/* RFC 4252 section 7: an offered key is not a proven key. */
#include "unit/auth/login.h"

#include <string.h>

static void a_probe_gets_pk_ok_and_nothing_else(void **state)
{
    struct login *l = *state;
    const Policy__ValidatePublicKeyRequest *question;

    send_probe(l, "alice", KEY_A);
    fake_begin_both(l->control);
    question = fake_question(l->control, RPC_VALIDATE_PUBLIC_KEY);
    assert_int_equal(question->use->phase, POLICY__KEY_PHASE__KEY_PHASE_PROBE);
    assert_string_equal(question->key->algorithm, "ssh-ed25519");
    assert_string_equal(question->key->fingerprint, "SHA256:" KEY_A);
    assert_int_equal(fake_question_flags(l->control, RPC_VALIDATE_PUBLIC_KEY), ASK_PROBE);
    fake_allow(l->control, RPC_VALIDATE_PUBLIC_KEY);
    expect_pk_ok(l, "ssh-ed25519", KEY_A);
    expect_no_success(l);
    assert_int_equal(asker_factors(l->asker), 0);
    expect_idle(l);
}

static void restrictions_of_a_probe_are_dropped(void **state)
{
    struct login *l = *state;
    Policy__Restrictions forced = POLICY__RESTRICTIONS__INIT;

    forced.no_pty = true;
    send_probe(l, "alice", KEY_A);
    fake_begin_both(l->control);
    fake_allow_with(l->control, RPC_VALIDATE_PUBLIC_KEY, &forced);
    expect_pk_ok(l, "ssh-ed25519", KEY_A);
    assert_int_equal(l->grant.count, 0);
    send_signed(l, "alice", KEY_A);
    fake_allow(l->control, RPC_VALIDATE_PUBLIC_KEY);
    expect_success(l);
    assert_false(grant_no_pty(&l->grant));
}

static void a_probe_is_asked_again_when_proven(void **state)
{
    struct login *l = *state;
    const Policy__ValidatePublicKeyRequest *question;

    send_probe(l, "alice", KEY_A);
    fake_begin_both(l->control);
    fake_allow(l->control, RPC_VALIDATE_PUBLIC_KEY);
    expect_pk_ok(l, "ssh-ed25519", KEY_A);
    send_signed(l, "alice", KEY_A);
    question = fake_question(l->control, RPC_VALIDATE_PUBLIC_KEY);
    assert_int_equal(question->use->phase, POLICY__KEY_PHASE__KEY_PHASE_PROVEN);
    assert_int_equal(fake_question_flags(l->control, RPC_VALIDATE_PUBLIC_KEY), 0);
    fake_deny(l->control, RPC_VALIDATE_PUBLIC_KEY, "revoked"); /* T3 */
    expect_banner(l, "revoked\r\n");
    expect_failure(l, "publickey,password", false);
    expect_no_success(l);
}

static void the_signing_key_is_the_one_that_counts(void **state)
{
    struct login *l = *state;
    const Policy__ValidatePublicKeyRequest *question;
    const Policy__AuthCompletedRequest *completed;

    send_probe(l, "alice", KEY_B); /* T2 */
    fake_begin_both(l->control);
    fake_allow(l->control, RPC_VALIDATE_PUBLIC_KEY);
    expect_pk_ok(l, "ssh-ed25519", KEY_B);
    send_signed(l, "alice", KEY_A);
    question = fake_question(l->control, RPC_VALIDATE_PUBLIC_KEY);
    assert_string_equal(question->key->fingerprint, "SHA256:" KEY_A);
    fake_allow(l->control, RPC_VALIDATE_PUBLIC_KEY);
    expect_success(l);
    completed = fake_question(l->control, RPC_AUTH_COMPLETED);
    assert_string_equal(completed->context->passed[0]->key->fingerprint, "SHA256:" KEY_A);
}

static void bad_signatures_reach_nobody(void **state)
{
    struct login *l = *state;
    struct buf data = {0}, other = {0}, signature = {0};

    signed_data(&data, "alice", "ssh-ed25519", KEY_A);
    signed_data(&other, "bob", "ssh-ed25519", KEY_A);
    send_request(l, "alice", "publickey", "bsss", true, "ssh-ed25519", KEY_A, "");
    fake_begin_both(l->control);
    expect_failure(l, "publickey,password", false);
    fake_sign(&signature, BYTES(KEY_A), "ssh-ed25519", buf_bytes(&other)); /* another user's */
    send_request(l, "alice", "publickey", "bssS", true, "ssh-ed25519", KEY_A,
                 buf_bytes(&signature));
    expect_failure(l, "publickey,password", false);
    buf_reset(&signature);
    fake_sign(&signature, BYTES(KEY_B), "ssh-ed25519", buf_bytes(&data)); /* another key's */
    send_request(l, "alice", "publickey", "bssS", true, "ssh-ed25519", KEY_A,
                 buf_bytes(&signature));
    expect_failure(l, "publickey,password", false);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_PUBLIC_KEY), 0);
    expect_no_success(l);
    buf_clear(&data);
    buf_clear(&other);
    buf_clear(&signature);
}

static void a_signature_over_another_session_is_refused(void **state)
{
    struct login *l = *state;
    struct buf data = {0}, signature = {0};

    wire_put(&data, "scsssbss", "another-session", 50, "alice", "ssh-connection", "publickey", true,
             "ssh-ed25519", KEY_A);
    fake_sign(&signature, BYTES(KEY_A), "ssh-ed25519", buf_bytes(&data));
    send_request(l, "alice", "publickey", "bssS", true, "ssh-ed25519", KEY_A,
                 buf_bytes(&signature));
    fake_begin_both(l->control);
    expect_failure(l, "publickey,password", false);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_PUBLIC_KEY), 0);
    buf_clear(&data);
    buf_clear(&signature);
}

/* OpenSSH PROTOCOL section 3.1: the host key of this connection is signed too. */
static void send_host_bound(struct login *l, const char *host_key, const char *signed_host_key)
{
    static const char method[] = "publickey-hostbound-v00@openssh.com";
    struct buf data = {0}, signature = {0};

    wire_put(&data, "scsssbsss", FAKE_SESSION_ID, 50, "alice", "ssh-connection", method, true,
             "ssh-ed25519", KEY_A, signed_host_key);
    fake_sign(&signature, BYTES(KEY_A), "ssh-ed25519", buf_bytes(&data));
    send_request(l, "alice", method, "bsssS", true, "ssh-ed25519", KEY_A, host_key,
                 buf_bytes(&signature));
    buf_clear(&data);
    buf_clear(&signature);
}

static void host_bound_signatures_name_our_host_key(void **state)
{
    struct login *l = *state;

    send_host_bound(l, FAKE_OTHER_HOST_KEY, FAKE_OTHER_HOST_KEY);
    fake_begin_both(l->control);
    expect_failure(l, "publickey,password", false);
    send_host_bound(l, FAKE_HOST_KEY, FAKE_OTHER_HOST_KEY);
    expect_failure(l, "publickey,password", false);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_PUBLIC_KEY), 0);
    send_host_bound(l, FAKE_HOST_KEY, FAKE_HOST_KEY);
    fake_allow(l->control, RPC_VALIDATE_PUBLIC_KEY);
    expect_success(l);
}

static void algorithms_must_fit_the_key(void **state)
{
    struct login *l = *state;

    send_request(l, "alice", "publickey", "bss", false, "rsa-sha2-512", KEY_A);
    fake_begin_both(l->control);
    expect_failure(l, "publickey,password", false);
    send_request(l, "alice", "publickey", "bss", false, "ssh-rsa", "ssh-rsa:r"); /* SHA-1 */
    expect_failure(l, "publickey,password", false);
    send_request(l, "alice", "publickey", "bss", false, "ssh-ed25519", "garbage");
    expect_failure(l, "publickey,password", false);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_PUBLIC_KEY), 0);
    send_signed_as(l, "alice", "ssh-rsa:r", "rsa-sha2-256");
    expect_asked(l, RPC_VALIDATE_PUBLIC_KEY);
}

static void security_keys_need_touch(void **state)
{
    static const struct {
        bool present, verified, touch_not_required, verify_required, ok;
    } rows[] = {
        {true, false, false, false, true}, {false, false, false, false, false},
        {false, false, true, false, true}, {true, false, false, true, false},
        {true, true, false, true, true},   {false, true, true, true, true},
    };
    static const char key[] = "sk-ssh-ed25519@openssh.com:k";

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        Policy__Restrictions r = POLICY__RESTRICTIONS__INIT;
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        fake_touch(rows[i].present, rows[i].verified);
        send_signed_as(l, "alice", key, "sk-ssh-ed25519@openssh.com");
        fake_begin_both(l->control);
        r.touch_not_required = rows[i].touch_not_required;
        r.verify_required = rows[i].verify_required;
        fake_allow_with(l->control, RPC_VALIDATE_PUBLIC_KEY, &r);
        if (rows[i].ok)
            expect_success(l);
        else
            expect_failure(l, "publickey,password", false);
        login_teardown(&fresh);
    }
}

static void verify_required_refuses_keys_that_cannot(void **state)
{
    struct login *l = *state;
    Policy__Restrictions r = POLICY__RESTRICTIONS__INIT;

    r.verify_required = true;
    grant_add(&l->grant, &r); /* ConnectionMade wants it */
    send_signed(l, "alice", KEY_A);
    fake_begin_both(l->control);
    fake_allow(l->control, RPC_VALIDATE_PUBLIC_KEY);
    expect_failure(l, "publickey,password", false);
    expect_no_success(l);
}

/* A list that cannot be read revokes every key. */
static void revoked_keys_refuse_every_key(void **state)
{
    struct login *l = *state;
    Policy__BeginAuthAnswer answer = POLICY__BEGIN_AUTH_ANSWER__INIT;
    Policy__Methods methods = POLICY__METHODS__INIT;
    Policy__AuthMethod list[] = {FAKE_PUBLICKEY};

    methods.methods = list;
    methods.n_methods = 1;
    answer.methods = &methods;
    answer.revoked_keys.data = (uint8_t *)"x";
    answer.revoked_keys.len = 1;
    send_signed(l, "alice", KEY_A);
    fake_answer(l->control, RPC_BEGIN_AUTH, &answer.base);
    expect_failure(l, "publickey", false);
    send_probe(l, "alice", KEY_A);
    expect_failure(l, "publickey", false);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_PUBLIC_KEY), 0);
}

static void state_set_about_a_probe_is_not_kept(void **state)
{
    struct login *l = *state;
    Policy__AuthAnswer answer = POLICY__AUTH_ANSWER__INIT;
    Policy__Allow allow = POLICY__ALLOW__INIT;
    Policy__Common common = POLICY__COMMON__INIT;
    const Policy__ValidatePublicKeyRequest *question;

    common.new_state_case = POLICY__COMMON__NEW_STATE_STATE;
    common.state.data = (uint8_t *)"seen";
    common.state.len = 4;
    answer.common = &common;
    answer.outcome_case = POLICY__AUTH_ANSWER__OUTCOME_ALLOW;
    answer.allow = &allow;
    send_probe(l, "alice", KEY_A);
    fake_begin_both(l->control);
    fake_answer(l->control, RPC_VALIDATE_PUBLIC_KEY, &answer.base);
    expect_pk_ok(l, "ssh-ed25519", KEY_A);
    send_signed(l, "alice", KEY_A);
    question = fake_question(l->control, RPC_VALIDATE_PUBLIC_KEY);
    assert_int_equal(question->context->state.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        login_test(a_probe_gets_pk_ok_and_nothing_else),
        login_test(restrictions_of_a_probe_are_dropped),
        login_test(a_probe_is_asked_again_when_proven),
        login_test(the_signing_key_is_the_one_that_counts),
        login_test(bad_signatures_reach_nobody),
        login_test(a_signature_over_another_session_is_refused),
        login_test(host_bound_signatures_name_our_host_key),
        login_test(algorithms_must_fit_the_key),
        cmocka_unit_test(security_keys_need_touch),
        login_test(verify_required_refuses_keys_that_cannot),
        login_test(revoked_keys_refuse_every_key),
        login_test(state_set_about_a_probe_is_not_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
