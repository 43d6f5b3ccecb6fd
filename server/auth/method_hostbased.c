/*
 * RFC 4252 section 9: the client's host vouches for its user with the host's own key. Two names of
 * that host matter: the one that the peer address resolves to, and the one that the client claims.
 * The policy is asked about the key first, as about an offer: the signature is looked at only when
 * the key is that host's, and the user is asked about only when the signature is good.
 */
#include "auth/internal.h"

#include "auth/describe.h"
#include "base/address.h"
#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define NAME_DEADLINE_MS  5000 /* then the address is all we know */
#define HOST_NAME_MAX_LEN 255
#define CLIENT_USER_MAX   USER_NAME_MAX_BYTES

/* What the client sent, borrowed from auth->request.rest. */
struct vouching {
    struct bytes algorithm, blob, host, user, signature;
};

/* The request's dialogue with the resolver and the policy. */
struct hostbased {
    char *claimed_host; /* without a trailing dot */
    char *client_user;
};

static bool parse_vouching(struct auth *auth, struct vouching *v)
{
    struct reader r = reader_of(buf_bytes(&auth->request.rest));

    v->algorithm = reader_string(&r);
    v->blob = reader_string(&r);
    v->host = reader_string(&r);
    v->user = reader_string(&r);
    v->signature = reader_string(&r);
    return reader_end(&r);
}

static void hostbased_free(void *dialogue)
{
    struct hostbased *h = dialogue;

    free(h->claimed_host);
    free(h->client_user);
    free(h);
}

/* The name that counts: for a certificate's principal, and as what was proven. */
static const char *host_that_counts(const struct auth *auth)
{
    const struct hostbased *h = auth->request.dialogue;

    return auth->settings.hostbased_trust_claimed_host ? h->claimed_host : auth->peer_name;
}

/* ---- the signature (RFC 4252 section 9) */

static bool verify_signature(struct auth *auth, const struct vouching *v)
{
    const struct certificate *certificate = auth->request.certificate;
    struct bytes algorithm = v->algorithm;
    struct buf data = {0};
    bool good;

    if (certificate != NULL)
        algorithm = bytes_of_string(certificate_allows(certificate, v->algorithm));
    buf_put_string(&data, transport_session_id(auth->transport));
    buf_put_u8(&data, MSG_USERAUTH_REQUEST);
    buf_put_cstring(&data, auth->request.user);
    buf_put_cstring(&data, "ssh-connection");
    buf_put_string(&data, buf_bytes(&auth->request.name));
    buf_put_string(&data, v->algorithm);
    buf_put_string(&data, v->blob);
    buf_put_string(&data, v->host);
    buf_put_string(&data, v->user);
    good = public_key_verify(auth->request.key, algorithm, v->signature, buf_bytes(&data), NULL);
    buf_clear(&data);
    return good;
}

/* ---- the certificate (OpenSSH PROTOCOL.certkeys), once its authority is trusted */

static const char *refuse_certificate(const struct auth *auth)
{
    const struct certificate *certificate = auth->request.certificate;

    if (certificate == NULL)
        return NULL;
    if (certificate->kind != CERTIFICATE_HOST)
        return "not a host certificate";
    if (!certificate_is_valid_at(certificate, (uint64_t)time(NULL)))
        return "the host certificate is not valid now";
    if (certificate->critical.count > 0) /* none is defined for hosts */
        return "the host certificate has a critical option";
    if (!certificate_names(certificate, bytes_of_string(host_that_counts(auth))))
        return "the host certificate is not for this host";
    return NULL;
}

/* ---- the user of that host, the last question */

