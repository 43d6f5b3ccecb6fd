/* Networks: an address and how many of its bits count, as CIDR writes them. */
#ifndef PARLEY_BASE_NETWORK_H
#define PARLEY_BASE_NETWORK_H

#include <stdbool.h>
#include <stdint.h>

/* Compared as written: IPv4 mapped into IPv6 is no IPv4 here (struct address has it unmapped). */
struct network {
    uint8_t address[16]; /* IPv4: the first four */
    int family;          /* AF_INET, AF_INET6 */
    unsigned bits;
};

/* "192.0.2.1", "192.0.2.0/24", "2001:db8::/32"; no names. */
bool network_parse(const char *text, struct network *out);
/* Is all of `inner` within `outer`? */
bool network_holds(const struct network *outer, const struct network *inner);
/* Keeps so many bits at most; the others become zero. */
void network_mask(struct network *network, unsigned bits);

#define NETWORK_TEXT_MAX 64
void network_format(const struct network *network, char out[NETWORK_TEXT_MAX]);

#endif
