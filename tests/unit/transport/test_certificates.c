/* OpenSSH certificates: what ssh-keygen made, and what nobody should make. The vectors are the
 * fuzzer's seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/transport/keypair.h"

#include "base/alloc.h"
#include "transport/transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ED25519_CERT "ssh-ed25519-cert-v01@openssh.com"

/* ---- vectors of ssh-keygen -s */

static struct buf vector(const char *name)
{
    char *path = xasprintf("%s/tests/fuzz/corpus/fuzz_certificate/%s", PARLEY_SOURCE_DIR, name);
    FILE *file = fopen(path, "rb");
    uint8_t data[4096];
    struct buf out = {0};

    assert_non_null(file);
    buf_put(&out, bytes_of(data, fread(data, 1, sizeof(data), file)));
    fclose(file);
    free(path);
    return out;
}

static struct certificate *parse(const struct buf *blob)
{
    const char *why;
    struct certificate *c = certificate_parse(buf_bytes(blob), &why);

    assert_true((c == NULL) == (why != NULL));
    return c;
}

static void test_vectors(void **state)
{
    static const struct {
        const char *file, *type, *key, *key_id, *principal, *algorithm, *plain;
        enum certificate_kind kind;
        size_t extensions;
    } rows[] = {
        {"ed25519-all-options", ED25519_CERT, "ssh-ed25519", "alice's key", "alice", ED25519_CERT,
         "ssh-ed25519", CERTIFICATE_USER, 7},
        {"rsa-host", "ssh-rsa-cert-v01@openssh.com", "ssh-rsa", "host", "host.example.org",
         "rsa-sha2-256-cert-v01@openssh.com", "rsa-sha2-256", CERTIFICATE_HOST, 0},
        {"ecdsa-no-extensions", "ecdsa-sha2-nistp256-cert-v01@openssh.com", "ecdsa-sha2-nistp256",
         "ec", "alice", "ecdsa-sha2-nistp256-cert-v01@openssh.com", "ecdsa-sha2-nistp256",
         CERTIFICATE_USER, 0},
        {"ecdsa521-user", "ecdsa-sha2-nistp521-cert-v01@openssh.com", "ecdsa-sha2-nistp521", "ec5",
         "alice", "ecdsa-sha2-nistp521-cert-v01@openssh.com", "ecdsa-sha2-nistp521",
         CERTIFICATE_USER, 5},
        {"sk-ed25519-user", "sk-ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com",
         "sked", "alice", "sk-ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com",
         CERTIFICATE_USER, 5},
        {"sk-ecdsa-nobody", "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
         "sk-ecdsa-sha2-nistp256@openssh.com", "skec", NULL,
         "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
         CERTIFICATE_USER, 5},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf blob = vector(rows[i].file);
        struct certificate *c = parse(&blob);

        assert_non_null(c);
        assert_true(certificate_is_claimed(buf_bytes(&blob)));
        assert_null(public_key_parse(buf_bytes(&blob)));
        assert_string_equal(c->type, rows[i].type);
        assert_string_equal(public_key_type(c->key), rows[i].key);
        assert_string_equal(c->key_id, rows[i].key_id);
        assert_int_equal(c->kind, rows[i].kind);
        assert_int_equal(c->principals_count > 0, rows[i].principal != NULL);
        if (rows[i].principal != NULL)
            assert_true(certificate_names(c, bytes_of_string(rows[i].principal)));
        assert_int_equal(c->extensions.count, rows[i].extensions);
        assert_string_equal(certificate_allows(c, bytes_of_string(rows[i].algorithm)),
                            rows[i].plain);
        assert_null(certificate_allows(c, bytes_of_string(rows[i].plain)));
        assert_null(certificate_allows(c, BYTES("ssh-rsa-cert-v01@openssh.com"))); /* SHA-1 */
        assert_true(certificate_verify(c));
        certificate_free(&c);
        buf_clear(&blob);
    }
}

static void test_every_field(void **state)
{
    struct buf blob = vector("ed25519-all-options");
    struct certificate *c = parse(&blob);
    struct bytes text;

    (void)state;
    assert_int_equal(c->serial, 42);
    assert_int_equal(c->valid_after, 1577836800);
    assert_int_equal(c->valid_before, 2208988800);
    assert_true(certificate_is_valid_at(c, 1577836800));
    assert_false(certificate_is_valid_at(c, 1577836799));
    assert_true(certificate_is_valid_at(c, 2208988799));
    assert_false(certificate_is_valid_at(c, 2208988800));
    assert_int_equal(c->principals_count, 2);
    assert_false(certificate_names(c, BYTES("alice,bob")));
    assert_false(certificate_names(c, BYTES("alic")));
    assert_false(certificate_names(c, BYTES("")));
    assert_int_equal(c->critical.count, 3);
    assert_true(certificate_option_text(certificate_option(&c->critical, "force-command"), &text));
    assert_true(bytes_are(text, "/bin/date"));
    assert_true(certificate_option_text(certificate_option(&c->critical, "source-address"), &text));
    assert_true(bytes_are(text, "192.0.2.0/24,2001:db8::/32"));
    assert_false(
        certificate_option_text(certificate_option(&c->critical, "verify-required"), &text));
    assert_non_null(certificate_option(&c->extensions, "permit-pty"));
    assert_non_null(certificate_option(&c->extensions, "no-touch-required"));
    assert_non_null(certificate_option(&c->extensions, "x-unknown@example.org"));
    assert_null(certificate_option(&c->extensions, "force-command"));
    assert_string_equal(public_key_type(c->ca), "ssh-ed25519");
    assert_true(bytes_are(c->signature_algorithm, "ssh-ed25519"));
    certificate_free(&c);
    buf_clear(&blob);
}

