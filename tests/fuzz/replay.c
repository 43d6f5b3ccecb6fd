/* Runs a fuzz target over files and folders, and N inputs of chance after "--random", where
 * libFuzzer is not at hand. */
#include "fuzz/feed.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data;
    size_t len;

    if (file == NULL) {
        perror(path);
        return 1;
    }
    data = malloc(1 << 20);
    len = fread(data, 1, 1 << 20, file);
    fclose(file);
    data = realloc(data, len ? len : 1); /* so that a sanitizer sees reads beyond the end */
    LLVMFuzzerTestOneInput(data, len);
    free(data);
    return 0;
}

static int run(const char *path)
{
    struct stat st;
    struct dirent *entry;
    int failed = 0;
    DIR *dir;

    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return run_file(path);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char inner[PATH_MAX];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
        failed |= run(inner);
    }
    if (dir != NULL)
        closedir(dir);
    return failed;
}

/* The same inputs each time. */
static void run_random(long count)
{
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
    uint8_t data[512];

    for (long i = 0; i < count; i++) {
        size_t len = (size_t)i % sizeof(data);
        uint8_t *copy;

        for (size_t at = 0; at < len; at++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            data[at] = (uint8_t)(state >> 32);
        }
        copy = malloc(len ? len : 1);
        memcpy(copy, data, len);
        LLVMFuzzerTestOneInput(copy, len);
        free(copy);
    }
}

int main(int argc, char **argv)
{
    int failed = 0;

    LLVMFuzzerTestOneInput(NULL, 0);
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--random") == 0 && i + 1 < argc)
            run_random(strtol(argv[++i], NULL, 10));
        else
            failed |= run(argv[i]);
    return failed;
}
