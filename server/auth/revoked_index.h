/*
 * What a revocation list says, for look-up. Borrows every byte it is given. Knows nothing of
 * formats. Things revoked of one authority have its key as their scope; of any authority, the empty
 * one.
 *
 * What is in order, as in the lists of ssh-keygen, is searched by halves. What is not is looked
 * through: a login asks a few times, and to sort 1 MiB for it would hold up the loop for longer.
 */
#ifndef PARLEY_AUTH_REVOKED_INDEX_H
#define PARLEY_AUTH_REVOKED_INDEX_H

#include "base/bytes.h"

struct scoped {
    struct bytes scope, name;
};

struct scoped_set {
    struct scoped *items;
    size_t count, cap;
    bool in_order;
};

/* Serial numbers from lo to hi; of those, if there is a bitmap, the ones with their bit set. */
struct span {
    struct bytes scope;
    uint64_t lo, hi;
    struct bytes bitmap;  /* big-endian, the last bit is lo's; empty: all of them */
    uint64_t highest_yet; /* if in order: hi of this one and of all before it in its scope */
};

struct span_set {
    struct span *items;
    size_t count, cap;
    bool in_order; /* by scope, then by lo */
};

struct revoked_index {
    struct scoped_set keys, sha1, sha256; /* no scope */
    struct scoped_set key_ids;
    struct span_set serials;
};

void scoped_set_add(struct scoped_set *set, struct bytes scope, struct bytes name);
void span_set_add(struct span_set *set, struct bytes scope, uint64_t lo, uint64_t hi,
                  struct bytes bitmap);
/* Once, after the last addition and before the first question. */
void revoked_index_seal(struct revoked_index *index);
void revoked_index_clear(struct revoked_index *index);

bool scoped_set_has(const struct scoped_set *set, struct bytes scope, struct bytes name);
bool span_set_has(const struct span_set *set, struct bytes scope, uint64_t serial);

/* krl.c: NULL, or why the list cannot be used, static text; then nothing of the index counts. */
#define KRL_MAGIC "SSHKRL\n" /* and its NUL */
const char *krl_parse(struct bytes krl, struct revoked_index *index);
/* A section of public keys, each an SSH string (PROTOCOL.krl section 3). */
const char *krl_parse_keys(struct bytes section, struct revoked_index *index);

#endif
