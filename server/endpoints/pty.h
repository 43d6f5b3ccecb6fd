/* Pseudo-terminals: opened, set to the modes of RFC 4254 section 8, resized, broken. */
#ifndef PARLEY_ENDPOINTS_PTY_H
#define PARLEY_ENDPOINTS_PTY_H

#include "control/control.h"

#include <termios.h>

/* False: errno. Both are close-on-exec; the master does not block. */
bool pty_open(const Policy__Pty *pty, int *master, int *slave);
void pty_resize(int master, const Policy__WindowSize *size);
/* What a serial line's break would do by the terminal's modes (termios(3): IGNBRK, BRKINT). */
bool pty_break(int master);
/* Pure. Opcodes that this system does not have change nothing. */
void pty_apply_mode(struct termios *modes, uint32_t opcode, uint32_t value);

#endif
