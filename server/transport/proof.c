/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The server's proof that it holds its host key (RFC 4253 section 8), looked at when it comes.
 * libssh looks later, when the server's NEWKEYS has come, and would take a key of another type than
 * agreed on, or another one at each rekey.
 */
#include "base/alloc.h"
#include "base/reader.h"
#include "transport/connection.h"

#include <stdlib.h>

struct proof {
    struct public_key *key;          /* a plain one; or */
    struct certificate *certificate; /* one that is certified */
    char *algorithm;                 /* of the signature */
    struct buf blob, signature;
};

void proof_free(struct proof **where)
{
    struct proof *proof = *where;

    *where = NULL;
    if (proof == NULL)
        return;
    public_key_free(&proof->key);
    certificate_free(&proof->certificate);
    free(proof->algorithm);
    buf_clear(&proof->blob);
    buf_clear(&proof->signature);
    free(proof);
}

/* NULL, or what is wrong with the key; static text. */
static const char *read_key(struct proof *proof, struct bytes blob, const char *agreed)
{
    struct bytes name = bytes_of_string(agreed);
    const char *why = NULL, *algorithm = NULL;

    if (certificate_is_claimed(blob)) {
        proof->certificate = certificate_parse(blob, &why);
        if (proof->certificate == NULL)
            return why;
        algorithm = certificate_allows(proof->certificate, name);
    } else {
        proof->key = public_key_parse(blob);
        if (proof->key == NULL)
            return "the host key is malformed or weak";
        algorithm = public_key_allows(proof->key, name) ? agreed : NULL;
    }
    if (algorithm == NULL)
        return "the host key is of another type than agreed";
    proof->algorithm = xstrdup(algorithm);
    return NULL;
}

/* RFC 4253 section 8, RFC 5656 section 4: host key, the server's value, signature. */
static const char *read_reply(struct transport *t, struct proof *proof, struct bytes reply)
{
    const char *agreed = t->session->next_crypto->kex_methods[SSH_HOSTKEYS];
    struct reader r = reader_of(reply);
    struct bytes blob = reader_string(&r), signature;

    reader_string(&r);
    signature = reader_string(&r);
    if (!reader_end(&r) || agreed == NULL)
        return "malformed key exchange reply";
    if (t->keys && !bytes_equal(blob, buf_bytes(&t->client->host_key)))
        return "the server shows another host key than before";
    buf_put(&proof->blob, blob);
    buf_put(&proof->signature, signature);
    return read_key(proof, blob, agreed);
}

static bool fail(struct transport *t, const char *why)
{
    connection_violation(t, SSH2_DISCONNECT_KEY_EXCHANGE_FAILED, why);
    return false;
}

bool proof_read(struct transport *t, struct bytes reply)
{
    const char *why;

    proof_free(&t->client->proof);
    t->client->proof = xcalloc(1, sizeof(struct proof));
    why = read_reply(t, t->client->proof, reply);
    return why == NULL || fail(t, why);
}

bool proof_check(struct transport *t)
{
    const struct ssh_crypto_struct *crypto = t->session->next_crypto;
    struct proof *proof = t->client->proof;
    const struct public_key *key = proof->certificate ? proof->certificate->key : proof->key;
    bool ok =
        crypto->secret_hash != NULL &&
        public_key_verify(key, bytes_of_string(proof->algorithm), buf_bytes(&proof->signature),
                          bytes_of(crypto->secret_hash, crypto->digest_len), NULL);

    if (ok && !t->keys) {
        t->client->host_key = proof->blob;
        proof->blob = (struct buf){0};
    }
    proof_free(&t->client->proof);
    return ok || fail(t, "the server's signature by its host key is wrong");
}
