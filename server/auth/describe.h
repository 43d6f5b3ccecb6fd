/*
 * Keys and certificates as the contract describes them. Everything but the texts made here is
 * borrowed from the key or certificate, so that one must live as long.
 */
#ifndef PARLEY_AUTH_DESCRIBE_H
#define PARLEY_AUTH_DESCRIBE_H

#include "control/control.h"
#include "transport/transport.h"

struct described_key {
    Policy__PublicKey key;
};

struct described_certificate {
    Policy__Certificate certificate;
    struct described_key ca;
    Policy__NamedValue *values;      /* of both lists */
    Policy__NamedValue **references; /* likewise */
};

void describe_key(struct described_key *out, const struct public_key *key);
void described_key_clear(struct described_key *described);
/* Not to be moved in memory while in use. */
void describe_certificate(struct described_certificate *out, const struct certificate *certificate);
void described_certificate_clear(struct described_certificate *described);

#endif
