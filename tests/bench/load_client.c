#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOCAL_ADDRESSES 16 /* 127.0.1.1 and up; each has its own ephemeral ports */
#define TIMEOUT_S       60
#define READ_SIZE       (256 * 1024)

static int connect_from(const struct options *options, unsigned index)
{
    struct sockaddr_in local = {.sin_family = AF_INET}, peer = {.sin_family = AF_INET};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    local.sin_addr.s_addr = htonl(0x7f000101u + index % LOCAL_ADDRESSES);
    peer.sin_port = htons((uint16_t)options->port);
    if (fd < 0 || inet_pton(AF_INET, options->host, &peer.sin_addr) != 1)
        return -1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&local, sizeof(local)) == 0 &&
        connect(fd, (struct sockaddr *)&peer, sizeof(peer)) == 0)
        return fd;
    fprintf(stderr, "load: connect: %s\n", strerror(errno));
    close(fd);
    return -1;
}

static bool set_up(ssh_session session, const struct options *options, int fd)
{
    long timeout = TIMEOUT_S;
    bool no = false;
    const struct {
        enum ssh_options_e option;
        const void *value;
    } list[] = {
        {SSH_OPTIONS_PROCESS_CONFIG, &no},
        {SSH_OPTIONS_FD, &fd},
        {SSH_OPTIONS_HOST, options->host},
        {SSH_OPTIONS_USER, options->user},
        {SSH_OPTIONS_TIMEOUT, &timeout},
        {SSH_OPTIONS_KNOWNHOSTS, "/dev/null"},
        {SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null"},
        {SSH_OPTIONS_HOSTKEYS, "ssh-ed25519"},
        {SSH_OPTIONS_KEY_EXCHANGE, options->kex},
        {SSH_OPTIONS_CIPHERS_C_S, options->cipher},
        {SSH_OPTIONS_CIPHERS_S_C, options->cipher},
    };

    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
        if (ssh_options_set(session, list[i].option, list[i].value) != SSH_OK)
            return false;
    return true;
}

static bool authenticate(ssh_session session, const struct options *options)
{
    ssh_key key = NULL;
    bool in = false;

    if (ssh_pki_import_privkey_file(options->key_file, NULL, NULL, NULL, &key) != SSH_OK) {
        fprintf(stderr, "load: cannot read %s\n", options->key_file);
        return false;
    }
    in = ssh_userauth_none(session, NULL) == SSH_AUTH_SUCCESS ||
         (ssh_userauth_try_publickey(session, NULL, key) == SSH_AUTH_SUCCESS &&
          ssh_userauth_publickey(session, NULL, key) == SSH_AUTH_SUCCESS);
    ssh_key_free(key);
    return in;
}

ssh_session client_login(const struct options *options, unsigned index)
{
    int fd = connect_from(options, index);
    ssh_session session;

    if (fd < 0)
        return NULL;
    session = ssh_new();
    if (session != NULL && set_up(session, options, fd) && ssh_connect(session) == SSH_OK &&
        authenticate(session, options))
        return session;
    fprintf(stderr, "load: login: %s\n", session ? ssh_get_error(session) : "no memory");
    if (session != NULL)
        client_close(session, NULL);
    return NULL;
}

ssh_channel client_exec(ssh_session session, const char *command)
{
    ssh_channel channel = ssh_channel_new(session);

    if (channel != NULL && ssh_channel_open_session(channel) == SSH_OK &&
        ssh_channel_request_exec(channel, command) == SSH_OK)
        return channel;
    fprintf(stderr, "load: exec: %s\n", ssh_get_error(session));
    if (channel != NULL)
        ssh_channel_free(channel);
    return NULL;
}

ssh_channel client_forward(ssh_session session, unsigned port)
{
    ssh_channel channel = ssh_channel_new(session);

    if (channel != NULL &&
        ssh_channel_open_forward(channel, "127.0.0.1", (int)port, "127.0.0.1", 1) == SSH_OK)
        return channel;
    fprintf(stderr, "load: forward: %s\n", ssh_get_error(session));
    if (channel != NULL)
        ssh_channel_free(channel);
    return NULL;
}

uint64_t client_drain(ssh_channel channel, int *status)
{
    static _Thread_local char buffer[READ_SIZE];
    uint64_t total = 0;
    uint32_t code = 0;
    int got;

    while ((got = ssh_channel_read(channel, buffer, sizeof(buffer), 0)) > 0)
        total += (uint64_t)got;
    if (status == NULL)
        return total;
    *status = -1;
    if (ssh_channel_get_exit_state(channel, &code, NULL, NULL) == SSH_OK)
        *status = (int)code;
    return total;
}

void client_close(ssh_session session, ssh_channel channel)
{
    int fd = ssh_get_fd(session); /* libssh leaves a socket that it was given to us */

    if (channel != NULL) {
        ssh_channel_close(channel);
        ssh_channel_free(channel);
    }
    ssh_disconnect(session);
    ssh_free(session);
    if (fd >= 0)
        close(fd);
}
