/* Round trips of a few bytes, one after another. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>

#define WARM_UP 20

static bool round_trip(ssh_channel channel, char *buffer, unsigned size)
{
    unsigned back = 0;

    if (ssh_channel_write(channel, buffer, size) != (int)size)
        return false;
    while (back < size) {
        int got = ssh_channel_read(channel, buffer + back, size - back, 0);

        if (got <= 0)
            return false;
        back += (unsigned)got;
    }
    return true;
}

int load_echo(const struct options *options)
{
    ssh_session session = client_login(options, 1);
    ssh_channel channel = session ? client_exec(session, options->command) : NULL;
    struct samples samples = {0};
    char *buffer = calloc(1, options->size);
    bool ok = channel != NULL;
    int status;

    for (unsigned i = 0; ok && i < WARM_UP; i++)
        ok = round_trip(channel, buffer, options->size);
    ok = ok && load_wait("ready");
    for (unsigned i = 0; ok && i < options->count; i++) {
        double start = now_ms();

        ok = round_trip(channel, buffer, options->size);
        samples_add(&samples, now_ms() - start);
    }
    if (ok) {
        printf("{\"mode\": \"echo\", \"count\": %zu, \"p50_ms\": %.4f, \"p99_ms\": %.4f}\n",
               samples.count, samples_at(&samples, 0.5), samples_at(&samples, 0.99));
        ssh_channel_send_eof(channel);
        client_drain(channel, &status);
    }
    if (session != NULL)
        client_close(session, channel);
    samples_clear(&samples);
    free(buffer);
    return !ok;
}
