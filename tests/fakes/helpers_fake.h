/* helpers.h in memory: jobs wait until the test ends them, so that nothing hangs on a thread's
 * pace. */
#ifndef PARLEY_TESTS_FAKES_HELPERS_FAKE_H
#define PARLEY_TESTS_FAKES_HELPERS_FAKE_H

#include "base/helpers.h"

size_t fake_jobs(const struct helpers *helpers); /* waiting */
/* Ends the oldest job; it must be there. DONE does its work first. */
void fake_help(struct helpers *helpers, enum helper_outcome outcome);

#endif
