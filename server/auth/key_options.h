/* The options in front of a key in authorized_keys (sshd(8)). Knows nothing of lines and keys. */
#ifndef PARLEY_AUTH_KEY_OPTIONS_H
#define PARLEY_AUTH_KEY_OPTIONS_H

#include "control/control.h"

#include "base/bytes.h"

struct key_options {
    bool cert_authority;
    struct buf from; /* checked; what sources_match() takes */
    bool has_from;
    uint64_t expires_at; /* seconds since 1970; 0: never */
    int32_t tunnel;      /* authorized_keys.h */
    Policy__Restrictions *restrictions;
    Policy__Patterns *principals; /* NULL: no such option */
};

/* Every field as no options at all leave it. */
void key_options_init(struct key_options *options);
/* Reads options up to the blank or the end that ends them, and moves *text there. NULL, or why they
 * cannot be kept: static text. `options` was initialised, and is cleared by the caller. `text`
 * holds no NUL. */
const char *key_options_parse(struct key_options *options, struct bytes *text);
void key_options_clear(struct key_options *options);

/* Lists of the contract, as its own unpacking would have made them; text is owned from then on. */
Policy__Patterns *patterns_new(void);
void patterns_add(Policy__Patterns *list, char *text);
/* A number from 0 to `max`; -1: it is none. Signs, blanks and names of services are not. */
long options_number(struct bytes text, long max);

/* permits.c: the values of permitopen="..." and permitlisten="..." */
const char *permit_open_add(struct key_options *options, struct bytes value);
const char *permit_listen_add(struct key_options *options, struct bytes value);

/* sources.c: the value of from="..." */

/* NULL, or why the list cannot be enforced or matches nobody. */
const char *sources_problem(struct bytes list);
/* Addresses, CIDR blocks and patterns of the address with '*' and '?'; '!' negates and wins. */
bool sources_match(struct bytes list, const char *ip);

/* expiry.c: YYYYMMDD[HHMM[SS]], local time or with a Z or UTC behind it in UTC. False: no such
 * time. */
bool expiry_parse(struct bytes text, uint64_t *seconds_since_1970);

#endif
