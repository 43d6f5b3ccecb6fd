/* RFC 4252 section 9: a host vouches for its user. */
#include "login.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <time.h>

#define HOST_KEY  "ssh-ed25519:host"
#define OTHER_KEY "ssh-ed25519:other"
#define CA_KEY    "ssh-ed25519:ca"
#define CERT_TYPE "ssh-ed25519-cert-v01@openssh.com"
#define REQUEST   50

/* A request as an honest host makes it; the tests spoil one thing each. */
struct vouch {
    const char *user, *algorithm, *host, *client_user;
    struct bytes blob;
    /* the signature: by whom, and over which names, if not the same */
    const char *signer, *signed_user, *signed_host, *signed_client_user, *signed_algorithm;
};

static const struct vouch honest = {
    .user = "alice",
    .algorithm = "ssh-ed25519",
    .host = LOGIN_HOST ".",
    .client_user = "alice",
    .signer = HOST_KEY,
};

static struct bytes blob_of(const struct vouch *v)
{
    return v->blob.len > 0 ? v->blob : BYTES(HOST_KEY);
}

static void vouch(struct login *l, const struct vouch *v)
{
    const char *user = v->signed_user ? v->signed_user : v->user;
    const char *host = v->signed_host ? v->signed_host : v->host;
    const char *client_user = v->signed_client_user ? v->signed_client_user : v->client_user;
    const char *algorithm = v->signed_algorithm ? v->signed_algorithm : v->algorithm;
    struct buf data = {0}, signature = {0};

    wire_put(&data, "scssssSss", FAKE_SESSION_ID, REQUEST, user, "ssh-connection", "hostbased",
             algorithm, blob_of(v), host, client_user);
    fake_sign(&signature, bytes_of_string(v->signer), "ssh-ed25519", buf_bytes(&data));
    send_request(l, v->user, "hostbased", "sSssS", v->algorithm, blob_of(v), v->host,
                 v->client_user, buf_bytes(&signature));
    buf_clear(&data);
    buf_clear(&signature);
}

static void begin(struct login *l)
{
    fake_begin(l->control, (Policy__AuthMethod[]){POLICY__AUTH_METHOD__AUTH_METHOD_HOSTBASED,
                                                  FAKE_PASSWORD, 0});
}

static void refused(struct login *l)
{
    expect_failure(l, "hostbased,password", false);
    expect_no_success(l);
    expect_idle(l);
}

/* Up to the question about the user. */
static void vouch_and_prove(struct login *l, const struct vouch *v)
{
    vouch(l, v);
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    expect_asked(l, RPC_VALIDATE_HOST_PUBLIC_KEY);
    fake_allow(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY);
}

static void a_host_vouches_for_its_user(void **state)
{
    struct login *l = *state;
    const Policy__ValidateHostKeyRequest *about_key;
    const Policy__ValidateHostBasedUserRequest *about_user;
    const Policy__AuthCompletedRequest *completed;
    const Policy__Factor *factor;

    vouch(l, &honest);
    begin(l);
    expect_idle(l); /* the name is looked up first */
    fake_help(l->helpers, HELPER_DONE);
    about_key = fake_question(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY);
    assert_string_equal(about_key->resolved_host, LOGIN_HOST);
    assert_string_equal(about_key->claimed_host, LOGIN_HOST);
    assert_string_equal(about_key->key->openssh, "ssh-ed25519 " HOST_KEY);
    assert_null(about_key->certificate);
    assert_int_equal(fake_question_flags(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY), ASK_PROBE);
    fake_allow(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY);
    expect_asked(l, RPC_VALIDATE_HOST_BASED_USER);
    about_user = fake_question(l->control, RPC_VALIDATE_HOST_BASED_USER);
    assert_string_equal(about_user->resolved_host, LOGIN_HOST);
    assert_string_equal(about_user->claimed_host, LOGIN_HOST);
    assert_string_equal(about_user->client_user, "alice");
    assert_int_equal(fake_question_flags(l->control, RPC_VALIDATE_HOST_BASED_USER), 0);
    expect_no_success(l);
    fake_allow(l->control, RPC_VALIDATE_HOST_BASED_USER);
    expect_success(l);
    completed = fake_question(l->control, RPC_AUTH_COMPLETED);
    assert_int_equal(completed->context->n_passed, 1);
    factor = completed->context->passed[0];
    assert_int_equal(factor->method, POLICY__AUTH_METHOD__AUTH_METHOD_HOSTBASED);
    assert_string_equal(factor->key->openssh, "ssh-ed25519 " HOST_KEY);
    assert_string_equal(factor->client_host, LOGIN_HOST);
    assert_string_equal(factor->client_user, "alice");
}

