#include "base/child.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#define CLOSE_MAX 4096 /* where the kernel has no close_range() */

void child_reset_signals(void)
{
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL); /* fails for KILL and STOP, which is fine */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

void child_close_from(int first)
{
    if (close_range((unsigned)first, ~0u, 0) == 0)
        return;
    for (int fd = first; fd < CLOSE_MAX; fd++)
        close(fd);
}
