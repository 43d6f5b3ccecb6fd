/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/connection.h"
#include "transport/gss_kex.h"

#include "base/alloc.h"

#include <event2/event.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSION_COMMENT_MAX 200 /* the whole line must stay below 255 bytes */
#define REKEY_SECONDS_MAX   (7 * 24 * 3600)

bool transport_global_init(void)
{
    /* Output buffers come and go with every packet. With its defaults glibc gives the memory back
     * each time and fetches it again: 200,000 page faults and a second of CPU per gigabyte. */
    mallopt(M_TRIM_THRESHOLD, 256 * 1024 * 1024);
    mallopt(M_TOP_PAD, 1024 * 1024);
    mallopt(M_MMAP_THRESHOLD, 4 * 1024 * 1024);
    /* What was compiled against must be what was linked: we use its internals. */
    return ssh_init() == SSH_OK && ssh_version(LIBSSH_VERSION_INT) != NULL && client_global_init();
}

const char *transport_library(void)
{
    return "libssh " SSH_STRINGIFY(LIBSSH_VERSION);
}

/* RFC 4253 section 4.2: printable ASCII, and what follows "SSH-2.0-" may not be empty. */
static bool version_comment_ok(const char *text)
{
    size_t len = strlen(text);

    for (size_t i = 0; i < len; i++)
        if (text[i] < 0x20 || text[i] > 0x7e)
            return false;
    return len > 0 && len <= VERSION_COMMENT_MAX && text[0] != ' ' && text[0] != '-';
}

static bool load_host_keys(struct transport_server *server, const char *const *files, char **error)
{
    for (; files != NULL && *files != NULL; files++) {
        struct host_key key;

        if (!host_key_load(*files, &key, error))
            return false;
        for (size_t i = 0; i < server->host_key_count; i++) {
            if (server->host_keys[i].kind == key.kind) {
                *error = xasprintf("host key %s: a second one of its type", *files);
                host_key_clear(&key);
                return false;
            }
        }
        server->host_keys[server->host_key_count++] = key;
    }
    if (server->host_key_count == 0)
        *error = xstrdup("no host key is configured");
    return server->host_key_count > 0;
}

/* libssh keeps and frees its own copies. */
static bool bind_host_keys(struct transport_server *server)
{
    for (size_t i = 0; i < server->host_key_count; i++) {
        ssh_key copy = ssh_key_dup(server->host_keys[i].private_key);

        if (copy == NULL)
            return false;
        switch (server->host_keys[i].kind) {
        case HOST_KEY_ED25519:
            server->bind->ed25519 = copy;
            break;
        case HOST_KEY_ECDSA:
            server->bind->ecdsa = copy;
            break;
        case HOST_KEY_RSA:
            server->bind->rsa = copy;
            break;
        }
    }
    return true;
}

static bool bind_offers(struct transport_server *server, const struct transport_settings *s,
                        char **error)
{
    const struct {
        enum ssh_kex_types_e slot;
        enum offer kind;
        const char *wanted;
    } lists[] = {
        {SSH_KEX, OFFER_KEX, s->kex},
        {SSH_HOSTKEYS, OFFER_HOST_KEYS, s->host_key_algorithms},
        {SSH_CRYPT_C_S, OFFER_CIPHERS, s->ciphers},
        {SSH_CRYPT_S_C, OFFER_CIPHERS, s->ciphers},
        {SSH_MAC_C_S, OFFER_MACS, s->macs},
        {SSH_MAC_S_C, OFFER_MACS, s->macs},
    };

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        char *list = offer_list(lists[i].kind, lists[i].wanted, error);

        if (list == NULL)
            return false;
        if (lists[i].slot == SSH_KEX) {
            server->client_kex = xstrdup(list);
            if (s->gss != NULL)
                list = gss_kex_offer(list);
        }
        server->bind->wanted_methods[lists[i].slot] = list;
    }
    /* Compression before login would let anybody feed our inflater. */
    server->bind->wanted_methods[SSH_COMP_C_S] = xstrdup("none,zlib@openssh.com");
    server->bind->wanted_methods[SSH_COMP_S_C] = xstrdup("none,zlib@openssh.com");
    return true;
}

/* A configured algorithm list can leave a key without use: say so at start, not at the first
 * connection. */
static bool some_key_fits(const struct transport_server *server, char **error)
{
    const char *offered = server->bind->wanted_methods[SSH_HOSTKEYS];
    static const char *const stems[] = {"ssh-ed25519", "ecdsa-sha2-", "rsa-sha2-"};

    for (size_t i = 0; i < server->host_key_count; i++)
        if (strstr(offered, stems[server->host_keys[i].kind]) != NULL)
            return true;
    *error = xasprintf("no host key fits the host key algorithms %s", offered);
    return false;
}

static bool server_init(struct transport_server *server, const struct transport_settings *s,
                        char **error)
{
    const char *comment = s->version_comment ? s->version_comment : "Parley_" PARLEY_VERSION;
    bool process_config = false;

    if (!version_comment_ok(comment)) {
        *error = xstrdup("version comment: 1 to 200 printable ASCII characters are allowed");
        return false;
    }
    if (s->gss != NULL && !gss_kex_is_possible()) {
        *error = xasprintf("GSSAPI key exchange: %s does not have it", transport_library());
        return false;
    }
    if (!load_host_keys(server, s->host_key_files, error))
        return false;
    server->bind = ssh_bind_new();
    if (server->bind == NULL ||
        ssh_bind_options_set(server->bind, SSH_BIND_OPTIONS_PROCESS_CONFIG, &process_config) < 0 ||
        ssh_bind_options_set(server->bind, SSH_BIND_OPTIONS_BANNER, comment) < 0 ||
        !bind_host_keys(server)) {
        *error = xstrdup("libssh could not be set up");
        return false;
    }
    return bind_offers(server, s, error) && some_key_fits(server, error);
}

struct transport_server *transport_server_new(struct loop *loop,
                                              const struct transport_settings *settings,
                                              char **error)
{
    struct transport_server *server = xcalloc(1, sizeof(*server));
    uint32_t seconds = settings->rekey_seconds;

    *error = NULL;
    server->loop = loop;
    server->helpers = settings->helpers;
    server->gss = settings->gss;
    server->references = 1;
    TAILQ_INIT(&server->handshakes);
    server->rekey_bytes = settings->rekey_bytes ? settings->rekey_bytes : (uint64_t)1 << 30;
    seconds = seconds == 0 ? 3600 : seconds;
    server->rekey_seconds = seconds < REKEY_SECONDS_MAX ? seconds : REKEY_SECONDS_MAX;
    server->rekey_answer_ms = settings->rekey_answer_ms ? settings->rekey_answer_ms : 60000;
    if (!server_init(server, settings, error))
        transport_server_free(&server);
    return server;
}

void transport_server_release(struct transport_server *server)
{
    if (--server->references > 0)
        return;
    for (size_t i = 0; i < server->host_key_count; i++)
        host_key_clear(&server->host_keys[i]);
    if (server->bind != NULL)
        ssh_bind_free(server->bind);
    free(server->client_kex);
    if (server->handshake_turn != NULL)
        event_free(server->handshake_turn);
    free(server);
}

void transport_server_free(struct transport_server **where)
{
    struct transport_server *server = *where;

    *where = NULL;
    if (server != NULL)
        transport_server_release(server);
}
