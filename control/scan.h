/*
 * Reads a message's wire bytes by its descriptor, before anything is unpacked: protobuf-c checks
 * neither UTF-8 nor NUL, keeps what it does not know and merges what comes twice. Pure.
 */
#ifndef PARLEY_CONTROL_SCAN_H
#define PARLEY_CONTROL_SCAN_H

#include "base/bytes.h"

#include <protobuf-c/protobuf-c.h>

enum scan_mode {
    SCAN_INBOUND,  /* from the policy: everything */
    SCAN_OUTBOUND, /* from us: wire form and strings only */
};

/* False sets *why (owned by the caller) to the path of the field and what is wrong with it. */
bool scan_message(const ProtobufCMessageDescriptor *type, struct bytes wire, enum scan_mode mode,
                  char **why);

#endif
