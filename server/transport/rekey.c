/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * When keys are exchanged again. The limits are libssh's, in the same way; it sees only what passes
 * its own receiver and sender, so the check is needed here too. The deadline is ours.
 */
#include "base/alloc.h"
#include "transport/connection.h"

#include <stdlib.h>
#include <string.h>

#define PACKETS_MAX ((uint32_t)1 << 31) /* RFC 4344 section 3.1 */

void rekey_configure(struct transport *t)
{
    t->session->opts.rekey_data = t->server->rekey_bytes;
    t->session->opts.rekey_time = t->server->rekey_seconds * 1000;
}

bool rekey_is_due(struct transport *t, size_t payload)
{
    ssh_session session = t->session;
    struct ssh_crypto_struct *crypto;
    struct ssh_cipher_struct *in, *out;
    uint64_t blocks;

    if (!(session->flags & SSH_SESSION_FLAG_AUTHENTICATED) ||
        session->dh_handshake_state != DH_STATE_FINISHED)
        return false;
    crypto = ssh_packet_get_current_crypto(session, SSH_DIRECTION_BOTH);
    if (crypto == NULL)
        return false;
    in = crypto->in_cipher;
    out = crypto->out_cipher;
    if (in->packets == 0 && out->packets == 0)
        return false; /* with tiny limits something must still get through */
    if (in->packets > PACKETS_MAX || out->packets > PACKETS_MAX)
        return true;
    blocks = payload / out->blocksize;
    if ((out->max_blocks != 0 && out->blocks + blocks > out->max_blocks) ||
        (in->max_blocks != 0 && in->blocks + blocks > in->max_blocks))
        return true;
    return session->opts.rekey_time != 0 &&
           ssh_timeout_elapsed(&session->last_rekey_time, (int)session->opts.rekey_time);
}

void rekey_if_due(struct transport *t)
{
    struct libssh_output before;
    int rc;

    if (!connection_is_open(t) || !rekey_is_due(t, 0))
        return;
    before = connection_enter(t);
    rc = ssh_send_rekex(t->session);
    connection_leave(before);
    if (rc != SSH_OK)
        connection_violation(t, SSH2_DISCONNECT_KEY_EXCHANGE_FAILED, "rekey could not start");
    else
        rekey_watch(t);
}

bool rekey_lets_send(const struct transport *t)
{
    enum ssh_dh_state_e state = t->session->dh_handshake_state;

    /* From our NEWKEYS on messages go out under the new keys, whether the peer's has come or not.
     */
    return t->keys && (state == DH_STATE_FINISHED || state == DH_STATE_NEWKEYS_SENT);
}

static char *both_ways(const char *in, const char *out)
{
    return strcmp(in, out) == 0 ? xstrdup(in) : xasprintf("%s/%s", in, out);
}

void rekey_note_algorithms(struct transport *t)
{
    char **methods = t->session->current_crypto->kex_methods;
    char *cipher = both_ways(methods[SSH_CRYPT_C_S], methods[SSH_CRYPT_S_C]);
    char *mac = both_ways(methods[SSH_MAC_C_S], methods[SSH_MAC_S_C]);

    free(t->algorithms);
    t->algorithms = xasprintf("kex=%s hostkey=%s cipher=%s mac=%s", methods[SSH_KEX],
                              methods[SSH_HOSTKEYS], cipher, mac);
    free(cipher);
    free(mac);
}

void rekey_watch(struct transport *t)
{
    bool exchanging = t->keys && t->session->dh_handshake_state != DH_STATE_FINISHED;

    if (exchanging == t->exchanging || !connection_is_open(t))
        return;
    t->exchanging = exchanging;
    if (exchanging) {
        t->starved = true;
        connection_set_timer(t, t->server->rekey_answer_ms);
    } else {
        connection_set_timer(t, 0);
        rekey_note_algorithms(t);
    }
}

void rekey_deadline(struct transport *t)
{
    /* While a message waits for its owner the peer's answer may lie unread behind it. */
    if (t->parked.len > 0)
        connection_set_timer(t, t->server->rekey_answer_ms);
    else
        connection_violation(t, SSH2_DISCONNECT_KEY_EXCHANGE_FAILED,
                             "key exchange was not finished in time");
}
