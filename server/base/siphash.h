/* SipHash-2-4 (Aumasson and Bernstein, 2012): a short hash that nobody without the key can steer or
 * predict. */
#ifndef PARLEY_BASE_SIPHASH_H
#define PARLEY_BASE_SIPHASH_H

#include "base/bytes.h"

struct siphash_key {
    uint64_t k0, k1;
};

struct siphash_key siphash_key_new(void); /* random */
uint64_t siphash(const struct siphash_key *key, struct bytes input);

#endif
