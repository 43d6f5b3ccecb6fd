/*
 * How long a failure takes (OpenSSH's auth2.c): at least 5 ms from the request on, and up to 4.3 ms
 * more that depend on the user name and on a secret, so that whatever the policy did meanwhile
 * shows little, and repeating shows no more. What took longer is stretched to the next doubling.
 */
#include "auth/internal.h"

#include <event2/event.h>
#include <stdlib.h>

#define SHORTEST_US 5000
#define SPREAD_US   4294
#define LONGEST_US  5000000 /* beyond, it is the policy's time and no secret */

static uint64_t target_us(const struct auth *auth)
{
    struct bytes user = bytes_of_string(asker_user(auth->asker));

    return SHORTEST_US + siphash(auth->settings.delay_key, user) % SPREAD_US;
}

/* 0: no time has to pass any more. */
static uint64_t left_us(const struct auth *auth)
{
    uint64_t passed = clock_us() - auth->request_us;
    uint64_t target = target_us(auth);

    if (passed > LONGEST_US)
        return 0;
    while (target < passed)
        target *= 2;
    return target - passed;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct auth *auth = arg;

    (void)fd;
    (void)what;
    auth->after_delay(auth);
}

void auth_delay(struct auth *auth, void (*then)(struct auth *auth))
{
    uint64_t us = auth->settings.delay_key != NULL ? left_us(auth) : 0;
    struct timeval wait = {(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};

    if (us == 0) {
        then(auth);
        return;
    }
    if (auth->delay == NULL)
        auth->delay = event_new(loop_events(auth->settings.help.loop), -1, 0, on_timer, auth);
    auth->after_delay = then;
    if (auth->delay == NULL || event_add(auth->delay, &wait) < 0)
        abort(); /* out of memory */
}

void auth_delay_stop(struct auth *auth)
{
    if (auth->delay != NULL)
        event_free(auth->delay);
    auth->delay = NULL;
}
