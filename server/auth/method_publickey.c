/*
 * RFC 4252 section 7, and publickey-hostbound-v00@openssh.com (OpenSSH PROTOCOL section 3.1). An
 * offered key is not a proven key: the policy is asked about both, a probe's answer is good for
 * PK_OK only, and nothing of it is kept.
 */
#include "auth/certificate.h"
#include "auth/describe.h"
#include "auth/internal.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What the client sent, borrowed from auth->request.rest. */
struct offer {
    bool is_signed;
    struct bytes algorithm, blob, host_key, signature;
    bool host_bound;
};

static bool parse_offer(struct auth *auth, struct offer *offer)
{
    struct reader r = reader_of(buf_bytes(&auth->request.rest));

    *offer = (struct offer){0};
    offer->host_bound = !bytes_are(buf_bytes(&auth->request.name), "publickey");
    offer->is_signed = reader_bool(&r);
    offer->algorithm = reader_string(&r);
    offer->blob = reader_string(&r);
    if (offer->host_bound)
        offer->host_key = reader_string(&r);
    if (offer->is_signed)
        offer->signature = reader_string(&r);
    return reader_end(&r);
}

/* RFC 4252 section 7: the session, then the request up to the signature. */
static void put_signed_data(struct buf *out, struct auth *auth, const struct offer *offer)
{
    buf_put_string(out, transport_session_id(auth->transport));
    buf_put_u8(out, MSG_USERAUTH_REQUEST);
    buf_put_cstring(out, auth->request.user);
    buf_put_cstring(out, "ssh-connection");
    buf_put_string(out, buf_bytes(&auth->request.name));
    buf_put_bool(out, true);
    buf_put_string(out, offer->algorithm);
    buf_put_string(out, offer->blob);
    if (offer->host_bound)
        buf_put_string(out, offer->host_key);
}

/* What a signature of this offer must be made with; a certificate's name stands for another. */
static struct bytes signature_algorithm(const struct auth *auth, const struct offer *offer)
{
    if (auth->request.certificate == NULL)
        return offer->algorithm;
    return bytes_of_string(certificate_allows(auth->request.certificate, offer->algorithm));
}

static bool verify_signature(struct auth *auth, const struct offer *offer)
{
    struct buf data = {0};
    bool good;

    if (offer->host_bound &&
        !bytes_equal(offer->host_key, transport_host_key_used(auth->transport)))
        return false;
    put_signed_data(&data, auth, offer);
    good = public_key_verify(auth->request.key, signature_algorithm(auth, offer), offer->signature,
                             buf_bytes(&data), &auth->request.facts);
    buf_clear(&data);
    return good;
}

/* ---- the credential */

static const char *take_certificate(struct auth_request *request, const struct offer *offer)
{
    const char *why;

    request->certificate = certificate_parse(offer->blob, &why);
    if (request->certificate == NULL)
        return why;
    request->key = request->certificate->key;
    if (certificate_allows(request->certificate, offer->algorithm) == NULL)
        return "the certificate's algorithm is not accepted here";
    if (!certificate_verify(request->certificate))
        return "the certificate is not signed by its authority, or with an algorithm that is not "
               "accepted here";
    return NULL;
}

static struct key_offered offered_key(const struct auth *auth)
{
    return (struct key_offered){
        .key = auth->request.key,
        .certificate = auth->request.certificate,
        .user = auth->request.user,
        .peer_ip = auth->peer_ip,
        .now_s = (uint64_t)time(NULL),
    };
}

bool auth_key_is_revoked(struct auth *auth)
{
    struct key_offered offered = offered_key(auth);

    return key_lists_revoke(&auth->lists, &offered, asker_connection_id(auth->asker));
}

/* NULL, or why nobody needs to be asked about it. */
static const char *take_credential(struct auth *auth, const struct offer *offer)
{
    struct auth_request *request = &auth->request;
    const char *why = NULL;

    if (certificate_is_claimed(offer->blob)) {
        why = take_certificate(request, offer);
    } else {
        request->key = public_key_parse(offer->blob);
        if (request->key == NULL || !public_key_allows(request->key, offer->algorithm))
            why = "key or algorithm not accepted here";
    }
    if (why == NULL && auth_key_is_revoked(auth))
        why = "the key is revoked";
    if (why == NULL && offer->is_signed && !verify_signature(auth, offer))
        why = "signature does not verify";
    return why;
}

