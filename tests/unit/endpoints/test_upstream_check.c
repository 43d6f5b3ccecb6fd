/* What an answer may say of the servers on the way. */
#include "unit/cmocka_unit.h"

#include "endpoints/upstream.h"
#include "endpoints/upstream/hop.h"
#include "endpoints/upstream/link.h"
#include "fakes/transport_fake.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

static Policy__UpstreamHop hop_of(void)
{
    Policy__UpstreamHop hop = POLICY__UPSTREAM_HOP__INIT;

    hop.host = "gw.example.org";
    hop.known_hosts = (ProtobufCBinaryData){1, (uint8_t *)"#"};
    hop.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PASSWORD;
    hop.password = "tiger";
    return hop;
}

static void set_key(Policy__UpstreamHop *hop, const char *text)
{
    hop->credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PRIVATE_KEY;
    hop->private_key = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
}

static const char *check(const Policy__UpstreamHop *hop)
{
    Policy__UpstreamHop *hops[] = {(Policy__UpstreamHop *)hop};
    Policy__UpstreamEndpoint answer = POLICY__UPSTREAM_ENDPOINT__INIT;
    const char *why = NULL;
    bool ok;

    answer.n_hops = 1;
    answer.hops = hops;
    ok = endpoint_upstream_check(&answer, &why);
    assert_int_equal(ok, why == NULL);
    assert_int_equal(fake_private_keys_alive(), 0);
    return why;
}

static void what_is_whole_is_taken(void **state)
{
    Policy__UpstreamHop hop = hop_of();
    struct hop taken;
    const char *why;

    (void)state;
    assert_null(check(&hop));
    assert_true(hop_init(&taken, &hop, "alice", &why));
    assert_string_equal(taken.user, "alice");
    assert_string_equal(taken.name, "gw.example.org");
    assert_int_equal(taken.port, 22);
    assert_int_equal(taken.timeout_ms, 10000);
    hop_clear(&taken);
    hop.host = "2001:db8::1";
    hop.port = 2222;
    hop.user = "bob";
    hop.connect_timeout_s = 3;
    assert_true(hop_init(&taken, &hop, "alice", &why));
    assert_string_equal(taken.user, "bob");
    assert_string_equal(taken.name, "[2001:db8::1]:2222");
    assert_int_equal(taken.timeout_ms, 3000);
    hop_clear(&taken);
    hop_clear(&taken);
}

static void the_way_has_one_to_eight_hops(void **state)
{
    Policy__UpstreamHop hop = hop_of(), *hops[HOPS_MAX + 1];
    Policy__UpstreamEndpoint answer = POLICY__UPSTREAM_ENDPOINT__INIT;
    const char *why;

    (void)state;
    for (size_t i = 0; i <= HOPS_MAX; i++)
        hops[i] = &hop;
    answer.hops = hops;
    assert_false(endpoint_upstream_check(&answer, &why));
    answer.n_hops = HOPS_MAX;
    assert_true(endpoint_upstream_check(&answer, &why));
    answer.n_hops = HOPS_MAX + 1;
    assert_false(endpoint_upstream_check(&answer, &why));
}

static void each_hop_is_looked_at(void **state)
{
    Policy__UpstreamHop good = hop_of(), bad = hop_of(), *hops[] = {&good, &bad};
    Policy__UpstreamEndpoint answer = POLICY__UPSTREAM_ENDPOINT__INIT;
    const char *why;

    (void)state;
    bad.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL__NOT_SET;
    answer.hops = hops;
    answer.n_hops = 2;
    assert_false(endpoint_upstream_check(&answer, &why));
    assert_string_equal(why, "There is no credential for the upstream");
}

static void a_host_must_be_one(void **state)
{
    static const char *const hosts[] = {"",           "a b",   "a\tb",       "a\n",
                                        "\x7f",       "127.1", "0x7f000001", "017700000001",
                                        "2130706433", " a.b"};
    Policy__UpstreamHop hop = hop_of();
    char long_name[257] = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        hop.host = (char *)hosts[i];
        assert_non_null(check(&hop));
    }
    memset(long_name, 'a', sizeof(long_name) - 1);
    hop.host = long_name;
    assert_non_null(check(&hop));
    hop.host = "127.0.0.1";
    assert_null(check(&hop));
}

static void numbers_are_bounded(void **state)
{
    Policy__UpstreamHop hop = hop_of();

    (void)state;
    hop.port = 65536;
    assert_non_null(check(&hop));
    hop.port = 65535;
    assert_null(check(&hop));
    hop.connect_timeout_s = UINT32_MAX;
    assert_non_null(check(&hop));
    hop.connect_timeout_s = 600;
    assert_null(check(&hop));
}

