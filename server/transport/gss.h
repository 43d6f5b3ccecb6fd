/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PARLEY_TRANSPORT_GSS_H
#define PARLEY_TRANSPORT_GSS_H

#include "transport/transport.h"

#include <gssapi/gssapi.h>

struct gss_exchange {
    gss_cred_id_t credential;
    gss_ctx_id_t context;
    OM_uint32 flags; /* after DONE: what the context gives */
    bool done;
    char *client, *acceptor;
    char error[512];
};

#endif
