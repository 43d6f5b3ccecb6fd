/* What an allow came with: every restriction counts, and what cannot be kept refuses. */
#include "unit/auth/login.h"

#include <stdlib.h>
#include <string.h>

static bool matches(const char *list, const char *ip)
{
    Policy__Patterns patterns = POLICY__PATTERNS__INIT;
    char text[256], *words[16], *rest = text;

    strncpy(text, list, sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    patterns.patterns = words;
    for (char *word = strsep(&rest, ","); word != NULL; word = strsep(&rest, ","))
        words[patterns.n_patterns++] = word;
    return grant_source_matches(&patterns, ip);
}

static void source_addresses_are_compared_by_bits(void **state)
{
    static const struct {
        const char *list, *ip;
        bool ok;
    } rows[] = {
        {"192.0.2.7", "192.0.2.7", true},
        {"192.0.2.7", "192.0.2.70", false},
        {"192.0.2.0/24", "192.0.2.255", true},
        {"192.0.2.0/24", "192.0.3.0", false},
        {"192.0.2.128/25", "192.0.2.127", false},
        {"192.0.2.128/25", "192.0.2.128", true},
        {"192.0.2.99/25", "192.0.2.1", true}, /* host bits do not matter */
        {"10.0.0.0/7", "11.255.255.255", true},
        {"10.0.0.0/7", "12.0.0.0", false},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "2001:db8::1", false}, /* families do not mix */
        {"::/0", "203.0.113.9", false},
        {"::/0", "2001:db8::1", true},
        {"2001:db8::/32", "2001:db8:ffff::1", true},
        {"2001:db8::/33", "2001:db8:8000::1", false},
        {"2001:db8::1", "2001:db8:0:0::1", true},
        {"2001:db8::1/128", "2001:db8::1", true},
        {"2001:db8::1/129", "2001:db8::1", false},
        {"192.0.2.7/33", "192.0.2.7", false},
        {"192.0.2.7/", "192.0.2.7", false},
        {"192.0.2.7/-1", "192.0.2.7", false},
        {"192.0.2.7/+8", "192.0.2.7", false},
        {"192.0.2.7/ 8", "192.0.2.7", false},
        {"192.0.2.7/8x", "192.0.2.7", false},
        {"192.0.2.7/99999999999999999999999", "192.0.2.7", false},
        {"192.0.2.7/4294967304", "192.0.2.7", false},
        {" 192.0.2.7", "192.0.2.7", false},
        {"192.0.2", "192.0.2.7", false},
        {"192.0.2.*", "192.0.2.7", false},
        {"*", "192.0.2.7", false},
        {"", "192.0.2.7", false},
        {"localhost", "127.0.0.1", false},
        {"192.0.2.0/24,!192.0.2.7", "192.0.2.7", false},
        {"!192.0.2.7,192.0.2.0/24", "192.0.2.7", false},
        {"192.0.2.0/24,!192.0.2.7", "192.0.2.8", true},
        {"!192.0.2.7", "192.0.2.8", false}, /* a negation alone allows nothing */
        {"192.0.2.0/24,!garbage", "192.0.2.8", false},
        {"192.0.2.0/24,!", "192.0.2.8", false},
        {"192.0.2.0/24,!!192.0.2.8", "192.0.2.8", false},
        {"garbage,192.0.2.0/24", "192.0.2.8", true},
        {"0.0.0.0/0", "not-an-ip", false},
        {"0.0.0.0/0", "", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (matches(rows[i].list, rows[i].ip) != rows[i].ok)
            fail_msg("'%s' against %s", rows[i].list, rows[i].ip);
}

static void an_empty_list_allows_nobody(void **state)
{
    struct login *l = *state;
    Policy__Restrictions r = POLICY__RESTRICTIONS__INIT;
    Policy__Patterns empty = POLICY__PATTERNS__INIT;

    r.source_addresses = &empty;
    send_password(l, "alice", "secret");
    fake_begin_both(l->control);
    fake_allow_with(l->control, RPC_VALIDATE_PASSWORD, &r);
    expect_failure(l, "publickey,password", false);
    expect_no_success(l);
    assert_int_equal(l->grant.count, 0); /* taken back */
    assert_int_equal(asker_factors(l->asker), 0);
}

static Policy__Restrictions *forced(const char *command)
{
    static Policy__Restrictions r;

    policy__restrictions__init(&r);
    r.forced_case = POLICY__RESTRICTIONS__FORCED_FORCE_COMMAND;
    r.force_command.data = (uint8_t *)command;
    r.force_command.len = strlen(command);
    return &r;
}

static void two_different_forced_commands_refuse(void **state)
{
    struct login *l = *state;
    struct bytes command;

    send_signed(l, "alice", KEY_A);
    fake_begin_both(l->control);
    fake_partial(l->control, RPC_VALIDATE_PUBLIC_KEY, FAKE_PASSWORD, forced("one"));
    expect_failure(l, "password", true);
    send_password(l, "alice", "secret");
    fake_allow_with(l->control, RPC_VALIDATE_PASSWORD, forced("two"));
    expect_failure(l, "password", false);
    send_password(l, "alice", "secret");
    fake_allow_with(l->control, RPC_VALIDATE_PASSWORD, forced("one")); /* the same twice is one */
    expect_success(l);
    assert_true(grant_forced_command(&l->grant, &command));
    assert_true(bytes_are(command, "one"));
}

static void an_empty_forced_command_is_one_too(void **state)
{
    struct login *l = *state;
    struct bytes command;

    send_signed(l, "alice", KEY_A);
    fake_begin_both(l->control);
    fake_partial(l->control, RPC_VALIDATE_PUBLIC_KEY, FAKE_PASSWORD, forced(""));
    assert_true(grant_forced_command(&l->grant, &command));
    assert_int_equal(command.len, 0);
    send_password(l, "alice", "secret");
    fake_allow_with(l->control, RPC_VALIDATE_PASSWORD, forced("two"));
    expect_no_success(l);
}

static void restrictions_of_the_first_factor_survive_the_second(void **state)
{
    struct login *l = *state;
    Policy__Restrictions r = POLICY__RESTRICTIONS__INIT;
    const Policy__AuthCompletedRequest *question;

    r.no_pty = true;
    r.no_tunnel = true;
    send_signed(l, "alice", KEY_A);
    fake_begin_both(l->control);
    fake_partial(l->control, RPC_VALIDATE_PUBLIC_KEY, FAKE_PASSWORD, &r);
    send_password(l, "alice", "secret");
    fake_allow(l->control, RPC_VALIDATE_PASSWORD);
    question = fake_question(l->control, RPC_AUTH_COMPLETED);
    assert_true(question->restrictions->no_pty);
    assert_true(question->restrictions->no_tunnel);
    assert_false(question->restrictions->no_agent_forwarding);
}

static void auth_completed_can_add_what_refuses(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    fake_begin_both(l->control);
    fake_allow_with(l->control, RPC_VALIDATE_PASSWORD, forced("one"));
    fake_allow_with(l->control, RPC_AUTH_COMPLETED, forced("two"));
    expect_fault(l, 11);
    assert_int_equal(l->completed, 0);
}

static void a_lifetime_of_zero_has_ended(void **state)
{
    struct login *l = *state;

    send_password(l, "alice", "secret");
    fake_begin_both(l->control);
    fake_allow_for(l->control, RPC_VALIDATE_PASSWORD, 0);
    expect_failure(l, "publickey,password", false);
    assert_int_equal(l->grant.expires_at_ms, 0); /* taken back */
    send_password(l, "alice", "secret");
    fake_allow_for(l->control, RPC_VALIDATE_PASSWORD, UINT32_MAX);
    fake_allow_for(l->control, RPC_AUTH_COMPLETED, 60);
    assert_int_equal(l->completed, 1);
    assert_true(l->grant.expires_at_ms <= clock_ms() + 60000); /* the shortest holds */
}

static void a_new_user_drops_what_the_last_one_got(void **state)
{
    struct login *l = *state;
    Policy__Restrictions r = POLICY__RESTRICTIONS__INIT;
    struct grant *g = &l->grant;

    r.no_pty = true;
    grant_add(g, &r);
    g->expires_at_ms = 5;
    grant_begin_user(g);
    grant_add(g, forced("x"));
    g->expires_at_ms = 3;
    grant_drop_user(g);
    assert_int_equal(g->count, 1);
    assert_int_equal(g->expires_at_ms, 5);
    assert_true(grant_no_pty(g));
    assert_false(grant_no_x11(g) || grant_no_agent(g) || grant_no_forwarding(g));
}

static void keep(void *arg, struct bytes name, struct bytes value)
{
    struct buf *out = arg;

    buf_put(out, name);
    buf_put_u8(out, '=');
    buf_put(out, value);
    buf_put_u8(out, ' ');
}

static void the_sum_names_everything(void **state)
{
    struct login *l = *state;
    Policy__Restrictions r = POLICY__RESTRICTIONS__INIT, sum;
    Policy__EnvVar a = POLICY__ENV_VAR__INIT, *env[] = {&a}, **environment;
    Policy__Patterns list = POLICY__PATTERNS__INIT;
    struct buf text = {0};

    a.name.data = (uint8_t *)"N";
    a.value.data = (uint8_t *)"v";
    a.name.len = a.value.len = 1;
    r.environment = env;
    r.n_environment = 1;
    r.permit_open = r.permit_listen = r.source_addresses = &list;
    r.no_user_rc = r.verify_required = r.no_x11_forwarding = true;
    grant_add(&l->grant, &r);
    grant_add(&l->grant, &r);
    grant_add(&l->grant, forced("cmd"));
    grant_summary(&l->grant, &sum, &environment);
    assert_int_equal(sum.n_environment, 2);
    assert_true(sum.no_user_rc && sum.verify_required && sum.no_x11_forwarding && !sum.no_pty);
    assert_true(grant_no_x11(&l->grant) && !grant_no_agent(&l->grant));
    assert_non_null(sum.permit_open);
    assert_non_null(sum.permit_listen);
    assert_non_null(sum.source_addresses);
    assert_int_equal(sum.forced_case, POLICY__RESTRICTIONS__FORCED_FORCE_COMMAND);
    free(environment);
    grant_environment(&l->grant, keep, &text);
    assert_true(bytes_are(buf_bytes(&text), "N=v N=v "));
    buf_clear(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(source_addresses_are_compared_by_bits),
        login_test(an_empty_list_allows_nobody),
        login_test(two_different_forced_commands_refuse),
        login_test(an_empty_forced_command_is_one_too),
        login_test(restrictions_of_the_first_factor_survive_the_second),
        login_test(auth_completed_can_add_what_refuses),
        login_test(a_lifetime_of_zero_has_ended),
        login_test(a_new_user_drops_what_the_last_one_got),
        login_test(the_sum_names_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
