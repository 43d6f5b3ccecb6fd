#include "unit/endpoints/keys/keys.h"

#include "unit/cmocka_unit.h"

#include "base/alloc.h"
#include "base/words.h"
#include "transport/transport.h"

#include <stdio.h>
#include <stdlib.h>

void keys_run(const struct keys *keys, const char *script)
{
    char *command = xasprintf("cd '%s' && { %s; } >out 2>err </dev/null", keys->dir, script);

    if (system(command) != 0)
        fail_msg("failed: %s", command);
    free(command);
}

void keys_make(struct keys *keys, const char *script)
{
    keys->dir = xstrdup("/tmp/parley-keys-XXXXXX");
    assert_non_null(mkdtemp(keys->dir));
    keys_run(keys, script);
}

void keys_remove(struct keys *keys)
{
    char *command = xasprintf("rm -rf '%s'", keys->dir);

    assert_int_equal(system(command), 0);
    free(command);
    free(keys->dir);
}

char *keys_path(const struct keys *keys, const char *name)
{
    return xasprintf("%s/%s", keys->dir, name);
}

struct buf keys_read(const struct keys *keys, const char *name)
{
    char *path = keys_path(keys, name);
    FILE *file = fopen(path, "rb");
    uint8_t data[4096];
    struct buf out = {0};
    size_t len;

    assert_non_null(file);
    while ((len = fread(data, 1, sizeof(data), file)) > 0)
        buf_put(&out, bytes_of(data, len));
    fclose(file);
    free(path);
    return out;
}

void keys_write(const struct keys *keys, const char *name, struct bytes text)
{
    char *path = keys_path(keys, name);
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(text.data, 1, text.len, file), text.len);
    assert_int_equal(fclose(file), 0);
    free(path);
}

char *keys_text(const struct keys *keys, const char *name)
{
    char *file = xasprintf("%s.pub", name);
    struct buf content = keys_read(keys, file);
    struct bytes line = buf_bytes(&content);
    struct bytes type = word_take(&line), encoded = word_take(&line);
    char *text = xasprintf("%.*s %.*s", (int)type.len, (const char *)type.data, (int)encoded.len,
                           (const char *)encoded.data);

    buf_clear(&content);
    free(file);
    return text;
}

struct buf keys_blob(const struct keys *keys, const char *name)
{
    char *text = keys_text(keys, name);
    struct bytes line = bytes_of_string(text);
    struct buf blob = {0};

    assert_true(public_key_take_text(&line, &blob));
    free(text);
    return blob;
}
