/*
 * Sockets that one session's program uses and nobody else: an agent's, and an X11 display's. Each
 * has a directory of its own, which only its user can enter; it goes with the socket.
 */
#ifndef PARLEY_LISTENERS_PRIVATE_H
#define PARLEY_LISTENERS_PRIVATE_H

#include "base/bytes.h"
#include "listeners/listener.h"

#include <sys/types.h>

/* Who the program runs as. Another user than our own takes a daemon that runs as root. */
struct local_user {
    uid_t uid;
    gid_t gid;
};

/* ---- a directory of mode 0700 below TMPDIR or /tmp */

struct private_dir {
    int fd;     /* -1: there is none */
    char *path; /* owned */
};

/* It is ours until private_dir_give(). False: errno. */
bool private_dir_make(struct private_dir *dir);
char *private_dir_file(const struct private_dir *dir, const char *name); /* its path; owned */
/* A file of mode 0600 with these bytes. */
bool private_dir_write(const struct private_dir *dir, const char *name, struct bytes content);
/* Hands the directory and this one file in it to their user; last, since from here on he may
 * change what is in it. */
bool private_dir_give(const struct private_dir *dir, const char *name,
                      const struct local_user *user);
/* Removes it, and the files that are in it by now. Zero-initialised or twice: fd must be -1. */
void private_dir_remove(struct private_dir *dir);

/* ---- a Unix socket */

struct private_socket;

/* NULL: errno. Connections of other users (save root) are closed. */
struct private_socket *private_socket_new(struct loop *loop, const struct local_user *user,
                                          listener_accept_fn *accepted, void *owner);
const char *private_socket_path(const struct private_socket *socket);
void private_socket_free(struct private_socket **socket);

/* ---- an X11 display: TCP on loopback, and the file that lets its user in */

#define DISPLAY_FIRST 10 /* lower ones are for screens of this machine */
#define DISPLAY_COUNT 1000
#define DISPLAY_PORT  6000 /* of display 0 */

struct display;

/* `protocol` and `cookie` (its bytes) are what X11 clients will show. NULL: errno. */
struct display *display_new(struct loop *loop, const struct local_user *user, const char *protocol,
                            struct bytes cookie, listener_accept_fn *accepted, void *owner);
unsigned display_number(const struct display *display);
const char *display_authority(const struct display *display); /* path of the Xauthority file */
/* No more connections; the file stays. Not from inside accepted(). */
void display_stop_listening(struct display *display);
void display_free(struct display **display);

#endif