static void accept_user(struct auth *auth, const Policy__AuthAnswer *answer)
{
    const struct hostbased *h = auth->request.dialogue;
    Policy__Factor factor = POLICY__FACTOR__INIT;
    struct described_key key;
    struct described_certificate certificate;

    describe_key(&key, auth->request.key);
    factor.method = POLICY__AUTH_METHOD__AUTH_METHOD_HOSTBASED;
    factor.key = &key.key;
    factor.client_host = (char *)host_that_counts(auth);
    factor.client_user = h->client_user;
    if (auth->request.certificate != NULL) {
        describe_certificate(&certificate, auth->request.certificate);
        factor.certificate = &certificate.certificate;
    }
    log_info(asker_connection_id(auth->asker), "host_accepted",
             log_str("fingerprint", key.key.fingerprint), log_str("host", factor.client_host),
             log_str("client_user", h->client_user));
    auth_accept(auth, &factor, answer);
    if (factor.certificate != NULL)
        described_certificate_clear(&certificate);
    described_key_clear(&key);
}

static void on_user_verdict(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct auth *auth = owner;
    const struct hostbased *h = auth->request.dialogue;
    const Policy__AuthAnswer *answer = (const Policy__AuthAnswer *)message;
    bool allowed = outcome == ANSWERED && auth_answer_is_yes(answer);

    auth->asking = NULL;
    if (outcome == ABSENT && strcmp(h->client_user, auth->request.user) == 0)
        accept_user(auth, NULL);
    else if (allowed)
        accept_user(auth, answer);
    else
        auth_refuse(auth, outcome, answer);
}

static void ask_about_user(struct auth *auth)
{
    Policy__ValidateHostBasedUserRequest question = POLICY__VALIDATE_HOST_BASED_USER_REQUEST__INIT;
    struct hostbased *h = auth->request.dialogue;

    question.resolved_host = auth->peer_name;
    question.claimed_host = h->claimed_host;
    question.client_user = h->client_user;
    auth->asking = asker_ask(auth->asker, RPC_VALIDATE_HOST_BASED_USER, &question.base, 0,
                             on_user_verdict, auth);
}

/* ---- the host's key or authority, the first question */

static void prove_host(struct auth *auth, const Policy__AuthAnswer *answer)
{
    const char *why = refuse_certificate(auth);
    struct vouching v;

    parse_vouching(auth, &v); /* it parsed before it was asked about */
    if (why == NULL && !verify_signature(auth, &v))
        why = "the host's signature does not verify";
    if (why != NULL) {
        auth_fail(auth, why);
        return;
    }
    auth_note_yes(auth, answer);
    ask_about_user(auth);
}

static void on_host_verdict(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct auth *auth = owner;
    const Policy__AuthAnswer *answer = (const Policy__AuthAnswer *)message;

    auth->asking = NULL;
    if (outcome == ANSWERED && auth_answer_is_yes(answer))
        prove_host(auth, answer);
    else
        auth_refuse(auth, outcome, answer);
}

/* Of an answer about a key that is not proven yet only the yes is used at once (ASK_PROBE); what it
 * restricts waits for the end of the request. */
static void ask_about_host(struct auth *auth)
{
    Policy__ValidateHostKeyRequest question = POLICY__VALIDATE_HOST_KEY_REQUEST__INIT;
    const struct hostbased *h = auth->request.dialogue;
    bool certified = auth->request.certificate != NULL;
    struct described_certificate certificate;
    struct described_key key;

    describe_key(&key, auth->request.key);
    question.resolved_host = auth->peer_name;
    question.claimed_host = h->claimed_host;
    question.key = &key.key;
    if (certified) {
        describe_certificate(&certificate, auth->request.certificate);
        question.key = certificate.certificate.ca;
        question.certificate = &certificate.certificate;
    }
    auth->asking =
        asker_ask(auth->asker, certified ? RPC_VALIDATE_HOST_CA_KEY : RPC_VALIDATE_HOST_PUBLIC_KEY,
                  &question.base, ASK_PROBE, on_host_verdict, auth);
    if (certified)
        described_certificate_clear(&certificate);
    described_key_clear(&key);
}

/* ---- the name of the peer, looked up once a connection */

static void compare_names(struct auth *auth)
{
    const struct hostbased *h = auth->request.dialogue;

    if (strcasecmp(auth->peer_name, h->claimed_host) == 0 ||
        auth->settings.hostbased_trust_claimed_host) {
        ask_about_host(auth);
        return;
    }
    log_warn(asker_connection_id(auth->asker), "host_names_differ",
             log_str("resolved", auth->peer_name), log_str("claimed", h->claimed_host));
    auth_fail(auth, "the client's host is not the one that it claims to be");
}

