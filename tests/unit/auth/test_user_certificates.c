/* OpenSSH certificates of users, and the lists that BeginAuth hands over. The parser is the real
 * one; keys and signatures are fakes. */
#include "unit/auth/login.h"

#include <string.h>

#define CERT_TYPE FAKE_CERTIFICATE_TYPE
#define CA        FAKE_AUTHORITY
#define OTHER_CA  "ssh-ed25519:other"

/* "a" is KEY_A's name. In base64, as authorized_keys has it: */
#define KEY_A_BASE64 "c3NoLWVkMjU1MTk6YQ=="
#define CA_BASE64    "c3NoLWVkMjU1MTk6Y2E="

struct draft {
    const char *principal, *command, *signer;
    uint32_t kind, valid_before;
    bool permits;
};

static const struct draft GOOD = {"alice", NULL, CA, 1, UINT32_MAX, true};

static struct buf certificate(const struct draft *d)
{
    struct buf out = {0}, list = {0}, options = {0}, permits = {0}, command = {0};

    if (d->principal != NULL)
        buf_put_cstring(&list, d->principal);
    if (d->command != NULL) {
        buf_put_cstring(&command, d->command);
        wire_put(&options, "sS", "force-command", buf_bytes(&command));
    }
    if (d->permits)
        wire_put(&permits, "ssss", "permit-pty", "", "no-touch-required", "");
    fake_certify(&out,
                 &(struct fake_certificate){d->kind, d->valid_before, buf_bytes(&list),
                                            buf_bytes(&options), buf_bytes(&permits), d->signer});
    buf_clear(&list);
    buf_clear(&options);
    buf_clear(&permits);
    buf_clear(&command);
    return out;
}

static void send_certificate_probe(struct login *l, const struct draft *d)
{
    struct buf blob = certificate(d);

    send_request(l, "alice", "publickey", "bsS", false, CERT_TYPE, buf_bytes(&blob));
    buf_clear(&blob);
}

static void send_certificate(struct login *l, const struct draft *d)
{
    struct buf blob = certificate(d), data = {0}, signature = {0};

    wire_put(&data, "scsssbsS", FAKE_SESSION_ID, 50, "alice", "ssh-connection", "publickey", true,
             CERT_TYPE, buf_bytes(&blob));
    fake_sign(&signature, BYTES(KEY_A), "ssh-ed25519", buf_bytes(&data));
    send_request(l, "alice", "publickey", "bsSS", true, CERT_TYPE, buf_bytes(&blob),
                 buf_bytes(&signature));
    buf_clear(&blob);
    buf_clear(&data);
    buf_clear(&signature);
}

static void begin_with(struct login *l, const char *authorized, const char *revoked)
{
    Policy__BeginAuthAnswer answer = POLICY__BEGIN_AUTH_ANSWER__INIT;
    Policy__Methods methods = POLICY__METHODS__INIT;
    Policy__AuthMethod list[] = {FAKE_PUBLICKEY};

    methods.methods = list;
    methods.n_methods = 1;
    answer.methods = &methods;
    answer.authorized_keys.data = (uint8_t *)authorized;
    answer.authorized_keys.len = strlen(authorized);
    answer.revoked_keys.data = (uint8_t *)revoked;
    answer.revoked_keys.len = strlen(revoked);
    fake_answer(l->control, RPC_BEGIN_AUTH, &answer.base);
}

static void the_authority_is_asked_about_with_every_field(void **state)
{
    struct login *l = *state;
    const Policy__ValidateCaKeyRequest *question;
    const Policy__AuthCompletedRequest *completed;
    const Policy__Factor *factor;
    struct fake_message sent;

    send_certificate_probe(l, &GOOD);
    fake_begin_both(l->control);
    question = fake_question(l->control, RPC_VALIDATE_CA_KEY);
    assert_int_equal(fake_question_flags(l->control, RPC_VALIDATE_CA_KEY), ASK_PROBE);
    assert_int_equal(question->use->phase, POLICY__KEY_PHASE__KEY_PHASE_PROBE);
    assert_string_equal(question->use->signature_algorithm, "ssh-ed25519");
    assert_string_equal(question->key->fingerprint, "SHA256:" KEY_A);
    assert_string_equal(question->ca->fingerprint, "SHA256:" CA);
    assert_string_equal(question->certificate->type, "user");
    assert_string_equal(question->certificate->principals[0], "alice");
    assert_int_equal(question->certificate->serial, 7);
    assert_int_equal(question->certificate->n_extensions, 2);
    fake_allow(l->control, RPC_VALIDATE_CA_KEY);
    expect_no_success(l);
    expect_idle(l);
    assert_true(fake_sent(l->transport, &sent) && sent.type == 60);
    send_certificate(l, &GOOD);
    assert_int_equal(fake_question_flags(l->control, RPC_VALIDATE_CA_KEY), 0);
    fake_allow(l->control, RPC_VALIDATE_CA_KEY);
    expect_success(l);
    completed = fake_question(l->control, RPC_AUTH_COMPLETED);
    factor = completed->context->passed[0];
    assert_string_equal(factor->key->fingerprint, "SHA256:" KEY_A);
    assert_string_equal(factor->certificate->ca->fingerprint, "SHA256:" CA);
    assert_true(completed->restrictions->no_x11_forwarding && !completed->restrictions->no_pty);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_PUBLIC_KEY), 0);
}

