/*
 * SSH below RFC 4252: version exchange, key exchange, packets (RFC 4253, RFC 8308, RFC 8731,
 * OpenSSH PROTOCOL). It takes no decisions. Nothing above this header knows libssh.
 *
 * All functions and callbacks run on the thread of the loop that was given at creation. No callback
 * comes from inside a function of this header.
 */
#ifndef PARLEY_TRANSPORT_TRANSPORT_H
#define PARLEY_TRANSPORT_TRANSPORT_H

#include "base/bytes.h"
#include "base/helpers.h"
#include "base/loop.h"

/* ---- process-wide */

/* Once, in main, before any thread. False: the library could not start. */
bool transport_global_init(void);
const char *transport_library(void); /* "libssh 0.12.2", for --version */

/* ---- the server side of one worker: host keys and offers */

struct gss_settings;

struct transport_settings {
    const char *const *host_key_files; /* NULL-terminated; one per type; at least one */
    const char *version_comment;       /* what follows "SSH-2.0-"; NULL: "Parley_<version>" */
    /* Comma-separated, NULL: our defaults (design.md section 6). Names we do not offer are an
     * error. */
    const char *kex, *ciphers, *macs, *host_key_algorithms;
    uint64_t rekey_bytes;   /* 0: 1 GiB */
    uint32_t rekey_seconds; /* 0: 3600 */
    uint32_t
        rekey_answer_ms; /* a peer that does not finish a rekey by then is cut off; 0: 60,000 */
    /* GSSAPI key exchange, on these helpers; borrowed. NULL: not offered. */
    const struct gss_settings *gss;
    struct helpers *helpers;
};

struct transport_server;

/* Reads the host keys. NULL with *error set (owned by the caller, names the file) if a key is
 * missing, unreadable, readable by others (mode & 077), encrypted, of a second time the same type,
 * or an algorithm is unknown. */
struct transport_server *transport_server_new(struct loop *loop,
                                              const struct transport_settings *settings,
                                              char **error);
/* Its connections may live on, with the host keys and offers that they began with. */
void transport_server_free(struct transport_server **server);

/* ---- one connection */

struct transport;

enum transport_end_kind {
    TRANSPORT_END_PEER,     /* the peer sent DISCONNECT: code and reason are its own */
    TRANSPORT_END_EOF,      /* the peer closed the socket */
    TRANSPORT_END_IO,       /* the socket failed; reason says how */
    TRANSPORT_END_PROTOCOL, /* the peer broke the protocol: code and reason are what we sent it */
    TRANSPORT_END_LOCAL,    /* transport_disconnect() has been flushed */
};

struct transport_end {
    enum transport_end_kind kind;
    uint32_t code;      /* RFC 4253 section 11.1; 0 if none */
    const char *reason; /* never NULL; borrowed; clean text */
};

struct transport_events {
    /* The first key exchange is over; session id and client version are known from here on. */
    void (*keys_exchanged)(void *owner);
    /* A message for the layers above: DEBUG (4), SERVICE_REQUEST (5), EXT_INFO (7), 50 and above.
     * `message` is what follows the type byte, borrowed. False: not understood, UNIMPLEMENTED is
     * sent (RFC 4253 section 11.4). Messages 1-3, 6 and 20-49 never arrive here. 80 and above
     * arrive only after transport_send_auth_success(); before it they end the connection
     * (TRANSPORT_END_PROTOCOL). */
    bool (*message)(void *owner, uint8_t type, struct bytes message);
    /* transport_room() is well above zero again after it was not, also for the first time. Rarely
     * without need. */
    void (*writable)(void *owner);
    /* Once, and last. The owner calls transport_free(). */
    void (*ended)(void *owner, const struct transport_end *end);
};

/* Takes the connected, non-blocking descriptor, also on failure (NULL). Sends our version line at
 * once. */
struct transport *transport_accept(struct transport_server *server, int fd,
                                   const struct transport_events *events, void *owner);
/* The same as a client, of another server: shares the worker's buffers, offers and limits, needs
 * none of its host keys. keys_exchanged() says that the server has proven to hold
 * transport_host_key_used(); whether that is the right key is the owner's to decide before it sends
 * anything. host_key_algorithms: comma-separated, in order of preference, also those of host
 * certificates ("ssh-ed25519-cert-v01@openssh.com"); names we do not know are left out; NULL: what
 * the worker offers. NULL is returned if none is left.
 *
 * What message() gets then is a client's: DEBUG (4), EXT_INFO (7); SERVICE_ACCEPT (6), 51 to 53 and
 * 60 to 66 before transport_auth_succeeded(), 80 to 127 after it. At the wrong time, and 5 and 50
 * at any time, they end the connection (TRANSPORT_END_PROTOCOL). */
struct transport *transport_connect(struct transport_server *server, int fd,
                                    const char *host_key_algorithms,
                                    const struct transport_events *events, void *owner);
/* The owner of a client's side, inside message() of USERAUTH_SUCCESS: what follows is the
 * connection protocol. */
