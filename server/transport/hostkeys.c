/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "transport/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_FILE_MAX 65536

/* The whole file; checked through the descriptor, so that what was checked is what is read. NULL
 * with *error. */
static char *read_private(const char *file, char **error)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *text = NULL;
    struct stat st;
    ssize_t len;

    if (fd < 0 || fstat(fd, &st) < 0) {
        *error = xasprintf("host key %s: %s", file, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        *error = xasprintf("host key %s: not a regular file", file);
    } else if ((st.st_mode & 077) != 0) {
        *error = xasprintf("host key %s: readable by others (mode %04o); run chmod 600 %s", file,
                           st.st_mode & 07777, file);
    } else if (st.st_size == 0 || st.st_size > KEY_FILE_MAX) {
        *error = xasprintf("host key %s: not a private key", file);
    } else {
        text = xcalloc(1, (size_t)st.st_size + 1);
        len = read(fd, text, (size_t)st.st_size);
        if (len != st.st_size) {
            *error = xasprintf("host key %s: could not be read", file);
            secret_free(text);
            text = NULL;
        }
    }
    if (fd >= 0)
        close(fd);
    return text;
}

/* Asked by libssh only if the key is encrypted: nobody is there to type a passphrase. */
static int on_passphrase_wanted(const char *prompt, char *out, size_t len, int echo, int verify,
                                void *arg)
{
    bool *encrypted = arg;

    (void)prompt;
    (void)out;
    (void)len;
    (void)echo;
    (void)verify;
    *encrypted = true;
    return -1;
}

static bool kind_of(ssh_key key, enum host_key_kind *kind)
{
    switch (ssh_key_type(key)) {
    case SSH_KEYTYPE_ED25519:
        *kind = HOST_KEY_ED25519;
        return true;
    case SSH_KEYTYPE_ECDSA_P256:
    case SSH_KEYTYPE_ECDSA_P384:
    case SSH_KEYTYPE_ECDSA_P521:
        *kind = HOST_KEY_ECDSA;
        return true;
    case SSH_KEYTYPE_RSA:
        *kind = HOST_KEY_RSA;
        return true;
    default:
        return false;
    }
}

static bool public_blob(ssh_key private_key, struct buf *blob)
{
    ssh_key public_key = NULL;
    ssh_string text = NULL;
    bool ok = ssh_pki_export_privkey_to_pubkey(private_key, &public_key) == SSH_OK &&
              ssh_pki_export_pubkey_blob(public_key, &text) == SSH_OK;

    if (ok)
        buf_put(blob, bytes_of(ssh_string_data(text), ssh_string_len(text)));
    ssh_string_free(text);
    ssh_key_free(public_key);
    return ok;
}

bool host_key_load(const char *file, struct host_key *key, char **error)
{
    char *text = read_private(file, error);
    bool encrypted = false;
    int rc;

    *key = (struct host_key){0};
    if (text == NULL)
        return false;
    rc = ssh_pki_import_privkey_base64(text, NULL, on_passphrase_wanted, &encrypted,
                                       &key->private_key);
    secret_free(text);
    if (encrypted) {
        *error =
            xasprintf("host key %s: encrypted; remove the passphrase (ssh-keygen -p -N '')", file);
    } else if (rc != SSH_OK || !kind_of(key->private_key, &key->kind) ||
               !public_blob(key->private_key, &key->blob)) {
        *error = xasprintf("host key %s: not an Ed25519, ECDSA or RSA private key", file);
    } else if (key->kind == HOST_KEY_RSA && ssh_key_size(key->private_key) < HOST_RSA_BITS_MIN) {
        *error = xasprintf("host key %s: RSA of %d bits; at least %d are needed", file,
                           ssh_key_size(key->private_key), HOST_RSA_BITS_MIN);
    } else {
        return true;
    }
    host_key_clear(key);
    return false;
}

void host_key_clear(struct host_key *key)
{
    ssh_key_free(key->private_key);
    buf_clear(&key->blob);
    *key = (struct host_key){0};
}

size_t transport_host_key_count(const struct transport *t)
{
    return t->client == NULL ? t->server->host_key_count : 0;
}

struct bytes transport_host_key_blob(const struct transport *t, size_t index)
{
    if (index >= transport_host_key_count(t))
        return bytes_of(NULL, 0);
    return buf_bytes(&t->server->host_keys[index].blob);
}

struct bytes transport_host_key_used(const struct transport *t)
{
    bool used = t->keys && t->host_key < transport_host_key_count(t);

    if (t->client != NULL)
        return t->keys ? buf_bytes(&t->client->host_key) : bytes_of(NULL, 0);
    return used ? transport_host_key_blob(t, t->host_key) : bytes_of(NULL, 0);
}

static enum ssh_digest_e digest_for(const struct transport *t, const struct host_key *key)
{
    switch (ssh_key_type(key->private_key)) {
    case SSH_KEYTYPE_RSA:
        return t->session->srv.hostkey == SSH_KEYTYPE_RSA ? t->session->srv.hostkey_digest
                                                          : SSH_DIGEST_SHA512;
    case SSH_KEYTYPE_ECDSA_P256:
        return SSH_DIGEST_SHA256;
    case SSH_KEYTYPE_ECDSA_P384:
        return SSH_DIGEST_SHA384;
    case SSH_KEYTYPE_ECDSA_P521:
        return SSH_DIGEST_SHA512;
    default:
        return SSH_DIGEST_AUTO; /* Ed25519 has its own */
    }
}

bool transport_host_key_sign(struct transport *t, struct bytes blob, struct bytes data,
                             struct buf *signature)
{
    for (size_t i = 0; i < transport_host_key_count(t); i++) {
        const struct host_key *key = &t->server->host_keys[i];
        ssh_signature made;
        ssh_string text = NULL;
        bool ok;

        if (!bytes_equal(buf_bytes(&key->blob), blob))
            continue;
        made = pki_do_sign(key->private_key, data.data, data.len, digest_for(t, key));
        ok = made != NULL && ssh_pki_export_signature_blob(made, &text) == SSH_OK;
        if (ok)
            buf_put(signature, bytes_of(ssh_string_data(text), ssh_string_len(text)));
        ssh_string_free(text);
        ssh_signature_free(made);
        return ok;
    }
    return false;
}
