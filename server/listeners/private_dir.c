#include "listeners/private.h"

#include "base/alloc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REMOVE_MAX_FILES                                                                           \
    64 /* what its user left there beyond that stays, and the directory too                        \
        */

bool private_dir_make(struct private_dir *dir)
{
    const char *parent = getenv("TMPDIR");
    int saved;

    if (parent == NULL || parent[0] != '/')
        parent = "/tmp";
    dir->fd = -1;
    dir->path = xasprintf("%s/parley-XXXXXX", parent);
    if (mkdtemp(dir->path) == NULL) {
        saved = errno;
        free(dir->path);
        dir->path = NULL;
        errno = saved;
        return false;
    }
    dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir->fd >= 0)
        return true;
    saved = errno;
    rmdir(dir->path);
    free(dir->path);
    dir->path = NULL;
    errno = saved;
    return false;
}

char *private_dir_file(const struct private_dir *dir, const char *name)
{
    return xasprintf("%s/%s", dir->path, name);
}

bool private_dir_write(const struct private_dir *dir, const char *name, struct bytes content)
{
    int fd = openat(dir->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    ssize_t written;

    if (fd < 0)
        return false;
    written = write(fd, content.data, content.len);
    if (close(fd) < 0 || written < 0)
        return false;
    if ((size_t)written == content.len)
        return true;
    errno = ENOSPC;
    return false;
}

bool private_dir_give(const struct private_dir *dir, const char *name,
                      const struct local_user *user)
{
    if (fchmodat(dir->fd, name, 0600, 0) < 0)
        return false;
    if (user->uid == geteuid() && user->gid == getegid())
        return true;
    return fchownat(dir->fd, name, user->uid, user->gid, AT_SYMLINK_NOFOLLOW) == 0 &&
           fchown(dir->fd, user->uid, user->gid) == 0;
}

/* By descriptor: its user may have put a symbolic link where the directory was. */
static void remove_files(int dir_fd)
{
    int fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
    DIR *files = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    int count = 0;

    if (files == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    rewinddir(files);
    while (count++ < REMOVE_MAX_FILES && (entry = readdir(files)) != NULL)
        unlinkat(dir_fd, entry->d_name, 0); /* directories stay */
    closedir(files);
}

void private_dir_remove(struct private_dir *dir)
{
    if (dir->fd < 0)
        return;
    remove_files(dir->fd);
    rmdir(dir->path);
    close(dir->fd);
    free(dir->path);
    *dir = (struct private_dir){.fd = -1};
}
