/* What is said about host key files and offers that cannot be used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "transport/transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/hostkeys.XXXXXX";
static struct loop *loop;

static char *path_of(const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static void keygen(const char *name, const char *options)
{
    char *command = xasprintf("ssh-keygen -q -C '' -f %s/%s %s </dev/null", dir, name, options);

    assert_int_equal(system(command), 0);
    free(command);
}

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL || !transport_global_init())
        return -1;
    loop = loop_new();
    keygen("ed25519", "-t ed25519 -N ''");
    keygen("second", "-t ed25519 -N ''");
    keygen("ecdsa", "-t ecdsa -b 384 -N ''");
    keygen("rsa", "-t rsa -b 2048 -N ''");
    keygen("pem", "-t rsa -b 2048 -m PEM -N ''");
    keygen("weak", "-t rsa -b 1024 -N ''");
    keygen("locked", "-t ed25519 -N secret");
    keygen("locked_pem", "-t rsa -b 2048 -m PEM -N secret");
    return 0;
}

static int tear_down(void **state)
{
    char *command = xasprintf("rm -rf %s", dir);

    (void)state;
    loop_free(&loop);
    return system(command) == 0 ? (free(command), 0) : -1;
}

/* NULL if the server could be made, else what was said. Owned. */
static char *try_with(struct transport_settings settings, const char *first, const char *second)
{
    char *a = path_of(first), *b = second ? path_of(second) : NULL, *error = NULL;
    const char *files[] = {a, b, NULL};
    struct transport_server *server;

    settings.host_key_files = files;
    server = transport_server_new(loop, &settings, &error);
    assert_true((server == NULL) == (error != NULL));
    transport_server_free(&server);
    free(a);
    free(b);
    return error;
}

static void expect(const char *first, const char *second, const char *words)
{
    char *error = try_with((struct transport_settings){0}, first, second);

    if (words == NULL) {
        assert_null(error);
        return;
    }
    assert_non_null(error);
    assert_non_null(strstr(error, words));
    assert_non_null(strstr(error, second ? second : first));
    free(error);
}

static void test_good_files(void **state)
{
    (void)state;
    expect("ed25519", NULL, NULL);
    expect("ecdsa", "rsa", NULL);
    expect("pem", "ed25519", NULL);
}

static void test_bad_files(void **state)
{
    char *file = path_of("text");
    FILE *text = fopen(file, "w");

    (void)state;
    fputs("no key at all\n", text);
    fclose(text);
    chmod(file, 0600);
    expect("text", NULL, "not an Ed25519, ECDSA or RSA private key");
    unlink(file);
    free(file);
    expect("missing", NULL, "No such file");
    expect("ed25519.pub", NULL, "readable by others");
    expect("ed25519", "second", "a second one of its type");
    expect("weak", NULL, "RSA of 1024 bits");
    expect("locked", NULL, "encrypted");
    expect("locked_pem", NULL, "encrypted");
}

static void test_mode(void **state)
{
    static const mode_t open_modes[] = {0640, 0604, 0610, 0602, 0777};
    char *file = path_of("ed25519");

    (void)state;
    for (size_t i = 0; i < sizeof(open_modes) / sizeof(open_modes[0]); i++) {
        chmod(file, open_modes[i]);
        expect("ed25519", NULL, "run chmod 600");
    }
    chmod(file, 0400);
    expect("ed25519", NULL, NULL);
    chmod(file, 0600);
    free(file);
}

static void test_not_a_file(void **state)
{
    char *file = path_of("directory");

    (void)state;
    mkdir(file, 0700);
    expect("directory", NULL, "not a regular file");
    rmdir(file);
    free(file);
}

static void expect_offer(struct transport_settings settings, const char *words)
{
    char *error = try_with(settings, "ed25519", NULL);

    if (words == NULL) {
        assert_null(error);
    } else {
        assert_non_null(error);
        assert_non_null(strstr(error, words));
    }
    free(error);
}

static void test_offers(void **state)
{
    (void)state;
    expect_offer((struct transport_settings){.kex = "curve25519-sha256"}, NULL);
    expect_offer((struct transport_settings){.kex = "diffie-hellman-group1-sha1"},
                 "diffie-hellman-group1-sha1 is unknown");
    expect_offer((struct transport_settings){.kex = "curve25519-sha256,,"}, "is unknown");
    expect_offer((struct transport_settings){.kex = ""}, "no key exchange method");
    expect_offer((struct transport_settings){.ciphers = "aes128-ctr,aes128-cbc"}, "aes128-cbc");
    expect_offer((struct transport_settings){.macs = "hmac-sha1"}, "hmac-sha1");
    expect_offer((struct transport_settings){.host_key_algorithms = "ssh-rsa"}, "ssh-rsa");
    expect_offer((struct transport_settings){.host_key_algorithms = "rsa-sha2-512"},
                 "no host key fits");
    expect_offer((struct transport_settings){.version_comment = "Example"}, NULL);
    expect_offer((struct transport_settings){.version_comment = "two\nlines"}, "version comment");
    expect_offer((struct transport_settings){.version_comment = ""}, "version comment");
}

static void test_no_file(void **state)
{
    struct transport_settings settings = {0};
    char *error = NULL;

    (void)state;
    assert_null(transport_server_new(loop, &settings, &error));
    assert_non_null(strstr(error, "no host key"));
    free(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_files), cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_mode),       cmocka_unit_test(test_not_a_file),
        cmocka_unit_test(test_offers),     cmocka_unit_test(test_no_file),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
