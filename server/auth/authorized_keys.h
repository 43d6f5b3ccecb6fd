/*
 * OpenSSH authorized_keys text (sshd(8), AUTHORIZED_KEYS FILE FORMAT), as BeginAuth hands it over.
 * A line that cannot be parsed or enforced accepts nothing.
 *
 * Where this is stricter than OpenSSH: a NUL, a date that is not in the calendar, and in permitopen
 * an empty host or the name of a service make the line accept nothing. Names are never resolved, so
 * a host name in `from` matches nobody, and a negated one makes the line accept nothing. With
 * tunnel="n" there are no tunnels (see below), and `restrict` takes them away for good.
 */
#ifndef PARLEY_AUTH_AUTHORIZED_KEYS_H
#define PARLEY_AUTH_AUTHORIZED_KEYS_H

#include "control/control.h"

#include "base/bytes.h"

#define AUTHORIZED_KEYS_MAX_BYTES   (1u << 20)
#define AUTHORIZED_KEYS_MAX_REPORTS 32 /* calls of the function below for one text */

struct authorized_keys;

/* Why a line, counted from 1, accepts nothing: static text. Line 0 speaks of the text as a whole:
 * it is too long, or more lines than are reported accept nothing. */
typedef void authorized_keys_report(void *arg, size_t line, const char *why);

/* Copies what it needs. `report` may be NULL. */
struct authorized_keys *authorized_keys_parse(struct bytes text, authorized_keys_report *report,
                                              void *arg);
void authorized_keys_free(struct authorized_keys **keys);
size_t authorized_keys_count(const struct authorized_keys *keys); /* lines that have a valid key */

enum {
    TUNNEL_UNSET = -1,
    TUNNEL_ANY = -2, /* tunnel="any" */
};

/* What one line says of its key. Owned. `from` was checked already, against an address that the
 * connection keeps for life. */
struct authorized_line {
    size_t number;                      /* from 1 */
    Policy__Restrictions *restrictions; /* never NULL */
    uint64_t expires_at; /* seconds since 1970, later than the `now` asked with; 0: never */
    /* The unit of tunnel="n". Restrictions cannot name one: no_tunnel is set beside it, and who can
     * hold a tunnel to its unit may lift that. */
    int32_t tunnel;
    /* Of a cert-authority line: the certificate must name one of these principals; then the user's
     * name need not be among them. NULL: no such option; empty: no certificate will do. */
    Policy__Patterns *principals;
};

struct authorized_query {
    struct bytes blob;   /* of the key; of the certificate's authority if cert_authority */
    bool cert_authority; /* lines with that option, else lines without it */
    const char *peer_ip;
    uint64_t now; /* seconds since 1970 */
};

/* The next line, from *cursor on (0 at first), that holds the key and whose `from` and expiry-time
 * fit; NULL: none. For plain keys the first one counts. Of several lines for an authority the first
 * one counts whose principals fit the certificate. */
struct authorized_line *authorized_keys_find(const struct authorized_keys *keys,
                                             const struct authorized_query *query, size_t *cursor);
void authorized_line_free(struct authorized_line **line);

/* Is the certificate's principal among those of the line? Whole and exact: a comma in it does not
 * part it, and there are no wildcards. False if the line has no such option. */
bool authorized_line_names(const struct authorized_line *line, struct bytes principal);

#endif
