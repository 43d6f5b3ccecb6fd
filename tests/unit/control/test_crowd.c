/* Many questions at once: no answer reaches another, and none is left. */
#include "asking.h"

#include "base/alloc.h"

#include "../cmocka_unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MANY 10000

struct one {
    struct fixture *fixture;
    struct decision *decision;
    unsigned number;
    bool cancelled;
    unsigned ends;
};

static unsigned ended, crossed, failed;

static void on_one(void *owner, enum outcome outcome, const ProtobufCMessage *answer)
{
    struct one *one = owner;
    char expected[16];

    one->decision = NULL;
    one->ends++;
    ended++;
    snprintf(expected, sizeof(expected), "%u", one->number);
    if (outcome != ANSWERED)
        failed++;
    else if (strcmp(((const Policy__PasswordAnswer *)answer)->deny->message, expected) != 0)
        crossed++;
    /* Others are cancelled from within a callback. */
    one += 1 + random_below(100);
    if (one->decision != NULL && random_below(4) == 0) {
        one->cancelled = true;
        decision_cancel(&one->decision);
        ended++;
    }
}

static void ten_thousand_shuffled_answers(void **state)
{
    struct fixture *fixture = *state;
    struct one *ones = xcalloc(MANY + 101, sizeof(*ones));
    unsigned cancelled = 0;

    ended = crossed = failed = 0;
    policy_server_set(fixture->policy, "ValidatePassword",
                      (struct script){.kind = SCRIPT_ECHO_PASSWORD, .delay_ms = 1000});
    for (unsigned i = 0; i < MANY; i++) {
        Policy__ValidatePasswordRequest request = POLICY__VALIDATE_PASSWORD_REQUEST__INIT;
        char text[16];

        snprintf(text, sizeof(text), "%u", i);
        request.password = text;
        ones[i].number = i;
        ones[i].decision =
            asker_ask(fixture->asker, RPC_VALIDATE_PASSWORD, &request.base, 0, on_one, &ones[i]);
        if (i > 50 && random_below(5) == 0) {
            struct one *victim = &ones[i - random_below(50)];

            if (victim->decision != NULL) {
                victim->cancelled = true;
                decision_cancel(&victim->decision);
                ended++;
            }
        }
    }
    fixture_until(fixture, &ended, MANY);
    fixture_run_ms(fixture, 100);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(ones[i].ends, ones[i].cancelled ? 0 : 1);
        cancelled += ones[i].cancelled;
    }
    assert_int_equal(crossed, 0);
    assert_int_equal(failed, 0);
    assert_true(cancelled > MANY / 10);
    assert_int_equal(control_counts(fixture->control, RPC_VALIDATE_PASSWORD).cancelled, cancelled);
    free(ones);
}

static void too_many_in_flight(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    Policy__BeginAuthRequest begin = POLICY__BEGIN_AUTH_REQUEST__INIT;
    struct decision *decisions[4];
    struct heard heard = {0};

    (void)state;
    fixture_init(fixture);
    fixture->settings.max_in_flight = 3;
    fixture_open(fixture);
    policy_server_set(fixture->policy, "BeginAuth", (struct script){.kind = SCRIPT_HANG});
    for (int i = 0; i < 4; i++)
        decisions[i] =
            asker_ask(fixture->asker, RPC_BEGIN_AUTH, &begin.base, 0, heard_answer, &heard);
    fixture_until(fixture, &heard.count, 1);
    assert_int_equal(heard.outcome, UNAVAILABLE);
    for (int i = 0; i < 3; i++)
        decision_cancel(&decisions[i]);
    fixture_close(fixture);
    free(fixture);
}

static void reports_leave_room_for_questions(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    Policy__BeginAuthRequest begin = POLICY__BEGIN_AUTH_REQUEST__INIT;
    Policy__ConnectionLostRequest lost = POLICY__CONNECTION_LOST_REQUEST__INIT;
    struct heard heard = {0};

    (void)state;
    fixture_init(fixture);
    fixture->settings.max_in_flight = 10;
    fixture_open(fixture);
    policy_server_set(fixture->policy, "ConnectionLost", (struct script){.kind = SCRIPT_HANG});
    for (int i = 0; i < 100; i++)
        asker_report(fixture->asker, RPC_CONNECTION_LOST, &lost.base);
    asker_ask(fixture->asker, RPC_BEGIN_AUTH, &begin.base, 0, heard_answer, &heard);
    fixture_until(fixture, &heard.count, 1);
    assert_int_equal(heard.outcome, ABSENT); /* it was asked: the policy here has no answer */
    fixture_close(fixture);
    free(fixture);
}

/* Cancelled ones are still under way when everything goes. */
static void free_with_calls_under_way(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    Policy__BeginAuthRequest begin = POLICY__BEGIN_AUTH_REQUEST__INIT;
    Policy__ConnectionLostRequest lost = POLICY__CONNECTION_LOST_REQUEST__INIT;
    struct heard heard = {0};

    (void)state;
    fixture_init(fixture);
    fixture_open(fixture);
    policy_server_set(fixture->policy, "BeginAuth", (struct script){.kind = SCRIPT_HANG});
    policy_server_set(fixture->policy, "ConnectionLost", (struct script){.kind = SCRIPT_HANG});
    for (int i = 0; i < 100; i++) {
        struct decision *decision =
            asker_ask(fixture->asker, RPC_BEGIN_AUTH, &begin.base, 0, heard_answer, &heard);

        asker_report(fixture->asker, RPC_CONNECTION_LOST, &lost.base);
        decision_cancel(&decision);
    }
    fixture_close(fixture);
    free(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ASKING_TEST(ten_thousand_shuffled_answers),
        cmocka_unit_test(too_many_in_flight),
        cmocka_unit_test(reports_leave_room_for_questions),
        cmocka_unit_test(free_with_calls_under_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
