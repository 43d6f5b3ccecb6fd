#include "unit/cmocka_unit.h"

#include "listeners/admission.h"

#include "base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t now_ms;
static uint32_t next_random;
static char lines[65536];

static uint64_t fake_clock(void)
{
    return now_ms;
}

static uint32_t fake_random(uint32_t bound)
{
    assert_true(next_random < bound);
    return next_random;
}

static void keep_line(const char *line, size_t len)
{
    snprintf(lines + strlen(lines), sizeof(lines) - strlen(lines), "%.*s", (int)len, line);
}

static size_t lines_with(const char *text)
{
    size_t count = 0;

    for (const char *at = lines; (at = strstr(at, text)) != NULL; at += strlen(text))
        count++;
    return count;
}

static struct admission_settings defaults(void)
{
    return (struct admission_settings){
        .begin = 10,
        .rate = 30,
        .full = 100,
        .v4_bits = 32,
        .v6_bits = 128,
        .penalties = true,
        .penalty_ms = {[OFFENCE_CRASH] = 90000,
                       [OFFENCE_AUTH_FAIL] = 5000,
                       [OFFENCE_INVALID_USER] = 5000,
                       [OFFENCE_NO_AUTH] = 1000,
                       [OFFENCE_GRACE] = 10000,
                       [OFFENCE_REFUSED] = 10000},
        .penalty_min_ms = 15000,
        .penalty_max_ms = 600000,
        .max_sources = 65536,
        .clock_ms = fake_clock,
        .random_below = fake_random,
    };
}

static int set_up(void **state)
{
    (void)state;
    now_ms = 1000000;
    next_random = 99;
    lines[0] = '\0';
    log_setup(LOG_TEXT, LOG_INFO);
    log_capture(keep_line);
    return 0;
}

static struct address at(const char *ip)
{
    struct address address = {.port = 4711};

    snprintf(address.ip, sizeof(address.ip), "%s", ip);
    return address;
}

/* What the client was told; empty: it was let in. */
static const char *told(struct admission *a, const char *ip)
{
    static char text[128];
    struct address peer = at(ip);
    int pair[2];
    ssize_t got;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    if (admission_take(a, pair[0], &peer)) {
        assert_true(fcntl(pair[0], F_GETFD) >= 0);
        close(pair[0]);
        close(pair[1]);
        return "";
    }
    assert_true(fcntl(pair[0], F_GETFD) < 0); /* closed */
    got = read(pair[1], text, sizeof(text) - 1);
    text[got > 0 ? got : 0] = '\0';
    close(pair[1]);
    return text;
}

static bool gets_in(struct admission *a, const char *ip)
{
    return told(a, ip)[0] == '\0';
}

static void over(struct admission *a, const char *ip, enum offence how)
{
    struct address peer = at(ip);

    admission_over(a, &peer, how);
}

static bool is_penalised(struct admission *a, const char *ip)
{
    const char *text = told(a, ip);

    if (text[0] == '\0') {
        over(a, ip, OFFENCE_NONE);
        return false;
    }
    assert_string_equal(text, "Not allowed at this time\r\n");
    return true;
}

static void offend(struct admission *a, const char *ip, enum offence how)
{
    assert_true(gets_in(a, ip));
    over(a, ip, how);
}

/* ---- start-ups */

/* With so many logging in: how many of the hundred draws let a connection in. */
static int let_in_of_100(struct admission *a)
{
    int count = 0;

    for (next_random = 0; next_random < 100; next_random++)
        if (gets_in(a, "192.0.2.200")) {
            over(a, "192.0.2.200", OFFENCE_NONE);
            count++;
        }
    return count;
}

static void the_curve_is_openssh_s(void **state)
{
    struct admission_settings settings = defaults();
    struct admission *a = admission_new(&settings);

    (void)state;
    for (int n = 0; n <= 100; n++) {
        int expected = n < 10 ? 100 : n >= 100 ? 0 : 100 - (30 + 70 * (n - 10) / 90);

        assert_int_equal(let_in_of_100(a), expected);
        next_random = 99;
        if (n < 100)
            assert_true(gets_in(a, "192.0.2.1"));
    }
    assert_int_equal(admission_counts(a).logging_in, 100);
    assert_string_equal(told(a, "192.0.2.1"), "Exceeded MaxStartups\r\n");
    admission_free(&a);
}

static void chance_follows_the_curve(void **state)
{
    struct admission_settings settings = defaults();
    struct admission *a;
    int in = 0;

    (void)state;
    a = admission_new(&settings);
    for (int n = 0; n < 55; n++)
        assert_true(gets_in(a, "192.0.2.1"));
    settings.random_below = NULL;
    admission_free(&a);
    settings.begin = 0; /* 30 % at once */
    settings.full = 1000000;
    a = admission_new(&settings);
    for (int n = 0; n < 4000; n++)
        if (gets_in(a, "192.0.2.1")) {
            over(a, "192.0.2.1", OFFENCE_NONE);
            in++;
        }
    assert_in_range(in, 4000 * 65 / 100, 4000 * 75 / 100); /* seven standard deviations */
    admission_free(&a);
}