/* The signature covers every name; a change of any of them is found, and the user never asked
 * about. */
static void a_signature_is_good_for_exactly_this(void **state)
{
    const struct vouch spoilt[] = {
        {.signer = OTHER_KEY},
        {.signed_user = "root"},
        {.signed_host = "other.example."},
        {.signed_host = LOGIN_HOST},
        {.signed_client_user = "root"},
        {.signed_algorithm = "rsa-sha2-512"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(spoilt) / sizeof(spoilt[0]); i++) {
        struct vouch v = honest;
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        v.signed_user = spoilt[i].signed_user;
        v.signed_host = spoilt[i].signed_host;
        v.signed_client_user = spoilt[i].signed_client_user;
        v.signed_algorithm = spoilt[i].signed_algorithm;
        v.signer = spoilt[i].signer ? spoilt[i].signer : honest.signer;
        vouch_and_prove(l, &v);
        refused(l);
        assert_int_equal(fake_asked(l->control, RPC_VALIDATE_HOST_BASED_USER), 0);
        login_teardown(&fresh);
    }
}

static void without_a_yes_about_the_host_nobody_goes_on(void **state)
{
    static const enum outcome outcomes[] = {ABSENT, UNAVAILABLE, EXPIRED};
    struct login *l = *state;

    vouch(l, &honest);
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    fake_deny(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY, "not ours");
    expect_banner(l, "not ours\r\n");
    refused(l);
    for (size_t i = 0; i < 3; i++) {
        vouch(l, &honest);
        assert_int_equal(fake_jobs(l->helpers), 0); /* the name is known by now */
        fake_fail(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY, outcomes[i]);
        if (outcomes[i] != ABSENT)
            expect_banner(l, "Login is not possible now: the policy service gave no answer.\r\n");
        refused(l);
    }
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_HOST_BASED_USER), 0);
}

static void the_users_default_is_equal_names(void **state)
{
    struct login *l = *state;
    struct vouch v = honest;

    v.client_user = "mallory";
    vouch_and_prove(l, &v);
    fake_fail(l->control, RPC_VALIDATE_HOST_BASED_USER, ABSENT);
    refused(l);
    v.client_user = "Alice";
    vouch(l, &v);
    fake_allow(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY);
    fake_fail(l->control, RPC_VALIDATE_HOST_BASED_USER, ABSENT);
    refused(l);
    vouch(l, &honest);
    fake_allow(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY);
    fake_fail(l->control, RPC_VALIDATE_HOST_BASED_USER, UNAVAILABLE); /* no answer is no default */
    expect_banner(l, "Login is not possible now: the policy service gave no answer.\r\n");
    refused(l);
    vouch(l, &honest);
    fake_allow(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY);
    fake_fail(l->control, RPC_VALIDATE_HOST_BASED_USER, ABSENT);
    expect_success(l);
}

static void a_policy_may_allow_another_user(void **state)
{
    struct login *l = *state;
    struct vouch v = honest;

    v.client_user = "mallory";
    vouch_and_prove(l, &v);
    fake_allow(l->control, RPC_VALIDATE_HOST_BASED_USER);
    expect_success(l);
}

static void a_host_that_claims_another_name_is_refused(void **state)
{
    static const char *const names[] = {"other.example", "client.example.evil", "client",
                                        "192.0.2.7", "client.example.."};
    struct login *l = *state;

    for (size_t i = 0; i < 5; i++) {
        struct vouch v = honest;

        v.host = names[i];
        vouch(l, &v);
        if (i == 0) {
            begin(l);
            fake_help(l->helpers, HELPER_DONE);
        }
        refused(l);
    }
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY), 0);
}