static void a_user_must_be_one(void **state)
{
    Policy__UpstreamHop hop = hop_of();

    (void)state;
    hop.user = "a\nb";
    assert_non_null(check(&hop));
    hop.user = "a\x1b[0m";
    assert_non_null(check(&hop));
    hop.user = "J\xc3\xb6rg Smith";
    assert_null(check(&hop));
}

static void nothing_is_trusted_without_known_hosts(void **state)
{
    Policy__UpstreamHop hop = hop_of();

    (void)state;
    hop.known_hosts.len = 0;
    assert_string_equal(check(&hop),
                        "There is no known_hosts for the upstream: nothing else is trusted");
}

static void a_credential_is_needed(void **state)
{
    Policy__UpstreamHop hop = hop_of();
    Policy__ClientAgent agent = POLICY__CLIENT_AGENT__INIT;
    char long_one[1026] = {0};

    (void)state;
    hop.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL__NOT_SET;
    assert_non_null(check(&hop));
    hop.credential_case = 99;
    assert_non_null(check(&hop));
    hop.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PASSWORD;
    hop.password = "";
    assert_non_null(check(&hop));
    memset(long_one, 'x', sizeof(long_one) - 1);
    hop.password = long_one;
    assert_non_null(check(&hop));
    hop.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_CLIENT_AGENT;
    hop.client_agent = &agent;
    assert_null(check(&hop));
}

static void a_private_key_must_be_of_use(void **state)
{
    Policy__UpstreamHop hop = hop_of();

    (void)state;
    set_key(&hop, FAKE_PRIVATE_KEY("ssh-ed25519:a"));
    assert_null(check(&hop));
    set_key(&hop, FAKE_ENCRYPTED_KEY);
    assert_string_equal(check(&hop), "the private key is encrypted");
    set_key(&hop, "");
    assert_non_null(check(&hop));
}

static const char *check_certificate(struct bytes text)
{
    Policy__UpstreamHop hop = hop_of();

    set_key(&hop, FAKE_PRIVATE_KEY("ssh-ed25519:a"));
    hop.certificate = (ProtobufCBinaryData){text.len, (uint8_t *)text.data};
    return check(&hop);
}

/* As ssh-keygen writes it. */
static void put_line(struct buf *line, struct bytes blob)
{
    unsigned char text[1024];
    int len;

    assert_true(blob.len < sizeof(text) / 2);
    len = EVP_EncodeBlock(text, blob.data, (int)blob.len);
    buf_put(line, BYTES(FAKE_CERTIFICATE_TYPE " "));
    buf_put(line, bytes_of(text, (size_t)len));
    buf_put(line, BYTES(" a comment\n"));
}

static void a_certificate_goes_with_its_key(void **state)
{
    struct fake_certificate draft = {
        .kind = CERTIFICATE_USER, .valid_before = 1, .signer = FAKE_AUTHORITY};
    Policy__UpstreamHop hop = hop_of();
    struct buf blob = {0}, line = {0};

    (void)state;
    fake_certify(&blob, &draft);
    assert_null(check_certificate(buf_bytes(&blob)));
    put_line(&line, buf_bytes(&blob));
    assert_null(check_certificate(buf_bytes(&line)));
    line.data[line.len / 2] = '!';
    assert_non_null(check_certificate(buf_bytes(&line)));
    assert_non_null(check_certificate(BYTES("none")));
    assert_non_null(check_certificate(BYTES("ssh-ed25519 AAAA")));
    assert_non_null(check_certificate(bytes_of(blob.data, blob.len - 1)));

    set_key(&hop, FAKE_PRIVATE_KEY("ssh-ed25519:b"));
    hop.certificate = (ProtobufCBinaryData){blob.len, blob.data};
    assert_string_equal(check(&hop), "The upstream's certificate is for another key");
    hop.credential_case = POLICY__UPSTREAM_HOP__CREDENTIAL_PASSWORD;
    hop.password = "tiger";
    assert_string_equal(check(&hop), "The upstream's certificate comes without a private key");

    buf_reset(&blob);
    draft.kind = CERTIFICATE_HOST;
    fake_certify(&blob, &draft);
    assert_string_equal(check_certificate(buf_bytes(&blob)),
                        "The upstream's certificate is not a user's");
    buf_clear(&blob);
    buf_clear(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_whole_is_taken),
        cmocka_unit_test(the_way_has_one_to_eight_hops),
        cmocka_unit_test(each_hop_is_looked_at),
        cmocka_unit_test(a_host_must_be_one),
        cmocka_unit_test(numbers_are_bounded),
        cmocka_unit_test(a_user_must_be_one),
        cmocka_unit_test(nothing_is_trusted_without_known_hosts),
        cmocka_unit_test(a_credential_is_needed),
        cmocka_unit_test(a_private_key_must_be_of_use),
        cmocka_unit_test(a_certificate_goes_with_its_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
