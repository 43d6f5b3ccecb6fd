/* The child's half of --policy-exec: our own image, started again as `parleyd --exec-child CMD`,
 * prepares itself and becomes the policy program. */
#ifndef PARLEY_CONTROL_EXEC_CHILD_H
#define PARLEY_CONTROL_EXEC_CHILD_H

/* Set for the child by policy_exec.c, and removed by it again. */
#define EXEC_PARENT_VARIABLE "PARLEY_EXEC_PARENT"

/* Returns only if the program could not be started: an exit status. */
int exec_child_main(const char *command);
/* What the shell is asked to run: with "exec" before a simple command, so that the program takes
 * the shell's place and gets its signals. Owned by the caller. */
char *exec_child_line(const char *command);

#endif
