/*
 * RFC 4252 section 7, and publickey-hostbound-v00@openssh.com (OpenSSH PROTOCOL section 3.1). An
 * offered key is not a proven key: the policy is asked about both, a probe's answer is good for
 * PK_OK only, and nothing of it is kept.
 */
#include "auth/internal.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

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

static bool verify_signature(struct auth *auth, const struct offer *offer)
{
    struct buf data = {0};
    bool good;

    if (offer->host_bound &&
        !bytes_equal(offer->host_key, transport_host_key_used(auth->transport)))
        return false;
    put_signed_data(&data, auth, offer);
    good = public_key_verify(auth->request.key, offer->algorithm, offer->signature,
                             buf_bytes(&data), &auth->request.facts);
    buf_clear(&data);
    return good;
}

/* ---- the key as the contract describes it */

struct described {
    Policy__PublicKey key;
    char *fingerprint, *openssh;
};

static void describe(struct described *out, const struct public_key *key)
{
    struct bytes blob = public_key_blob(key);

    policy__public_key__init(&out->key);
    out->fingerprint = public_key_fingerprint(key);
    out->openssh = public_key_openssh(key);
    out->key.algorithm = (char *)public_key_type(key);
    out->key.blob.data = (uint8_t *)blob.data;
    out->key.blob.len = blob.len;
    out->key.fingerprint = out->fingerprint;
    out->key.openssh = out->openssh;
    out->key.bits = public_key_bits(key);
}

static void described_clear(struct described *described)
{
    free(described->fingerprint);
    free(described->openssh);
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

static void on_probe_verdict(void *owner, enum outcome outcome, const ProtobufCMessage *message)
{
    struct auth *auth = owner;
    const Policy__AuthAnswer *answer = (const Policy__AuthAnswer *)message;

    auth->asking = NULL;
    if (outcome != ANSWERED)
        auth_no_answer(auth, outcome);
    else if (answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_ALLOW ||
             answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_PARTIAL)
        send_pk_ok(auth);
    else
        auth_fail(auth, "key not acceptable to the policy");
}

/* Security keys: a signature without touch is refused unless this answer says otherwise (OpenSSH
 * PROTOCOL.u2f). */
static bool touch_suffices(struct auth *auth, const Policy__Restrictions *r)
{
    bool verify = grant_verify_required(auth->grant) || (r != NULL && r->verify_required);
    bool security_key = strncmp(public_key_type(auth->request.key), "sk-", 3) == 0;

    if (security_key && !auth->request.facts.user_present && (r == NULL || !r->touch_not_required))
        return false;
    return !verify || (security_key && auth->request.facts.user_verified);
}

static void accept_key(struct auth *auth, const Policy__AuthAnswer *answer)
{
    bool whole = answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_ALLOW;
    Policy__Factor factor = POLICY__FACTOR__INIT;
    struct described described;

    if (!touch_suffices(auth,
                        whole ? answer->allow->restrictions : answer->partial->restrictions)) {
        auth_fail(auth, "the security key was not touched, or did not verify its user");
        return;
    }
    describe(&described, auth->request.key);
    factor.method = POLICY__AUTH_METHOD__AUTH_METHOD_PUBLICKEY;
    factor.key = &described.key;
    log_info(asker_connection_id(auth->asker), "key_accepted",
             log_str("fingerprint", described.fingerprint));
    if (whole)
        auth_succeed(auth, &factor, answer->allow);
    else
        auth_partly(auth, &factor, answer->partial);
    described_clear(&described);
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
    else if (answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_ALLOW ||
             answer->outcome_case == POLICY__AUTH_ANSWER__OUTCOME_PARTIAL)
        accept_key(auth, answer);
    else
        auth_no_answer(auth, UNAVAILABLE);
}

/* ---- the request */

static void ask_about(struct auth *auth, const struct offer *offer)
{
    Policy__ValidatePublicKeyRequest question = POLICY__VALIDATE_PUBLIC_KEY_REQUEST__INIT;
    Policy__KeyUse use = POLICY__KEY_USE__INIT;
    struct described described;

    describe(&described, auth->request.key);
    use.phase =
        offer->is_signed ? POLICY__KEY_PHASE__KEY_PHASE_PROVEN : POLICY__KEY_PHASE__KEY_PHASE_PROBE;
    use.signature_algorithm = bytes_to_string(offer->algorithm);
    use.user_present = auth->request.facts.user_present;
    use.user_verified = auth->request.facts.user_verified;
    question.key = &described.key;
    question.use = &use;
    auth->asking = asker_ask(auth->asker, RPC_VALIDATE_PUBLIC_KEY, &question.base,
                             offer->is_signed ? 0 : ASK_PROBE,
                             offer->is_signed ? on_proven_verdict : on_probe_verdict, auth);
    free(use.signature_algorithm);
    described_clear(&described);
}

void publickey_run(struct auth *auth)
{
    struct offer offer;

    if (!parse_offer(auth, &offer)) {
        auth_fault(auth, DISCONNECT_PROTOCOL_ERROR, "Malformed publickey request");
        return;
    }
    auth->request.key = public_key_parse(offer.blob);
    if (auth->request.key == NULL || !public_key_allows(auth->request.key, offer.algorithm))
        auth_fail(auth, "key or algorithm not accepted here");
    else if (auth->all_keys_revoked)
        auth_fail(auth, "every key is revoked");
    else if (offer.is_signed && !verify_signature(auth, &offer))
        auth_fail(auth, "signature does not verify");
    else
        ask_about(auth, &offer);
}
