/* The process: start order, workers, signals, shutdown. The only process-wide state. */
#ifndef PARLEY_DAEMON_H
#define PARLEY_DAEMON_H

#include "config/config.h"

/* Both return the exit status, after one line on stderr if something is wrong. */
int daemon_run(const struct config *config);
/* As far as daemon_run() goes without listening or starting anything. */
int daemon_check(const struct config *config);

void daemon_print_version(FILE *out);

#endif
