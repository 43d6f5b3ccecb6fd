/* What our own image does, started again, before it becomes another program: the child's half of
 * starting one without fork(). */
#ifndef PARLEY_BASE_CHILD_H
#define PARLEY_BASE_CHILD_H

/* As a shell says it. */
enum {
    CHILD_EXIT_NOT_RUN = 126,    /* found, or not looked for: it could not be run */
    CHILD_EXIT_NO_PROGRAM = 127, /* not found */
};

void child_reset_signals(void);   /* default actions, none blocked */
void child_close_from(int first); /* every descriptor from this one on */

#endif
