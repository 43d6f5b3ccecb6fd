/* Environment variables of a session: bytes as sent, in order, bounded. */
#ifndef PARLEY_CHANNELS_ENV_H
#define PARLEY_CHANNELS_ENV_H

#include "control/control.h"

#define ENV_MAX_ENTRIES 256
#define ENV_MAX_BYTES   (128 * 1024)

struct env_list {
    Policy__EnvVar **vars; /* owned */
    size_t count, bytes;
};

/* A name is not empty and holds no '=' and no NUL; a value holds no NUL. */
bool env_is_sane(struct bytes name, struct bytes value);
/* False: not sane, or the list is full. A name that is there already is replaced, in its place. */
bool env_put(struct env_list *list, struct bytes name, struct bytes value);
void env_remove(struct env_list *list, struct bytes name);
void env_clear(struct env_list *list);
/* TERM, LANG and LC_*: what EnvRequested's default allows. */
bool env_is_harmless(struct bytes name);
/* Names by which the dynamic linker, a shell or an interpreter runs other code than was meant:
 * never the client's to set beside a forced command, whoever allows it. */
bool env_loads_code(struct bytes name);

#endif
