/*
 * The client's forwarded agent: its keys are offered one after the other, without a signature; what
 * the server would take, the agent signs (RFC 4252 section 7).
 */
#include "endpoints/upstream/login_internal.h"

#include "base/alloc.h"
#include "base/words.h"

#include <stdlib.h>
#include <string.h>

#define OFFERS_MAX          20
#define SIGNATURE_MAX_BYTES 8192 /* RSA of 16,384 bits needs a quarter of it */

struct login_offers {
    struct agent *agent;
    struct buf blobs[OFFERS_MAX]; /* of the keys that can be offered */
    size_t count, next;           /* the offer under way is the one before `next` */
    struct login_offer now;
    bool probing; /* PK_OK has not come yet */
};

static void offer_next(struct login *login, struct bytes methods)
{
    struct login_offers *offers = login->offers;
    struct buf message = {0};

    login_offer_clear(&offers->now);
    if (offers->next == offers->count) {
        login_denied(login, methods);
        return;
    }
    if (!login_offer_init(login, buf_bytes(&offers->blobs[offers->next++]), &offers->now)) {
        offer_next(login, methods); /* at most OFFERS_MAX deep */
        return;
    }
    offers->probing = true;
    login_set_how(login, "agent", offers->now.print);
    login_put_offer(login, &message, &offers->now, false);
    login_send(login, &message);
}

/* ---- the agent */

static void on_keys(void *owner, const struct agent_key *keys, size_t count)
{
    struct login *login = owner;
    struct login_offers *offers = login->offers;

    for (size_t i = 0; i < count && offers->count < OFFERS_MAX; i++) {
        struct login_offer offer;

        if (login_offer_init(login, keys[i].blob, &offer))
            buf_put(&offers->blobs[offers->count++], keys[i].blob);
        login_offer_clear(&offer);
    }
    if (offers->count > 0)
        offer_next(login, BYTES("publickey"));
    else
        login_end(login, DISCONNECT_NO_MORE_AUTH_METHODS,
                  count > 0 ? "it takes none of the keys of the client's agent"
                            : "the client's agent has no keys");
}

/* An agent that does not know the flags signs with SHA-1; and it may be any program. */
static bool is_good(const struct login_offer *offer, struct bytes signature)
{
    struct reader r = reader_of(signature);

    return signature.len <= SIGNATURE_MAX_BYTES && bytes_are(reader_string(&r), offer->signed_by) &&
           reader_ok(&r);
}

static void on_signature(void *owner, struct bytes signature)
{
    struct login *login = owner;
    const struct login_offer *offer = &login->offers->now;
    struct buf message = {0};

    if (!is_good(offer, signature)) {
        offer_next(login, BYTES("publickey"));
        return;
    }
    login->offers->probing = false;
    login_put_offer(login, &message, offer, true);
    buf_put_string(&message, signature);
    login_send(login, &message);
}

static void on_agent_failed(void *owner, const char *why)
{
    struct login *login = owner;
    char *words;

    if (login->state != LOGIN_AGENT) { /* it may still be good for what is under way */
        agent_free(&login->offers->agent);
        return;
    }
    words = xasprintf("the client's agent: %s", why);
    login_end(login, DISCONNECT_NO_MORE_AUTH_METHODS, words);
    free(words);
}

/* ---- the server */

static void agent_begin(struct login *login)
{
    static const struct agent_events events = {on_keys, on_signature, on_agent_failed};
    int fd = login->start.agent(login->start.agent_owner);

    if (fd < 0) {
        login_end(login, DISCONNECT_NO_MORE_AUTH_METHODS, "the client forwards no agent");
        return;
    }
    login->offers = xcalloc(1, sizeof(*login->offers));
    login->offers->agent = agent_new(login->start.loop, fd, &events, login);
    login->state = LOGIN_AGENT;
    login_set_how(login, "agent", NULL);
    agent_list(login->offers->agent);
}

static void recv_pk_ok(struct login *login, struct bytes message)
{
    struct login_offers *offers = login->offers;
    const struct login_offer *offer = &offers->now;
    struct reader r = reader_of(message);
    struct bytes algorithm = reader_string(&r), blob = reader_string(&r);
    uint32_t flags = strcmp(offer->signed_by, "rsa-sha2-512") == 0   ? AGENT_RSA_SHA2_512
                     : strcmp(offer->signed_by, "rsa-sha2-256") == 0 ? AGENT_RSA_SHA2_256
                                                                     : 0;
    struct buf data = {0};

    if (!offers->probing || !reader_end(&r) || !bytes_are(algorithm, offer->algorithm) ||
        !bytes_equal(blob, offer->blob)) {
        login_fault(login, "it takes a key that was not offered");
        return;
    }
    if (offers->agent == NULL) {
        login_end(login, DISCONNECT_NO_MORE_AUTH_METHODS, "the client's agent has gone");
        return;
    }
    login_put_signed(login, &data, offer);
    login->state = LOGIN_AGENT;
    agent_sign(offers->agent, offer->blob, buf_bytes(&data), flags);
    buf_clear(&data);
}

static void agent_refused(struct login *login, struct bytes methods)
{
    if (list_has(methods, BYTES("publickey")))
        offer_next(login, methods);
    else
        login_denied(login, methods);
}

static void agent_clear(struct login *login)
{
    struct login_offers *offers = login->offers;

    login->offers = NULL;
    if (offers == NULL)
        return;
    agent_free(&offers->agent);
    for (size_t i = 0; i < OFFERS_MAX; i++)
        buf_clear(&offers->blobs[i]);
    login_offer_clear(&offers->now);
    free(offers);
}

const struct login_method login_agent = {
    .begin = agent_begin,
    .refused = agent_refused,
    .message = recv_pk_ok,
    .clear = agent_clear,
};