static void test_every_changed_byte_is_noticed(void **state)
{
    struct buf blob = vector("ed25519-all-options");
    struct certificate *c;

    (void)state;
    for (size_t i = 0; i < blob.len; i++) {
        blob.data[i] ^= 1;
        c = parse(&blob);
        assert_false(c != NULL && certificate_verify(c));
        certificate_free(&c);
        blob.data[i] ^= 1;
    }
    for (size_t len = 0; len < blob.len; len++) {
        struct buf cut = {0};

        buf_put(&cut, bytes_of(blob.data, len));
        assert_null(parse(&cut));
        buf_clear(&cut);
    }
    buf_put_u8(&blob, 0);
    assert_null(parse(&blob));
    buf_clear(&blob);
}

/* ---- certificates that ssh-keygen does not make */

struct draft {
    const char *type;
    uint32_t kind;
    struct bytes key_id, principals, critical, extensions, ca;
    const char *algorithm, *digest;
};

static struct keypair key, authority, rsa_authority;

static int make_keys(void **state)
{
    (void)state;
    key = keypair_ed25519("ssh-ed25519", NULL);
    authority = keypair_ed25519("ssh-ed25519", NULL);
    rsa_authority = keypair_rsa(2048);
    return 0;
}

static int drop_keys(void **state)
{
    (void)state;
    keypair_clear(&key);
    keypair_clear(&authority);
    keypair_clear(&rsa_authority);
    return 0;
}

static struct draft good_draft(void)
{
    return (struct draft){
        .type = ED25519_CERT,
        .kind = 1,
        .key_id = BYTES("id"),
        .principals = BYTES("\0\0\0\5alice"),
        .ca = buf_bytes(&authority.blob),
        .algorithm = "ssh-ed25519",
    };
}

static void put_u64(struct buf *out, uint64_t value)
{
    buf_put_u32(out, (uint32_t)(value >> 32));
    buf_put_u32(out, (uint32_t)value);
}

static struct buf make(const struct draft *draft, const struct keypair *signer)
{
    struct buf out = {0}, signature;

    buf_put_cstring(&out, draft->type);
    buf_put_string(&out, BYTES("a nonce"));
    buf_put_string(&out, bytes_of(key.blob.data + key.blob.len - 32, 32));
    put_u64(&out, 1);
    buf_put_u32(&out, draft->kind);
    buf_put_string(&out, draft->key_id);
    buf_put_string(&out, draft->principals);
    put_u64(&out, 0);
    put_u64(&out, UINT64_MAX);
    buf_put_string(&out, draft->critical);
    buf_put_string(&out, draft->extensions);
    buf_put_string(&out, BYTES("reserved"));
    buf_put_string(&out, draft->ca);
    signature = keypair_sign(signer, draft->algorithm, draft->digest, buf_bytes(&out), 0);
    buf_put_string(&out, buf_bytes(&signature));
    buf_clear(&signature);
    return out;
}

static struct certificate *made(const struct draft *draft, const struct keypair *signer)
{
    struct buf blob = make(draft, signer);
    struct certificate *c = parse(&blob);

    buf_clear(&blob);
    return c;
}

static bool is_accepted(const struct draft *draft, const struct keypair *signer)
{
    struct certificate *c = made(draft, signer);
    bool ok = c != NULL && certificate_verify(c);

    certificate_free(&c);
    return ok;
}

static void test_hand_made(void **state)
{
    struct draft d = good_draft();

    (void)state;
    assert_true(is_accepted(&d, &authority));
    assert_false(is_accepted(&d, &key)); /* signed by another key than it says */
    d.kind = 3;
    assert_false(is_accepted(&d, &authority));
    d.kind = 0;
    assert_false(is_accepted(&d, &authority));
    d = good_draft();
    d.type = "ssh-rsa-cert-v01@openssh.com"; /* the fields are not of that type */
    assert_false(is_accepted(&d, &authority));
    d.type = "ssh-ed25519-cert-v02@openssh.com";
    assert_false(is_accepted(&d, &authority));
}

static void test_authority_s_algorithm(void **state)
{
    struct draft d = good_draft();

    (void)state;
    d.ca = buf_bytes(&rsa_authority.blob);
    d.algorithm = "rsa-sha2-512";
    d.digest = "SHA512";
    assert_true(is_accepted(&d, &rsa_authority));
    d.digest = "SHA256"; /* says 512 */
    assert_false(is_accepted(&d, &rsa_authority));
    d.algorithm = "ssh-rsa";
    d.digest = "SHA1";
    assert_false(is_accepted(&d, &rsa_authority));
}

