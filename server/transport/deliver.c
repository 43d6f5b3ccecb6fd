/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/reader.h"
#include "transport/connection.h"
#include "transport/filter.h"
#include "transport/gss_kex.h"

#include <stdlib.h>
#include <string.h>

#define MSG_PONG 193 /* OpenSSH PROTOCOL, ping@openssh.com */

static const enum filter_session session_states[] = {
    [SSH_SESSION_STATE_NONE] = FILTER_OTHER,
    [SSH_SESSION_STATE_CONNECTING] = FILTER_OTHER,
    [SSH_SESSION_STATE_SOCKET_CONNECTED] = FILTER_OTHER,
    [SSH_SESSION_STATE_BANNER_RECEIVED] = FILTER_OTHER,
    [SSH_SESSION_STATE_INITIAL_KEX] = FILTER_INITIAL_KEX,
    [SSH_SESSION_STATE_KEXINIT_RECEIVED] = FILTER_KEXINIT_RECEIVED,
    [SSH_SESSION_STATE_DH] = FILTER_DH,
    [SSH_SESSION_STATE_AUTHENTICATING] = FILTER_AUTHENTICATING,
    [SSH_SESSION_STATE_AUTHENTICATED] = FILTER_AUTHENTICATED,
    [SSH_SESSION_STATE_ERROR] = FILTER_OTHER,
    [SSH_SESSION_STATE_DISCONNECTED] = FILTER_OTHER,
};

static const enum filter_dh dh_states[] = {
    [DH_STATE_INIT] = FILTER_DH_INIT,
    [DH_STATE_GROUP_SENT] = FILTER_DH_GROUP_SENT,
    [DH_STATE_REQUEST_SENT] = FILTER_DH_REQUEST_SENT,
    [DH_STATE_INIT_SENT] = FILTER_DH_INIT_SENT,
    [DH_STATE_NEWKEYS_SENT] = FILTER_DH_NEWKEYS_SENT,
    [DH_STATE_FINISHED] = FILTER_DH_FINISHED,
};

static struct filter_state filter_state_of(struct transport *t)
{
    ssh_session session = t->session;
    struct filter_state s = {
        .session = session_states[session->session_state],
        .dh = dh_states[session->dh_handshake_state],
        .client = t->client != NULL,
        .encrypted = ssh_packet_get_current_crypto(session, SSH_DIRECTION_IN) != NULL,
        .authenticated = (session->flags & SSH_SESSION_FLAG_AUTHENTICATED) != 0,
        .strict = (session->flags & SSH_SESSION_FLAG_KEX_STRICT) != 0,
    };

    return s;
}

/* ---- to libssh: key exchange */

/* libssh's handlers read from session->in_buffer, behind the type byte. */
static bool lay_out(struct transport *t, const struct packet *packet)
{
    ssh_session session = t->session;

    if (session->in_buffer == NULL)
        session->in_buffer = ssh_buffer_new();
    if (session->in_buffer == NULL)
        return false;
    /* A packet that was compressed lies there already. */
    if (ssh_buffer_get_len(session->in_buffer) == 0 ||
        packet->payload != ssh_buffer_get(session->in_buffer)) {
        if (ssh_buffer_reinit(session->in_buffer) < 0 ||
            ssh_buffer_add_data(session->in_buffer, packet->payload, (uint32_t)packet->len) < 0)
            return false;
    }
    return ssh_packet_parse_type(session) == SSH_OK;
}

/* RFC 8308 section 2.4: the first packet under our first keys, so that it leaves with our NEWKEYS.
 * libssh would send its own, so it is not told that the client wants one. */
static void send_ext_info(struct transport *t)
{
    struct buf message = {0};

    if (t->keys || !t->peer_wants_ext_info ||
        t->session->dh_handshake_state != DH_STATE_NEWKEYS_SENT)
        return;
    t->peer_wants_ext_info = false;
    buf_put_u8(&message, SSH2_MSG_EXT_INFO);
    buf_put_u32(&message, 3);
    buf_put_cstring(&message, "server-sig-algs");
    buf_put_cstring(&message, public_key_algorithms());
    buf_put_cstring(&message, "publickey-hostbound@openssh.com");
    buf_put_cstring(&message, "0");
    buf_put_cstring(&message, "ping@openssh.com");
    buf_put_cstring(&message, "0");
    send_through_libssh(t, buf_bytes(&message));
    buf_clear(&message);
}

static void note_host_key(struct transport *t)
{
    t->host_key = t->server->host_key_count; /* GSSAPI's exchange needs none */
    for (size_t i = 0; i < t->server->host_key_count; i++)
        if (ssh_key_type(t->server->host_keys[i].private_key) == t->session->srv.hostkey)
            t->host_key = i;
}

