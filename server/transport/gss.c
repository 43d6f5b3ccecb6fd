/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Straight on the GSSAPI library: libssh's own way answers inside its packet callback, so that
 * neither the keytab nor the policy could be waited for.
 */
#include "transport/gss.h"
#include "base/alloc.h"

#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The library takes them as not const, and leaves them alone. */
static gss_OID_desc kerberos = {9, (void *)"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"};
static gss_OID_set_desc only_kerberos = {1, &kerberos};

struct gss_exchange *gss_exchange_new(void)
{
    return xcalloc(1, sizeof(struct gss_exchange));
}

void gss_exchange_free(struct gss_exchange **where)
{
    struct gss_exchange *e = *where;
    OM_uint32 minor;

    *where = NULL;
    if (e == NULL)
        return;
    if (e->context != GSS_C_NO_CONTEXT)
        gss_delete_sec_context(&minor, &e->context, GSS_C_NO_BUFFER);
    if (e->credential != GSS_C_NO_CREDENTIAL)
        gss_release_cred(&minor, &e->credential);
    free(e->client);
    free(e->acceptor);
    free(e);
}

/* ---- what went wrong */

static void add_words(struct gss_exchange *e, OM_uint32 status, int type, gss_OID mechanism)
{
    gss_buffer_desc words = GSS_C_EMPTY_BUFFER;
    OM_uint32 minor, more = 0;
    size_t len = strlen(e->error);

    if (gss_display_status(&minor, status, type, mechanism, &more, &words) != GSS_S_COMPLETE)
        return;
    snprintf(e->error + len, sizeof(e->error) - len, ": %.*s", (int)words.length,
             (const char *)words.value);
    gss_release_buffer(&minor, &words);
}

static bool failed(struct gss_exchange *e, const char *what, OM_uint32 major, OM_uint32 minor)
{
    if (!GSS_ERROR(major))
        return false;
    snprintf(e->error, sizeof(e->error), "%s", what);
    add_words(e, major, GSS_C_GSS_CODE, GSS_C_NO_OID);
    if (minor != 0)
        add_words(e, minor, GSS_C_MECH_CODE, &kerberos);
    return true;
}

static enum gss_step fail(struct gss_exchange *e, const char *why)
{
    snprintf(e->error, sizeof(e->error), "%s", why);
    return GSS_STEP_FAILED;
}

const char *gss_exchange_error(const struct gss_exchange *e)
{
    return e->error;
}

/* ---- our credential */

static bool import_host(struct gss_exchange *e, const char *hostname, gss_name_t *name)
{
    char *text = xasprintf("host@%s", hostname);
    gss_buffer_desc buffer = {strlen(text), text};
    OM_uint32 minor;
    OM_uint32 major = gss_import_name(&minor, &buffer, GSS_C_NT_HOSTBASED_SERVICE, name);

    free(text);
    return !failed(e, "host name", major, minor);
}

bool gss_exchange_acquire(struct gss_exchange *e, const struct gss_settings *settings)
{
    gss_key_value_element_desc element = {"keytab", settings->keytab};
    gss_key_value_set_desc store = {settings->keytab ? 1 : 0, &element};
    gss_name_t name = GSS_C_NO_NAME;
    OM_uint32 major, minor, ignored;

    if (settings->hostname != NULL && !import_host(e, settings->hostname, &name))
        return false;
    major = gss_acquire_cred_from(&minor, name, GSS_C_INDEFINITE, &only_kerberos, GSS_C_ACCEPT,
                                  &store, &e->credential, NULL, NULL);
    gss_release_name(&ignored, &name);
    return !failed(e, "keytab", major, minor);
}

/* ---- the exchange */

static char *name_text(gss_name_t name)
{
    gss_buffer_desc display = GSS_C_EMPTY_BUFFER;
    OM_uint32 minor;
    char *text = NULL;

    if (gss_display_name(&minor, name, &display, NULL) != GSS_S_COMPLETE)
        return NULL;
    if (display.length > 0 && text_is_clean(bytes_of(display.value, display.length)))
        text = bytes_to_string(bytes_of(display.value, display.length));
    gss_release_buffer(&minor, &display);
    return text;
}

/* The acceptor's name is taken from the context: with several keys in the keytab it is the client's
 * choice. */
static bool learn_names(struct gss_exchange *e)
{
    gss_name_t client = GSS_C_NO_NAME, acceptor = GSS_C_NO_NAME;
    OM_uint32 minor, ignored;
    OM_uint32 major =
        gss_inquire_context(&minor, e->context, &client, &acceptor, NULL, NULL, NULL, NULL, NULL);

    if (!failed(e, "names", major, minor)) {
        e->client = name_text(client);
        e->acceptor = name_text(acceptor);
    }
    gss_release_name(&ignored, &client);
    gss_release_name(&ignored, &acceptor);
    return e->client != NULL && e->acceptor != NULL;
}

static enum gss_step complete(struct gss_exchange *e, gss_OID mechanism, OM_uint32 flags)
{
    if (mechanism == GSS_C_NO_OID || mechanism->length != kerberos.length ||
        memcmp(mechanism->elements, kerberos.elements, kerberos.length) != 0)
        return fail(e, "not Kerberos");
    if ((flags & GSS_C_INTEG_FLAG) == 0)
        return fail(e, "the client did not ask for integrity");
    if ((flags & GSS_C_ANON_FLAG) != 0)
        return fail(e, "the client is anonymous");
    if (!learn_names(e))
        return fail(e, "a principal has no name that can be written");
    if (strncmp(e->acceptor, "host/", 5) != 0)
        return fail(e, "the client's ticket is for a service that is not ours");
    e->flags = flags;
    e->done = true;
    return GSS_STEP_DONE;
}

enum gss_step gss_exchange_accept(struct gss_exchange *e, struct bytes token, struct buf *reply)
{
    gss_buffer_desc in = {token.len, (void *)token.data}, out = GSS_C_EMPTY_BUFFER;
    gss_OID mechanism = GSS_C_NO_OID;
    OM_uint32 major, minor, ignored, flags = 0;

    if (e->done)
        return fail(e, "a token after the last one");
    major =
        gss_accept_sec_context(&minor, &e->context, e->credential, &in, GSS_C_NO_CHANNEL_BINDINGS,
                               NULL, &mechanism, &out, &flags, NULL, NULL);
    buf_put(reply, bytes_of(out.value, out.length));
    gss_release_buffer(&ignored, &out);
    if (failed(e, "token", major, minor))
        return GSS_STEP_FAILED;
    if ((major & GSS_S_CONTINUE_NEEDED) != 0)
        return GSS_STEP_MORE;
    return complete(e, mechanism, flags);
}

bool gss_exchange_verify(struct gss_exchange *e, struct bytes data, struct bytes mic)
{
    gss_buffer_desc message = {data.len, (void *)data.data}, code = {mic.len, (void *)mic.data};
    OM_uint32 major, minor;

    if (!e->done) {
        fail(e, "no context");
        return false;
    }
    major = gss_verify_mic(&minor, e->context, &message, &code, NULL);
    if (failed(e, "message integrity code", major, minor))
        return false;
    /* Duplicate, old or out of sequence: informational bits, but nothing is to be replayed here. */
    return major == GSS_S_COMPLETE;
}

const char *gss_exchange_client(const struct gss_exchange *e)
{
    return e->client;
}

const char *gss_exchange_acceptor(const struct gss_exchange *e)
{
    return e->acceptor;
}