static void test_authority_is_no_certificate(void **state)
{
    struct draft d = good_draft();
    struct buf inner = make(&d, &authority);

    (void)state;
    d.ca = buf_bytes(&inner);
    assert_null(made(&d, &key)); /* whose key the inner one certifies */
    buf_clear(&inner);
}

static void test_weak_authority(void **state)
{
    struct keypair weak = keypair_rsa(1024);
    struct draft d = good_draft();

    (void)state;
    d.ca = buf_bytes(&weak.blob);
    d.algorithm = "rsa-sha2-512";
    d.digest = "SHA512";
    assert_null(made(&d, &weak));
    keypair_clear(&weak);
}

static void test_texts_are_clean(void **state)
{
    static const struct bytes dirty[] = {{(const uint8_t *)"a\0b", 3},
                                         {(const uint8_t *)"\xff", 1}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct buf list = {0};
        struct draft d = good_draft();

        d.key_id = dirty[i];
        assert_null(made(&d, &authority));
        d = good_draft();
        buf_put_string(&list, dirty[i]);
        d.principals = buf_bytes(&list);
        assert_null(made(&d, &authority));
        d = good_draft();
        buf_put_string(&list, BYTES(""));
        d.critical = buf_bytes(&list);
        assert_null(made(&d, &authority));
        buf_clear(&list);
    }
}

static void put_option(struct buf *list, const char *name, struct bytes data)
{
    buf_put_cstring(list, name);
    buf_put_string(list, data);
}

static void test_no_option_twice(void **state)
{
    struct buf list = {0};
    struct draft d = good_draft();

    (void)state;
    put_option(&list, "force-command", BYTES("\0\0\0\1a"));
    d.critical = d.extensions = buf_bytes(&list); /* once in each is not twice */
    assert_true(is_accepted(&d, &authority));
    put_option(&list, "a-before-f", BYTES("")); /* the order is not ours to judge */
    d.critical = buf_bytes(&list);
    d.extensions = BYTES("");
    assert_true(is_accepted(&d, &authority));
    put_option(&list, "force-command", BYTES("\0\0\0\1b"));
    d.critical = buf_bytes(&list);
    assert_null(made(&d, &authority));
    d.extensions = d.critical;
    d.critical = BYTES("");
    assert_null(made(&d, &authority));
    buf_clear(&list);
}

static void test_option_text_is_exact(void **state)
{
    static const struct {
        struct bytes data;
        bool ok;
    } rows[] = {
        {{(const uint8_t *)"\0\0\0\1a", 5}, true},   {{(const uint8_t *)"\0\0\0\0", 4}, true},
        {{(const uint8_t *)"\0\0\0\1ab", 6}, false}, {{(const uint8_t *)"\0\0\0\2a", 5}, false},
        {{(const uint8_t *)"", 0}, false},           {{(const uint8_t *)"\0\0\0", 3}, false},
        {{(const uint8_t *)"a", 1}, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct certificate_option option = {NULL, rows[i].data};
        struct bytes text;

        assert_int_equal(certificate_option_text(&option, &text), rows[i].ok);
    }
}

static void test_lists_are_bounded(void **state)
{
    struct buf principals = {0}, options = {0};
    struct draft d = good_draft();

    (void)state;
    for (int i = 0; i < 256; i++) {
        char *name = xasprintf("name-%d", i);

        buf_put_cstring(&principals, name);
        put_option(&options, name, BYTES(""));
        free(name);
    }
    d.principals = buf_bytes(&principals);
    d.extensions = buf_bytes(&options);
    assert_true(is_accepted(&d, &authority));
    buf_put_cstring(&principals, "one-more");
    d.principals = buf_bytes(&principals);
    assert_null(made(&d, &authority));
    d = good_draft();
    put_option(&options, "one-more", BYTES(""));
    d.extensions = buf_bytes(&options);
    assert_null(made(&d, &authority));
    buf_clear(&principals);
    buf_clear(&options);
}

static void test_a_comma_parts_no_name(void **state)
{
    struct draft d = good_draft();
    struct certificate *c;

    (void)state;
    d.principals = BYTES("\0\0\0\12alice,root");
    c = made(&d, &authority);
    assert_int_equal(c->principals_count, 1);
    assert_false(certificate_names(c, BYTES("root")));
    assert_false(certificate_names(c, BYTES("alice")));
    assert_true(certificate_names(c, BYTES("alice,root")));
    certificate_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_every_field),
        cmocka_unit_test(test_every_changed_byte_is_noticed),
        cmocka_unit_test(test_hand_made),
        cmocka_unit_test(test_authority_s_algorithm),
        cmocka_unit_test(test_authority_is_no_certificate),
        cmocka_unit_test(test_weak_authority),
        cmocka_unit_test(test_texts_are_clean),
        cmocka_unit_test(test_no_option_twice),
        cmocka_unit_test(test_option_text_is_exact),
        cmocka_unit_test(test_lists_are_bounded),
        cmocka_unit_test(test_a_comma_parts_no_name),
    };

    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
