/* A server's proof of its host key: what was agreed on, what is shown and what has signed must fit.
 * Then certificates as a whole, where there is an sshd to show one. */
#include "unit/transport/ends.h"

#include <fcntl.h>
#include <sys/wait.h>

static const uint8_t exchange_hash[32] = {1, 2, 3};

enum { HOST_ED25519, HOST_ECDSA, HOST_RSA, HOSTS };

static const char *const key_names[] = {"ed25519", "ecdsa", "rsa"};

static struct host {
    struct private_key *key;
    struct buf certificate;
} hosts[HOSTS];

/* ---- keys, and an authority that signs them */

static char *in_dir(const char *name, const char *suffix)
{
    return xasprintf("%s/%s%s", key_dir, name, suffix);
}

static struct buf read_whole(char *path)
{
    struct buf text = {0};
    uint8_t data[8192];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = read(fd, data, sizeof(data));

    assert_true(len > 0);
    buf_put(&text, bytes_of(data, (size_t)len));
    close(fd);
    free(path);
    return text;
}

static void load_host(struct host *host, const char *name)
{
    struct buf text = read_whole(in_dir(name, ""));
    const char *why, *start, *end;

    host->key = private_key_parse(buf_bytes(&text), &why);
    assert_non_null(host->key);
    buf_clear_secret(&text);
    text = read_whole(in_dir(name, "-cert.pub"));
    buf_put_u8(&text, 0);
    start = strchr((char *)text.data, ' ') + 1;
    end = strchr(start, ' ');
    assert_true(buf_put_base64(&host->certificate, bytes_of(start, (size_t)(end - start))));
    buf_clear(&text);
}

static int set_up(void **state)
{
    char *command;
    int rc = pairs_set_up(state);

    command = xasprintf("cd %s && ssh-keygen -q -t ed25519 -N '' -f ca && for t in ed25519 ecdsa "
                        "rsa; do ssh-keygen -q -t $t -N '' -C c -f $t && ssh-keygen -q -s ca -I id "
                        "-h -n host.example $t.pub; done",
                        key_dir);
    rc = rc != 0 ? rc : system(command);
    free(command);
    for (int i = 0; rc == 0 && i < HOSTS; i++)
        load_host(&hosts[i], key_names[i]);
    return rc;
}

static int tear_down(void **state)
{
    char *command = xasprintf("rm -f %s/*", key_dir);
    int rc = system(command);

    free(command);
    for (int i = 0; i < HOSTS; i++) {
        private_key_free(&hosts[i].key);
        buf_clear(&hosts[i].certificate);
    }
    return rc != 0 ? rc : pairs_tear_down(state);
}

/* ---- as libssh would show it to proof.c */

struct shown {
    struct bytes blob;
    const struct private_key *signer;
    const char *algorithm; /* it signs with */
    const uint8_t *hash;   /* and over */
};

static struct buf reply_of(const struct shown *shown)
{
    struct buf reply = {0}, signature = {0};

    assert_true(
        private_key_sign(shown->signer, shown->algorithm, bytes_of(shown->hash, 32), &signature));
    buf_put_string(&reply, shown->blob);
    buf_put_cstring(&reply, "the server's value");
    buf_put_string(&reply, buf_bytes(&signature));
    buf_clear(&signature);
    return reply;
}

/* NULL if it is taken, or why not. Owned. */
static char *refusal(struct transport_server *worker, const char *agreed, const struct shown *shown)
{
    struct buf reply = reply_of(shown);
    struct ssh_crypto_struct *crypto;
    char *why = NULL;
    struct ends e;

    ends_open_half(&e, worker, "ssh-ed25519");
    crypto = e.client.transport->session->next_crypto;
    crypto->kex_methods[SSH_HOSTKEYS] = xstrdup(agreed);
    crypto->secret_hash = xmemdup(exchange_hash, sizeof(exchange_hash));
    crypto->digest_len = sizeof(exchange_hash);
    if (!proof_read(e.client.transport, buf_bytes(&reply)) || !proof_check(e.client.transport)) {
        assert_false(transport_is_open(e.client.transport));
        wait_for(&e, e.client.ends == 1);
        assert_int_equal(e.client.end.code, SSH2_DISCONNECT_KEY_EXCHANGE_FAILED);
        why = xstrdup(e.client.reason);
    } else {
        assert_true(bytes_equal(buf_bytes(&e.client.transport->client->host_key), shown->blob));
        assert_int_equal(transport_host_key_used(e.client.transport).len, 0); /* not yet */
    }
    e.worker = NULL;
    ends_close(&e);
    buf_clear(&reply);
    return why;
}

