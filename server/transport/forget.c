/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What only a key exchange needed goes when it is over: a third of the memory of an idle
 * connection, and the secrets from which its keys could be computed again. libssh keeps all of it
 * until the next exchange.
 */
#include "transport/connection.h"

#include <stdlib.h>
#include <string.h>

static void forget_offers(struct ssh_crypto_struct *crypto)
{
    for (int i = 0; i < SSH_KEX_METHODS; i++) {
        free(crypto->client_kex.methods[i]);
        free(crypto->server_kex.methods[i]);
        crypto->client_kex.methods[i] = crypto->server_kex.methods[i] = NULL;
    }
    ssh_key_free(crypto->server_pubkey);
    crypto->server_pubkey = NULL;
}

static void forget_secrets(struct ssh_crypto_struct *crypto)
{
    ssh_dh_cleanup(crypto);
    EVP_PKEY_free(crypto->ecdh_privkey);
    crypto->ecdh_privkey = NULL;
    BN_clear_free(crypto->shared_secret);
    crypto->shared_secret = NULL;
#if LIBSSH_VERSION_INT >= SSH_VERSION_INT(0, 12, 0)
    EVP_PKEY_free(crypto->curve25519_privkey);
    crypto->curve25519_privkey = NULL;
    explicit_bzero(crypto->sntrup761_privkey, sizeof(crypto->sntrup761_privkey));
#else
    explicit_bzero(crypto->curve25519_privkey, sizeof(crypto->curve25519_privkey));
#endif
}

/* Of the hybrids of ML-KEM and an elliptic curve. */
static void forget_hybrid(struct ssh_crypto_struct *crypto)
{
#if LIBSSH_VERSION_INT >= SSH_VERSION_INT(0, 12, 0)
#ifdef HAVE_OPENSSL_MLKEM
    EVP_PKEY_free(crypto->mlkem_privkey);
#else
    if (crypto->mlkem_privkey != NULL)
        explicit_bzero(crypto->mlkem_privkey, crypto->mlkem_privkey_len);
    free(crypto->mlkem_privkey);
    crypto->mlkem_privkey_len = 0;
#endif
    crypto->mlkem_privkey = NULL;
    ssh_string_burn(crypto->hybrid_shared_secret);
    ssh_string_free(crypto->hybrid_shared_secret);
    ssh_string_free(crypto->hybrid_client_init);
    ssh_string_free(crypto->hybrid_server_reply);
    ssh_string_free(crypto->mlkem_client_pubkey);
    ssh_string_free(crypto->mlkem_ciphertext);
    crypto->hybrid_shared_secret = NULL;
    crypto->hybrid_client_init = crypto->hybrid_server_reply = NULL;
    crypto->mlkem_client_pubkey = crypto->mlkem_ciphertext = NULL;
#else
    (void)crypto;
#endif
}

void forget_exchange(struct transport *t)
{
    struct ssh_crypto_struct *crypto = t->session->current_crypto;

    ssh_buffer_free(t->session->in_buffer);
    t->session->in_buffer = NULL;
    forget_offers(crypto);
    forget_secrets(crypto);
    forget_hybrid(crypto);
}
