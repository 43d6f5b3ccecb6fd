/* What a single value cannot tell: whether the settings go together, and whether the files are
 * there. */
#include "config/settings.h"

#include "base/address.h"
#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN_MAX 8192 /* gRPC refuses more metadata than that by default */

/* Opens a file that the configuration names. -1: *error is set. */
static int open_named(const char *where, const char *path, struct stat *st, char **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd >= 0 && fstat(fd, st) == 0 && S_ISREG(st->st_mode))
        return fd;
    *error = xasprintf("%s: %s: %s", where, path, fd < 0 ? strerror(errno) : "not a regular file");
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool check_file(const struct config *config, char *const *member, char **error)
{
    struct stat st;
    int fd;

    if (*member == NULL)
        return true;
    fd = open_named(config_where(config, member), *member, &st, error);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

static bool check_host_key(const struct config_item *item, char **error)
{
    struct stat st;
    int fd = open_named(item->where, item->text, &st, error);

    if (fd < 0)
        return false;
    close(fd);
    if ((st.st_mode & 077) == 0)
        return true;
    *error = xasprintf("%s: %s: others may read this private key (mode %04o): chmod 600 it",
                       item->where, item->text, (unsigned)st.st_mode & 07777);
    return false;
}

static bool check_host_keys(const struct config *config, char **error)
{
    if (config->host_keys.count == 0) {
        *error = xstrdup("no host key: make one with  ssh-keygen -q -t ed25519 -N '' -f host_key  "
                         "and give --host-key host_key");
        return false;
    }
    for (size_t i = 0; i < config->host_keys.count; i++)
        if (!check_host_key(&config->host_keys.items[i], error))
            return false;
    return true;
}

static bool check_listen(const struct config *config, char **error)
{
    for (size_t i = 0; i < config->listen.count; i++) {
        const struct config_item *item = &config->listen.items[i];
        struct sockaddr_storage address;
        socklen_t len;
        const char *why;

        if (!address_parse(item->text, &address, &len, &why)) {
            *error = xasprintf("%s: \"%s\": %s", item->where, item->text, why);
            return false;
        }
    }
    return true;
}

/* The one that a stronger source set wins; two from the same source contradict each other. */
static bool choose_policy(struct config *config, char **error)
{
    char **target = &config->policy.target, **exec = &config->policy.exec;
    enum setting_source target_source = setting_source(config, target);
    enum setting_source exec_source = setting_source(config, exec);

    if (*target == NULL && *exec == NULL) {
        *error = xasprintf("%s%sno policy: give --policy TARGET or --policy-exec CMD",
                           config->file ? config->file : "", config->file ? ": " : "");
        return false;
    }
    if (*target == NULL || *exec == NULL)
        return true;
    if (target_source == exec_source) {
        *error =
            xasprintf("%s: excludes %s", config_where(config, exec), config_where(config, target));
        return false;
    }
    target = target_source > exec_source ? exec : target;
    free(*target);
    *target = NULL;
    return true;
}

static bool check_tls(const struct config *config, char **error)
{
    const char *ca = config->policy.ca, *cert = config->policy.cert, *key = config->policy.key;

    if (cert != NULL && ca == NULL)
        *error = xasprintf("%s: needs policy.ca (--policy-ca) as well",
                           config_where(config, &config->policy.cert));
    else if (cert != NULL && key == NULL)
        *error = xasprintf("%s: needs policy.key (--policy-key) as well",
                           config_where(config, &config->policy.cert));
    else if (key != NULL && cert == NULL)
        *error = xasprintf("%s: needs policy.cert (--policy-cert) as well",
                           config_where(config, &config->policy.key));
    return *error == NULL && check_file(config, &config->policy.ca, error) &&
           check_file(config, &config->policy.cert, error) &&
           check_file(config, &config->policy.key, error);
}

/* RFC 6750 section 2.1; anything else would not survive as an HTTP/2 header. */
static bool token_is_clean(const char *token)
{
    return token[0] != '\0' &&
           token[strspn(token, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                               "0123456789-._~+/=")] == '\0';
}

static bool read_token(struct config *config, char **error)
{
    char token[TOKEN_MAX + 1];
    struct stat st;
    ssize_t got;
    int fd;

    if (config->policy.token_file == NULL)
        return true;
    fd = open_named(config_where(config, &config->policy.token_file), config->policy.token_file,
                    &st, error);
    if (fd < 0)
        return false;
    got = read(fd, token, sizeof(token));
    close(fd);
    if (got >= 0 && got < (ssize_t)sizeof(token)) {
        token[got] = '\0';
        token[strcspn(token, "\r\n")] = '\0';
        if (token_is_clean(token))
            config->policy.token = xstrdup(token);
    }
    explicit_bzero(token, sizeof(token));
    if (config->policy.token == NULL)
        *error =
            xasprintf("%s: %s: not one line with a bearer token",
                      config_where(config, &config->policy.token_file), config->policy.token_file);
    return config->policy.token != NULL;
}

/* RFC 4253 section 4.2: printable, and no "-" before the first space. */
static bool check_version_comment(const struct config *config, char **error)
{
    const char *text = config->version_comment ? config->version_comment : "default";
    size_t word = strcspn(text, " ");
    bool ok = word > 0;

    for (size_t i = 0; text[i] != '\0'; i++)
        ok = ok && text[i] >= ' ' && text[i] <= '~' && (i > word || text[i] != '-');
    if (!ok)
        *error = xasprintf("%s: only printable ASCII, and a first word without \"-\"",
                           config_where(config, &config->version_comment));
    return ok;
}

/* Kerberos would say so only when the first user comes. */
static bool check_keytab(const struct config *config, char **error)
{
    if (config->auth.gssapi_key_exchange && !config->auth.gssapi) {
        *error = xasprintf("%s: needs auth.gssapi (--gssapi) as well",
                           config_where(config, &config->auth.gssapi_key_exchange));
        return false;
    }
    return !config->auth.gssapi || check_file(config, &config->auth.gssapi_keytab, error);
}

bool config_check(struct config *config, char **error)
{
    if (config->limits.max_packet_bytes > config->limits.window_bytes) {
        *error = xasprintf("%s: larger than the window (limits.window)",
                           config_where(config, &config->limits.max_packet_bytes));
        return false;
    }
    return choose_policy(config, error) && check_version_comment(config, error) &&
           check_listen(config, error) && config_check_admission(config, error) &&
           config_check_forward(config, error) && check_tls(config, error) &&
           read_token(config, error) && check_keytab(config, error) &&
           check_host_keys(config, error);
}
