/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The client's version line (RFC 4253 section 4.2). libssh reads at most 127 bytes of it; the RFC
 * allows 255.
 */
#ifndef PARLEY_TRANSPORT_VERSION_H
#define PARLEY_TRANSPORT_VERSION_H

#include "base/bytes.h"

#define VERSION_LINE_MAX 255 /* with CR LF */

enum version_result {
    VERSION_INCOMPLETE, /* no line end yet, nothing wrong so far */
    VERSION_OK,
    VERSION_REFUSED,
    VERSION_OTHER_LINE, /* of a server only: what may come before its version line */
};

struct version_line {
    struct bytes line;   /* without line end; borrowed from the input */
    size_t consumed;     /* with line end */
    const char *problem; /* static text, if refused */
};

enum version_result version_parse(struct bytes input, struct version_line *out);

#define VERSION_OTHER_LINE_MAX 8192 /* as OpenSSH */

/* A server's (RFC 4253 section 4.2). */
enum version_result version_parse_server(struct bytes input, struct version_line *out);

#endif
