/* Private keys in every form, made by ssh-keygen and OpenSSL when the test runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "transport/transport.h"

#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct bytes DATA = {(const uint8_t *)"session id and request", 22};
static char dir[] = "/tmp/private-key.XXXXXX";

/* ---- keys */

static struct buf read_file(const char *name)
{
    char *path = xasprintf("%s/%s", dir, name);
    struct buf text = {0};
    uint8_t data[16384];
    ssize_t len;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    len = read(fd, data, sizeof(data));
    assert_true(len > 0 && (size_t)len < sizeof(data));
    buf_put(&text, bytes_of(data, (size_t)len));
    close(fd);
    free(path);
    return text;
}

static void keygen(const char *arguments)
{
    char *command =
        xasprintf("cd %s && rm -f key key.pub && ssh-keygen -q -C c -f key %s", dir, arguments);

    assert_int_equal(system(command), 0);
    free(command);
}

/* The blob in key.pub. */
static struct buf public_blob(void)
{
    struct buf line = read_file("key.pub"), blob = {0};
    const uint8_t *start = memchr(line.data, ' ', line.len), *end;

    start++;
    end = memchr(start, ' ', line.len - (size_t)(start - line.data));
    assert_true(buf_put_base64(&blob, bytes_of(start, (size_t)(end - start))));
    buf_clear(&line);
    return blob;
}

static struct private_key *parse(struct bytes text)
{
    const char *why = "untouched";
    struct private_key *key = private_key_parse(text, &why);

    if (key == NULL)
        assert_non_null(why);
    else
        assert_null(why);
    return key;
}

static void expect_why(struct bytes text, const char *wanted)
{
    const char *why = NULL;

    assert_null(private_key_parse(text, &why));
    assert_string_equal(why, wanted);
}

static void signs(const struct private_key *key, const char *algorithm)
{
    const struct public_key *public_key = private_key_public(key);
    struct buf signature = {0};

    assert_true(private_key_sign(key, algorithm, DATA, &signature));
    assert_true(public_key_verify(public_key, bytes_of_string(algorithm), buf_bytes(&signature),
                                  DATA, NULL));
    buf_clear(&signature);
    assert_false(private_key_sign(key, "ssh-rsa", DATA, &signature));
    assert_false(private_key_sign(key, "", DATA, &signature));
    assert_int_equal(signature.len, 0);
}

static void works(struct bytes text, const char *algorithm)
{
    struct private_key *key = parse(text);

    assert_non_null(key);
    signs(key, algorithm);
    if (strcmp(algorithm, "rsa-sha2-512") == 0)
        signs(key, "rsa-sha2-256");
    private_key_free(&key);
    assert_null(key);
}

/* ---- what ssh-keygen makes */

