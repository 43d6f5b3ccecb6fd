#include "fixture.h"

#include "base/alloc.h"
#include "base/log.h"
#include "control/codec.h"

#include "../cmocka_unit.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
/* c-ares 1.18 keeps a copy of each name that was resolved. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libcares";
}
#endif

#if defined(__SANITIZE_THREAD__)
/* gRPC is not instrumented. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "ignore_noninstrumented_modules=1";
}
#endif

static void on_banner(void *owner, const char *text, const char *language)
{
    struct fixture *fixture = owner;

    (void)language;
    fixture->banners++;
    free(fixture->banner);
    fixture->banner = xstrdup(text);
    if (fixture->cancel_on_event != NULL)
        decision_cancel(fixture->cancel_on_event);
}

static void on_disconnect(void *owner, uint32_t code, const char *reason, const char *language)
{
    struct fixture *fixture = owner;

    (void)language;
    fixture->disconnects++;
    free(fixture->disconnect);
    fixture->disconnect = xasprintf("%u %s", code, reason);
    if (fixture->cancel_on_event != NULL)
        decision_cancel(fixture->cancel_on_event);
}

static const struct asker_events events = {on_disconnect, on_banner};

void fixture_init(struct fixture *fixture)
{
    *fixture = (struct fixture){0};
    log_setup(LOG_TEXT, getenv("PARLEY_TEST_LOG") ? LOG_DEBUG : LOG_ERROR);
    fixture->loop = loop_new();
    snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/parley-test-XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    snprintf(fixture->target, sizeof(fixture->target), "unix:%s/p.sock", fixture->directory);
    fixture->policy = policy_server_start(fixture->target, NULL, NULL, NULL);
    fixture->settings.policy = fixture->target;
    fixture->settings.daemon_name = "test";
}

static void on_ready(void *owner, const char *error)
{
    struct fixture *fixture = owner;

    fixture->ready++;
    free(fixture->ready_error);
    fixture->ready_error = error ? xstrdup(error) : NULL;
}

void fixture_open(struct fixture *fixture)
{
    char *error = NULL;

    fixture->control = control_new(&fixture->settings, &error);
    if (fixture->control == NULL)
        fail_msg("control_new: %s", error);
    control_start(fixture->control, fixture->loop, on_ready, fixture);
    fixture->asker = asker_new(fixture->control, fixture->loop, &events, fixture);
}

void fixture_close(struct fixture *fixture)
{
    asker_free(&fixture->asker);
    control_free(&fixture->control);
    if (fixture->policy != NULL)
        policy_server_stop(&fixture->policy);
    loop_free(&fixture->loop);
    unlink(fixture->target + strlen("unix:"));
    rmdir(fixture->directory);
    free(fixture->banner);
    free(fixture->disconnect);
    free(fixture->ready_error);
}

#define TURN_US 2000
#define LONG_MS 60000

static void turn(struct fixture *fixture)
{
    struct timeval pause = {0, TURN_US};

    event_base_loopexit(loop_events(fixture->loop), &pause);
    event_base_dispatch(loop_events(fixture->loop));
}

void fixture_until(struct fixture *fixture, const unsigned *flag, unsigned wanted)
{
    uint64_t end = clock_ms() + LONG_MS;

    while (*flag < wanted) {
        if (clock_ms() > end)
            fail_msg("waited for %u, got %u", wanted, *flag);
        turn(fixture);
    }
}

void fixture_run_ms(struct fixture *fixture, unsigned ms)
{
    uint64_t end = clock_ms() + ms;

    while (clock_ms() < end)
        turn(fixture);
}

void heard_answer(void *owner, enum outcome outcome, const ProtobufCMessage *answer)
{
    struct heard *heard = owner;

    heard->count++;
    heard->outcome = outcome;
    free(heard->text);
    heard->text = NULL;
    assert_int_equal(answer != NULL, outcome == ANSWERED);
    if (answer == NULL)
        return;
    if (answer->descriptor == &policy__password_answer__descriptor) {
        const Policy__PasswordAnswer *password = (const Policy__PasswordAnswer *)answer;

        if (password->outcome_case == POLICY__PASSWORD_ANSWER__OUTCOME_DENY) {
            heard->text = xstrdup(password->deny->message);
            return;
        }
    }
    if (codec_verdict(answer) != NULL)
        heard->text = xstrdup(codec_verdict(answer));
}

void heard_clear(struct heard *heard)
{
    free(heard->text);
    *heard = (struct heard){0};
}

void fixture_ask_password(struct fixture *fixture, const char *password, struct heard *heard)
{
    Policy__ValidatePasswordRequest request = POLICY__VALIDATE_PASSWORD_REQUEST__INIT;

    heard_clear(heard);
    request.password = (char *)password;
    asker_ask(fixture->asker, RPC_VALIDATE_PASSWORD, &request.base, 0, heard_answer, heard);
    fixture_until(fixture, &heard->count, 1);
}
