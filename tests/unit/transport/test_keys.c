/* Users' keys and their signatures. Keys and signatures are made here with OpenSSL, so no private
 * key is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/transport/keypair.h"

#include "transport/transport.h"

#include <stdlib.h>
#include <string.h>

static const struct bytes DATA = {(const uint8_t *)"session id and request", 22};

/* The good one passes; each flipped bit, each shorter or longer blob, other data, other algorithms
 * do not. */
static void check_pair(struct keypair p, const char *type, const char *algorithm,
                       const char *digest, uint32_t bits)
{
    struct public_key *key = public_key_parse(buf_bytes(&p.blob));
    struct buf signature = keypair_sign(&p, algorithm, digest, DATA, 1);
    struct bytes name = bytes_of_string(algorithm);

    assert_non_null(key);
    assert_string_equal(public_key_type(key), type);
    assert_int_equal(public_key_bits(key), bits);
    assert_string_equal(public_key_type_of(buf_bytes(&p.blob)), type);
    assert_true(bytes_equal(public_key_blob(key), buf_bytes(&p.blob)));
    assert_true(public_key_allows(key, name));
    assert_true(public_key_verify(key, name, buf_bytes(&signature), DATA, NULL));

    assert_false(public_key_verify(key, name, buf_bytes(&signature), BYTES("other data"), NULL));
    assert_false(
        public_key_verify(key, bytes_of_string("ssh-rsa"), buf_bytes(&signature), DATA, NULL));
    assert_false(public_key_verify(key, bytes_of(NULL, 0), buf_bytes(&signature), DATA, NULL));
    for (size_t i = 0; i < signature.len; i++) {
        signature.data[i] ^= 0x20;
        assert_false(public_key_verify(key, name, buf_bytes(&signature), DATA, NULL));
        signature.data[i] ^= 0x20;
        assert_false(public_key_verify(key, name, bytes_of(signature.data, i), DATA, NULL));
    }
    buf_put_u8(&signature, 0);
    assert_false(public_key_verify(key, name, buf_bytes(&signature), DATA, NULL));

    for (size_t i = 0; i < p.blob.len; i++) {
        assert_null(public_key_parse(bytes_of(p.blob.data, i)));
        assert_null(public_key_type_of(bytes_of(p.blob.data, i)));
    }
    buf_put_u8(&p.blob, 0);
    assert_null(public_key_parse(buf_bytes(&p.blob)));
    assert_null(public_key_type_of(buf_bytes(&p.blob)));

    buf_clear(&signature);
    public_key_free(&key);
    assert_null(key);
    keypair_clear(&p);
}

static void test_each_kind(void **state)
{
    const char *sk_ed25519 = "sk-ssh-ed25519@openssh.com";
    const char *sk_ecdsa = "sk-ecdsa-sha2-nistp256@openssh.com";

    (void)state;
    check_pair(keypair_ed25519("ssh-ed25519", NULL), "ssh-ed25519", "ssh-ed25519", NULL, 256);
    check_pair(keypair_ed25519(sk_ed25519, "ssh:"), sk_ed25519, sk_ed25519, NULL, 256);
    check_pair(keypair_ecdsa("ecdsa-sha2-nistp256", "nistp256", "P-256", NULL),
               "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", "SHA256", 256);
    check_pair(keypair_ecdsa("ecdsa-sha2-nistp384", "nistp384", "P-384", NULL),
               "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384", "SHA384", 384);
    check_pair(keypair_ecdsa("ecdsa-sha2-nistp521", "nistp521", "P-521", NULL),
               "ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521", "SHA512", 521);
    check_pair(keypair_ecdsa(sk_ecdsa, "nistp256", "P-256", "ssh:x"), sk_ecdsa, sk_ecdsa, "SHA256",
               256);
    check_pair(keypair_rsa(2048), "ssh-rsa", "rsa-sha2-512", "SHA512", 2048);
    check_pair(keypair_rsa(2048), "ssh-rsa", "rsa-sha2-256", "SHA256", 2048);
}

static void test_algorithm_must_be_the_signature_s_own(void **state)
{
    struct keypair p = keypair_rsa(2048);
    struct public_key *key = public_key_parse(buf_bytes(&p.blob));
    struct buf sha1 = keypair_sign(&p, "ssh-rsa", "SHA1", DATA, 0);
    struct buf sha256 = keypair_sign(&p, "rsa-sha2-256", "SHA256", DATA, 0);
    struct buf lie = keypair_sign(&p, "rsa-sha2-512", "SHA256", DATA, 0);

    (void)state;
    assert_false(public_key_allows(key, BYTES("ssh-rsa")));
    assert_false(public_key_verify(key, BYTES("ssh-rsa"), buf_bytes(&sha1), DATA, NULL));
    assert_false(public_key_verify(key, BYTES("rsa-sha2-512"), buf_bytes(&sha256), DATA, NULL));
    assert_false(public_key_verify(key, BYTES("rsa-sha2-512"), buf_bytes(&lie), DATA, NULL));
    assert_true(public_key_verify(key, BYTES("rsa-sha2-256"), buf_bytes(&sha256), DATA, NULL));
    buf_clear(&sha1);
    buf_clear(&sha256);
    buf_clear(&lie);
    public_key_free(&key);
    keypair_clear(&p);
}