/* Of a certificate whose authority the policy trusts: all that the authority wrote into it. */
static const char *check_certificate(struct auth *auth)
{
    struct certificate_use use = {
        .user = auth->request.user,
        .peer_ip = auth->peer_ip,
        .now_s = (uint64_t)time(NULL),
    };

    if (auth->request.certificate == NULL || auth->request.line != 0)
        return NULL;
    return certificate_accept(auth->request.certificate, &use, &auth->request.credential);
}

/* ---- answers */

static void send_pk_ok(struct auth *auth)
{
    struct offer offer;
    struct buf reply = {0};

    parse_offer(auth, &offer); /* it parsed before it was asked about */
    auth_flush_banners(auth);
    buf_put_u8(&reply, MSG_USERAUTH_PK_OK);
    buf_put_string(&reply, offer.algorithm);
    buf_put_string(&reply, offer.blob);
    transport_send(auth->transport, buf_bytes(&reply));
    buf_clear(&reply);
    auth_request_end(auth);
}

static void accept_probe(struct auth *auth)
{
    const char *why = check_certificate(auth);

    if (why != NULL)
        auth_fail(auth, why);
    else
        send_pk_ok(auth);
}

static void on_probe_verdict(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct auth *auth = owner;
    const Policy__AuthAnswer *answer = (const Policy__AuthAnswer *)message;

    auth->asking = NULL;
    if (outcome != ANSWERED)
        auth_no_answer(auth, outcome);
    else if (answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_ALLOW ||
             answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_PARTIAL)
        accept_probe(auth);
    else if (answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_DENY)
        auth_deny(auth, answer->deny);
    else
        auth_no_answer(auth, UNAVAILABLE);
}

/* Security keys: a signature without touch is refused unless everything that speaks of the key says
 * otherwise (OpenSSH PROTOCOL.u2f): a certificate and the line that trusts it, or this answer. */
static bool touch_suffices(const struct auth *auth, const Policy__Restrictions *r)
{
    const struct auth_request *request = &auth->request;
    bool said = request->credential.count > 0;

    if (strncmp(public_key_type(request->key), "sk-", 3) != 0 || request->facts.user_present)
        return true;
    return said ? grant_touch_not_required(&request->credential)
                : r != NULL && r->touch_not_required;
}

static bool verification_suffices(const struct auth *auth, const Policy__Restrictions *r)
{
    bool wanted = grant_verify_required(auth->grant) ||
                  grant_verify_required(&auth->request.credential) ||
                  (r != NULL && r->verify_required);

    return !wanted || auth->request.facts.user_verified;
}

static void log_accepted(const struct auth *auth, const Policy__Factor *factor)
{
    const Policy__Certificate *c = factor->certificate;
    size_t line = auth->request.line;

    log_info(asker_connection_id(auth->asker), "key_accepted",
             log_str("fingerprint", factor->key->fingerprint),
             c ? log_str("key_id", c->key_id) : log_none(),
             c ? log_u64("serial", c->serial) : log_none(),
             c ? log_str("ca", c->ca->fingerprint) : log_none(),
             line ? log_u64("line", line) : log_none());
}

/* The factor is passed, with an allow, with a partial success, or, where nobody was asked, with
 * neither. */
static void pass_key(struct auth *auth, const Policy__Allow *allow,
                     const Policy__PartialSuccess *partial)
{
    const struct certificate *certificate = auth->request.certificate;
    Policy__Factor factor = POLICY__FACTOR__INIT;
    struct described_key key;
    struct described_certificate described;

    describe_key(&key, auth->request.key);
    factor.method = POLICY__AUTH_METHOD__AUTH_METHOD_PUBLICKEY;
    factor.key = &key.key;
    if (certificate != NULL) {
        describe_certificate(&described, certificate);
        factor.certificate = &described.certificate;
    }
    log_accepted(auth, &factor);
    if (partial != NULL)
        auth_partly(auth, &factor, partial);
    else
        auth_succeed(auth, &factor, allow);
    if (factor.certificate != NULL)
        described_certificate_clear(&described);
    described_key_clear(&key);
}

