/* Messages from a format, for tests: what the peer sends, and what we expect to have sent. */
#ifndef PARLEY_TESTS_FAKES_WIRE_H
#define PARLEY_TESTS_FAKES_WIRE_H

#include "base/bytes.h"

#include <stdarg.h>

/* One letter a field (RFC 4251 section 5); blanks are skipped:
 *   c  byte (int)              b  boolean (int)       u  uint32
 *   s  string (const char *)   S  string (struct bytes)   R  raw (struct bytes) */
void wire_put(struct buf *out, const char *format, ...);
void wire_vput(struct buf *out, const char *format, va_list args);

#endif
