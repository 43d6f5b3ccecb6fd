/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * GSSAPI key exchange (RFC 4462 section 2, RFC 8732): libssh 0.12 has it, but calls the Kerberos
 * library from within. Here a helper does what blocks, before libssh is shown the message.
 */
#ifndef PARLEY_TRANSPORT_GSS_KEX_H
#define PARLEY_TRANSPORT_GSS_KEX_H

#include "transport/connection.h"

/* Methods to offer beside `list`; takes the list, owned. */
char *gss_kex_offer(char *list);
bool gss_kex_is_possible(void); /* with this libssh */

/* The client's first message of an exchange: true if it is GSSAPI's, and is taken care of. It comes
 * back by input_go_on(), or the connection ends. */
bool gss_kex_begin(struct transport *t, const struct packet *packet);
/* Around libssh's handling of a message of key exchange. */
void gss_kex_enter(struct transport *t);
void gss_kex_leave(struct transport *t);
/* The connection is freed: silence now; the memory later. */
void gss_kex_cancel(struct transport *t);
void gss_kex_clear(struct transport *t);

#endif