static void host_names_have_no_case(void **state)
{
    struct login *l = *state;
    struct vouch v = honest;

    v.host = "Client.EXAMPLE";
    vouch_and_prove(l, &v);
    fake_allow(l->control, RPC_VALIDATE_HOST_BASED_USER);
    expect_success(l);
}

static void a_claim_is_trusted_only_if_configured(void **state)
{
    struct login *l = *state;
    struct vouch v = honest;
    const Policy__AuthCompletedRequest *completed;
    const Policy__ValidateHostBasedUserRequest *about_user;

    login_configure(l, true, NULL);
    v.host = "other.example.";
    vouch_and_prove(l, &v);
    about_user = fake_question(l->control, RPC_VALIDATE_HOST_BASED_USER);
    assert_string_equal(about_user->resolved_host, LOGIN_HOST);
    assert_string_equal(about_user->claimed_host, "other.example");
    fake_allow(l->control, RPC_VALIDATE_HOST_BASED_USER);
    expect_success(l);
    completed = fake_question(l->control, RPC_AUTH_COMPLETED);
    assert_string_equal(completed->context->passed[0]->client_host, "other.example");
}

static void a_peer_without_a_name_is_its_address(void **state)
{
    struct login *l = *state;
    struct vouch v = honest;
    const Policy__ValidateHostKeyRequest *about_key;

    vouch(l, &v);
    begin(l);
    fake_help(l->helpers, HELPER_EXPIRED);
    refused(l); /* it claims a name */
    v.host = "192.0.2.7";
    vouch(l, &v);
    about_key = fake_question(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY);
    assert_string_equal(about_key->resolved_host, "192.0.2.7");
    fake_deny(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY, "");
    refused(l);
}

