/* Where the daemon never connects to for a client. */
#include "config/settings.h"

#include "base/alloc.h"
#include "base/network.h"

#include <stdlib.h>
#include <string.h>

/* Link-local: among them the metadata services of clouds, which give credentials to whoever asks
 * from that machine. */
static const char *const denied_by_default[] = {"169.254.0.0/16", "fe80::/10", "fd00:ec2::254"};

static void deny(struct config *config, const struct network *network)
{
    size_t count = config->forward.denied_count + 1;

    config->forward.denied =
        xrealloc(config->forward.denied, count * sizeof(*config->forward.denied));
    config->forward.denied[config->forward.denied_count++] = *network;
}

static void deny_defaults(struct config *config)
{
    struct network network;

    for (size_t i = 0; i < sizeof(denied_by_default) / sizeof(denied_by_default[0]); i++)
        if (network_parse(denied_by_default[i], &network))
            deny(config, &network);
}

bool config_check_forward(struct config *config, char **error)
{
    const struct config_list *list = &config->forward.deny;
    struct network network;

    if (list->count == 0)
        deny_defaults(config);
    for (size_t i = 0; i < list->count; i++) {
        if (list->count == 1 && strcmp(list->items[i].text, "none") == 0)
            return true;
        if (!network_parse(list->items[i].text, &network)) {
            *error = xasprintf("%s: \"%s\" is not ADDRESS or ADDRESS/BITS", list->items[i].where,
                               list->items[i].text);
            return false;
        }
        deny(config, &network);
    }
    return true;
}
