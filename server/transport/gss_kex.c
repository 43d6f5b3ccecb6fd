/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/gss_kex.h"

#include "base/alloc.h"
#include "base/reader.h"
#include "transport/gss.h"

#include <stdlib.h>
#include <string.h>

#define DEADLINE_MS    10000
#define PUBLIC_KEY_MAX 1024 /* of the client, for the exchange */

/* Each ends in the base64 of the MD5 of Kerberos's OID (RFC 4462 section 2). */
#define METHODS                                                                                    \
    "gss-curve25519-sha256-toWM5Slw5Ew8Mqkay+al2g==,gss-nistp256-sha256-toWM5Slw5Ew8Mqkay+al2g=="

struct gss_kex {
    struct helper_task task;
    const struct gss_settings *settings;
    struct gss_exchange *exchange;
    struct buf token, reply;
    enum gss_step step;
};

/* What the library is to answer while libssh handles a message on this thread; NULL: what it has
 * to say. */
static _Thread_local struct gss_kex *answering;

/* ---- in the place of the library, for libssh (--wrap, cmake/libssh.cmake) */

OM_uint32 __real_gss_import_name(OM_uint32 *, gss_buffer_t, gss_OID, gss_name_t *);
OM_uint32 __wrap_gss_import_name(OM_uint32 *, gss_buffer_t, gss_OID, gss_name_t *);
OM_uint32 __real_gss_acquire_cred(OM_uint32 *, gss_name_t, OM_uint32, gss_OID_set, gss_cred_usage_t,
                                  gss_cred_id_t *, gss_OID_set *, OM_uint32 *);
OM_uint32 __wrap_gss_acquire_cred(OM_uint32 *, gss_name_t, OM_uint32, gss_OID_set, gss_cred_usage_t,
                                  gss_cred_id_t *, gss_OID_set *, OM_uint32 *);
OM_uint32 __real_gss_accept_sec_context(OM_uint32 *, gss_ctx_id_t *, gss_cred_id_t, gss_buffer_t,
                                        gss_channel_bindings_t, gss_name_t *, gss_OID *,
                                        gss_buffer_t, OM_uint32 *, OM_uint32 *, gss_cred_id_t *);
OM_uint32 __wrap_gss_accept_sec_context(OM_uint32 *, gss_ctx_id_t *, gss_cred_id_t, gss_buffer_t,
                                        gss_channel_bindings_t, gss_name_t *, gss_OID *,
                                        gss_buffer_t, OM_uint32 *, OM_uint32 *, gss_cred_id_t *);

OM_uint32 __wrap_gss_import_name(OM_uint32 *minor, gss_buffer_t text, gss_OID kind,
                                 gss_name_t *name)
{
    if (answering == NULL)
        return __real_gss_import_name(minor, text, kind, name);
    *minor = 0;
    *name = GSS_C_NO_NAME;
    return GSS_S_COMPLETE;
}

OM_uint32 __wrap_gss_acquire_cred(OM_uint32 *minor, gss_name_t name, OM_uint32 lifetime,
                                  gss_OID_set mechanisms, gss_cred_usage_t usage,
                                  gss_cred_id_t *credential, gss_OID_set *actual,
                                  OM_uint32 *remaining)
{
    if (answering == NULL)
        return __real_gss_acquire_cred(minor, name, lifetime, mechanisms, usage, credential, actual,
                                       remaining);
    *minor = 0;
    *credential = GSS_C_NO_CREDENTIAL;
    return GSS_S_COMPLETE;
}

/* The context is lent: gss_kex_leave() takes it back. */
OM_uint32 __wrap_gss_accept_sec_context(OM_uint32 *minor, gss_ctx_id_t *context,
                                        gss_cred_id_t credential, gss_buffer_t token,
                                        gss_channel_bindings_t bindings, gss_name_t *client,
                                        gss_OID *mechanism, gss_buffer_t reply, OM_uint32 *flags,
                                        OM_uint32 *lifetime, gss_cred_id_t *delegated)
{
    if (answering == NULL)
        return __real_gss_accept_sec_context(minor, context, credential, token, bindings, client,
                                             mechanism, reply, flags, lifetime, delegated);
    *minor = 0;
    *context = answering->exchange->context;
    *flags = answering->exchange->flags;
    reply->length = answering->reply.len;
    reply->value = xmemdup(answering->reply.data, answering->reply.len);
    return GSS_S_COMPLETE;
}

#if LIBSSH_VERSION_INT >= SSH_VERSION_INT(0, 12, 0)

bool gss_kex_is_possible(void)
{
    return true;
}

char *gss_kex_offer(char *list)
{
    char *all = xasprintf("%s,%s", list, METHODS);

    free(list);
    return all;
}

/* ---- the helper's part */

static void kex_work(struct helper_task *task)
{
    struct gss_kex *kex = (struct gss_kex *)task;

    kex->step = GSS_STEP_FAILED;
    if (gss_exchange_acquire(kex->exchange, kex->settings))
        kex->step = gss_exchange_accept(kex->exchange, buf_bytes(&kex->token), &kex->reply);
}

