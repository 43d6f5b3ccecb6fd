/* Questions to a policy in this process: each end, each once. */
#include "fixture.h"

#include "base/alloc.h"

#include "../cmocka_unit.h"

#include <stdlib.h>
#include <string.h>

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));

    fixture_init(fixture);
    fixture_open(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    free(*state);
    return 0;
}

static void answered(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};

    policy_server_set(fixture->policy, "ValidatePassword",
                      (struct script){.kind = SCRIPT_ECHO_PASSWORD});
    fixture_ask_password(fixture, "hunter2", &heard);
    assert_int_equal(heard.outcome, ANSWERED);
    assert_string_equal(heard.text, "hunter2");
    heard_clear(&heard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answered, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
