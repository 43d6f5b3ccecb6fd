/* gRPC target names, judged before gRPC sees them. Pure. */
#ifndef PARLEY_CONTROL_TARGET_H
#define PARLEY_CONTROL_TARGET_H

#include <stdbool.h>

enum target_reach {
    TARGET_MALFORMED,
    TARGET_LOCAL,  /* Unix socket, literal loopback address or "localhost" */
    TARGET_REMOTE, /* anything else: a name may resolve to anywhere */
};

/* TARGET_MALFORMED sets *why, static text. */
enum target_reach target_judge(const char *target, const char **why);

#endif
