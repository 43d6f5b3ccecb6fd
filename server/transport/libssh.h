/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The only header that includes libssh. Its internals are used, not only its public functions, so
 * the version must be one that the build pins and the tests ran with, and that build's config.h
 * must come first: the layouts of session and crypto depend on it.
 */
#ifndef PARLEY_TRANSPORT_LIBSSH_H
#define PARLEY_TRANSPORT_LIBSSH_H

#include "config.h" /* libssh's own */

#include <libssh/libssh.h>

#include <libssh/bind.h>
#include <libssh/buffer.h>
#include <libssh/crypto.h>
#include <libssh/dh.h>
#include <libssh/gssapi.h>
#include <libssh/kex.h>
#include <libssh/misc.h>
#include <libssh/packet.h>
#include <libssh/pki.h>
#include <libssh/pki_priv.h>
#include <libssh/priv.h>
#include <libssh/server.h>
#include <libssh/session.h>
#include <libssh/socket.h>
#include <libssh/ssh2.h>
#include <libssh/wrapper.h>

_Static_assert(LIBSSH_VERSION_INT == SSH_VERSION_INT(0, 12, 2) ||
                   LIBSSH_VERSION_INT == SSH_VERSION_INT(0, 11, 5),
               "transport/ was tested with libssh 0.12.2 and 0.11.5 only");

#if defined(WITH_PCAP)
#error "libssh must be built without pcap: see cmake/libssh.cmake"
#endif
#if !defined(WITH_SERVER) || !defined(WITH_ZLIB) || !defined(WITH_GSSAPI) ||                       \
    !defined(HAVE_LIBCRYPTO)
#error "libssh must be built with server, zlib, gssapi and libcrypto: see cmake/libssh.cmake"
#endif

/* libssh's headers define a few short names that are ours elsewhere. */
#undef MIN
#undef MAX

#endif