void transport_auth_succeeded(struct transport *transport);
/* Closes the socket if it is open; silent from here on. Legal at any time, also inside callbacks.
 */
void transport_free(struct transport **transport);

/* Every message is shorter, also one that arrives. */
#define TRANSPORT_MESSAGE_MAX (256 * 1024)
/* Queues one message, type byte first. Legal at any time; while keys are exchanged it waits for
 * them. Ignored once the transport has ended. */
void transport_send(struct transport *transport, struct bytes message);
/* CHANNEL_DATA (extended_type 0) or CHANNEL_EXTENDED_DATA without building a message first:
 * encrypted straight into the output buffer where the cipher allows. */
void transport_send_data(struct transport *transport, uint32_t recipient, uint32_t extended_type,
                         struct bytes data);
/* USERAUTH_SUCCESS; from here on connection messages are let through and delayed compression
 * starts. */
void transport_send_auth_success(struct transport *transport);
/* DISCONNECT, then flush (bounded time), then ended(TRANSPORT_END_LOCAL). Input is no longer read.
 */
void transport_disconnect(struct transport *transport, uint32_t code, const char *reason,
                          const char *language);

/* False as soon as the connection is being ended, by whomever: ended() follows. */
bool transport_is_open(const struct transport *transport);

/* Bytes that data producers may queue now; 0 while keys are exchanged or the output stands above
 * its high-water mark. */
size_t transport_room(struct transport *transport);

/* Stop and go on delivering messages; nests (count). Key exchange goes on as far as bytes in order
 * allow. Used while a lane above is full. */
void transport_pause(struct transport *transport);
void transport_resume(struct transport *transport);

/* Empty until known. Borrowed; valid as long as the transport. */
const char *transport_peer_version(
    const struct transport *transport); /* "SSH-2.0-OpenSSH_9.2p1", without CR LF */
struct bytes transport_session_id(const struct transport *transport);
/* "kex=… hostkey=… cipher=… mac=…" of the current keys, for the log. */
const char *transport_algorithms(const struct transport *transport);
uint64_t transport_bytes_received(const struct transport *transport); /* on the wire */
uint64_t transport_bytes_sent(const struct transport *transport);

/* ---- host keys (OpenSSH PROTOCOL, hostkeys-00@openssh.com) */

size_t transport_host_key_count(const struct transport *transport);
struct bytes transport_host_key_blob(const struct transport *transport, size_t index);
/* The host key that this connection's first key exchange used
 * (publickey-hostbound-v00@openssh.com); empty if that was GSSAPI's. Of a client's side: what the
 * server showed, a certificate as a whole; a rekey with another one ends the connection. */
struct bytes transport_host_key_used(const struct transport *transport);
/* Signs `data` with the host key of that blob; RSA with rsa-sha2-512, or -256 if that is what key
 * exchange used. False: not our key. */
bool transport_host_key_sign(struct transport *transport, struct bytes blob, struct bytes data,
                             struct buf *signature);

/* ---- public keys of users (RFC 4253 section 6.6, RFC 8332, OpenSSH PROTOCOL.u2f) */

struct public_key;

/* NULL if malformed or of a type we do not know. A certificate is not a key here: NULL. */
struct public_key *public_key_parse(struct bytes blob);
void public_key_free(struct public_key **key);
/* A look at a blob at a fraction of the cost, for long lists of keys: its type, static, if every
 * field has its shape and one possible encoding; else NULL. public_key_parse() may still refuse it
 * (a point off its curve, a short modulus), never the other way round. */
const char *public_key_type_of(struct bytes blob);
/* Takes a key as OpenSSH's files have it, "type base64", off the line, and the blanks around it;
 * `blob` is what it means, perhaps a certificate or of a type that we do not know. False: the line
 * does not begin with a key of the type that it says, and is left as it was. */
bool public_key_take_text(struct bytes *line, struct buf *blob);
const char *public_key_type(const struct public_key *key); /* "ssh-ed25519", "ssh-rsa", ... */
uint32_t public_key_bits(const struct public_key *key);
struct bytes public_key_blob(const struct public_key *key);
char *public_key_fingerprint(
    const struct public_key *key);                      /* owned, "SHA256:..." without padding */
char *public_key_openssh(const struct public_key *key); /* owned, "ssh-ed25519 AAAA..." */

/* Comma-separated signature algorithms that we accept, as sent in server-sig-algs. */
const char *public_key_algorithms(void);
/* Is `algorithm` on that list, and one that a key of this type signs with? */
bool public_key_allows(const struct public_key *key, struct bytes algorithm);

struct signature_facts {
    bool user_present, user_verified; /* security keys only */
};

/* True only if `algorithm` is allowed for the key, equals the signature's own type, and the
 * signature over `data` verifies. A security key's flags go to *facts (may be NULL); its lack of
 * touch is the caller's to refuse. */
bool public_key_verify(const struct public_key *key, struct bytes algorithm, struct bytes signature,
                       struct bytes data, struct signature_facts *facts);

/* ---- private keys, for logging in elsewhere */

struct private_key;