/* Proven, and listed, or allowed (whole or in part) by the policy. */
static void accept_key(struct auth *auth, const Policy__Allow *allow,
                       const Policy__PartialSuccess *partial)
{
    const Policy__Restrictions *r = allow     ? allow->restrictions
                                    : partial ? partial->restrictions
                                              : NULL;
    const char *why = check_certificate(auth);

    if (why == NULL && !touch_suffices(auth, r))
        why = "the security key was not touched";
    if (why == NULL && !verification_suffices(auth, r))
        why = "the key did not verify its user";
    if (why != NULL)
        auth_fail(auth, why);
    else
        pass_key(auth, allow, partial);
}

static void on_proven_verdict(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct auth *auth = owner;
    const Policy__AuthAnswer *answer = (const Policy__AuthAnswer *)message;

    auth->asking = NULL;
    if (outcome != ANSWERED)
        auth_no_answer(auth, outcome);
    else if (answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_DENY)
        auth_deny(auth, answer->deny);
    else if (answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_ALLOW)
        accept_key(auth, answer->allow, NULL);
    else if (answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_PARTIAL)
        accept_key(auth, NULL, answer->partial);
    else
        auth_no_answer(auth, UNAVAILABLE);
}

/* ---- the request */

static void ask(struct auth *auth, const struct offer *offer, enum rpc rpc,
                ProtobufCMessage *question)
{
    auth->asking = asker_ask(auth->asker, rpc, question, offer->is_signed ? 0 : ASK_PROBE,
                             offer->is_signed ? on_proven_verdict : on_probe_verdict, auth);
}

static void ask_about_key(struct auth *auth, const struct offer *offer, Policy__KeyUse *use)
{
    Policy__ValidatePublicKeyRequest question = POLICY__VALIDATE_PUBLIC_KEY_REQUEST__INIT;
    struct described_key key;

    describe_key(&key, auth->request.key);
    question.key = &key.key;
    question.use = use;
    ask(auth, offer, RPC_VALIDATE_PUBLIC_KEY, &question.base);
    described_key_clear(&key);
}

static void ask_about_authority(struct auth *auth, const struct offer *offer, Policy__KeyUse *use)
{
    Policy__ValidateCaKeyRequest question = POLICY__VALIDATE_CA_KEY_REQUEST__INIT;
    struct described_key key;
    struct described_certificate certificate;

    describe_key(&key, auth->request.key);
    describe_certificate(&certificate, auth->request.certificate);
    question.ca = certificate.certificate.ca;
    question.key = &key.key;
    question.certificate = &certificate.certificate;
    question.use = use;
    ask(auth, offer, RPC_VALIDATE_CA_KEY, &question.base);
    described_certificate_clear(&certificate);
    described_key_clear(&key);
}

static void ask_policy(struct auth *auth, const struct offer *offer)
{
    Policy__KeyUse use = POLICY__KEY_USE__INIT;

    use.phase =
        offer->is_signed ? POLICY__KEY_PHASE__KEY_PHASE_PROVEN : POLICY__KEY_PHASE__KEY_PHASE_PROBE;
    use.signature_algorithm = bytes_to_string(signature_algorithm(auth, offer));
    use.user_present = auth->request.facts.user_present;
    use.user_verified = auth->request.facts.user_verified;
    if (auth->request.certificate != NULL)
        ask_about_authority(auth, offer, &use);
    else
        ask_about_key(auth, offer, &use);
    free(use.signature_algorithm);
}

/* Nobody is asked about a key that BeginAuth handed over. False: it did not. */
static bool run_listed(struct auth *auth, const struct offer *offer)
{
    struct key_offered offered = offered_key(auth);
    struct key_verdict verdict = key_lists_find(&auth->lists, &offered, &auth->request.credential,
                                                asker_connection_id(auth->asker));

    if (verdict.standing == KEY_UNLISTED)
        return false;
    auth->request.line = verdict.line;
    if (verdict.standing == KEY_REFUSED)
        auth_fail(auth, verdict.why);
    else if (offer->is_signed)
        accept_key(auth, NULL, NULL);
    else
        accept_probe(auth);
    return true;
}

void publickey_run(struct auth *auth)
{
    struct offer offer;
    const char *why;

    if (!parse_offer(auth, &offer)) {
        auth_fault(auth, DISCONNECT_PROTOCOL_ERROR, "Malformed publickey request");
        return;
    }
    why = take_credential(auth, &offer);
    if (why != NULL)
        auth_fail(auth, why);
    else if (!run_listed(auth, &offer))
        ask_policy(auth, &offer);
}
