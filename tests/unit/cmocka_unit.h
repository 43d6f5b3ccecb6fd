/* cmocka wants these four before itself. */
#ifndef PARLEY_TESTS_CMOCKA_UNIT_H
#define PARLEY_TESTS_CMOCKA_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
