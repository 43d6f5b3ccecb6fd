/* What the connection may do to its channels without the client's asking: close one, and tighten
 * the rules for all. */
#include "channels/internal.h"

bool channels_close_one(struct channels *channels, uint32_t id, const char *why)
{
    struct channel *channel = id < channels->table_size ? channels->table[id] : NULL;

    if (channel == NULL || channel->state != CHANNEL_OPEN)
        return false;
    channel_close(channel, why);
    return true;
}

const char *channel_misfit(const struct channel *channel)
{
    return channel->kind->misfit != NULL ? channel->kind->misfit(channel) : NULL;
}

void channels_tighten(struct channels *channels, const struct channels_rules *rules)
{
    channels_set_rules(channels, rules);
    for (size_t i = 0; i < channels->table_size; i++) {
        struct channel *channel = channels->table[i];
        const char *why = channel != NULL ? channel_misfit(channel) : NULL;

        if (why != NULL && channel->state == CHANNEL_OPEN)
            channel_close(channel, why);
    }
}
