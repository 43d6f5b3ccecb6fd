#include "control/exec_child.h"

#include "base/alloc.h"
#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

char *exec_child_line(const char *command)
{
    size_t first_word = strcspn(command, " \t");
    bool is_list = strpbrk(command, ";&|(){}\n`") != NULL;
    bool assigns =
        memchr(command, '=', first_word) != NULL; /* "exec A=b cmd" would look for "A=b" */

    return xasprintf("%s%s", is_list || assigns ? "" : "exec ", command);
}

/* True if the daemon is gone already: then nobody would ever end this program. */
static bool is_orphan(void)
{
    const char *parent = getenv(EXEC_PARENT_VARIABLE);

    return parent != NULL && strtol(parent, NULL, 10) != (long)getppid();
}

/* Input from nowhere; whatever it prints is seen where our log goes. */
static void reset_descriptors(void)
{
    int null = open("/dev/null", O_RDONLY);

    if (null >= 0)
        dup2(null, STDIN_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    child_close_from(STDERR_FILENO + 1);
}

int exec_child_main(const char *command)
{
    char *line = exec_child_line(command);

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (is_orphan())
        return CHILD_EXIT_NO_PROGRAM;
    unsetenv(EXEC_PARENT_VARIABLE);
    child_reset_signals();
    reset_descriptors();
    umask(077); /* its socket is for us alone */
    execl("/bin/sh", "sh", "-c", line, (char *)NULL);
    fprintf(stderr, "parleyd: /bin/sh: %s\n", strerror(errno));
    free(line);
    return CHILD_EXIT_NO_PROGRAM;
}
