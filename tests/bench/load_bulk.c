/* Many bytes on one channel. */
#include "load.h"

#include <stdio.h>
#include <string.h>

#define CHUNK (256 * 1024)

static bool send_all(ssh_channel channel, uint64_t bytes)
{
    static char zeros[CHUNK];

    while (bytes > 0) {
        uint32_t len = bytes < CHUNK ? (uint32_t)bytes : CHUNK;
        int sent = ssh_channel_write(channel, zeros, len);

        if (sent <= 0)
            return false;
        bytes -= (uint64_t)sent;
    }
    return ssh_channel_send_eof(channel) == SSH_OK;
}

int load_bulk(const struct options *options)
{
    bool up = strcmp(options->direction, "up") == 0;
    ssh_session session = client_login(options, 0);
    ssh_channel channel;
    uint64_t moved;
    double start, seconds;
    int status = -1;
    bool done;

    if (session == NULL)
        return 1;
    if (!load_wait("ready"))
        return 1;
    start = now_ms();
    channel = options->forward != 0 ? client_forward(session, options->forward)
                                    : client_exec(session, options->command);
    if (channel == NULL)
        return 1;
    done = !up || send_all(channel, options->bytes);
    moved = client_drain(channel, options->forward != 0 ? NULL : &status);
    done = done && (status == 0 || options->forward != 0) && (up || moved == options->bytes);
    seconds = (now_ms() - start) / 1e3;
    printf("{\"mode\": \"bulk\", \"ok\": %s, \"bytes\": %llu, \"seconds\": %.4f, "
           "\"mb_per_second\": %.2f}\n",
           done ? "true" : "false", (unsigned long long)options->bytes, seconds,
           (double)options->bytes / 1e6 / seconds);
    load_wait("done");
    client_close(session, channel);
    return !done;
}
