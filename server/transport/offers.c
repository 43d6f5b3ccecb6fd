/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/words.h"
#include "transport/server.h"

#include <stdlib.h>
#include <string.h>

/* In our order of preference. What is not here cannot be configured either: no SHA-1, no CBC, no
 * group below 2048 bits. */
static const char *const kex_names[] = {
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "sntrup761x25519-sha512",
    "sntrup761x25519-sha512@openssh.com",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
    NULL,
};

static const char *const cipher_names[] = {
    "chacha20-poly1305@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    NULL,
};

static const char *const mac_names[] = {
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
    NULL,
};

static const char *const host_key_names[] = {
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
    NULL,
};

/* Each with the key that it certifies. */
static const char *const host_certificate_names[][2] = {
    {"ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519"},
    {"ecdsa-sha2-nistp256-cert-v01@openssh.com", "ecdsa-sha2-nistp256"},
    {"ecdsa-sha2-nistp384-cert-v01@openssh.com", "ecdsa-sha2-nistp384"},
    {"ecdsa-sha2-nistp521-cert-v01@openssh.com", "ecdsa-sha2-nistp521"},
    {"rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-512"},
    {"rsa-sha2-256-cert-v01@openssh.com", "rsa-sha2-256"},
};

static const struct {
    const char *what;
    const char *const *names;
    enum ssh_kex_types_e libssh;
} offers[] = {
    [OFFER_KEX] = {"key exchange method", kex_names, SSH_KEX},
    [OFFER_CIPHERS] = {"cipher", cipher_names, SSH_CRYPT_S_C},
    [OFFER_MACS] = {"MAC", mac_names, SSH_MAC_S_C},
    [OFFER_HOST_KEYS] = {"host key algorithm", host_key_names, SSH_HOSTKEYS},
};

static bool is_ours(enum offer kind, struct bytes name)
{
    for (const char *const *known = offers[kind].names; *known != NULL; known++)
        if (bytes_are(name, *known))
            return true;
    return false;
}

/* Older versions of libssh lack the newest methods. */
static bool libssh_has(enum offer kind, const char *name)
{
    char *kept = ssh_keep_known_algos(offers[kind].libssh, name);
    bool has = kept != NULL;

    free(kept);
    return has;
}

static void list_add(struct buf *list, enum offer kind, struct bytes name)
{
    char *text = bytes_to_string(name);

    if (libssh_has(kind, text)) {
        if (list->len > 0)
            buf_put(list, BYTES(","));
        buf_put(list, name);
    }
    free(text);
}

static bool list_add_wanted(struct buf *list, enum offer kind, const char *wanted, char **error)
{
    while (*wanted != '\0') {
        size_t len = strcspn(wanted, ",");
        struct bytes name = bytes_of(wanted, len);

        if (!is_ours(kind, name)) {
            *error =
                xasprintf("%s %.*s is unknown or not offered", offers[kind].what, (int)len, wanted);
            return false;
        }
        list_add(list, kind, name);
        wanted += len + (wanted[len] == ',');
    }
    return true;
}

char *offer_list(enum offer kind, const char *wanted, char **error)
{
    struct buf list = {0};
    char *text = NULL;
    bool ok = true;

    if (wanted != NULL)
        ok = list_add_wanted(&list, kind, wanted, error);
    else
        for (const char *const *known = offers[kind].names; *known != NULL; known++)
            list_add(&list, kind, bytes_of_string(*known));
    if (ok && list.len == 0) {
        *error = xasprintf("no %s is left to offer", offers[kind].what);
        ok = false;
    }
    if (ok)
        text = bytes_to_string(buf_bytes(&list));
    buf_clear(&list);
    return text;
}

static bool can_be_accepted(struct bytes name)
{
    for (size_t i = 0; i < sizeof(host_certificate_names) / sizeof(host_certificate_names[0]); i++)
        if (bytes_are(name, host_certificate_names[i][0]))
            return libssh_has(OFFER_HOST_KEYS, host_certificate_names[i][1]);
    return is_ours(OFFER_HOST_KEYS, name);
}

char *offer_host_keys_to_accept(const char *wanted)
{
    struct buf list = {0};
    char *text;

    while (*wanted != '\0') {
        struct bytes name = bytes_of(wanted, strcspn(wanted, ","));

        /* Each is on one of our lists, so one that comes twice is all that can make it long. */
        if (can_be_accepted(name) && !list_has(buf_bytes(&list), name)) {
            if (list.len > 0)
                buf_put(&list, BYTES(","));
            buf_put(&list, name);
        }
        wanted += name.len + (wanted[name.len] == ',');
    }
    text = list.len > 0 ? bytes_to_string(buf_bytes(&list)) : NULL;
    buf_clear(&list);
    return text;
}
