/*
 * Admission: who may begin to log in. One for the process, shared by all workers; it knows sources,
 * not connections. As OpenSSH's MaxStartups, PerSourceMaxStartups and PerSourcePenalties. Unix
 * sockets are always let in.
 */
#ifndef PARLEY_LISTENERS_ADMISSION_H
#define PARLEY_LISTENERS_ADMISSION_H

#include "base/address.h"
#include "base/network.h"

#include <stddef.h>

enum offence {
    OFFENCE_NONE,
    OFFENCE_CRASH,        /* what only broken or hostile clients send */
    OFFENCE_AUTH_FAIL,    /* tried to log in, and could not */
    OFFENCE_INVALID_USER, /* named somebody who cannot exist */
    OFFENCE_NO_AUTH,      /* left without trying */
    OFFENCE_GRACE,        /* was not done by the login deadline */
    OFFENCE_REFUSED,      /* was not wanted here at all */
    OFFENCE_COUNT,
};

struct admission_settings {
    uint32_t begin, rate, full; /* so many are logging in: refuse rate % at random; all */
    uint32_t per_source;        /* at most so many of them from one source; 0: any */
    uint32_t v4_bits, v6_bits;  /* of an address that make a source */
    bool penalties;
    uint64_t penalty_ms[OFFENCE_COUNT];      /* 0: none */
    uint64_t penalty_min_ms, penalty_max_ms; /* enforced from; never longer than */
    size_t max_sources;                      /* remembered, for each family */
    bool overflow_denies;                    /* more than that: nobody of that family gets in */
    const struct network *exempt;            /* never penalised; borrowed for good */
    size_t exempt_count;
    uint64_t (*clock_ms)(void);               /* NULL: the monotonic clock */
    uint32_t (*random_below)(uint32_t bound); /* NULL: the kernel's */
};

struct admission;

struct admission *admission_new(const struct admission_settings *settings);
void admission_free(struct admission **admission);

/* The functions below: any thread. */

/* True: this connection counts as logging in until admission_over(), which must follow once. False:
 * the client was told so, and the descriptor is closed. */
bool admission_take(struct admission *admission, int fd, const struct address *peer);
/* It has logged in, or has ended. Gives the place back; an offence is penalised. */
void admission_over(struct admission *admission, const struct address *peer, enum offence how);

struct admission_counts {
    uint32_t logging_in;
    size_t penalised; /* sources with a penalty, enforced or not yet */
    uint64_t dropped_start_ups, dropped_per_source, dropped_penalised;
};
struct admission_counts admission_counts(struct admission *admission);

#endif