static struct bytes plain_blob(int key)
{
    return public_key_blob(private_key_public(hosts[key].key));
}

/* Each algorithm with each key, plain and certified, and each signature: taken only where all
 * three belong together. */
static void test_what_fits(void **state)
{
    static const struct {
        const char *agreed;
        int key;
        bool certified;
        const char *signature;
    } good[] = {
        {"ssh-ed25519", HOST_ED25519, false, "ssh-ed25519"},
        {"ecdsa-sha2-nistp256", HOST_ECDSA, false, "ecdsa-sha2-nistp256"},
        {"rsa-sha2-512", HOST_RSA, false, "rsa-sha2-512"},
        {"rsa-sha2-256", HOST_RSA, false, "rsa-sha2-256"},
        {"ssh-ed25519-cert-v01@openssh.com", HOST_ED25519, true, "ssh-ed25519"},
        {"ecdsa-sha2-nistp256-cert-v01@openssh.com", HOST_ECDSA, true, "ecdsa-sha2-nistp256"},
        {"rsa-sha2-512-cert-v01@openssh.com", HOST_RSA, true, "rsa-sha2-512"},
        {"rsa-sha2-256-cert-v01@openssh.com", HOST_RSA, true, "rsa-sha2-256"},
    };
    const size_t count = sizeof(good) / sizeof(good[0]);
    struct transport_server *worker = server_for_pairs(NULL);

    (void)state;
    for (size_t agreed = 0; agreed < count; agreed++) {
        for (size_t said = 0; said < count; said++) {
            const struct host *host = &hosts[good[said].key];
            struct shown shown = {good[said].certified ? buf_bytes(&host->certificate)
                                                       : plain_blob(good[said].key),
                                  host->key, good[said].signature, exchange_hash};
            char *why = refusal(worker, good[agreed].agreed, &shown);

            if (agreed == said)
                assert_null(why);
            else
                assert_non_null(why);
            free(why);
        }
    }
    transport_server_free(&worker);
}

static void expect_refusal(struct transport_server *worker, const char *agreed,
                           const struct shown *shown, const char *reason)
{
    char *why = refusal(worker, agreed, shown);

    assert_non_null(why);
    assert_string_equal(why, reason);
    free(why);
}

static void test_what_does_not(void **state)
{
    static const uint8_t other_hash[32] = {1, 2, 4};
    const char *plain = "ssh-ed25519", *certified = "ssh-ed25519-cert-v01@openssh.com";
    const char *wrong = "the server's signature by its host key is wrong";
    struct transport_server *worker = server_for_pairs(NULL);
    struct bytes certificate = buf_bytes(&hosts[HOST_ED25519].certificate);
    struct shown shown = {plain_blob(HOST_ED25519), hosts[HOST_ED25519].key, plain, other_hash};
    struct buf text = read_whole(in_dir("ca", "")), changed = {0};
    const char *why;
    struct private_key *ca = private_key_parse(buf_bytes(&text), &why);

    (void)state;
    expect_refusal(worker, plain, &shown, wrong);
    shown.blob = certificate;
    expect_refusal(worker, certified, &shown, wrong);
    shown.hash = exchange_hash;
    shown.signer = ca; /* who certifies a key does not hold it */
    expect_refusal(worker, certified, &shown, wrong);
    shown.signer = hosts[HOST_ED25519].key;
    /* Another key in the certificate: its authority's signature is for who trusts it to check, the
     * proof is not. */
    buf_put(&changed, certificate);
    changed.data[4 + 32 + 4 + 32 + 4 + 5] ^= 1;
    shown.blob = buf_bytes(&changed);
    expect_refusal(worker, certified, &shown, wrong);
    shown.blob = bytes_of(certificate.data, certificate.len - 1);
    expect_refusal(worker, certified, &shown, "the certificate is malformed");
    shown.blob = certificate;
    expect_refusal(worker, plain, &shown, "the host key is of another type than agreed");
    shown.blob = plain_blob(HOST_ED25519);
    expect_refusal(worker, certified, &shown, "the host key is of another type than agreed");
    shown.blob = bytes_of(NULL, 0);
    expect_refusal(worker, plain, &shown, "the host key is malformed or weak");
    private_key_free(&ca);
    buf_clear_secret(&text);
    buf_clear(&changed);
    transport_server_free(&worker);
}

