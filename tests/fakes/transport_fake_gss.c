/* GSSAPI of the fake transport: tokens are words, a code is what it covers. Runs on helpers, as the
 * real one does. */
#include "fakes/transport_fake.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct gss_exchange {
    bool acquired, done;
    atomic_bool busy; /* inside a function: nobody else may be */
    char *client, *acceptor;
};

static atomic_int alive;

int fake_gss_alive(void)
{
    return atomic_load(&alive);
}

struct gss_exchange *gss_exchange_new(void)
{
    atomic_fetch_add(&alive, 1);
    return xcalloc(1, sizeof(struct gss_exchange));
}

void gss_exchange_free(struct gss_exchange **where)
{
    struct gss_exchange *e = *where;

    *where = NULL;
    if (e == NULL)
        return;
    assert(!atomic_load(&e->busy));
    free(e->client);
    free(e->acceptor);
    free(e);
    atomic_fetch_sub(&alive, 1);
}

static void enter(struct gss_exchange *e)
{
    bool was = atomic_exchange(&e->busy, true);

    assert(!was);
}

static void leave(struct gss_exchange *e)
{
    atomic_store(&e->busy, false);
}

bool gss_exchange_acquire(struct gss_exchange *e, const struct gss_settings *settings)
{
    enter(e);
    e->acquired = settings->keytab == NULL || strcmp(settings->keytab, FAKE_GSS_NO_KEYTAB) != 0;
    leave(e);
    return e->acquired;
}

static enum gss_step step(struct gss_exchange *e, struct bytes token, struct buf *reply)
{
    if (!e->acquired || e->done || !text_is_clean(token))
        return GSS_STEP_FAILED;
    if (bytes_are(token, FAKE_GSS_MORE)) {
        buf_put(reply, BYTES(FAKE_GSS_REPLY));
        return GSS_STEP_MORE;
    }
    if (token.len <= 6 || memcmp(token.data, "final:", 6) != 0) {
        buf_put(reply, BYTES(FAKE_GSS_ERROR));
        return GSS_STEP_FAILED;
    }
    buf_put(reply, BYTES(FAKE_GSS_REPLY));
    e->client = bytes_to_string(bytes_of(token.data + 6, token.len - 6));
    e->acceptor = xstrdup(FAKE_GSS_ACCEPTOR);
    e->done = true;
    return GSS_STEP_DONE;
}

enum gss_step gss_exchange_accept(struct gss_exchange *e, struct bytes token, struct buf *reply)
{
    enum gss_step result;

    enter(e);
    result = step(e, token, reply);
    leave(e);
    return result;
}

bool gss_exchange_verify(struct gss_exchange *e, struct bytes data, struct bytes mic)
{
    bool good;

    enter(e);
    good = e->done && bytes_equal(data, mic);
    leave(e);
    return good;
}

const char *gss_exchange_client(const struct gss_exchange *e)
{
    return e->client;
}

const char *gss_exchange_acceptor(const struct gss_exchange *e)
{
    return e->acceptor;
}

const char *gss_exchange_error(const struct gss_exchange *e)
{
    (void)e;
    return "fake";
}

static struct gss_exchange *of_key_exchange;

void fake_gss_key_exchange(const char *client)
{
    of_key_exchange = gss_exchange_new();
    of_key_exchange->acquired = of_key_exchange->done = true;
    of_key_exchange->client = xstrdup(client);
    of_key_exchange->acceptor = xstrdup(FAKE_GSS_ACCEPTOR);
}

struct gss_exchange *transport_take_gss(struct transport *transport)
{
    struct gss_exchange *exchange = of_key_exchange;

    (void)transport;
    of_key_exchange = NULL;
    return exchange;
}