static void test_security_key_flags(void **state)
{
    const char *type = "sk-ssh-ed25519@openssh.com";
    struct keypair p = keypair_ed25519(type, "ssh:");
    struct public_key *key = public_key_parse(buf_bytes(&p.blob));

    (void)state;
    for (uint8_t flags = 0; flags < 8; flags++) {
        struct buf signature = keypair_sign(&p, type, NULL, DATA, flags);
        struct signature_facts facts = {true, true};

        assert_true(
            public_key_verify(key, bytes_of_string(type), buf_bytes(&signature), DATA, &facts));
        assert_int_equal(facts.user_present, (flags & 1) != 0);
        assert_int_equal(facts.user_verified, (flags & 4) != 0);
        signature.data[signature.len - 5] ^= 4; /* claims another flag than was signed */
        assert_false(
            public_key_verify(key, bytes_of_string(type), buf_bytes(&signature), DATA, &facts));
        assert_false(facts.user_present || facts.user_verified);
        buf_clear(&signature);
    }
    public_key_free(&key);
    keypair_clear(&p);
}

static void test_refused_keys(void **state)
{
    struct keypair weak = keypair_rsa(1024);
    struct keypair good = keypair_ecdsa("ecdsa-sha2-nistp256", "nistp256", "P-256", NULL);
    struct keypair curve = keypair_ecdsa("ecdsa-sha2-nistp256", "nistp384", "P-256", NULL);
    struct keypair certificate = keypair_ed25519("ssh-ed25519-cert-v01@openssh.com", NULL);
    struct buf huge = {0};

    (void)state;
    assert_null(public_key_parse(buf_bytes(&weak.blob)));
    assert_null(public_key_parse(buf_bytes(&curve.blob)));
    assert_null(public_key_type_of(buf_bytes(&curve.blob)));
    assert_null(public_key_parse(buf_bytes(&certificate.blob)));
    assert_null(public_key_type_of(buf_bytes(&certificate.blob)));
    good.blob.data[good.blob.len - 1] ^= 1; /* not on the curve any more */
    assert_null(public_key_parse(buf_bytes(&good.blob)));
    buf_put_cstring(&huge, "ssh-rsa");
    buf_put_string(&huge, BYTES("\x01\x00\x01"));
    buf_put_u32(&huge, 1 << 20);
    for (int i = 0; i < 1 << 20; i++)
        buf_put_u8(&huge, 0x7f);
    assert_null(public_key_parse(buf_bytes(&huge)));
    buf_clear(&huge);
    keypair_clear(&weak);
    keypair_clear(&good);
    keypair_clear(&curve);
    keypair_clear(&certificate);
}

/* Made with ssh-keygen. */
static void test_text_forms(void **state)
{
    static const uint8_t blob[] = {0x00, 0x00, 0x00, 0x0b, 0x73, 0x73, 0x68, 0x2d, 0x65, 0x64, 0x32,
                                   0x35, 0x35, 0x31, 0x39, 0x00, 0x00, 0x00, 0x20, 0xcf, 0x0f, 0x80,
                                   0xae, 0xfc, 0x18, 0x79, 0x98, 0x8f, 0x70, 0xfe, 0xb9, 0xa0, 0x68,
                                   0x93, 0x50, 0x6d, 0x18, 0x17, 0x75, 0xb7, 0x01, 0x06, 0x8c, 0xd2,
                                   0xa9, 0x24, 0x9c, 0xbf, 0x10, 0x9a, 0x5e};
    struct public_key *key = public_key_parse(bytes_of(blob, sizeof(blob)));
    char *line = public_key_openssh(key);
    char *fingerprint = public_key_fingerprint(key);

    (void)state;
    assert_string_equal(
        line, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM8PgK78GHmYj3D+uaBok1BtGBd1twEGjNKpJJy/EJpe");
    assert_string_equal(fingerprint, "SHA256:wRGZabER0NxArlbjajLHJkICuSOKgRCG2nR98vrdnH4");
    free(line);
    free(fingerprint);
    public_key_free(&key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_kind),
        cmocka_unit_test(test_algorithm_must_be_the_signature_s_own),
        cmocka_unit_test(test_security_key_flags),
        cmocka_unit_test(test_refused_keys),
        cmocka_unit_test(test_text_forms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