static void test_of_ssh_keygen(void **state)
{
    static const struct {
        const char *arguments, *algorithm;
    } cases[] = {
        {"-t ed25519 -N ''", "ssh-ed25519"},
        {"-t ecdsa -b 256 -N ''", "ecdsa-sha2-nistp256"},
        {"-t ecdsa -b 384 -N ''", "ecdsa-sha2-nistp384"},
        {"-t ecdsa -b 521 -N ''", "ecdsa-sha2-nistp521"},
        {"-t rsa -b 2048 -N ''", "rsa-sha2-512"},
        {"-t ecdsa -b 256 -m PEM -N ''", "ecdsa-sha2-nistp256"},
        {"-t ecdsa -b 521 -m PEM -N ''", "ecdsa-sha2-nistp521"},
        {"-t rsa -b 3072 -m PEM -N ''", "rsa-sha2-512"},
        {"-t ecdsa -b 384 -m PKCS8 -N ''", "ecdsa-sha2-nistp384"},
        {"-t rsa -b 2048 -m PKCS8 -N ''", "rsa-sha2-512"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf text, blob;
        struct private_key *key;

        keygen(cases[i].arguments);
        text = read_file("key");
        blob = public_blob();
        key = parse(buf_bytes(&text));
        assert_non_null(key);
        assert_true(bytes_equal(public_key_blob(private_key_public(key)), buf_bytes(&blob)));
        private_key_free(&key);
        works(buf_bytes(&text), cases[i].algorithm);
        buf_clear(&blob);
        buf_clear(&text);
    }
}

static void test_encrypted(void **state)
{
    static const char *const cases[] = {
        "-t ed25519 -N secret",
        "-t rsa -b 2048 -m PEM -N secret",
        "-t ecdsa -b 256 -m PKCS8 -N secret",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf text;

        keygen(cases[i]);
        text = read_file("key");
        expect_why(buf_bytes(&text), "the private key is encrypted");
        buf_clear(&text);
    }
}

/* ---- what OpenSSL makes */

static struct buf pem_of(EVP_PKEY *pkey, bool traditional)
{
    BIO *out = BIO_new(BIO_s_mem());
    struct buf text = {0};
    char *data;
    long len;

    if (traditional)
        assert_int_equal(PEM_write_bio_PrivateKey_traditional(out, pkey, NULL, NULL, 0, NULL, NULL),
                         1);
    else
        assert_int_equal(PEM_write_bio_PrivateKey(out, pkey, NULL, NULL, 0, NULL, NULL), 1);
    len = BIO_get_mem_data(out, &data);
    buf_put(&text, bytes_of(data, (size_t)len));
    BIO_free(out);
    return text;
}

static void test_of_openssl(void **state)
{
    static const char *const algorithms[] = {"ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512"};
    EVP_PKEY *keys[] = {EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"),
                        EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"),
                        EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048)};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        for (int traditional = 0; traditional < (i == 0 ? 1 : 2); traditional++) {
            struct buf text = pem_of(keys[i], traditional == 1), more = {0};

            works(buf_bytes(&text), algorithms[i]);
            /* With what else can stand in such a file. */
            buf_put(&more, BYTES("Bag Attributes\n    friendlyName: x\n"
                                 "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
                                 "-----END EC PARAMETERS-----\r\n"));
            buf_put(&more, buf_bytes(&text));
            buf_put(&more, BYTES("-----BEGIN CERTIFICATE-----\n"));
            works(buf_bytes(&more), algorithms[i]);
            buf_clear(&text);
            buf_clear(&more);
        }
        EVP_PKEY_free(keys[i]);
    }
}

static void refused_key(EVP_PKEY *pkey, const char *why)
{
    struct buf text = pem_of(pkey, false);

    expect_why(buf_bytes(&text), why);
    buf_clear(&text);
    EVP_PKEY_free(pkey);
}

/* Of no use but for its size: primes would take minutes to find. */
static EVP_PKEY *rsa_of(int bits)
{
    static const char *const names[] = {
        OSSL_PKEY_PARAM_RSA_N,         OSSL_PKEY_PARAM_RSA_E,
        OSSL_PKEY_PARAM_RSA_D,         OSSL_PKEY_PARAM_RSA_FACTOR1,
        OSSL_PKEY_PARAM_RSA_FACTOR2,   OSSL_PKEY_PARAM_RSA_EXPONENT1,
        OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_COEFFICIENT1};
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *key_context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    BN_CTX *context = BN_CTX_new();
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params;
    BIGNUM *n[8];

    for (size_t i = 0; i < 8; i++)
        n[i] = BN_new();
    do {
        BN_rand(n[3], bits / 2, BN_RAND_TOP_TWO, BN_RAND_BOTTOM_ODD);
        BN_rand(n[4], bits / 2, BN_RAND_TOP_TWO, BN_RAND_BOTTOM_ODD);
    } while (BN_mod_inverse(n[7], n[4], n[3], context) == NULL);
    BN_mul(n[0], n[3], n[4], context);
    BN_set_word(n[1], 65537);
    for (size_t i = 0; i < 3; i++)
        BN_rand(n[i == 0 ? 2 : 4 + i], bits / 2 - 8, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ODD);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(OSSL_PARAM_BLD_push_BN(build, names[i], n[i]), 1);
    params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_fromdata_init(key_context);
    assert_int_equal(EVP_PKEY_fromdata(key_context, &key, EVP_PKEY_KEYPAIR, params), 1);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    EVP_PKEY_CTX_free(key_context);
    BN_CTX_free(context);
    for (size_t i = 0; i < 8; i++)
        BN_free(n[i]);
    return key;
}

