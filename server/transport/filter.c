/*
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The rows for 20, 21, 30 and 31 follow libssh's own packet filter exactly: they are the state
 * machine of key exchange, and its handlers rely on it. The others are ours: libssh's rows for
 * authentication assume its own implementation of it, and its rows for connection messages forbid
 * what real clients send during a rekey.
 */
#include "transport/filter.h"

enum {
    MSG_DISCONNECT = 1,
    MSG_IGNORE = 2,
    MSG_UNIMPLEMENTED = 3,
    MSG_DEBUG = 4,
    MSG_SERVICE_REQUEST = 5,
    MSG_SERVICE_ACCEPT = 6,
    MSG_EXT_INFO = 7,
    MSG_KEXINIT = 20,
    MSG_NEWKEYS = 21,
    MSG_KEX_FIRST = 30, /* method-specific */
    MSG_KEX_LAST = 34,
    MSG_USERAUTH_FIRST = 50,
    MSG_CONNECTION_FIRST = 80,
    MSG_CONNECTION_LAST = 127,
    MSG_PING = 192,
    MSG_PONG = 193,
};

static enum filter_verdict libssh_if(bool allowed)
{
    return allowed ? FILTER_LIBSSH : FILTER_REFUSE;
}

static enum filter_verdict kex_message(const struct filter_state *s, uint8_t type)
{
    switch (type) {
    case MSG_KEXINIT:
        /* Upstream refuses a rekey before authentication; RFC 4253 section 9 allows it, and our
         * receiver presents it to libssh as it presents any other rekey. */
        return libssh_if((s->session == FILTER_AUTHENTICATED ||
                          (s->session == FILTER_AUTHENTICATING && s->dh == FILTER_DH_FINISHED) ||
                          s->session == FILTER_INITIAL_KEX) &&
                         (s->dh == FILTER_DH_INIT || s->dh == FILTER_DH_INIT_SENT ||
                          s->dh == FILTER_DH_REQUEST_SENT || s->dh == FILTER_DH_FINISHED));
    case MSG_NEWKEYS:
        return libssh_if(s->session == FILTER_DH && s->dh == FILTER_DH_NEWKEYS_SENT);
    case 30: /* KEXDH_INIT, KEX_ECDH_INIT, KEX_HYBRID_INIT: a client's */
        return libssh_if(!s->client && s->session == FILTER_DH && s->dh == FILTER_DH_INIT);
    case 31: /* the replies to them, a server's */
        return libssh_if(s->client && s->session == FILTER_DH && s->dh == FILTER_DH_INIT_SENT);
    default: /* 32 to 34 belong to group exchange, which we do not offer: libssh would let the
                exchange go on behind an UNIMPLEMENTED, even a strict one */
        return FILTER_REFUSE;
    }
}

/* RFC 4252, from a client. Late ones, after success, are for the layer above to ignore (section
 * 5.3). */
static enum filter_verdict client_userauth_message(uint8_t type)
{
    switch (type) {
    case 51: /* FAILURE, SUCCESS, BANNER, and the method-specific request: a server's. A client that
              */
    case 52: /* sends them claims to have been let in (CVE-2018-10933). */
    case 53:
    case 60:
        return FILTER_REFUSE;
    case 50: /* USERAUTH_REQUEST */
    case 61: /* method-specific answers */
    case 62:
    case 63:
    case 64:
    case 65:
    case 66:
        return FILTER_OWNER;
    default:
        return FILTER_UNIMPLEMENTED;
    }
}

/* And from a server: none has anything to say here once it has let us in. */
static enum filter_verdict server_userauth_message(const struct filter_state *s, uint8_t type)
{
    switch (type) {
    case 50:
        return FILTER_REFUSE;
    case 51: /* FAILURE, SUCCESS, BANNER */
    case 52:
    case 53:
    case 60: /* method-specific */
    case 61:
    case 62:
    case 63:
    case 64:
    case 65:
    case 66:
        return s->authenticated ? FILTER_REFUSE : FILTER_OWNER;
    default:
        return FILTER_UNIMPLEMENTED;
    }
}

/* 1 to 19: legal at any time, but only once there are keys do they reach anybody. */
static enum filter_verdict transport_message(const struct filter_state *s, uint8_t type)
{
    bool between_exchanges =
        s->session == FILTER_AUTHENTICATING || s->session == FILTER_AUTHENTICATED;

    switch (type) {
    case MSG_DISCONNECT:
        return FILTER_DISCONNECT;
    case MSG_IGNORE:
    case MSG_UNIMPLEMENTED:
        return FILTER_IGNORE;
    case MSG_DEBUG: /* in plaintext anybody on the way could have put it there */
        return s->encrypted ? FILTER_OWNER : FILTER_IGNORE;
    case MSG_SERVICE_REQUEST:
        return between_exchanges && !s->client ? FILTER_OWNER : FILTER_REFUSE;
    case MSG_SERVICE_ACCEPT:
        return between_exchanges && s->client && !s->authenticated ? FILTER_OWNER : FILTER_REFUSE;
    case MSG_EXT_INFO:
        return between_exchanges ? FILTER_OWNER : FILTER_REFUSE;
    default:
        return FILTER_UNIMPLEMENTED;
    }
}

/* 50 and above. */
static enum filter_verdict upper_message(const struct filter_state *s, uint8_t type)
{
    bool between_exchanges =
        s->session == FILTER_AUTHENTICATING || s->session == FILTER_AUTHENTICATED;

    /* asyncssh goes on with channel data after its own KEXINIT. RFC 4253 section 7.1 forbids it,
     * sshd tolerates it. */
    if (type >= MSG_CONNECTION_FIRST && type <= MSG_CONNECTION_LAST)
        return s->authenticated ? FILTER_OWNER : FILTER_REFUSE;
    if (type > MSG_CONNECTION_LAST) {
        if (!s->encrypted)
            return FILTER_UNIMPLEMENTED;
        return type == MSG_PING   ? FILTER_PING
               : type == MSG_PONG ? FILTER_IGNORE
                                  : FILTER_UNIMPLEMENTED;
    }
    if (!between_exchanges)
        return FILTER_REFUSE;
    return s->client ? server_userauth_message(s, type) : client_userauth_message(type);
}

enum filter_verdict filter_message(const struct filter_state *s, uint8_t type)
{
    if (type == MSG_KEXINIT || type == MSG_NEWKEYS ||
        (type >= MSG_KEX_FIRST && type <= MSG_KEX_LAST))
        return kex_message(s, type);
    /* OpenSSH PROTOCOL, strict key exchange: in the first one nothing else may come, not even
     * IGNORE. */
    if (s->strict && !s->encrypted && type != MSG_DISCONNECT)
        return FILTER_REFUSE;
    if (type < MSG_USERAUTH_FIRST)
        return transport_message(s, type);
    return upper_message(s, type);
}
