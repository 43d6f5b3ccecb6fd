/* Keys and certificates that ssh-keygen makes when a test begins, in a directory of their own. */
#ifndef PARLEY_TESTS_UNIT_ENDPOINTS_KEYS_KEYS_H
#define PARLEY_TESTS_UNIT_ENDPOINTS_KEYS_KEYS_H

#include "base/bytes.h"

struct keys {
    char *dir;
};

/* `script` runs in sh with the directory as its working directory; it must succeed. */
void keys_make(struct keys *keys, const char *script);
void keys_remove(struct keys *keys);
void keys_run(const struct keys *keys, const char *script);
char *keys_path(const struct keys *keys, const char *name); /* owned */
struct buf keys_read(const struct keys *keys, const char *name);
void keys_write(const struct keys *keys, const char *name, struct bytes text);
/* "type base64" of the file <name>.pub; owned. */
char *keys_text(const struct keys *keys, const char *name);
struct buf keys_blob(const struct keys *keys, const char *name);

#endif