static void first_keys(struct transport *t)
{
    struct ssh_crypto_struct *crypto = t->session->current_crypto;

    buf_put(&t->session_id, bytes_of(crypto->session_id, crypto->session_id_len));
    rekey_note_algorithms(t);
    if (t->client != NULL)
        client_first_keys(t);
    else
        note_host_key(t);
    t->keys = true;
    send_held(t);
    t->events->keys_exchanged(t->owner);
}

/* Before login libssh does not expect another KEXINIT; shown as logged in it handles it as any
 * rekey. */
static bool begin_early_rekey(struct transport *t)
{
    if (++t->early_rekeys > EARLY_REKEYS_MAX) {
        connection_violation(t, SSH2_DISCONNECT_PROTOCOL_ERROR, "too many rekeys before login");
        return false;
    }
    t->session->session_state = SSH_SESSION_STATE_AUTHENTICATED;
    return true;
}

static bool after_kexinit(struct transport *t)
{
    ssh_session session = t->session;
    int strict_broken = SSH_SESSION_FLAG_KEX_STRICT | SSH_SESSION_FLAG_KEX_TAINTED;

    if (session->extensions & SSH_EXT_NEGOTIATION) {
        t->peer_wants_ext_info = true;
        session->extensions &= ~(uint32_t)SSH_EXT_NEGOTIATION;
    }
    /* Something came before the first KEXINIT. libssh would notice only at NEWKEYS. */
    if (!t->keys && (session->flags & strict_broken) == strict_broken) {
        connection_violation(t, SSH2_DISCONNECT_KEY_EXCHANGE_FAILED,
                             "strict key exchange: KEXINIT was not the first message");
        return false;
    }
    return true;
}

/* Owned; NULL if something else went wrong. The other side's list is what its user, or our
 * operator, can act on. */
static char *nothing_in_common(const struct transport *t)
{
    const struct ssh_crypto_struct *crypto = t->session->next_crypto;

    for (int i = SSH_KEX; crypto != NULL && i <= SSH_COMP_S_C; i++) {
        const struct ssh_kex_struct *theirs = t->client ? &crypto->server_kex : &crypto->client_kex;

        if (theirs->methods[i] != NULL && crypto->kex_methods[i] == NULL) {
            char *offered = clean_text(bytes_of_string(theirs->methods[i]), 600);
            char *reason =
                xasprintf("nothing in common for %s; the %s offers %s", ssh_kex_get_description(i),
                          t->client ? "server" : "client", offered);

            free(offered);
            return reason;
        }
    }
    return NULL;
}

static void kex_failed(struct transport *t)
{
    char *why = nothing_in_common(t);

    if (why == NULL)
        why = clean_text(bytes_of_string(ssh_get_error(t->session)), 200);
    connection_violation(t, SSH2_DISCONNECT_KEY_EXCHANGE_FAILED,
                         why[0] != '\0' ? why : "key exchange failed");
    free(why);
}

static bool process(struct transport *t, const struct packet *packet)
{
    ssh_session session = t->session;
    struct libssh_output before;
    bool ok = lay_out(t, packet);

    if (ok) {
        session->packet_state = PACKET_STATE_PROCESSING;
        before = connection_enter(t);
        gss_kex_enter(t);
        ssh_packet_process(session, packet->payload[0]);
        gss_kex_leave(t);
        connection_leave(before);
        session->packet_state = PACKET_STATE_INIT;
        ok = session->session_state != SSH_SESSION_STATE_ERROR;
    }
    if (!ok)
        kex_failed(t);
    return ok;
}

static bool deliver_kex(struct transport *t, const struct packet *packet)
{
    ssh_session session = t->session;
    uint8_t type = packet->payload[0];
    bool proof = t->client != NULL && type == SSH2_MSG_KEXDH_REPLY;

    if (type == SSH2_MSG_KEXINIT && session->session_state == SSH_SESSION_STATE_AUTHENTICATING &&
        !begin_early_rekey(t))
        return false;
    if (proof && !proof_read(t, bytes_of(packet->payload + 1, packet->len - 1)))
        return false;
    if (!process(t, packet) || (proof && !proof_check(t)))
        return false;
    if (type == SSH2_MSG_KEXINIT && !after_kexinit(t))
        return false;
    rekey_watch(t);
    send_ext_info(t);
    if (type == SSH2_MSG_NEWKEYS)
        forget_exchange(t);
    if (!t->keys && session->session_state == SSH_SESSION_STATE_AUTHENTICATING)
        first_keys(t);
    else
        send_held(t);
    return connection_is_open(t);
}

/* ---- to the owner */

static void send_unimplemented(struct transport *t)
{
    struct buf message = {0};

    buf_put_u8(&message, SSH2_MSG_UNIMPLEMENTED);
    buf_put_u32(&message, t->message_seq);
    send_through_libssh(t, buf_bytes(&message));
    buf_clear(&message);
}

