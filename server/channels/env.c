#include "channels/env.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static bool holds(struct bytes b, char c)
{
    return b.len > 0 && memchr(b.data, c, b.len) != NULL;
}

bool env_is_sane(struct bytes name, struct bytes value)
{
    return name.len > 0 && !holds(name, '=') && !holds(name, '\0') && !holds(value, '\0');
}

static void set_bytes(ProtobufCBinaryData *field, struct bytes b)
{
    free(field->data);
    field->data = xmemdup(b.data, b.len);
    field->len = b.len;
}

static Policy__EnvVar *find(struct env_list *list, struct bytes name)
{
    for (size_t i = 0; i < list->count; i++)
        if (bytes_equal(name, bytes_of(list->vars[i]->name.data, list->vars[i]->name.len)))
            return list->vars[i];
    return NULL;
}

bool env_put(struct env_list *list, struct bytes name, struct bytes value)
{
    Policy__EnvVar *var = find(list, name);
    size_t before = var ? var->name.len + var->value.len : 0;
    size_t after = name.len + value.len;

    if (!env_is_sane(name, value) || after > ENV_MAX_BYTES - (list->bytes - before))
        return false;
    if (var == NULL) {
        if (list->count == ENV_MAX_ENTRIES)
            return false;
        var = xmalloc(sizeof(*var));
        policy__env_var__init(var);
        set_bytes(&var->name, name);
        list->vars = xrealloc(list->vars, (list->count + 1) * sizeof(*list->vars));
        list->vars[list->count++] = var;
    }
    set_bytes(&var->value, value);
    list->bytes = list->bytes - before + after;
    return true;
}

void env_remove(struct env_list *list, struct bytes name)
{
    Policy__EnvVar *var = find(list, name);
    size_t at = 0;

    if (var == NULL)
        return;
    while (list->vars[at] != var)
        at++;
    list->count--;
    memmove(&list->vars[at], &list->vars[at + 1], (list->count - at) * sizeof(*list->vars));
    list->bytes -= var->name.len + var->value.len;
    policy__env_var__free_unpacked(var, NULL);
}

void env_clear(struct env_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        policy__env_var__free_unpacked(list->vars[i], NULL);
    free(list->vars);
    *list = (struct env_list){0};
}

bool env_is_harmless(struct bytes name)
{
    return bytes_are(name, "TERM") || bytes_are(name, "LANG") ||
           (name.len > 3 && memcmp(name.data, "LC_", 3) == 0);
}

bool env_loads_code(struct bytes name)
{
    /* A '*' at the end stands for any rest. */
    static const char *const names[] = {
        "LD_*",
        "GLIBC_TUNABLES",
        "GCONV_PATH",
        "LOCPATH",
        "NLSPATH",
        "MALLOC_*",
        "HOSTALIASES",
        "RES_OPTIONS",
        "PATH",
        "IFS",
        "ENV",
        "BASH_ENV",
        "BASH_FUNC_*",
        "BASHOPTS",
        "SHELLOPTS",
        "SHELL",
        "PS4",
        "CDPATH",
        "GLOBIGNORE",
        "PROMPT_COMMAND",
        "ZDOTDIR",
        "FPATH",
        "PYTHON*",
        "PERL*",
        "RUBY*",
        "NODE_*",
        "LUA_*",
        "PHP*",
        "JAVA_TOOL_OPTIONS",
        "_JAVA_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "CLASSPATH",
        "GEM_*",
        "TCLLIBPATH",
        "GUILE_LOAD_PATH",
        "GIT_SSH*",
        "GIT_EXEC_PATH",
        "GIT_CONFIG*",
        "GIT_EXTERNAL_DIFF",
        "GIT_PAGER",
        "GIT_EDITOR",
        "GIT_ASKPASS",
        "GIT_PROXY_COMMAND",
        "GIT_TEMPLATE_DIR",
        "GIT_DIR",
        "EDITOR",
        "VISUAL",
        "PAGER",
        "MANPAGER",
        "LESS*",
        "BROWSER",
        "SSH_ASKPASS",
        "SUDO_ASKPASS",
        "RSYNC_*",
        "TAR_OPTIONS",
        "TERMINFO*",
        "TERMCAP",
        "VIM*",
        "EXINIT",
        "INPUTRC",
        "HOME",
        "TMPDIR",
        "OPENSSL_*",
        "SSL_*",
        "XDG_*",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t len = strlen(names[i]);
        bool is_prefix = names[i][len - 1] == '*';

        if (is_prefix ? name.len >= len - 1 && memcmp(name.data, names[i], len - 1) == 0
                      : bytes_are(name, names[i]))
            return true;
    }
    return false;
}
