#include "control/policy_exec.h"
#include "base/alloc.h"
struct policy_exec {
    int x;
};
struct policy_exec *policy_exec_new(const char *command, char **error)
{
    (void)command;
    *error = xstrdup("policy-exec is not built yet");
    return NULL;
}
const char *policy_exec_target(const struct policy_exec *exec)
{
    (void)exec;
    return "";
}
void policy_exec_start(struct policy_exec *exec, struct loop *loop,
                       void (*ready)(void *owner, const char *error), void *owner)
{
    (void)exec;
    (void)loop;
    (void)ready;
    (void)owner;
}
void policy_exec_free(struct policy_exec **exec)
{
    *exec = NULL;
}
