/* The configuration file: any text is either taken, or refused with one clean line. */
#include "base/log.h"
#include "config/config.h"
#include "fuzz/feed.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static int fd = -1;
    char path[32], *error = NULL;
    char *argv[] = {"parleyd", "--config", path, NULL};
    struct config config;
    enum config_verdict verdict;

    if (fd < 0)
        fd = memfd_create("config", MFD_CLOEXEC);
    if (ftruncate(fd, 0) != 0 || (len > 0 && pwrite(fd, data, len, 0) != (ssize_t)len))
        abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    verdict = config_load(&config, 3, argv, &error);
    if (verdict == CONFIG_WRONG || verdict == CONFIG_USAGE)
        assert(error != NULL && error[0] != '\0' && strchr(error, '\n') == NULL);
    else
        assert(error == NULL);
    free(error);
    config_clear(&config);
    return 0;
}
