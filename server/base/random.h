#ifndef PARLEY_BASE_RANDOM_H
#define PARLEY_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#define ID_TEXT_LEN 32 /* hex digits of a 128-bit id */

void random_fill(void *out, size_t len); /* from the kernel; ends the process if it has none */
void random_id(char out[ID_TEXT_LEN + 1]);
uint32_t random_below(uint32_t bound); /* uniform in [0, bound) */

#endif
