/* Whose server it is: nothing is sent to one that is not who it should be. */
#include "unit/endpoints/link_world.h"

#include "base/alloc.h"

#include <stdlib.h>

/* Nothing is sent to who is not who he should be, and it is said who he is. */
static void expect_mistrust(struct link_world *w, const char *key, const char *words)
{
    struct link_user user = {0};
    struct transport *t;

    w->first.known_hosts = (ProtobufCBinaryData){w->known_hosts.len, w->known_hosts.data};
    link_user_begin(w, &user, &w->answer);
    t = link_world_reached(w);
    link_world_trust(t, key);
    assert_int_equal(fake_sent_waiting(t), 0);
    assert_int_equal(fake_disconnected(t).code, 9);
    link_world_turn(w);
    assert_int_equal(fake_sent_waiting(t), 0);
    link_user_expect_failed(&user, link_world_words(w, words));
    fake_flush_disconnect(t);
    link_world_turn(w);
    assert_int_equal(fake_transports_alive(), 0);
}

static void a_wrong_host_key_gets_nothing(void **state)
{
    struct link_world *w = *state;
    char *name = xasprintf("[127.0.0.1]:%u", (unsigned)w->port);

    expect_mistrust(
        w, "ssh-ed25519:evil",
        "the host key is not the one that is known (ssh-ed25519 SHA256:ssh-ed25519:evil)");
    expect_mistrust(w, "ssh-rsa:evil", "the host key is not known (ssh-rsa SHA256:ssh-rsa:evil)");
    expect_mistrust(w, "garbage", "the host key is not known (a key that cannot be read)");
    expect_mistrust(w, "", "the host key is not known (a key that cannot be read)");
    link_world_put_host(&w->known_hosts, "@revoked ", name, HOST_KEY);
    expect_mistrust(w, HOST_KEY, "the host key is revoked (ssh-ed25519 SHA256:ssh-ed25519:host)");
    buf_reset(&w->known_hosts);
    link_world_put_host(&w->known_hosts, "", "127.0.0.1", HOST_KEY);
    expect_mistrust(w, HOST_KEY, "the host key is not known (ssh-ed25519 SHA256:ssh-ed25519:host)");
    buf_reset(&w->known_hosts);
    buf_put(&w->known_hosts, BYTES("# nobody\n"));
    expect_mistrust(w, HOST_KEY, "the host key is not known (ssh-ed25519 SHA256:ssh-ed25519:host)");
    free(name);
}

static void put_host_certificate(struct buf *out, const char *principal, uint32_t valid_before)
{
    struct buf principals = {0};
    struct fake_certificate draft = {
        .kind = CERTIFICATE_HOST, .valid_before = valid_before, .signer = FAKE_AUTHORITY};

    buf_put_cstring(&principals, principal);
    draft.principals = buf_bytes(&principals);
    fake_certify(out, &draft);
    buf_clear(&principals);
}

static void expect_certificate(struct link_world *w, const char *principal, uint32_t valid_before,
                               const char *words)
{
    struct link_user user = {0};
    struct buf blob = {0};
    struct transport *t;

    put_host_certificate(&blob, principal, valid_before);
    link_user_begin(w, &user, &w->answer);
    t = link_world_reached(w);
    assert_memory_equal(fake_host_key_algorithms(t), FAKE_CERTIFICATE_TYPE ",", 33);
    fake_set_host_key(t, buf_bytes(&blob));
    fake_exchange_keys(t);
    link_world_turn(w);
    if (words == NULL) {
        assert_true(fake_sent_is(t, 5, "s", "ssh-userauth"));
        link_user_clear(&user);
    } else {
        assert_int_equal(fake_sent_waiting(t), 0);
        link_user_expect_failed(&user, link_world_words(w, words));
    }
    link_world_turn(w);
    fake_flush_disconnect(t);
    link_world_turn(w);
    buf_clear(&blob);
}

static void a_host_certificate_must_be_good(void **state)
{
    struct link_world *w = *state;

    buf_reset(&w->known_hosts);
    link_world_put_host(&w->known_hosts, "@cert-authority ", "*", FAKE_AUTHORITY);
    w->first.known_hosts = (ProtobufCBinaryData){w->known_hosts.len, w->known_hosts.data};
    expect_certificate(w, "127.0.0.1", UINT32_MAX, NULL);
    expect_certificate(w, "other.example.org", UINT32_MAX,
                       "its certificate is not for this name (" FAKE_CERTIFICATE_TYPE
                       " SHA256:ssh-ed25519:a)");
    expect_certificate(w, "127.0.0.1", 1,
                       "its certificate is not valid now (" FAKE_CERTIFICATE_TYPE
                       " SHA256:ssh-ed25519:a)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_wrong_host_key_gets_nothing, link_world_set_up,
                                        link_world_tear_down),
        cmocka_unit_test_setup_teardown(a_host_certificate_must_be_good, link_world_set_up,
                                        link_world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
