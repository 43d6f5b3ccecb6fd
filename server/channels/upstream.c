/* The connections to upstream servers that this client's channels go on over: none before the first
 * of them needs one. */
#include "channels/internal.h"

static int open_agent(void *owner)
{
    return channel_open_agent(owner);
}

struct upstreams *channels_upstreams(struct channels *channels)
{
    struct upstream_settings settings = {
        .server = channels->settings.server,
        .dial = &channels->settings.dial,
        .keepalive_ms = channels->settings.upstream_keepalive_ms,
    };

    if (channels->upstreams == NULL)
        channels->upstreams = upstreams_new(channels->asker, &settings, open_agent, channels);
    return channels->upstreams;
}