static void a_rate_of_100_is_a_wall(void **state)
{
    struct admission_settings settings = defaults();
    struct admission *a;

    (void)state;
    settings.begin = settings.full = 3;
    settings.rate = 100;
    a = admission_new(&settings);
    for (int n = 0; n < 3; n++)
        assert_true(gets_in(a, "192.0.2.1"));
    assert_false(gets_in(a, "192.0.2.2"));
    over(a, "192.0.2.1", OFFENCE_NONE);
    assert_true(gets_in(a, "192.0.2.2"));
    admission_free(&a);
}

static void start_ups_can_be_off(void **state)
{
    struct admission_settings settings = defaults();
    struct admission *a;

    (void)state;
    settings.begin = settings.full = 0;
    a = admission_new(&settings);
    for (int n = 0; n < 2000; n++)
        assert_true(gets_in(a, "192.0.2.1"));
    admission_free(&a);
}

static void a_source_has_its_own_cap(void **state)
{
    struct admission_settings settings = defaults();
    struct admission *a;

    (void)state;
    settings.per_source = 2;
    settings.v4_bits = 24;
    settings.v6_bits = 64;
    a = admission_new(&settings);
    assert_true(gets_in(a, "192.0.2.1"));
    assert_true(gets_in(a, "192.0.2.254"));
    assert_string_equal(told(a, "192.0.2.3"), "Exceeded MaxStartups\r\n");
    assert_true(gets_in(a, "192.0.3.1"));
    assert_true(gets_in(a, "2001:db8::1"));
    assert_true(gets_in(a, "2001:db8::ffff:0:1"));
    assert_false(gets_in(a, "2001:db8::2"));
    assert_true(gets_in(a, "2001:db8:0:1::2"));
    over(a, "192.0.2.1", OFFENCE_NONE);
    assert_true(gets_in(a, "192.0.2.9"));
    assert_int_equal(admission_counts(a).dropped_per_source, 2);
    admission_free(&a);
}

static void unix_sockets_are_let_in(void **state)
{
    struct admission_settings settings = defaults();
    struct admission *a;

    (void)state;
    settings.per_source = 1;
    a = admission_new(&settings);
    for (int n = 0; n < 200; n++)
        assert_true(gets_in(a, ""));
    over(a, "", OFFENCE_CRASH);
    assert_true(gets_in(a, ""));
    assert_int_equal(admission_counts(a).logging_in, 0);
    admission_free(&a);
}

/* ---- penalties */

static void each_offence_has_its_figure(void **state)
{
    static const struct {
        enum offence how;
        int times; /* until it counts, at one moment */
        uint64_t ms;
    } rows[] = {
        {OFFENCE_CRASH, 1, 90000},        {OFFENCE_AUTH_FAIL, 3, 15000},
        {OFFENCE_INVALID_USER, 3, 15000}, {OFFENCE_NO_AUTH, 15, 15000},
        {OFFENCE_GRACE, 2, 20000},        {OFFENCE_REFUSED, 2, 20000},
    };
    struct admission_settings settings = defaults();

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct admission *a = admission_new(&settings);

        for (int n = 0; n < rows[i].times; n++)
            offend(a, "192.0.2.1", rows[i].how);
        assert_true(is_penalised(a, "192.0.2.1"));
        assert_false(is_penalised(a, "192.0.2.2"));
        now_ms += rows[i].ms - 1;
        assert_true(is_penalised(a, "192.0.2.1"));
        now_ms += 1;
        assert_false(is_penalised(a, "192.0.2.1"));
        admission_free(&a);
    }
}

static void penalties_can_be_off(void **state)
{
    struct admission_settings settings = defaults();
    struct admission *a;

    (void)state;
    settings.penalties = false;
    a = admission_new(&settings);
    offend(a, "192.0.2.1", OFFENCE_CRASH);
    assert_false(is_penalised(a, "192.0.2.1"));
    admission_free(&a);
    settings = defaults();
    settings.penalty_ms[OFFENCE_CRASH] = 0; /* of this class alone */
    a = admission_new(&settings);
    offend(a, "192.0.2.1", OFFENCE_CRASH);
    assert_int_equal(admission_counts(a).penalised, 0);
    admission_free(&a);
}

static void prefixes_are_penalised(void **state)
{
    struct admission_settings settings = defaults();
    struct admission *a;

    (void)state;
    settings.v6_bits = 64;
    a = admission_new(&settings);
    offend(a, "2001:db8::1", OFFENCE_CRASH);
    offend(a, "192.0.2.1", OFFENCE_CRASH);
    assert_true(is_penalised(a, "2001:db8::2"));
    assert_false(is_penalised(a, "2001:db8:0:1::1"));
    assert_false(is_penalised(a, "192.0.2.2"));
    assert_non_null(strstr(lines, "source=2001:db8::/64"));
    admission_free(&a);
}

