/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Which message may arrive when, and who handles it.
 */
#ifndef PARLEY_TRANSPORT_FILTER_H
#define PARLEY_TRANSPORT_FILTER_H

#include <stdbool.h>
#include <stdint.h>

enum filter_verdict {
    FILTER_REFUSE,        /* a protocol error: the connection ends */
    FILTER_LIBSSH,        /* key exchange: libssh's handlers */
    FILTER_OWNER,         /* the layers above */
    FILTER_DISCONNECT,    /* the peer's DISCONNECT */
    FILTER_IGNORE,        /* nothing to do */
    FILTER_PING,          /* answered with PONG */
    FILTER_UNIMPLEMENTED, /* RFC 4253 section 11.4 */
};

enum filter_session {
    FILTER_OTHER,
    FILTER_INITIAL_KEX,      /* no KEXINIT from the peer yet, first key exchange */
    FILTER_KEXINIT_RECEIVED, /* the peer's KEXINIT is being handled */
    FILTER_DH,               /* methods are chosen, the exchange runs */
    FILTER_AUTHENTICATING,   /* keys are in use, nobody has logged in */
    FILTER_AUTHENTICATED,    /* logged in, and the peer has not begun a rekey */
};

enum filter_dh {
    FILTER_DH_INIT,
    FILTER_DH_GROUP_SENT,
    FILTER_DH_REQUEST_SENT,
    FILTER_DH_INIT_SENT,
    FILTER_DH_NEWKEYS_SENT,
    FILTER_DH_FINISHED,
};

/* What a verdict depends on; mirrors of the fields of the same meaning in libssh's session. */
struct filter_state {
    enum filter_session session;
    enum filter_dh dh;
    bool client;        /* we are; the peer is a server */
    bool encrypted;     /* the first keys are in use for input */
    bool authenticated; /* USERAUTH_SUCCESS was sent, or, by a server, received */
    bool strict;        /* strict key exchange was agreed on */
};

enum filter_verdict filter_message(const struct filter_state *state, uint8_t type);

#endif