/* ---- OpenSSH's server */

#define SSHD   "/usr/sbin/sshd"
#define NOBODY 65534

/* On its standard input. As root it would need a directory of the machine's. */
static pid_t start_sshd(int fd)
{
    char *command =
        xasprintf("exec " SSHD " -i -e -f /dev/null -o HostKey=%s/ed25519 -o HostKey=%s/"
                  "ecdsa -o HostKey=%s/rsa -o HostCertificate=%s/ed25519-cert.pub -o "
                  "HostCertificate=%s/ecdsa-cert.pub -o HostCertificate=%s/"
                  "rsa-cert.pub 2>/dev/null",
                  key_dir, key_dir, key_dir, key_dir, key_dir, key_dir);
    pid_t pid = fork();

    if (pid == 0) {
        dup2(fd, 0);
        dup2(fd, 1);
        if (geteuid() == 0 && (setgid(NOBODY) != 0 || setuid(NOBODY) != 0))
            _exit(1);
        execl("/bin/sh", "sh", "-c", command, NULL);
        _exit(1);
    }
    free(command);
    assert_true(pid > 0);
    return pid;
}

static void ask_for_service(void *owner)
{
    struct ends *e = owner;

    on_keys(&e->client);
    transport_send(e->client.transport, BYTES("\x05\0\0\0\x0cssh-userauth"));
}

static void test_of_sshd(void **state)
{
    static const char *const algorithms[] = {
        "ssh-ed25519-cert-v01@openssh.com",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "rsa-sha2-512-cert-v01@openssh.com",
        "rsa-sha2-256-cert-v01@openssh.com",
        "ssh-ed25519",
        "rsa-sha2-512",
    };
    static const int keys[] = {HOST_ED25519, HOST_ECDSA, HOST_RSA, HOST_RSA};
    static const struct transport_events events = {ask_for_service, on_server_said,
                                                   on_client_writable, on_client_ended};
    struct transport_server *worker = server_for_pairs(NULL);
    char *command = xasprintf("chown -R %d %s", NOBODY, key_dir);

    (void)state;
    if (access(SSHD, X_OK) != 0 || (geteuid() == 0 && system(command) != 0))
        skip();
    free(command);
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
        struct ends e = {0};
        uint64_t until = clock_ms() + 20000;
        struct bytes used;
        int fds[2];
        pid_t pid;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        fcntl(fds[0], F_SETFL, O_NONBLOCK);
        pid = start_sshd(fds[1]);
        close(fds[1]);
        e.client.transport = transport_connect(worker, fds[0], algorithms[i], &events, &e);
        while (e.client.last_type != SSH2_MSG_SERVICE_ACCEPT && e.client.ends == 0 &&
               clock_ms() < until)
            event_base_loop(loop_events(loop), EVLOOP_ONCE);
        assert_int_equal(e.client.keys, 1);
        assert_int_equal(e.client.last_type, SSH2_MSG_SERVICE_ACCEPT);
        used = transport_host_key_used(e.client.transport);
        if (i < sizeof(keys) / sizeof(keys[0]))
            assert_true(bytes_equal(used, buf_bytes(&hosts[keys[i]].certificate)));
        else
            assert_false(certificate_is_claimed(used));
        transport_free(&e.client.transport);
        buf_clear(&e.client.last);
        waitpid(pid, NULL, 0); /* its client is gone */
    }
    transport_server_free(&worker);
    event_base_loop(loop_events(loop), EVLOOP_NONBLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_fits),
        cmocka_unit_test(test_what_does_not),
        cmocka_unit_test(test_of_sshd),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
