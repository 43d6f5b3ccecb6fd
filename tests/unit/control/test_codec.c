/* Messages in and out, the table of handlers, and targets. */
#include "control/codec.h"
#include "control/exec_child.h"
#include "control/rpc.h"
#include "control/target.h"

#include "base/alloc.h"

#include "../cmocka_unit.h"

#include <stdlib.h>
#include <string.h>

static void every_method_has_a_row(void **state)
{
    (void)state;
    assert_int_equal(policy__policy__descriptor.n_methods, RPC_COUNT);
    for (unsigned i = 0; i < RPC_COUNT; i++) {
        enum rpc found;
        char *path = xasprintf("/parley.policy.v1.Policy/%s", rpc_name((enum rpc)i));

        assert_non_null(rpc_input((enum rpc)i));
        assert_non_null(rpc_output((enum rpc)i));
        assert_string_equal(rpc_row((enum rpc)i)->path, path);
        assert_true(rpc_by_name(rpc_name((enum rpc)i), &found));
        assert_int_equal(found, i);
        assert_true(rpc_row((enum rpc)i)->max_answer >= 64 * 1024);
        /* Questions start with their Context; asker_ask() relies on it. */
        if (rpc_row((enum rpc)i)->verb != RPC_STREAM)
            assert_ptr_equal(rpc_input((enum rpc)i)->fields[0].descriptor,
                             &policy__context__descriptor);
        free(path);
    }
}

static void defaults_that_allow(void **state)
{
    unsigned count = 0;
    enum rpc rpc;

    (void)state;
    for (unsigned i = 0; i < RPC_COUNT; i++)
        count += rpc_default_allows((enum rpc)i);
    assert_int_equal(count, 5);
    assert_true(rpc_default_allows(RPC_CONNECTION_MADE));
    assert_true(rpc_default_allows(RPC_AUTH_COMPLETED));
    assert_true(rpc_default_allows(RPC_PTY_REQUESTED));
    assert_true(rpc_default_allows(RPC_VALIDATE_HOST_BASED_USER));
    assert_true(rpc_default_allows(RPC_VALIDATE_GSS_PRINCIPAL));
    assert_false(rpc_by_name("Nothing", &rpc));
}

/* The hand-made ChannelEvent is what protobuf-c would have made. */
static void data_head(void **state)
{
    static const size_t lens[] = {0, 1, 127, 128, 16383, 16384, 32768, 70000};

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(lens) / sizeof(lens[0]); i++) {
        size_t len = lens[i / 2];
        uint32_t type = i % 2 ? 1 : 0;
        uint8_t *wire = xcalloc(1, len + CODEC_DATA_HEAD_MAX);
        size_t head = codec_data_head(wire, len, type);
        Policy__ChannelEvent *event;

        memset(wire + head, 'd', len);
        event = policy__channel_event__unpack(NULL, head + len, wire);
        assert_non_null(event);
        assert_int_equal(event->event_case, POLICY__CHANNEL_EVENT__EVENT_DATA);
        assert_int_equal(event->data->payload.len, len);
        assert_int_equal(event->data->extended_type, type);
        if (len > 0)
            assert_memory_equal(event->data->payload.data, wire + head, len);
        policy__channel_event__free_unpacked(event, NULL);
        free(wire);
    }
}

static void data_view(void **state)
{
    struct data_view view;

    (void)state;
    assert_true(codec_view_data(BYTES("\x0a\x05\x0a\x01x\x10\x01"), &view));
    assert_int_equal(view.action.action_case, POLICY__CHANNEL_ACTION__ACTION_DATA);
    assert_int_equal(view.action.data->payload.len, 1);
    assert_int_equal(view.action.data->payload.data[0], 'x');
    assert_int_equal(view.action.data->extended_type, 1);
    assert_true(codec_view_data(BYTES("\x0a\x00"), &view));
    assert_int_equal(view.data.payload.len, 0);
    assert_false(codec_view_data(BYTES("\x12\x00"), &view)); /* eof */
}

static void verdicts(void **state)
{
    Policy__PasswordAnswer password = POLICY__PASSWORD_ANSWER__INIT;
    Policy__SupportedAnswer supported = POLICY__SUPPORTED_ANSWER__INIT;
    Policy__Ack ack = POLICY__ACK__INIT;
    Policy__Deny deny = POLICY__DENY__INIT;

    (void)state;
    password.outcome_case = POLICY__PASSWORD_ANSWER__OUTCOME_DENY;
    password.deny = &deny;
    assert_string_equal(codec_verdict(&password.base), "deny");
    supported.support = POLICY__SUPPORT__SUPPORT_YES;
    assert_string_equal(codec_verdict(&supported.base), "SUPPORT_YES");
    assert_null(codec_verdict(&ack.base));
}