static void kex_free(struct helper_task *task)
{
    struct gss_kex *kex = (struct gss_kex *)task;

    gss_exchange_free(&kex->exchange);
    buf_clear(&kex->token);
    buf_clear(&kex->reply);
    free(kex);
}

/* What libssh is to be told outlives the job. */
static struct gss_kex *take_result(struct gss_kex *done)
{
    struct gss_kex *kex = xcalloc(1, sizeof(*kex));

    kex->exchange = done->exchange;
    kex->reply = done->reply;
    done->exchange = NULL;
    done->reply = (struct buf){0};
    return kex;
}

static void on_done(void *owner, enum helper_outcome outcome, struct helper_task *task)
{
    struct transport *t = owner;
    struct gss_kex *kex = (struct gss_kex *)task;

    t->gss_job = NULL;
    if (!connection_is_open(t))
        return;
    /* libssh finishes in one step only, as Kerberos does; RFC 4462 section 2.1 wants both flags. */
    if (outcome != HELPER_DONE || kex->step != GSS_STEP_DONE ||
        (kex->exchange->flags & GSS_C_MUTUAL_FLAG) == 0) {
        connection_violation(t, SSH2_DISCONNECT_KEY_EXCHANGE_FAILED,
                             "GSSAPI key exchange was not accepted");
        return;
    }
    t->gss = take_result(kex);
    if (handshakes_may_begin(t))
        input_go_on(t);
}

static void start(struct transport *t, struct bytes token)
{
    struct gss_kex *kex = xcalloc(1, sizeof(*kex));

    kex->task = (struct helper_task){kex_work, kex_free};
    kex->settings = t->server->gss;
    kex->exchange = gss_exchange_new();
    buf_put(&kex->token, token);
    t->gss_job =
        helpers_run(t->server->helpers, t->server->loop, DEADLINE_MS, &kex->task, on_done, t);
}

/* ---- the message */

bool gss_kex_begin(struct transport *t, const struct packet *packet)
{
    struct reader r = reader_of(bytes_of(packet->payload + 1, packet->len - 1));
    struct bytes token, key;

    if (packet->payload[0] != SSH2_MSG_KEXGSS_INIT || t->server->gss == NULL ||
        t->session->next_crypto == NULL || !ssh_kex_is_gss(t->session->next_crypto))
        return false;
    token = reader_string(&r);
    key = reader_string(&r);
    if (!reader_end(&r) || token.len == 0 || token.len > GSS_TOKEN_MAX ||
        key.len > PUBLIC_KEY_MAX) {
        connection_violation(t, SSH2_DISCONNECT_PROTOCOL_ERROR, "malformed GSSAPI key exchange");
        return true;
    }
    /* libssh keeps the token of an exchange that fails: it gets an empty one. */
    buf_put_u8(&t->parked, SSH2_MSG_KEXGSS_INIT);
    buf_put_string(&t->parked, bytes_of(NULL, 0));
    buf_put_string(&t->parked, key);
    start(t, token);
    return true;
}

/* KEXGSS_HOSTKEY is optional (RFC 4462 section 2.1): the context authenticates us. OpenSSH's
 * patched client breaks on it, and no server of its kind sends it. */
static void without_host_key(ssh_session session)
{
    char **method = &session->next_crypto->kex_methods[SSH_HOSTKEYS];

    free(*method);
    *method = xstrdup("null");
    session->srv.hostkey = SSH_KEYTYPE_UNKNOWN;
}

void gss_kex_enter(struct transport *t)
{
    answering = t->gss;
    if (answering != NULL)
        without_host_key(t->session);
}

/* The context of the first exchange is the one that gssapi-keyex speaks of (RFC 4462 section 4). */
void gss_kex_leave(struct transport *t)
{
    struct gss_kex *kex = t->gss;

    answering = NULL;
    if (kex == NULL)
        return;
    if (t->session->gssapi != NULL) {
        t->session->gssapi->ctx = GSS_C_NO_CONTEXT;
        ssh_gssapi_free(t->session);
    }
    if (!t->keys && t->gss_first == NULL) {
        t->gss_first = kex->exchange;
        kex->exchange = NULL;
    }
    t->gss = NULL;
    kex_free(&kex->task);
}

void gss_kex_cancel(struct transport *t)
{
    helper_cancel(&t->gss_job);
}

void gss_kex_clear(struct transport *t)
{
    if (t->gss != NULL)
        kex_free(&t->gss->task);
    t->gss = NULL;
    gss_exchange_free(&t->gss_first);
}

#else

bool gss_kex_is_possible(void)
{
    return false;
}

char *gss_kex_offer(char *list)
{
    return list;
}

bool gss_kex_begin(struct transport *t, const struct packet *packet)
{
    (void)t;
    (void)packet;
    return false;
}

void gss_kex_enter(struct transport *t)
{
    (void)t;
}

void gss_kex_leave(struct transport *t)
{
    (void)t;
}

void gss_kex_cancel(struct transport *t)
{
    (void)t;
}

void gss_kex_clear(struct transport *t)
{
    (void)t;
}

#endif

struct gss_exchange *transport_take_gss(struct transport *t)
{
    struct gss_exchange *exchange = t->gss_first;

    t->gss_first = NULL;
    return exchange;
}
