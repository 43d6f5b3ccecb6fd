#include "daemon.h"

#include "config/config.h"
#include "control/exec_child.h"
#include "endpoints/process_child.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int wrong(char *error, int status)
{
    fprintf(stderr, "parleyd: %s\n", error);
    free(error);
    return status;
}

static int dispatch(struct config *config, int argc, char **argv)
{
    char *error;

    switch (config_load(config, argc, argv, &error)) {
    case CONFIG_RUN:
        return daemon_run(config);
    case CONFIG_CHECK:
        return daemon_check(config);
    case CONFIG_HELP:
        config_print_help(stdout);
        return 0;
    case CONFIG_VERSION:
        daemon_print_version(stdout);
        return 0;
    case CONFIG_USAGE:
        return wrong(error, 2);
    case CONFIG_WRONG:
        break;
    }
    return wrong(error, 1);
}

int main(int argc, char **argv)
{
    struct config config;
    int status;

    /* How control starts a policy program: our own image again, so that the child can be prepared
     * without fork(). */
    if (argc == 3 && strcmp(argv[1], "--exec-child") == 0)
        return exec_child_main(argv[2]);
    /* Likewise a program of ProcessEndpoint. */
    if (argc == 4 && strcmp(argv[1], PROCESS_CHILD_FLAG) == 0)
        return process_child_main(argv[2], argv[3]);
    status = dispatch(&config, argc, argv);
    config_clear(&config);
    return status;
}
