#include "listeners/private.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME "agent"
#define BACKLOG     128

struct private_socket {
    struct private_dir dir;
    char *path;
    struct local_user user;
    struct listener *listener;
    listener_accept_fn *accepted;
    void *owner;
};

/* The directory keeps others out already; a descriptor that was passed around is not kept out by
 * it. */
static void on_accepted(void *owner, int fd, const struct address *peer,
                        const struct address *local)
{
    struct private_socket *socket = owner;
    struct ucred who;
    socklen_t len = sizeof(who);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
        (who.uid == socket->user.uid || who.uid == 0))
        socket->accepted(socket->owner, fd, peer, local);
    else
        close(fd);
}

/* -1: errno. */
static int listen_at(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd, saved;

    if (strlen(path) >= sizeof(at.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(at.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
    return -1;
}

struct private_socket *private_socket_new(struct loop *loop, const struct local_user *user,
                                          listener_accept_fn *accepted, void *owner)
{
    struct private_socket *socket = xcalloc(1, sizeof(*socket));
    int fd = -1, saved;

    socket->user = *user;
    socket->accepted = accepted;
    socket->owner = owner;
    socket->dir.fd = -1;
    if (private_dir_make(&socket->dir)) {
        socket->path = private_dir_file(&socket->dir, SOCKET_NAME);
        fd = listen_at(socket->path);
    }
    if (fd >= 0 && private_dir_give(&socket->dir, SOCKET_NAME, user)) {
        socket->listener = listener_new(loop, fd, on_accepted, socket);
        return socket;
    }
    saved = errno;
    if (fd >= 0)
        close(fd);
    private_socket_free(&socket);
    errno = saved;
    return NULL;
}

const char *private_socket_path(const struct private_socket *socket)
{
    return socket->path;
}

void private_socket_free(struct private_socket **where)
{
    struct private_socket *socket = *where;

    *where = NULL;
    if (socket == NULL)
        return;
    listener_free(&socket->listener);
    private_dir_remove(&socket->dir);
    free(socket->path);
    free(socket);
}