/* A signature by a larger one would keep the loop for a tenth of a second and more. */
static void test_large_rsa(void **state)
{
    EVP_PKEY *largest = rsa_of(8192);
    struct buf text = pem_of(largest, false);
    struct private_key *key = parse(buf_bytes(&text));

    (void)state;
    refused_key(rsa_of(8256), "the private key is too large: RSA may have 8,192 bits");
    refused_key(rsa_of(16384), "the private key is too large: RSA may have 8,192 bits");
    assert_non_null(key);
    private_key_free(&key);
    buf_clear(&text);
    EVP_PKEY_free(largest);
}

static void test_unsupported(void **state)
{
    (void)state;
    refused_key(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024), "the private key is weak");
    refused_key(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "secp256k1"),
                "the private key is of a type that is not supported");
    refused_key(EVP_PKEY_Q_keygen(NULL, NULL, "ED448"),
                "the private key is of a type that is not supported");
    refused_key(EVP_PKEY_Q_keygen(NULL, NULL, "X25519"),
                "the private key is of a type that is not supported");
}

/* ---- what is none */

static void test_no_key(void **state)
{
    static uint8_t large[65 * 1024];
    static const char *const texts[] = {
        "",
        "\n",
        "ssh-ed25519 AAAA",
        "-----BEGIN ",
        "-----BEGIN -----",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nMAAA\n-----END RSA PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nMAAA\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nA: b\n\nMAAA\n-----END PRIVATE KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nMAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_null(parse(bytes_of_string(texts[i])));
    assert_null(parse(BYTES("\0\0\0")));
    memset(large, 'A', sizeof(large));
    expect_why(bytes_of(large, sizeof(large)), "the private key is too long");
}

static struct buf armour(const char *label, struct bytes data)
{
    struct buf text = {0};
    char *line = xcalloc(1, data.len * 2 + 8);

    EVP_EncodeBlock((unsigned char *)line, data.data, (int)data.len);
    buf_put(&text, BYTES("-----BEGIN "));
    buf_put(&text, bytes_of_string(label));
    buf_put(&text, BYTES("-----\n"));
    buf_put(&text, bytes_of_string(line));
    buf_put(&text, BYTES("\n-----END "));
    buf_put(&text, bytes_of_string(label));
    buf_put(&text, BYTES("-----\n"));
    free(line);
    return text;
}

static struct buf unarmour(struct bytes text)
{
    struct buf joined = {0}, data = {0};
    const uint8_t *at = memchr(text.data, '\n', text.len);
    const uint8_t *end = memmem(at, text.len - (size_t)(at - text.data), "-----END", 8);

    for (; at < end; at++)
        if (*at != '\n')
            buf_put_u8(&joined, *at);
    assert_true(buf_put_base64(&data, buf_bytes(&joined)));
    buf_clear(&joined);
    return data;
}

/* Cut anywhere, with any bit turned, or with more behind it: refused, or still a key that signs for
 * its own public half. */
static void damaged(const char *arguments, const char *label, const char *algorithm)
{
    struct buf text, data;

    keygen(arguments);
    text = read_file("key");
    data = unarmour(buf_bytes(&text));
    for (size_t len = 0; len < data.len; len++) {
        struct buf cut = armour(label, bytes_of(data.data, len));
        struct private_key *key = parse(buf_bytes(&cut));

        /* Without the padding, an OpenSSH key's own length would not fit. */
        assert_null(key);
        buf_clear(&cut);
    }
    for (size_t bit = 0; bit < data.len * 8; bit += 3) {
        struct buf wrong;
        struct private_key *key;

        data.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        wrong = armour(label, buf_bytes(&data));
        key = parse(buf_bytes(&wrong));
        if (key != NULL)
            signs(key, algorithm);
        private_key_free(&key);
        buf_clear(&wrong);
        data.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buf_put_u8(&data, 0);
    buf_reset(&text);
    buf_clear(&text);
    text = armour(label, buf_bytes(&data));
    assert_null(parse(buf_bytes(&text)));
    buf_clear(&text);
    buf_clear(&data);
}

static void test_damaged(void **state)
{
    (void)state;
    damaged("-t ed25519 -N ''", "OPENSSH PRIVATE KEY", "ssh-ed25519");
    damaged("-t ecdsa -b 256 -N ''", "OPENSSH PRIVATE KEY", "ecdsa-sha2-nistp256");
    damaged("-t ecdsa -b 256 -m PEM -N ''", "EC PRIVATE KEY", "ecdsa-sha2-nistp256");
    damaged("-t ecdsa -b 256 -m PKCS8 -N ''", "PRIVATE KEY", "ecdsa-sha2-nistp256");
}

/* ---- nothing is left behind */

/* The address of what `masked` hides, anywhere in what can be written to; 0: nowhere. */
static bool memory_has(const uint8_t *masked, size_t len)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    static uint8_t page[4096 + 64];
    unsigned long from, to;
    char rights[5], line[512];
    bool found = false;

    while (!found && fgets(line, sizeof(line), maps) != NULL) {
        if (sscanf(line, "%lx-%lx %4s", &from, &to, rights) != 3 || rights[1] != 'w' ||
            to - from > 64ul << 20)
            continue;
        for (; !found && from < to; from += 4096) {
            ssize_t got = pread(memory, page, 4096 + len, (off_t)from);

            for (ssize_t i = 0; i + (ssize_t)len <= got && !found; i++) {
                size_t same = 0;

                /* Our own buffer holds what it was read from. */
                if (from + (size_t)i >= (uintptr_t)page - 4096 &&
                    from + (size_t)i < (uintptr_t)page + sizeof(page))
                    continue;
                while (same < len && page[i + (ssize_t)same] == (masked[same] ^ 0xa5))
                    same++;
                found = same == len;
            }
        }
    }
    explicit_bzero(page, sizeof(page));
    fclose(maps);
    close(memory);
    return found;
}

/* 16 bytes of the private half, as they stand in it `before` bytes from its end. */
static void leaves_nothing(const char *arguments, size_t before)
{
    uint8_t masked[16];
    struct buf text, data, signature = {0};
    struct private_key *key;

    keygen(arguments);
    text = read_file("key");
    data = unarmour(buf_bytes(&text));
    for (size_t i = 0; i < sizeof(masked); i++)
        masked[i] = data.data[data.len - before + i] ^ 0xa5;
    assert_true(memory_has(masked, sizeof(masked))); /* the test sees it */
    buf_clear_secret(&data);
    key = parse(buf_bytes(&text));
    assert_non_null(key);
    buf_clear_secret(&text);
    assert_true(private_key_sign(key, public_key_type(private_key_public(key)), DATA, &signature) ||
                private_key_sign(key, "rsa-sha2-512", DATA, &signature));
    private_key_free(&key);
    assert_false(memory_has(masked, sizeof(masked)));
    buf_clear(&signature);
}

static void test_nothing_is_left(void **state)
{
    (void)state;
    leaves_nothing("-t ed25519 -N ''", 5 + 5 + 64); /* within the seed */
    leaves_nothing("-t ecdsa -b 256 -m PEM -N ''", 121 - 20);
    for (size_t before = 100; before < 900; before += 131) /* each prime, exponent, inverse */
        leaves_nothing("-t rsa -b 2048 -m PEM -N ''", before);
    leaves_nothing("-t rsa -b 2048 -N ''", 200);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    char *command = xasprintf("rm -rf %s", dir);
    int rc = system(command);

    (void)state;
    free(command);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_of_ssh_keygen), cmocka_unit_test(test_encrypted),
        cmocka_unit_test(test_of_openssl),    cmocka_unit_test(test_large_rsa),
        cmocka_unit_test(test_unsupported),   cmocka_unit_test(test_no_key),
        cmocka_unit_test(test_damaged),       cmocka_unit_test(test_nothing_is_left),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