/* OpenSSH or PEM form, not encrypted; of a type and size that public_key_parse() takes, but RSA of
 * 8,192 bits at most, and no security keys. NULL with *why (static text, for the log). Copies are
 * zeroed when they go. */
struct private_key *private_key_parse(struct bytes text, const char **why);
void private_key_free(struct private_key **key);
const struct public_key *private_key_public(const struct private_key *key); /* borrowed */
/* `algorithm` is one that public_key_allows(). The signature blob of RFC 4253 section 6.6. */
bool private_key_sign(const struct private_key *key, const char *algorithm, struct bytes data,
                      struct buf *signature);

/* ---- OpenSSH certificates (PROTOCOL.certkeys), of users and of hosts */

enum certificate_kind { CERTIFICATE_USER = 1, CERTIFICATE_HOST = 2 };

struct certificate_option {
    char *name;
    struct bytes data; /* raw; see certificate_option_text() */
};

struct certificate_options {
    struct certificate_option *list;
    size_t count;
};

/* Read-only. Bytes are borrowed from `blob`, all texts are clean, no option comes twice. */
struct certificate {
    const char *type; /* "ssh-ed25519-cert-v01@openssh.com", ... */
    enum certificate_kind kind;
    uint64_t serial;
    char *key_id;
    char **principals; /* none: good for nobody */
    size_t principals_count;
    uint64_t valid_after, valid_before; /* seconds since 1970; inclusive, exclusive */
    struct certificate_options critical, extensions;
    struct public_key *key;           /* what is certified */
    struct public_key *ca;            /* by whom; never a certificate */
    struct bytes signature_algorithm; /* of the authority */
    struct bytes signed_part, signature;
    struct buf blob;
};

/* Is the blob's type name a certificate's? */
bool certificate_is_claimed(struct bytes blob);
/* Checks shape and bounds only, no signature, no time. NULL with *why (static text) otherwise. */
struct certificate *certificate_parse(struct bytes blob, const char **why);
void certificate_free(struct certificate **certificate);
/* Did the authority sign this, with an algorithm of public_key_algorithms()? */
bool certificate_verify(const struct certificate *certificate);
/* The signature algorithm that is meant by the algorithm of a request: "rsa-sha2-512" for
 * "rsa-sha2-512-cert-v01@openssh.com". NULL: not accepted for this certificate. */
const char *certificate_allows(const struct certificate *certificate, struct bytes algorithm);
bool certificate_is_valid_at(const struct certificate *certificate, uint64_t seconds_since_1970);
/* Is it one of the principals? Byte by byte: there are no patterns and no lists in a name. */
bool certificate_names(const struct certificate *certificate, struct bytes principal);
const struct certificate_option *certificate_option(const struct certificate_options *options,
                                                    const char *name); /* NULL: not there */
/* The data of force-command and source-address is one string, and nothing after it. */
bool certificate_option_text(const struct certificate_option *option, struct bytes *text);

/* ---- GSSAPI (RFC 4462): the acceptor's side, with Kerberos 5 and no other mechanism */

/* The mechanism's OID, DER-encoded as on the wire. */
#define GSS_KERBEROS_OID BYTES("\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02")
#define GSS_TOKEN_MAX    (64 * 1024)

struct gss_settings {
    const char *keytab;   /* NULL: the library's default */
    const char *hostname; /* accept for host/<this> only; NULL: for every host/ key of the keytab */
};

/* One exchange. Its functions but the free block: for a helper, and one at a time. */
struct gss_exchange;

enum gss_step { GSS_STEP_FAILED, GSS_STEP_MORE, GSS_STEP_DONE };

struct gss_exchange *gss_exchange_new(void);
/* Legal at any time and on any thread, as long as no other function runs. */
void gss_exchange_free(struct gss_exchange **exchange);
/* Reads the keytab. False: there is nothing to accept with. */
bool gss_exchange_acquire(struct gss_exchange *exchange, const struct gss_settings *settings);
/* Takes the client's token; what is to be sent back is put to `reply` (perhaps nothing). DONE: the
 * context stands, guards integrity, and both principals are known. Credentials that the client
 * delegates are dropped. */
enum gss_step gss_exchange_accept(struct gss_exchange *exchange, struct bytes token,
                                  struct buf *reply);
/* After DONE: is this the client's message integrity code over `data`? */
bool gss_exchange_verify(struct gss_exchange *exchange, struct bytes data, struct bytes mic);
/* Clean text; NULL before DONE. */
const char *gss_exchange_client(const struct gss_exchange *exchange); /* "alice@EXAMPLE.ORG" */
const char *gss_exchange_acceptor(
    const struct gss_exchange *exchange); /* "host/server.example.org@EXAMPLE.ORG" */
/* The context that the first key exchange made, if that was GSSAPI's; NULL otherwise, and when it
 * was taken already. Owned. */
struct gss_exchange *transport_take_gss(struct transport *transport);
/* What the library said of the last failure, for the log; never NULL. */
const char *gss_exchange_error(const struct gss_exchange *exchange);

#endif