static void copies(void **state)
{
    Policy__Factor factor = POLICY__FACTOR__INIT;
    Policy__Factor *copy;

    (void)state;
    factor.method = POLICY__AUTH_METHOD__AUTH_METHOD_PASSWORD;
    factor.client_user = (char *)"me";
    copy = (Policy__Factor *)codec_copy(&factor.base);
    assert_string_equal(copy->client_user, "me");
    assert_null(codec_copy(NULL));
    policy__factor__free_unpacked(copy, NULL);
}

static void targets(void **state)
{
    static const struct {
        const char *target;
        enum target_reach reach;
    } rows[] = {
        {"unix:/run/p.sock", TARGET_LOCAL},
        {"unix:p.sock", TARGET_LOCAL},
        {"unix:///run/p.sock", TARGET_LOCAL},
        {"unix-abstract:name", TARGET_LOCAL},
        {"ipv4:127.0.0.1:1", TARGET_LOCAL},
        {"ipv4:127.9.9.9:1,127.0.0.1:2", TARGET_LOCAL},
        {"ipv4:127.0.0.1:1,192.0.2.1:2", TARGET_REMOTE},
        {"ipv6:[::1]:1", TARGET_LOCAL},
        {"ipv6:[::ffff:127.0.0.1]:1", TARGET_LOCAL},
        {"ipv6:[2001:db8::1]:1", TARGET_REMOTE},
        {"localhost:1", TARGET_LOCAL},
        {"127.0.0.1:50051", TARGET_LOCAL},
        {"[::1]:50051", TARGET_LOCAL},
        {"[::]:50051", TARGET_REMOTE},
        {"0.0.0.0:1", TARGET_REMOTE},
        {"policy.example:443", TARGET_REMOTE},
        {"localhost.example:443", TARGET_REMOTE},
        {"127.0.0.1.example:443", TARGET_REMOTE},
        {"dns:///policy.example:443", TARGET_REMOTE},
        {"dns:///localhost:443", TARGET_LOCAL},
        {"dns://192.0.2.53/localhost:443", TARGET_LOCAL},
        {"dns:policy.example:443", TARGET_REMOTE},
        {"xds:///policy", TARGET_REMOTE},
        {"", TARGET_MALFORMED},
        {NULL, TARGET_MALFORMED},
        {"unix:", TARGET_MALFORMED},
        {"unix://", TARGET_MALFORMED},
        {"policy.example", TARGET_MALFORMED},
        {"policy.example:", TARGET_MALFORMED},
        {"policy.example:0", TARGET_MALFORMED},
        {"policy.example:65536", TARGET_MALFORMED},
        {"policy.example:1x", TARGET_MALFORMED},
        {"policy.example:+1", TARGET_MALFORMED},
        {":443", TARGET_MALFORMED},
        {"::1:443", TARGET_MALFORMED},
        {"[::1]", TARGET_MALFORMED},
        {"[::1:443", TARGET_MALFORMED},
        {"[name]:443", TARGET_MALFORMED},
        {"ipv4:", TARGET_MALFORMED},
        {"xds:policy", TARGET_MALFORMED},
        {"xds:///", TARGET_MALFORMED},
        {"dns://nowhere", TARGET_MALFORMED},
        {"http://policy.example:1", TARGET_MALFORMED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *why;

        if (target_judge(rows[i].target, &why) != rows[i].reach)
            fail_msg("%s", rows[i].target);
        assert_int_equal(why != NULL, rows[i].reach == TARGET_MALFORMED);
    }
}

static void long_unix_path(void **state)
{
    char target[200] = "unix:/";
    const char *why;

    (void)state;
    memset(target + 6, 'x', 106);
    assert_int_equal(target_judge(target, &why), TARGET_LOCAL);
    strcat(target, "x");
    assert_int_equal(target_judge(target, &why), TARGET_MALFORMED);
}

static void shell_lines(void **state)
{
    static const char *const rows[][2] = {
        {"./policy --flag 'a b'", "exec ./policy --flag 'a b'"},
        {"cd /x && ./policy", "cd /x && ./policy"},
        {"A=b ./policy", "A=b ./policy"},
        {"./policy --a=b", "exec ./policy --a=b"},
        {"a; b", "a; b"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *line = exec_child_line(rows[i][0]);

        assert_string_equal(line, rows[i][1]);
        free(line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_has_a_row),
        cmocka_unit_test(defaults_that_allow),
        cmocka_unit_test(data_head),
        cmocka_unit_test(data_view),
        cmocka_unit_test(verdicts),
        cmocka_unit_test(copies),
        cmocka_unit_test(targets),
        cmocka_unit_test(long_unix_path),
        cmocka_unit_test(shell_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
