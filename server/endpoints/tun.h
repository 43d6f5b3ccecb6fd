/* A tun or tap device of this machine (Linux Documentation/networking/tuntap.rst): one read or
 * write is one packet. */
#ifndef PARLEY_ENDPOINTS_TUN_H
#define PARLEY_ENDPOINTS_TUN_H

#include "endpoints/endpoint.h"

#define TUN_NAME_BYTES 16 /* as IFNAMSIZ */

/* Makes or takes the device tunN, or tapN with Ethernet frames; unit NULL: any that is free. Needs
 * CAP_NET_ADMIN, or a device that was made for us. A non-blocking descriptor and the device's name;
 * -1 sets *why, in words for the client. */
int tun_open(bool ethernet, const uint32_t *unit, char name[TUN_NAME_BYTES], const char **why);

/* Takes over a non-blocking descriptor whose messages are packets. What the device does not take is
 * lost. */
struct endpoint *endpoint_tun_new(struct loop *loop, const struct endpoint_events *events,
                                  void *owner, int fd);

#endif
