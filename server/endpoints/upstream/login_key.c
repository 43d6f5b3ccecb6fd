/* A private key, with its certificate if it has one: RFC 4252 section 7, RFC 8332, and
 * publickey-hostbound-v00@openssh.com (OpenSSH PROTOCOL section 3.1) where the server knows it. */
#include "endpoints/upstream/login_internal.h"

#include "base/alloc.h"
#include "base/words.h"

#include <stdlib.h>
#include <string.h>

#define CERTIFICATE_SUFFIX "-cert-v01@openssh.com"

/* ---- what is offered */

/* A server that does not say what it takes takes the better one, or is older than SHA-2 here. */
static const char *rsa_algorithm(const struct login *login)
{
    static const char *const names[] = {"rsa-sha2-512", "rsa-sha2-256"};
    struct bytes list = bytes_of_string(login->algorithms);

    if (login->algorithms == NULL)
        return names[0];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char *certified = xasprintf("%s" CERTIFICATE_SUFFIX, names[i]);
        bool known =
            list_has(list, bytes_of_string(names[i])) || list_has(list, bytes_of_string(certified));

        free(certified);
        if (known)
            return names[i];
    }
    return NULL;
}

/* `type`: of the certificate; NULL: it is a bare key. */
static bool choose(const struct login *login, const struct public_key *key, const char *type,
                   struct login_offer *offer)
{
    const char *plain = public_key_type(key);

    if (strcmp(plain, "ssh-rsa") == 0) {
        offer->signed_by = rsa_algorithm(login);
        if (offer->signed_by == NULL)
            return false;
        offer->algorithm = xasprintf("%s%s", offer->signed_by, type ? CERTIFICATE_SUFFIX : "");
    } else {
        offer->signed_by = plain;
        offer->algorithm = xstrdup(type ? type : plain);
    }
    offer->print = public_key_fingerprint(key);
    return true;
}

bool login_offer_init(const struct login *login, struct bytes blob, struct login_offer *offer)
{
    struct certificate *certificate = NULL;
    struct public_key *key = NULL;
    const char *why;
    bool ok = false;

    *offer = (struct login_offer){.blob = blob};
    if (certificate_is_claimed(blob))
        certificate = certificate_parse(blob, &why);
    else
        key = public_key_parse(blob);
    if (certificate != NULL)
        ok = choose(login, certificate->key, certificate->type, offer);
    else if (key != NULL)
        ok = choose(login, key, NULL, offer);
    certificate_free(&certificate);
    public_key_free(&key);
    return ok;
}

void login_offer_clear(struct login_offer *offer)
{
    free(offer->algorithm);
    free(offer->print);
    *offer = (struct login_offer){0};
}

void login_put_offer(const struct login *login, struct buf *out, const struct login_offer *offer,
                     bool is_signed)
{
    login_put_request(login, out,
                      login->host_bound ? "publickey-hostbound-v00@openssh.com" : "publickey");
    buf_put_bool(out, is_signed);
    buf_put_cstring(out, offer->algorithm);
    buf_put_string(out, offer->blob);
    if (login->host_bound)
        buf_put_string(out, transport_host_key_used(login->start.transport));
}

void login_put_signed(const struct login *login, struct buf *out, const struct login_offer *offer)
{
    buf_put_string(out, transport_session_id(login->start.transport));
    login_put_offer(login, out, offer, true);
}

/* ---- a key of our own: signed at once */

static void send_signed(struct login *login, const struct login_offer *offer)
{
    struct buf data = {0}, signature = {0}, message = {0};

    login_put_signed(login, &data, offer);
    if (!private_key_sign(login->start.hop->key, offer->signed_by, buf_bytes(&data), &signature)) {
        login_end(login, DISCONNECT_NO_MORE_AUTH_METHODS, "the private key could not sign");
    } else {
        login_set_how(login, "publickey", offer->print);
        login_put_offer(login, &message, offer, true);
        buf_put_string(&message, buf_bytes(&signature));
        login_send(login, &message);
    }
    buf_clear(&data);
    buf_clear(&signature);
}

static void key_begin(struct login *login)
{
    const struct hop *hop = login->start.hop;
    struct bytes blob = hop->certificate.len > 0 ? buf_bytes(&hop->certificate)
                                                 : public_key_blob(private_key_public(hop->key));
    struct login_offer offer;

    if (login_offer_init(login, blob, &offer))
        send_signed(login, &offer);
    else
        login_end(login, DISCONNECT_NO_MORE_AUTH_METHODS,
                  "it takes no safe signature of this kind of key");
    login_offer_clear(&offer);
}

const struct login_method login_key = {
    .begin = key_begin,
    .refused = login_denied,
};
