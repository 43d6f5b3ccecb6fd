/* Private to the room: where in the file each key and list entry stands, since libcyaml does not
 * keep that. */
#ifndef PARLEY_CONFIG_LINES_H
#define PARLEY_CONFIG_LINES_H

#include "base/bytes.h"

struct line {
    char *path; /* "policy.targets.recorder", "listen[1]" */
    size_t number;
};

struct lines {
    struct line *lines;
    size_t count;
};

/* Also refuses what libcyaml would let through: bytes after a NUL, a key set twice, a second
 * document, aliases. *why and *at (the line) are set on failure. */
bool lines_scan(struct lines *lines, struct bytes text, char **why, size_t *at);
/* 0: no such path. */
size_t lines_find(const struct lines *lines, const char *path);
void lines_clear(struct lines *lines);

#endif