static void what_the_authority_wrote_outdoes_the_policy(void **state)
{
    static const struct draft bad[] = {
        {"bob", NULL, CA, 1, UINT32_MAX, true},       {NULL, NULL, CA, 1, UINT32_MAX, true},
        {"alice", NULL, CA, 2, UINT32_MAX, true},     {"alice", NULL, CA, 1, 1, true},
        {"alice,bob", NULL, CA, 1, UINT32_MAX, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        send_certificate_probe(l, &bad[i]);
        fake_begin_both(l->control);
        fake_allow(l->control, RPC_VALIDATE_CA_KEY);
        expect_failure(l, "publickey,password", false);
        send_certificate(l, &bad[i]);
        fake_allow(l->control, RPC_VALIDATE_CA_KEY);
        expect_failure(l, "publickey,password", false);
        expect_no_success(l);
        assert_int_equal(l->grant.count, 0);
        login_teardown(&fresh);
    }
}

static void a_forged_one_is_worth_no_question(void **state)
{
    struct login *l = *state;
    struct draft forged = GOOD;

    forged.signer = OTHER_CA;
    send_certificate_probe(l, &forged);
    fake_begin_both(l->control);
    expect_failure(l, "publickey,password", false);
    send_certificate(l, &forged);
    expect_failure(l, "publickey,password", false);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_CA_KEY), 0);
}

static void two_different_commands_refuse(void **state)
{
    struct login *l = *state;
    struct draft d = GOOD;
    Policy__Restrictions r = POLICY__RESTRICTIONS__INIT;

    d.command = "one";
    r.forced_case = POLICY__RESTRICTIONS__FORCED_FORCE_COMMAND;
    r.force_command.data = (uint8_t *)"two";
    r.force_command.len = 3;
    send_certificate(l, &d);
    fake_begin_both(l->control);
    fake_allow_with(l->control, RPC_VALIDATE_CA_KEY, &r);
    expect_failure(l, "publickey,password", false);
    assert_int_equal(l->grant.count, 0);
    send_certificate(l, &d);
    r.force_command.data = (uint8_t *)"one";
    fake_allow_with(l->control, RPC_VALIDATE_CA_KEY, &r);
    expect_success(l);
}

static void a_listed_key_asks_nobody(void **state)
{
    struct login *l = *state;

    send_probe(l, "alice", KEY_A);
    begin_with(l, "no-pty ssh-ed25519 " KEY_A_BASE64 "\n", "");
    expect_pk_ok(l, "ssh-ed25519", KEY_A);
    assert_int_equal(l->grant.count, 0);
    send_probe(l, "alice", KEY_B);
    expect_asked(l, RPC_VALIDATE_PUBLIC_KEY);
    fake_deny(l->control, RPC_VALIDATE_PUBLIC_KEY, "");
    expect_failure(l, "publickey", false);
    send_signed(l, "alice", KEY_A);
    expect_success(l);
    assert_true(grant_no_pty(&l->grant));
}

static void a_listed_authority_asks_nobody(void **state)
{
    struct login *l = *state;
    struct draft bob = GOOD;

    bob.principal = "bob";
    send_certificate(l, &bob);
    begin_with(l, "cert-authority ssh-ed25519 " CA_BASE64 "\n", "");
    expect_failure(l, "publickey", false);
    send_certificate(l, &GOOD);
    expect_success(l);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_CA_KEY), 0);
}

static void the_lists_of_one_user_are_not_the_next_ones(void **state)
{
    struct login *l = *state;

    send_probe(l, "alice", KEY_A);
    begin_with(l, "ssh-ed25519 " KEY_A_BASE64 "\n", "");
    expect_pk_ok(l, "ssh-ed25519", KEY_A);
    send_signed(l, "bob", KEY_A);
    fake_begin_both(l->control);
    expect_asked(l, RPC_VALIDATE_PUBLIC_KEY);
}

static void revoked_ones_are_worth_no_question(void **state)
{
    struct login *l = *state;

    send_certificate(l, &GOOD);
    begin_with(l, "cert-authority ssh-ed25519 " CA_BASE64 "\n", "ssh-ed25519 " CA_BASE64 "\n");
    expect_failure(l, "publickey", false);
    send_signed(l, "alice", KEY_A); /* the authority's key is revoked, not this one */
    expect_asked(l, RPC_VALIDATE_PUBLIC_KEY);
}

static void a_later_verify_required_finds_the_key(void **state)
{
    struct login *l = *state;
    Policy__Restrictions r = POLICY__RESTRICTIONS__INIT;

    r.verify_required = true;
    send_signed(l, "alice", KEY_A);
    fake_begin_both(l->control);
    fake_allow(l->control, RPC_VALIDATE_PUBLIC_KEY);
    expect_success(l);
    fake_allow_with(l->control, RPC_AUTH_COMPLETED, &r);
    expect_fault(l, 11);
    assert_int_equal(l->completed, 0);
}

/* As Supervise may tighten it. */
static void after_login_it_finds_the_key_too(void **state)
{
    struct login *l = *state;
    Policy__Restrictions r = POLICY__RESTRICTIONS__INIT;

    r.verify_required = true;
    send_signed(l, "alice", KEY_A);
    fake_begin_both(l->control);
    fake_allow(l->control, RPC_VALIDATE_PUBLIC_KEY);
    expect_success(l);
    assert_null(grant_refusal(&l->grant, "192.0.2.7"));
    grant_tighten(&l->grant, &r);
    assert_non_null(grant_refusal(&l->grant, "192.0.2.7"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        login_test(the_authority_is_asked_about_with_every_field),
        cmocka_unit_test(what_the_authority_wrote_outdoes_the_policy),
        login_test(a_forged_one_is_worth_no_question),
        login_test(two_different_commands_refuse),
        login_test(a_listed_key_asks_nobody),
        login_test(a_listed_authority_asks_nobody),
        login_test(the_lists_of_one_user_are_not_the_next_ones),
        login_test(revoked_ones_are_worth_no_question),
        login_test(a_later_verify_required_finds_the_key),
        login_test(after_login_it_finds_the_key_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