static void the_exempt_are_exempt(void **state)
{
    struct network exempt[2];
    struct admission_settings settings = defaults();
    struct admission *a;

    (void)state;
    assert_true(network_parse("127.0.0.0/8", &exempt[0]));
    assert_true(network_parse("2001:db8::/32", &exempt[1]));
    settings.exempt = exempt;
    settings.exempt_count = 2;
    settings.v6_bits = 16; /* wider than what is exempt: that is found all the same */
    a = admission_new(&settings);
    offend(a, "127.1.2.3", OFFENCE_CRASH);
    assert_false(is_penalised(a, "127.1.2.3"));
    offend(a, "2001:db9::1", OFFENCE_CRASH);
    assert_true(is_penalised(a, "2001:db9::1"));
    assert_false(is_penalised(a, "2001:db8::1"));
    admission_free(&a);
}

static void a_full_table_forgets_or_denies(void **state)
{
    struct admission_settings settings = defaults();
    struct admission *a;

    (void)state;
    settings.max_sources = 2;
    a = admission_new(&settings);
    offend(a, "192.0.2.1", OFFENCE_CRASH);
    now_ms += 1000;
    offend(a, "192.0.2.2", OFFENCE_CRASH);
    assert_false(is_penalised(a, "192.0.2.3"));
    offend(a, "192.0.2.3", OFFENCE_CRASH);
    assert_false(is_penalised(a, "192.0.2.1"));
    assert_true(is_penalised(a, "192.0.2.2"));
    admission_free(&a);

    settings.overflow_denies = true;
    a = admission_new(&settings);
    assert_true(gets_in(a, "192.0.2.9"));
    offend(a, "192.0.2.1", OFFENCE_CRASH);
    offend(a, "192.0.2.2", OFFENCE_CRASH);
    assert_true(is_penalised(a, "192.0.2.3"));
    assert_false(is_penalised(a, "2001:db8::1")); /* the other family has its own table */
    over(a, "192.0.2.9", OFFENCE_CRASH);          /* no room: nobody is let out for it */
    assert_int_equal(admission_counts(a).penalised, 2);
    now_ms += 90000;
    assert_false(is_penalised(a, "192.0.2.3"));
    admission_free(&a);
}

/* ---- the log */

static void a_flood_is_a_few_lines(void **state)
{
    struct admission_settings settings = defaults();
    struct admission *a = admission_new(&settings);

    (void)state;
    offend(a, "192.0.2.1", OFFENCE_CRASH);
    for (int n = 0; n < 500; n++) {
        assert_true(is_penalised(a, "192.0.2.1"));
        now_ms += 10;
    }
    assert_int_equal(lines_with("event=connections_refused"), 5);
    assert_int_equal(lines_with("refused=100 "), 4);
    assert_non_null(strstr(lines, "why=\"protocol error\""));
    assert_int_equal(admission_counts(a).dropped_penalised, 500);
    admission_free(&a);
}

/* ---- threads */

static void *come_and_go(void *arg)
{
    struct address peer = at("192.0.2.1");

    for (int n = 0; n < 20000; n++)
        if (admission_take(arg, -1, &peer))
            admission_over(arg, &peer, n % 100 == 0 ? OFFENCE_NO_AUTH : OFFENCE_NONE);
    return NULL;
}

static void no_place_is_lost_between_threads(void **state)
{
    struct admission_settings settings = defaults();
    struct admission *a;
    pthread_t threads[4];

    (void)state;
    settings.penalty_ms[OFFENCE_NO_AUTH] = 1;
    settings.per_source = 3;
    a = admission_new(&settings);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, a), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(admission_counts(a).logging_in, 0);
    admission_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_curve_is_openssh_s, set_up),
        cmocka_unit_test_setup(chance_follows_the_curve, set_up),
        cmocka_unit_test_setup(a_rate_of_100_is_a_wall, set_up),
        cmocka_unit_test_setup(start_ups_can_be_off, set_up),
        cmocka_unit_test_setup(a_source_has_its_own_cap, set_up),
        cmocka_unit_test_setup(unix_sockets_are_let_in, set_up),
        cmocka_unit_test_setup(each_offence_has_its_figure, set_up),
        cmocka_unit_test_setup(penalties_can_be_off, set_up),
        cmocka_unit_test_setup(prefixes_are_penalised, set_up),
        cmocka_unit_test_setup(the_exempt_are_exempt, set_up),
        cmocka_unit_test_setup(a_full_table_forgets_or_denies, set_up),
        cmocka_unit_test_setup(a_flood_is_a_few_lines, set_up),
        cmocka_unit_test_setup(no_place_is_lost_between_threads, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
