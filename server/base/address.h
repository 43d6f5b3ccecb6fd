/* Addresses as the contract and the log write them. */
#ifndef PARLEY_BASE_ADDRESS_H
#define PARLEY_BASE_ADDRESS_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_TEXT_MAX 64

struct address {
    char ip[ADDRESS_TEXT_MAX]; /* textual, v4 or v6; v4-mapped v6 is written as v4; empty for a Unix
                                  socket */
    uint16_t port;
};

struct address address_of(const struct sockaddr *sa);
/* "192.0.2.1:22", "[2001:db8::1]:22"; out has room for ADDRESS_TEXT_MAX + 16. */
void address_format(const struct address *address, char *out);
/* HOST:PORT, [V6]:PORT, :PORT or *:PORT (any). False leaves `error` set to what is wrong, static
 * text. Names are resolved with getaddrinfo and may block: start-up only. */
bool address_parse(const char *text, struct sockaddr_storage *out, socklen_t *out_len,
                   const char **error);

struct socket_address {
    struct sockaddr_storage addr;
    socklen_t len;
};

#define ADDRESS_ALL_MAX 8
/* As above, but every address that the text means: any is v4 and v6. 0: *error is set. */
size_t address_parse_all(const char *text, struct socket_address out[ADDRESS_ALL_MAX],
                         const char **error);

/* The name of the host at this address, in lower case: what the reverse look-up says, if looking
 * that up leads back to the address. Else the address itself. Owned. Blocks: for a helper. */
char *address_host_name(const char *ip);

/* What may be spoken of at all: a host without blanks and control characters (or none), the path of
 * a socket. */
bool place_is_host(struct bytes host);
bool place_is_path(struct bytes path);

#endif