static bool deliver_owner(struct transport *t, uint8_t *payload, size_t len)
{
    uint8_t type = payload[0];
    bool known = t->events->message(t->owner, type, bytes_of(payload + 1, len - 1));

    if (type >= SSH2_MSG_USERAUTH_REQUEST && type < SSH2_MSG_GLOBAL_REQUEST)
        explicit_bzero(payload, len); /* passwords and answers pass here */
    if (!known && connection_is_open(t))
        send_unimplemented(t);
    return connection_is_open(t);
}

static bool is_of_exchange(uint8_t type)
{
    return type >= SSH2_MSG_KEXINIT && type < SSH2_MSG_USERAUTH_REQUEST;
}

/* What a method of key exchange computes with (RFC 4250 section 4.1.2) is costly to answer; a
 * client begins to compute when it knows the method. */
static bool is_costly(const struct transport *t, uint8_t type)
{
    return (type >= SSH2_MSG_KEXDH_INIT && type < SSH2_MSG_USERAUTH_REQUEST) ||
           (t->client != NULL && type == SSH2_MSG_KEXINIT);
}

static void park(struct transport *t, const struct packet *packet)
{
    buf_put(&t->parked, bytes_of(packet->payload, packet->len));
}

bool deliver_parked(struct transport *t)
{
    struct buf parked = t->parked;
    struct packet packet = {parked.data, parked.len};
    bool ok;

    t->parked = (struct buf){0};
    if (is_of_exchange(packet.payload[0]))
        ok = deliver_kex(t, &packet);
    else
        ok = deliver_owner(t, packet.payload, packet.len);
    buf_clear_secret(&parked);
    return ok;
}

static bool deliver_disconnect(struct transport *t, const struct packet *packet)
{
    struct reader r = reader_of(bytes_of(packet->payload + 1, packet->len - 1));
    uint32_t code = reader_u32(&r);
    char *reason = clean_text(reader_string(&r), 256);

    connection_end(t, TRANSPORT_END_PEER, code, reason);
    free(reason);
    return false;
}

static bool deliver_ping(struct transport *t, const struct packet *packet)
{
    struct reader r = reader_of(bytes_of(packet->payload + 1, packet->len - 1));
    struct bytes data = reader_string(&r);
    struct buf message = {0};

    if (!reader_end(&r)) {
        connection_violation(t, SSH2_DISCONNECT_PROTOCOL_ERROR, "malformed ping");
        return false;
    }
    buf_put_u8(&message, MSG_PONG);
    buf_put_string(&message, data);
    transport_send(t, buf_bytes(&message));
    buf_clear(&message);
    return connection_is_open(t);
}

static bool refuse(struct transport *t, uint8_t type)
{
    char *reason = xasprintf("message %u is not allowed now", type);

    connection_violation(t, SSH2_DISCONNECT_PROTOCOL_ERROR, reason);
    free(reason);
    return false;
}

/* Strict key exchange: in plaintext only these may come; libssh checks the mark at NEWKEYS. */
static void mark_taint(struct transport *t, uint8_t type)
{
    bool kex = type == SSH2_MSG_KEXINIT || type == SSH2_MSG_NEWKEYS ||
               (type >= SSH2_MSG_KEXDH_INIT && type <= SSH2_MSG_KEX_DH_GEX_REQUEST);

    if (!kex && ssh_packet_get_current_crypto(t->session, SSH_DIRECTION_IN) == NULL)
        t->session->flags |= SSH_SESSION_FLAG_KEX_TAINTED;
}

bool deliver_packet(struct transport *t, const struct packet *packet)
{
    struct filter_state state = filter_state_of(t);
    uint8_t type = packet->payload[0];

    t->message_seq = t->session->recv_seq - 1;
    mark_taint(t, type);
    switch (filter_message(&state, type)) {
    case FILTER_REFUSE:
        return refuse(t, type);
    case FILTER_LIBSSH:
        if (gss_kex_begin(t, packet))
            return false;
        if (!is_costly(t, type) || handshakes_may_begin(t))
            return deliver_kex(t, packet);
        park(t, packet);
        return false;
    case FILTER_OWNER:
        if (t->paused == 0)
            return deliver_owner(t, packet->payload, packet->len);
        park(t, packet);
        explicit_bzero(packet->payload, packet->len);
        return false;
    case FILTER_DISCONNECT:
        return deliver_disconnect(t, packet);
    case FILTER_IGNORE:
        return true;
    case FILTER_PING:
        return deliver_ping(t, packet);
    case FILTER_UNIMPLEMENTED:
        send_unimplemented(t);
        return connection_is_open(t);
    }
    return false;
}
