/* How a link is secured: TLS with the operator's files, or plaintext where nobody else can listen.
 */
#include "control/internal.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1024 * 1024)

/* The whole file as a secret string; NULL sets *error. `marker` must be in it: gRPC would accept
 * anything here and fail each connection later, with no word of the file. */
static char *read_pem(const char *path, const char *marker, char **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = NULL;
    size_t len = 0;
    ssize_t got = -1;

    if (fd >= 0) {
        text = xcalloc(1, FILE_MAX + 1);
        while (len < FILE_MAX && (got = read(fd, text + len, FILE_MAX - len)) > 0)
            len += (size_t)got;
    }
    if (fd < 0 || got < 0)
        *error = xasprintf("%s: %s", path, strerror(errno));
    else if (len == FILE_MAX)
        *error = xasprintf("%s: larger than 1 MiB", path);
    else if (strlen(text) != len || strstr(text, marker) == NULL)
        *error = xasprintf("%s: not a PEM file with \"%s\"", path, marker);
    if (fd >= 0)
        close(fd);
    if (*error != NULL) {
        secret_free(text);
        text = NULL;
    }
    return text;
}

grpc_channel_credentials *credentials_new(const struct control_settings *settings, char **error)
{
    grpc_channel_credentials *credentials = NULL;
    grpc_ssl_pem_key_cert_pair pair = {0};
    char *ca = NULL, *cert = NULL, *key = NULL;

    *error = NULL;
    if ((settings->cert_file != NULL) != (settings->key_file != NULL)) {
        *error = xstrdup("policy certificate and key: one without the other");
        return NULL;
    }
    if (settings->cert_file != NULL && settings->ca_file == NULL) {
        *error = xstrdup("policy certificate without a policy CA: nothing would verify the policy");
        return NULL;
    }
    if (settings->ca_file == NULL)
        return grpc_insecure_credentials_create();
    ca = read_pem(settings->ca_file, "-----BEGIN CERTIFICATE-----", error);
    if (*error == NULL && settings->cert_file != NULL)
        cert = read_pem(settings->cert_file, "-----BEGIN CERTIFICATE-----", error);
    if (*error == NULL && settings->key_file != NULL)
        key = read_pem(settings->key_file, "PRIVATE KEY-----", error);
    if (*error == NULL) {
        pair.private_key = key;
        pair.cert_chain = cert;
        credentials = grpc_ssl_credentials_create(ca, key ? &pair : NULL, NULL, NULL);
        if (credentials == NULL)
            *error = xasprintf("%s: not usable for TLS", settings->ca_file);
    }
    free(ca);
    free(cert);
    secret_free(key);
    return credentials;
}