static void what_cannot_be_vouched_with_reaches_nobody(void **state)
{
    struct login *l = *state;
    const struct vouch bad[] = {
        {.blob = BYTES("nonsense")},
        {.blob = BYTES("sk-ssh-ed25519@openssh.com:h"), .algorithm = "sk-ssh-ed25519@openssh.com"},
        {.algorithm = "rsa-sha2-512"},
        {.algorithm = "ssh-rsa", .blob = BYTES("ssh-rsa:h")},
        {.host = ""},
        {.host = "."},
        {.host = "\xff\xfe"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct vouch v = honest;

        if (bad[i].algorithm != NULL)
            v.algorithm = bad[i].algorithm;
        if (bad[i].host != NULL)
            v.host = bad[i].host;
        v.blob = bad[i].blob;
        if (i % 5 == 0) {
            login_teardown(state);
            login_setup(state);
            l = *state;
        }
        vouch(l, &v);
        if (i % 5 == 0)
            begin(l);
        refused(l);
        assert_int_equal(fake_jobs(l->helpers), 0);
    }
}

static void a_malformed_request_ends_the_connection(void **state)
{
    struct login *l = *state;

    send_request(l, "alice", "hostbased", "sSss", "ssh-ed25519", BYTES(HOST_KEY), "h", "u");
    begin(l);
    expect_fault(l, 2);
}

static void a_revocation_concerns_hosts_too(void **state)
{
    struct login *l = *state;
    Policy__BeginAuthAnswer answer = POLICY__BEGIN_AUTH_ANSWER__INIT;
    Policy__Methods methods = POLICY__METHODS__INIT;

    methods.methods =
        (Policy__AuthMethod[]){POLICY__AUTH_METHOD__AUTH_METHOD_HOSTBASED, FAKE_PASSWORD};
    methods.n_methods = 2;
    answer.methods = &methods;
    answer.revoked_keys = (ProtobufCBinaryData){8, (uint8_t *)"garbage!"};
    vouch(l, &honest);
    fake_answer(l->control, RPC_BEGIN_AUTH, &answer.base);
    refused(l);
}

static void not_offered_means_no_look_up(void **state)
{
    struct login *l = *state;

    vouch(l, &honest);
    fake_begin(l->control, (Policy__AuthMethod[]){FAKE_PASSWORD, 0});
    expect_failure(l, "password", false);
    expect_idle(l);
    assert_int_equal(fake_jobs(l->helpers), 0);
}

static void the_end_of_a_connection_cancels_the_look_up(void **state)
{
    struct login *l = *state;

    vouch(l, &honest);
    begin(l);
    assert_int_equal(fake_jobs(l->helpers), 1);
    auth_free(&l->auth);
    assert_int_equal(fake_jobs(l->helpers), 0);
}

/* ---- both answers count */

static void what_the_first_answer_restricts_holds(void **state)
{
    struct login *l = *state;
    Policy__Restrictions first = POLICY__RESTRICTIONS__INIT, second = POLICY__RESTRICTIONS__INIT;

    first.no_pty = true;
    second.forced_case = POLICY__RESTRICTIONS__FORCED_FORCE_COMMAND;
    second.force_command = (ProtobufCBinaryData){4, (uint8_t *)"true"};
    vouch(l, &honest);
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    fake_allow_with(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY, &first);
    assert_int_equal(l->grant.count, 0); /* not before the whole is good */
    fake_allow_with(l->control, RPC_VALIDATE_HOST_BASED_USER, &second);
    expect_success(l);
    assert_int_equal(l->grant.count, 2);
    assert_true(grant_no_pty(&l->grant));
}

static void what_a_refused_host_was_granted_is_forgotten(void **state)
{
    struct login *l = *state;
    Policy__Restrictions first = POLICY__RESTRICTIONS__INIT;

    first.no_pty = true;
    vouch(l, &honest);
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    fake_allow_with(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY, &first);
    fake_deny(l->control, RPC_VALIDATE_HOST_BASED_USER, "");
    refused(l);
    send_password(l, "alice", "secret");
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_success(l);
    assert_false(grant_no_pty(&l->grant));
}

static void the_first_answers_lifetime_counts(void **state)
{
    struct login *l = *state;

    vouch(l, &honest);
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    fake_allow_for(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY, 1000);
    fake_allow(l->control, RPC_VALIDATE_HOST_BASED_USER);
    expect_success(l);
    assert_true(l->grant.expires_at_ms != 0);
}

static void a_host_that_is_half_the_way_needs_the_other_half(void **state)
{
    struct login *l = *state;

    vouch(l, &honest);
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    fake_partial(l->control, RPC_VALIDATE_HOST_PUBLIC_KEY, FAKE_PASSWORD, NULL);
    fake_allow(l->control, RPC_VALIDATE_HOST_BASED_USER);
    expect_failure(l, "password", true);
    expect_no_success(l);
    send_password(l, "alice", "secret");
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    expect_success(l);
}

/* ---- certificates */

struct cert {
    uint32_t kind;
    const char *principal;
    uint64_t after, before;
    const char *critical; /* name of one */
    const char *signer;
};

static void put_u64(struct buf *out, uint64_t value)
{
    buf_put_u32(out, (uint32_t)(value >> 32));
    buf_put_u32(out, (uint32_t)value);
}

static struct buf certificate_blob(const struct cert *c)
{
    struct buf out = {0}, list = {0}, signature = {0};

    wire_put(&out, "sss", CERT_TYPE, "nonce", "host");
    put_u64(&out, 7);
    buf_put_u32(&out, c->kind);
    buf_put_cstring(&out, "key id");
    if (c->principal != NULL)
        buf_put_cstring(&list, c->principal);
    buf_put_string(&out, buf_bytes(&list));
    put_u64(&out, c->after);
    put_u64(&out, c->before);
    buf_reset(&list);
    if (c->critical != NULL)
        wire_put(&list, "ss", c->critical, "");
    buf_put_string(&out, buf_bytes(&list));
    wire_put(&out, "ss", "", "");
    buf_put_cstring(&out, CA_KEY);
    fake_sign(&signature, bytes_of_string(c->signer), "ssh-ed25519", buf_bytes(&out));
    buf_put_string(&out, buf_bytes(&signature));
    buf_clear(&list);
    buf_clear(&signature);
    return out;
}

static struct cert good_certificate(void)
{
    uint64_t now = (uint64_t)time(NULL);

    return (struct cert){2, LOGIN_HOST, now - 1000, now + 1000, NULL, CA_KEY};
}

static void vouch_with(struct login *l, const struct cert *c)
{
    struct buf blob = certificate_blob(c);
    struct vouch v = honest;

    v.algorithm = CERT_TYPE;
    v.blob = buf_bytes(&blob);
    vouch(l, &v);
    buf_clear(&blob);
}

static void a_host_certificate_names_its_authority(void **state)
{
    struct login *l = *state;
    struct cert good = good_certificate();
    const Policy__ValidateHostKeyRequest *about;
    const Policy__AuthCompletedRequest *completed;

    vouch_with(l, &good);
    begin(l);
    fake_help(l->helpers, HELPER_DONE);
    expect_asked(l, RPC_VALIDATE_HOST_CA_KEY);
    about = fake_question(l->control, RPC_VALIDATE_HOST_CA_KEY);
    assert_string_equal(about->key->openssh, "ssh-ed25519 " CA_KEY);
    assert_string_equal(about->certificate->type, "host");
    assert_string_equal(about->certificate->principals[0], LOGIN_HOST);
    assert_string_equal(about->resolved_host, LOGIN_HOST);
    fake_allow(l->control, RPC_VALIDATE_HOST_CA_KEY);
    fake_allow(l->control, RPC_VALIDATE_HOST_BASED_USER);
    expect_success(l);
    completed = fake_question(l->control, RPC_AUTH_COMPLETED);
    assert_string_equal(completed->context->passed[0]->key->openssh, "ssh-ed25519 " HOST_KEY);
    assert_non_null(completed->context->passed[0]->certificate);
}

static void a_trusted_authority_is_not_enough(void **state)
{
    struct cert good = good_certificate();
    struct cert bad[7];

    (void)state;
    for (size_t i = 0; i < 7; i++)
        bad[i] = good;
    bad[0].kind = 1; /* a user's */
    bad[1].principal = "other.example";
    bad[2].principal = NULL;
    bad[3].before = bad[3].after + 1;
    bad[4].after = good.before - 1;
    bad[5].critical = "verify-required";
    bad[6].principal = "*.example";
    for (size_t i = 0; i < 7; i++) {
        struct login *l;
        void *fresh;

        login_setup(&fresh);
        l = fresh;
        vouch_with(l, &bad[i]);
        begin(l);
        fake_help(l->helpers, HELPER_DONE);
        fake_allow(l->control, RPC_VALIDATE_HOST_CA_KEY);
        refused(l);
        assert_int_equal(fake_asked(l->control, RPC_VALIDATE_HOST_BASED_USER), 0);
        login_teardown(&fresh);
    }
}

static void a_forged_certificate_reaches_nobody(void **state)
{
    struct login *l = *state;
    struct cert forged = good_certificate();

    forged.signer = HOST_KEY;
    vouch_with(l, &forged);
    begin(l);
    refused(l);
    assert_int_equal(fake_asked(l->control, RPC_VALIDATE_HOST_CA_KEY), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        login_test(a_host_vouches_for_its_user),
        login_test(a_signature_is_good_for_exactly_this),
        login_test(without_a_yes_about_the_host_nobody_goes_on),
        login_test(the_users_default_is_equal_names),
        login_test(a_policy_may_allow_another_user),
        login_test(a_host_that_claims_another_name_is_refused),
        login_test(host_names_have_no_case),
        login_test(a_claim_is_trusted_only_if_configured),
        login_test(a_peer_without_a_name_is_its_address),
        login_test(what_cannot_be_vouched_with_reaches_nobody),
        login_test(a_malformed_request_ends_the_connection),
        login_test(a_revocation_concerns_hosts_too),
        login_test(not_offered_means_no_look_up),
        login_test(the_end_of_a_connection_cancels_the_look_up),
        login_test(what_the_first_answer_restricts_holds),
        login_test(what_a_refused_host_was_granted_is_forgotten),
        login_test(the_first_answers_lifetime_counts),
        login_test(a_host_that_is_half_the_way_needs_the_other_half),
        login_test(a_host_certificate_names_its_authority),
        login_test(a_trusted_authority_is_not_enough),
        login_test(a_forged_certificate_reaches_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