struct name_task {
    struct helper_task task;
    char *(*host_name)(const char *ip);
    char *ip, *name;
};

static void name_work(struct helper_task *task)
{
    struct name_task *work = (struct name_task *)task;

    work->name = work->host_name(work->ip);
}

static void name_free(struct helper_task *task)
{
    struct name_task *work = (struct name_task *)task;

    free(work->ip);
    free(work->name);
    free(work);
}

static void on_name(void *owner, enum helper_outcome outcome, struct helper_task *task)
{
    struct auth *auth = owner;

    auth->helping = NULL;
    if (outcome == HELPER_DONE) {
        struct name_task *work = (struct name_task *)task;

        auth->peer_name = work->name;
        work->name = NULL;
    } else {
        log_warn(asker_connection_id(auth->asker), "host_name_unknown",
                 log_str("peer", auth->peer_ip), log_str("why", helper_outcome_name(outcome)));
        auth->peer_name = xstrdup(auth->peer_ip);
    }
    compare_names(auth);
}

static void look_up_name(struct auth *auth)
{
    struct name_task *work;

    if (auth->peer_name != NULL) {
        compare_names(auth);
        return;
    }
    work = xcalloc(1, sizeof(*work));
    work->task = (struct helper_task){name_work, name_free};
    work->host_name = auth->settings.help.host_name;
    work->ip = xstrdup(auth->peer_ip);
    auth->helping = helpers_run(auth->settings.help.helpers, auth->settings.help.loop,
                                NAME_DEADLINE_MS, &work->task, on_name, auth);
}

/* ---- the request */

/* NULL, or why nobody needs to be asked about it. */
static const char *take_key(struct auth *auth, const struct vouching *v)
{
    struct auth_request *request = &auth->request;
    const char *why = NULL;

    if (certificate_is_claimed(v->blob)) {
        request->certificate = certificate_parse(v->blob, &why);
        if (request->certificate == NULL)
            return why;
        request->key = request->certificate->key;
        if (certificate_allows(request->certificate, v->algorithm) == NULL)
            return "the certificate's algorithm is not accepted here";
        if (!certificate_verify(request->certificate))
            return "the certificate is not signed by its authority";
    } else {
        request->key = public_key_parse(v->blob);
        if (request->key == NULL || !public_key_allows(request->key, v->algorithm))
            return "key or algorithm not accepted here";
    }
    if (strncmp(public_key_type(request->key), "sk-", 3) == 0)
        return "a security key is no host's key";
    if (auth_key_is_revoked(auth))
        return "the key is revoked";
    return NULL;
}

/* Both names go into questions, so they must be text. */
static const char *take_names(struct auth *auth, const struct vouching *v)
{
    struct bytes host = v->host;
    struct hostbased *h;

    if (host.len > 0 && host.data[host.len - 1] == '.')
        host.len--;
    if (host.len == 0 || host.len > HOST_NAME_MAX_LEN || !text_is_clean(host))
        return "illegal host name";
    if (v->user.len > CLIENT_USER_MAX || !text_is_clean(v->user))
        return "illegal user name on the client's host";
    h = xcalloc(1, sizeof(*h));
    h->claimed_host = bytes_to_string(host);
    h->client_user = bytes_to_string(v->user);
    auth->request.dialogue = h;
    auth->request.dialogue_free = hostbased_free;
    return NULL;
}

void hostbased_run(struct auth *auth)
{
    struct vouching v;
    const char *why;

    if (!parse_vouching(auth, &v)) {
        auth_fault(auth, DISCONNECT_PROTOCOL_ERROR, "Malformed hostbased request");
        return;
    }
    why = take_names(auth, &v);
    if (why == NULL)
        why = take_key(auth, &v);
    if (why != NULL)
        auth_fail(auth, why);
    else
        look_up_name(auth);
}
