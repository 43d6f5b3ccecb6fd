/* authorized_keys text as sshd(8) has it, with real keys. A line accepts its key under exactly its
 * options, or accepts nothing and is reported. */
#include "unit/cmocka_unit.h"

#include "auth/authorized_keys.h"
#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ED "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJUpySGXH1IDqeQPUE7f/ySnYPKo9aKLnlYgW1f+ICrZ"
#define EC                                                                                         \
    "ecdsa-sha2-nistp256 "                                                                         \
    "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGlqp3W/4g0u1qCs/oQuPHsksxqyEbsPtz5Ch4QzjhECE9wu77Jag/3E44hyfHa+988FipbjyXV8kAYTq/tFeZs="
#define NOW  UINT64_C(1700000000) /* 2023-11-14T22:13:20Z */
#define PEER "192.0.2.7"

struct reports {
    size_t count, line;
    char *why;
};

static void on_report(void *arg, size_t line, const char *why)
{
    struct reports *reports = arg;

    reports->count++;
    reports->line = line;
    free(reports->why);
    reports->why = xstrdup(why);
}

static struct buf blob_of(const char *openssh)
{
    struct buf blob = {0};

    assert_true(buf_put_base64(&blob, bytes_of_string(strchr(openssh, ' ') + 1)));
    return blob;
}

struct asked {
    const char *key; /* NULL: ED */
    bool authority;
    const char *ip; /* NULL: PEER */
    uint64_t now;   /* 0: NOW */
};

static struct authorized_line *next(const struct authorized_keys *keys, const struct asked *asked,
                                    size_t *cursor)
{
    struct buf blob = blob_of(asked->key ? asked->key : ED);
    struct authorized_query query = {
        .blob = buf_bytes(&blob),
        .cert_authority = asked->authority,
        .peer_ip = asked->ip ? asked->ip : PEER,
        .now = asked->now ? asked->now : NOW,
    };
    struct authorized_line *line = authorized_keys_find(keys, &query, cursor);

    buf_clear(&blob);
    return line;
}

static struct authorized_line *find(const char *text, struct asked asked)
{
    struct authorized_keys *keys = authorized_keys_parse(bytes_of_string(text), NULL, NULL);
    size_t cursor = 0;
    struct authorized_line *line = next(keys, &asked, &cursor);

    authorized_keys_free(&keys);
    return line;
}

/* The number of the line that accepts; 0: none. */
static size_t accepted(const char *text, struct asked asked)
{
    struct authorized_line *line = find(text, asked);
    size_t number = line ? line->number : 0;

    authorized_line_free(&line);
    return number;
}

/* ---- lines */

static void lines_are_found_by_their_key(void **state)
{
    static const struct {
        const char *text;
        size_t line;
    } cases[] = {
        {ED, 1},
        {ED "\n", 1},
        {ED " a comment, with=\"anything\" in it\n", 1},
        {"# " ED "\n\n \t\n  \t" ED "\n", 4},
        {EC "\n" ED, 2},
        {ED "\r\n", 1}, /* OpenSSH's base64 lets white space pass */
        {"\r\n" ED " comment\r\n", 2},
        {"ssh-ed25519\t  AAAAC3NzaC1lZDI1NTE5AAAAIJUpySGXH1IDqeQPUE7f/ySnYPKo9aKLnlYgW1f+ICrZ", 1},
        {"no-pty " ED, 1},
        {"no-pty \t " ED, 1},
        {"junk\n" ED, 2},
        {"", 0},
        {EC, 0},
        {"#" ED, 0},
        {"ssh-ed25519", 0},
        {"ssh-ed25519 ", 0},
        {"cert-authority " ED, 0}, /* its holder may not log in with the authority's own key */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (accepted(cases[i].text, (struct asked){0}) != cases[i].line)
            fail_msg("case %zu: %s", i, cases[i].text);
}

static void an_authority_is_not_a_key(void **state)
{
    (void)state;
    assert_int_equal(accepted("cert-authority " ED, (struct asked){.authority = true}), 1);
    assert_int_equal(accepted("CERT-AUTHORITY " ED, (struct asked){.authority = true}), 1);
    assert_int_equal(accepted(ED, (struct asked){.authority = true}), 0);
    assert_int_equal(accepted(ED "\ncert-authority " ED, (struct asked){.authority = true}), 2);
    assert_int_equal(accepted("cert-authority " ED "\n" ED, (struct asked){0}), 2);
}

#define OTHER "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYA"

static void bad_lines_accept_nothing_and_are_reported(void **state)
{
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"x", "unknown option"},
        {"ssh-ed25519 AAAA", "unknown option"},
        {"no-pty ssh-ed25519 AAAA", "malformed"},
        {"no-pty ssh-dss AAAAB3NzaC1kc3M=", "malformed"},
        {"no-pty", "no key"},
        {"no-pty ", "no key"},
        {"no-pty, no-user-rc " ED, "no key"},
        {"no-pty ecdsa-sha2-nistp256 " OTHER, "malformed"},
        {"no-pty ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIJUpySGXH1IDqeQPUE7f/ySnYPKo9aKLnlYgW1f+ICrZ",
         "malformed"},
        {"nopty " ED, "unknown option"},
        {"no- " ED, "unknown option"},
        {"no-restrict " ED, "unknown option"},
        {"no-cert-authority " ED, "unknown option"},
        {"no-no-pty " ED, "unknown option"},
        {"ptyx " ED, "unknown option"},
        {"restricted " ED, "unknown option"},
        {"webauthn " ED, "unknown option"},
        {"no-pty=\"\" " ED, "unknown option"},
        {"no-command=\"x\" " ED, "unknown option"},
        {"no-pty;no-user-rc " ED, "unknown option"},
        {"command " ED, "unknown option"},
        {"command= " ED, "begin with a quote"},
        {"command=x " ED, "begin with a quote"},
        {"command=\"x " ED, "does not end"},
        {"command=\"x\\\" " ED, "does not end"},
        {"command=\"x\"no-pty " ED, "no comma"},
        {"command=\"x\"\" " ED, "no comma"},
        {"command=\"x\",command=\"x\" " ED, "command: given twice"},
        {"command=\"\",command=\"x\" " ED, "command: given twice"},
        {"from=\"192.0.2.7\",from=\"192.0.2.7\" " ED, "from: given twice"},
        {"from=\"\" " ED, "empty entry"},
        {"from=\"192.0.2.7,\" " ED, "empty entry"},
        {"from=\",192.0.2.7\" " ED, "empty entry"},
        {"from=\"192.0.2.7,!\" " ED, "empty entry"},
        {"from=\"192.0.2.7, !192.0.2.7\" " ED, "within an entry"},
        {"from=\"*,!!192.0.2.7\" " ED, "within an entry"},
        {"from=\"192.0.2.0/33\" " ED, "not a network"},
        {"from=\"192.0.2.7/24\" " ED, "not a network"}, /* host bits: as OpenSSH */
        {"from=\"192.0.2.0/-1\" " ED, "not a network"},
        {"from=\"192.0.2.0/\" " ED, "not a network"},
        {"from=\"*,! 192.0.2.7\" " ED, "names are not resolved"},
        {"from=\"192.0.2.0/2 4\" " ED, "not a network"},
        {"from=\"192.0.2.*/24\" " ED, "not a network"},
        {"from=\"*,!2001:db8::1/32\" " ED, "not a network"},
        {"from=\"host.example.org\" " ED, "names are not resolved"},
        {"from=\"*.example.org\" " ED, "names are not resolved"},
        {"from=\"192.0.2.7,!bad.example.org\" " ED, "names are not resolved"},
        {"from=\"192.0.2.*,!*.org\" " ED, "names are not resolved"},
        {"from=\"*,!cafe\" " ED, "names are not resolved"},
        {"from=\"!192.0.2.8\" " ED, "matches no address"},
        {"expiry-time=\"\" " ED, "not a time"},
        {"expiry-time=\"2030\" " ED, "not a time"},
        {"expiry-time=\"20301301\" " ED, "not a time"},
        {"expiry-time=\"20300001\" " ED, "not a time"},
        {"expiry-time=\"20300100\" " ED, "not a time"},
        {"expiry-time=\"20300230\" " ED, "not a time"},
        {"expiry-time=\"20310229\" " ED, "not a time"},
        {"expiry-time=\"203001012400\" " ED, "not a time"},
        {"expiry-time=\"203001012360\" " ED, "not a time"},
        {"expiry-time=\"20300101235961\" " ED, "not a time"},
        {"expiry-time=\"2030-01-01\" " ED, "not a time"},
        {"expiry-time=\"20300101 \" " ED, "not a time"},
        {"expiry-time=\"20300101ZZ\" " ED, "not a time"},
        {"expiry-time=\"+2030101\" " ED, "not a time"},
        {"expiry-time=\"19690101Z\" " ED, "not a time"},
        {"expiry-time=\"19700101Z\" " ED, "not a time"}, /* 0 must not come to mean never */
        {"expiry-time=\"Z\" " ED, "not a time"},
        {"environment=\"\" " ED, "NAME=value"},
        {"environment=\"A\" " ED, "NAME=value"},
        {"environment=\"=x\" " ED, "NAME=value"},
        {"environment=\"A-B=x\" " ED, "NAME=value"},
        {"environment=\"A B=x\" " ED, "NAME=value"},
        {"permitopen=\"\" " ED, "not host:port"},
        {"permitopen=\"80\" " ED, "not host:port"},
        {"permitopen=\"host\" " ED, "not host:port"},
        {"permitopen=\":80\" " ED, "not host:port"},
        {"permitopen=\"host:\" " ED, "the port"},
        {"permitopen=\"host:0\" " ED, "the port"},
        {"permitopen=\"host:65536\" " ED, "the port"},
        {"permitopen=\"host:-1\" " ED, "the port"},
        {"permitopen=\"host:99999999999999999999\" " ED, "the port"},
        {"permitopen=\"host:80,other:80\" " ED, "the port"},
        {"permitopen=\"host:ssh\" " ED, "the port"},
        {"permitopen=\"::1:80\" " ED, "not host:port"},
        {"permitopen=\"2001:db8::1:80\" " ED, "the port"},
        {"permitopen=\"[::1\" " ED, "not host:port"},
        {"permitopen=\"[::1]80\" " ED, "not host:port"},
        {"permitopen=\"[]:80\" " ED, "not host:port"},
        {"permitopen=\"a b:80\" " ED, "not host:port"},
        {"permitopen=\"a\xff:80\" " ED, "not host:port"},
        {"permitlisten=\"\" " ED, "the port"},
        {"permitlisten=\"host\" " ED, "the port"},
        {"permitlisten=\":80\" " ED, "not host:port"},
        {"principals=\"alice\" " ED, "without cert-authority"},
        {"cert-authority,principals=\"a\",principals=\"b\" " ED, "principals: given twice"},
        {"tunnel=\"\" " ED, "not a unit"},
        {"tunnel=\"x\" " ED, "not a unit"},
        {"tunnel=\"-1\" " ED, "not a unit"},
        {"tunnel=\"2147483647\" " ED, "not a unit"},
        {"tunnel=\"99999999999999999999\" " ED, "not a unit"},
        {"no-pty AAAAC3NzaC1lZDI1NTE5AAAAIJUpySGXH1IDqeQPUE7f/ySnYPKo9aKLnlYgW1f+ICrZ", "no key"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = xasprintf("# first\n%s\n", cases[i].line);
        struct reports reports = {0};
        struct authorized_keys *keys =
            authorized_keys_parse(bytes_of_string(text), on_report, &reports);

        if (authorized_keys_count(keys) != 0 || reports.count != 1 || reports.line != 2 ||
            strstr(reports.why, cases[i].why) == NULL)
            fail_msg("%s: %zu entries, %zu reports, line %zu: %s", cases[i].line,
                     authorized_keys_count(keys), reports.count, reports.line, reports.why);
        if (accepted(text, (struct asked){0}) != 0 ||
            accepted(text, (struct asked){.authority = true}) != 0)
            fail_msg("%s accepts", cases[i].line);
        authorized_keys_free(&keys);
        free(reports.why);
        free(text);
    }
}

static void a_nul_does_not_cut_a_line(void **state)
{
    static const char text[] = "no-pty\0,command=\"x\" " ED "\n" ED "\0\n";
    struct reports reports = {0};
    struct authorized_keys *keys =
        authorized_keys_parse(bytes_of(text, sizeof(text) - 1), on_report, &reports);

    (void)state;
    assert_int_equal(authorized_keys_count(keys), 0);
    assert_int_equal(reports.count, 2);
    assert_string_equal(reports.why, "a NUL byte");
    authorized_keys_free(&keys);
    free(reports.why);
}

static void certificates_are_not_keys_of_a_line(void **state)
{
    struct reports reports = {0};
    struct authorized_keys *keys;
    static const char text[] =
        "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t\n";

    (void)state;
    keys = authorized_keys_parse(bytes_of_string(text), on_report, &reports);
    assert_int_equal(authorized_keys_count(keys), 0);
    assert_int_equal(reports.count, 1);
    authorized_keys_free(&keys);
    free(reports.why);
}

/* ---- from and expiry-time */

static void from_is_held_against_the_address(void **state)
{
    static const struct {
        const char *from, *ip;
        bool fits;
    } cases[] = {
        {"192.0.2.7", "192.0.2.7", true},
        {"192.0.2.7", "192.0.2.70", false},
        {"192.0.2.7", "2001:db8::7", false},
        {"192.0.2.0/24", "192.0.2.7", true},
        {"192.0.2.0/24", "192.0.3.7", false},
        {"0.0.0.0/0", "192.0.2.7", true},
        {"0.0.0.0/0", "2001:db8::7", false},
        {"192.0.2.*", "192.0.2.7", true},
        {"192.0.2.*", "192.0.20.7", false},
        {"192.0.2.?", "192.0.2.7", true},
        {"192.0.2.?", "192.0.2.77", false},
        {"*", "192.0.2.7", true},
        {"*", "2001:db8::7", true},
        {"*.7", "192.0.2.7", true},
        {"*2*7", "192.0.2.7", true},
        {"1*1", "192.0.2.7", false},
        {"**********************9", "192.0.2.7", false},
        {"2001:db8::/32", "2001:db8::7", true},
        {"2001:DB8::7", "2001:db8::7", true},
        {"2001:DB8:*", "2001:db8::7", true},
        {"2001:db8:0:0::7", "2001:db8::7", true},
        {"::ffff:192.0.2.7", "192.0.2.7", true}, /* as address_of() writes the peer */
        {"*,!192.0.2.7", "192.0.2.7", false},
        {"*,!192.0.2.7", "192.0.2.8", true},
        {"!192.0.2.7,*", "192.0.2.7", false},
        {"*,!192.0.2.0/24", "192.0.2.7", false},
        {"*,!192.0.2.*", "192.0.2.7", false},
        {"*,!::ffff:192.0.2.0/120", "192.0.2.7", false},
        {"*,!2001:DB8:*", "2001:db8::7", false},
        {"198.51.100.1,192.0.2.7", "192.0.2.7", true},
        {"192.0.2.7, 198.51.100.1", "192.0.2.7", true},
        {"192.0.2.7, 198.51.100.1", "198.51.100.1", false}, /* a blank is part of the entry */
        {"host.example.org,192.0.2.7", "192.0.2.7", true},
        {"host.example.org,192.0.2.7", "192.0.2.8", false},
        {"192.0.2.7", "", false},
        {"*", "", false},
        {"*", "not an address", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = xasprintf("from=\"%s\" %s", cases[i].from, ED);

        if ((accepted(text, (struct asked){.ip = cases[i].ip}) == 1) != cases[i].fits)
            fail_msg("from=\"%s\" for %s", cases[i].from, cases[i].ip);
        free(text);
    }
}

static void expiry_ends_a_line(void **state)
{
    static const struct {
        const char *when;
        uint64_t seconds;
    } cases[] = {
        {"20231114221321Z", NOW + 1},    {"20231114221320z", NOW},    {"202311142213Z", NOW - 20},
        {"20231115Z", 1700006400},       {"20231115UTC", 1700006400}, {"20240229Z", 1709164800},
        {"20991231235960Z", 4102444800},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = xasprintf("expiry-time=\"%s\" %s", cases[i].when, ED);
        struct authorized_line *line = find(text, (struct asked){.now = cases[i].seconds - 1});

        assert_non_null(line);
        assert_int_equal(line->expires_at, cases[i].seconds);
        authorized_line_free(&line);
        assert_int_equal(accepted(text, (struct asked){.now = cases[i].seconds}), 0);
        assert_int_equal(accepted(text, (struct asked){.now = cases[i].seconds + 1}), 0);
        free(text);
    }
    /* The earliest counts, wherever it stands. */
    assert_int_equal(
        accepted("expiry-time=\"20300101Z\",expiry-time=\"20200101Z\" " ED, (struct asked){0}), 0);
    assert_int_equal(
        accepted("expiry-time=\"20200101Z\",expiry-time=\"20300101Z\" " ED, (struct asked){0}), 0);
}

static void expiry_is_local_time(void **state)
{
    static const struct {
        const char *when;
        uint64_t seconds;
    } cases[] = {
        {"203007011200", 1909130400},    /* summer */
        {"203001011200", 1893495600},    /* winter */
        {"203003310159", 1901149140},    /* the last minute of winter, ... */
        {"203003310300", 1901149200},    /* and the first one of summer */
        {"203010270159", 1919289540},    /* before the hour that comes twice */
        {"203010270300", 1919296800},    /* and after it */
        {"20300701", 1909087200},        /* midnight */
        {"20300701120000Z", 1909137600}, /* not local */
    };

    (void)state;
    setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    tzset();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = xasprintf("expiry-time=\"%s\" " ED, cases[i].when);
        struct authorized_line *line = find(text, (struct asked){0});

        assert_int_equal(line->expires_at, cases[i].seconds);
        authorized_line_free(&line);
        free(text);
    }
    setenv("TZ", "UTC", 1);
    tzset();
}

static void the_first_line_that_fits_wins(void **state)
{
    static const char text[] = "from=\"198.51.100.1\",command=\"one\" " ED "\n"
                               "expiry-time=\"20200101Z\",command=\"two\" " ED "\n"
                               "command=\"three\" " EC "\n"
                               "nonsense " ED "\n"
                               "command=\"five\" " ED "\n"
                               "command=\"six\" " ED "\n";
    struct authorized_keys *keys = authorized_keys_parse(bytes_of_string(text), NULL, NULL);
    struct asked asked = {0};
    struct authorized_line *line;
    size_t cursor = 0;

    (void)state;
    line = next(keys, &asked, &cursor);
    assert_int_equal(line->number, 5);
    assert_int_equal(line->restrictions->force_command.len, 4);
    assert_memory_equal(line->restrictions->force_command.data, "five", 4);
    authorized_line_free(&line);
    line = next(keys, &asked, &cursor);
    assert_int_equal(line->number, 6);
    authorized_line_free(&line);
    assert_null(next(keys, &asked, &cursor));
    authorized_keys_free(&keys);
    assert_int_equal(accepted(text, (struct asked){.ip = "198.51.100.1"}), 1);
}

/* ---- what a line grants */

#define FLAGS 8

static const char *flags_of(const Policy__Restrictions *r)
{
    static char text[FLAGS + 1];

    snprintf(text, sizeof(text), "%c%c%c%c%c%c%c%c", r->no_pty ? 'p' : '-',
             r->no_port_forwarding ? 'f' : '-', r->no_agent_forwarding ? 'a' : '-',
             r->no_x11_forwarding ? 'x' : '-', r->no_tunnel ? 't' : '-', r->no_user_rc ? 'r' : '-',
             r->touch_not_required ? 'T' : '-', r->verify_required ? 'V' : '-');
    return text;
}

static void flags_are_set_and_taken_back_in_order(void **state)
{
    static const struct {
        const char *options, *flags;
    } cases[] = {
        {"", "--------"},
        {"no-pty ", "p-------"},
        {"NO-PTY ", "p-------"},
        {"No-Port-Forwarding ", "-f------"},
        {"no-agent-forwarding ", "--a-----"},
        {"no-X11-forwarding ", "---x----"},
        {"no-x11-forwarding ", "---x----"},
        {"no-user-rc ", "-----r--"},
        {"no-touch-required ", "------T-"},
        {"verify-required ", "-------V"},
        {"no-touch-required,verify-required ", "------TV"},
        {"no-touch-required,touch-required ", "--------"},
        {"verify-required,no-verify-required ", "--------"},
        {"no-pty,pty ", "--------"},
        {"pty,no-pty ", "p-------"},
        {"restrict ", "pfaxtr--"},
        {"RESTRICT ", "pfaxtr--"},
        {"restrict,pty ", "-faxtr--"},
        {"restrict,port-forwarding ", "p-axtr--"},
        {"restrict,agent-forwarding ", "pf-xtr--"},
        {"restrict,X11-forwarding ", "pfa-tr--"},
        {"restrict,user-rc ", "pfaxt---"},
        {"pty,restrict ", "pfaxtr--"},
        {"restrict,pty,agent-forwarding,user-rc,x11-forwarding,port-forwarding ", "----t---"},
        {"no-pty,,no-user-rc, ", "p----r--"}, /* OpenSSH lets empty ones pass */
        {"tunnel=\"any\" ", "--------"},
        {"tunnel=\"0\" ", "----t---"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = xasprintf("%s%s", cases[i].options, ED);
        struct authorized_line *line = find(text, (struct asked){0});

        if (line == NULL || strcmp(flags_of(line->restrictions), cases[i].flags) != 0)
            fail_msg("%s: %s", cases[i].options, line ? flags_of(line->restrictions) : "refused");
        authorized_line_free(&line);
        free(text);
    }
}

static void a_line_without_options_restricts_nothing(void **state)
{
    struct authorized_line *line = find(ED, (struct asked){0});

    (void)state;
    assert_int_equal(policy__restrictions__get_packed_size(line->restrictions), 0);
    assert_int_equal(line->expires_at, 0);
    assert_int_equal(line->tunnel, TUNNEL_UNSET);
    assert_null(line->principals);
    assert_false(authorized_line_names(line, BYTES("alice")));
    authorized_line_free(&line);
}

static void values_are_taken_out_of_their_quotes(void **state)
{
    static const struct {
        const char *value, *command;
    } cases[] = {
        {"", ""},
        {"ls -l, no-pty", "ls -l, no-pty"},
        {"echo \\\"a b\\\"", "echo \"a b\""},
        {"a\\\\b", "a\\\\b"}, /* a backslash stands for itself */
        {"\\\\\\\"", "\\\\\""},
        {"\xff\xfe # ssh-ed25519", "\xff\xfe # ssh-ed25519"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = xasprintf("Command=\"%s\" %s", cases[i].value, ED);
        struct authorized_line *line = find(text, (struct asked){0});

        if (line == NULL)
            fail_msg("%s", cases[i].value);
        assert_int_equal(line->restrictions->forced_case,
                         POLICY__RESTRICTIONS__FORCED_FORCE_COMMAND);
        assert_int_equal(line->restrictions->force_command.len, strlen(cases[i].command));
        if (strlen(cases[i].command) > 0)
            assert_memory_equal(line->restrictions->force_command.data, cases[i].command,
                                strlen(cases[i].command));
        authorized_line_free(&line);
        free(text);
    }
}

static void the_first_value_of_a_variable_wins(void **state)
{
    static const char *const wanted[][2] = {{"A", "1"}, {"AB", "x=y"}, {"_9", ""}, {"a", "4"}};
    struct authorized_line *line =
        find("environment=\"A=1\",environment=\"AB=x=y\",environment=\"A=2\",environment=\"_9=\","
             "environment=\"a=4\" " ED,
             (struct asked){0});

    (void)state;
    assert_int_equal(line->restrictions->n_environment, 4);
    for (size_t i = 0; i < 4; i++) {
        Policy__EnvVar *variable = line->restrictions->environment[i];

        assert_true(bytes_are(bytes_of(variable->name.data, variable->name.len), wanted[i][0]));
        assert_true(bytes_are(bytes_of(variable->value.data, variable->value.len), wanted[i][1]));
    }
    authorized_line_free(&line);
}

static void assert_patterns(const Policy__Patterns *list, const char *const *wanted, size_t count)
{
    assert_non_null(list);
    assert_int_equal(list->n_patterns, count);
    for (size_t i = 0; i < count; i++)
        assert_string_equal(list->patterns[i], wanted[i]);
}

static void permits_come_in_one_form(void **state)
{
    static const char *const open[] = {"host:80",  "[::1]:22",        "192.0.2.1:*",
                                       "host:443", "Host.Name:65535", "*:1"};
    static const char *const listen[] = {"*:8080", "localhost:*", "[2001:db8::1]:1", "*.org:2",
                                         "*:*"};
    struct authorized_line *line =
        find("permitopen=\"host:80\",permitopen=\"[::1]:22\",permitopen=\"192.0.2.1:*\","
             "permitopen=\"host/443\",permitopen=\"[Host.Name]:065535\",permitopen=\"*:1\","
             "permitlisten=\"8080\",permitlisten=\"localhost:*\",permitlisten=\"[2001:db8::1]:1\","
             "permitlisten=\"*.org:2\",permitlisten=\"*\" " ED,
             (struct asked){0});

    (void)state;
    assert_non_null(line);
    assert_patterns(line->restrictions->permit_open, open, 6);
    assert_patterns(line->restrictions->permit_listen, listen, 5);
    authorized_line_free(&line);
    line = find("permitopen=\"host:80\" " ED, (struct asked){0});
    assert_null(line->restrictions->permit_listen); /* one says nothing of the other */
    authorized_line_free(&line);
}

static void principals_are_whole_names(void **state)
{
    struct authorized_line *line = find("cert-authority,principals=\"alice,,bob*,x y\" " ED,
                                        (struct asked){.authority = true});

    (void)state;
    assert_true(authorized_line_names(line, BYTES("alice")));
    assert_true(authorized_line_names(line, BYTES("bob*")));
    assert_true(authorized_line_names(line, BYTES("x y")));
    assert_false(authorized_line_names(line, BYTES("bobby")));
    assert_false(authorized_line_names(line, BYTES("alice,bob*")));
    assert_false(authorized_line_names(line, BYTES("alice,")));
    assert_false(authorized_line_names(line, BYTES("")));
    assert_false(authorized_line_names(line, BYTES("alice\0")));
    assert_false(authorized_line_names(line, BYTES("Alice")));
    authorized_line_free(&line);
    line = find("cert-authority,principals=\",\" " ED, (struct asked){.authority = true});
    assert_non_null(line->principals); /* nobody, which is not "no such option" */
    assert_int_equal(line->principals->n_patterns, 0);
    assert_false(authorized_line_names(line, BYTES("")));
    authorized_line_free(&line);
}

static void a_tunnel_keeps_its_unit(void **state)
{
    static const struct {
        const char *value;
        int32_t unit;
    } cases[] = {
        {"any", TUNNEL_ANY}, {"ANY", TUNNEL_ANY}, {"0", 0}, {"7", 7}, {"2147483645", 2147483645}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = xasprintf("tunnel=\"%s\" %s", cases[i].value, ED);
        struct authorized_line *line = find(text, (struct asked){0});

        assert_int_equal(line->tunnel, cases[i].unit);
        assert_int_equal(line->restrictions->no_tunnel, cases[i].unit >= 0);
        authorized_line_free(&line);
        free(text);
    }
}

/* ---- size */

static struct buf repeated(const char *line, size_t count)
{
    struct buf text = {0};

    for (size_t i = 0; i < count; i++)
        buf_put(&text, bytes_of_string(line));
    return text;
}

static void long_texts_are_bounded(void **state)
{
    static const struct {
        const char *line;
        size_t count, entries, reports;
    } cases[] = {
        {"\n", AUTHORIZED_KEYS_MAX_BYTES, 0, 0},
        {"x\n", 100000, 0, AUTHORIZED_KEYS_MAX_REPORTS},
        {"x\n", AUTHORIZED_KEYS_MAX_REPORTS - 1, 0, AUTHORIZED_KEYS_MAX_REPORTS - 1},
        {ED "\n", 12000, 12000, 0},
        {"a", AUTHORIZED_KEYS_MAX_BYTES, 0, 1},
        {"\"", AUTHORIZED_KEYS_MAX_BYTES, 0, 1},
        {",", AUTHORIZED_KEYS_MAX_BYTES, 0, 1},
        {" ", AUTHORIZED_KEYS_MAX_BYTES, 0, 0},
        {"no-pty,", AUTHORIZED_KEYS_MAX_BYTES / 7, 0, 1},
        {"environment=\"A=b\",", AUTHORIZED_KEYS_MAX_BYTES / 18, 0, 1},
        {"permitopen=\"a:1\",", AUTHORIZED_KEYS_MAX_BYTES / 17, 0, 1},
        {ED "\n", 14000, 0, 1}, /* more than 1 MiB: nothing of it counts */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf text = repeated(cases[i].line, cases[i].count);
        struct reports reports = {0};
        struct authorized_keys *keys = authorized_keys_parse(buf_bytes(&text), on_report, &reports);

        if (authorized_keys_count(keys) != cases[i].entries || reports.count != cases[i].reports)
            fail_msg("case %zu: %zu entries, %zu reports, %s", i, authorized_keys_count(keys),
                     reports.count, reports.why);
        if (cases[i].count == 100000)
            assert_int_equal(reports.line, 0);
        authorized_keys_free(&keys);
        free(reports.why);
        buf_clear(&text);
    }
}

/* A command of almost 1 MiB, and a key that comes last of thousands. */
static void long_texts_are_read_to_the_end(void **state)
{
    struct buf text = repeated("from=\"198.51.100.1\" " ED "\n", 8000);
    struct authorized_line *line;
    char *command;

    (void)state;
    buf_put(&text, BYTES(ED "\n\0"));
    assert_int_equal(accepted((char *)text.data, (struct asked){0}), 8001);
    buf_clear(&text);
    text = repeated("c", AUTHORIZED_KEYS_MAX_BYTES - 1000);
    buf_put(&text, BYTES("\0"));
    command = xasprintf("command=\"%s\" %s", (char *)text.data, ED);
    line = find(command, (struct asked){0});
    assert_int_equal(line->restrictions->force_command.len, AUTHORIZED_KEYS_MAX_BYTES - 1000);
    authorized_line_free(&line);
    free(command);
    buf_clear(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_found_by_their_key),
        cmocka_unit_test(an_authority_is_not_a_key),
        cmocka_unit_test(bad_lines_accept_nothing_and_are_reported),
        cmocka_unit_test(a_nul_does_not_cut_a_line),
        cmocka_unit_test(certificates_are_not_keys_of_a_line),
        cmocka_unit_test(from_is_held_against_the_address),
        cmocka_unit_test(expiry_ends_a_line),
        cmocka_unit_test(expiry_is_local_time),
        cmocka_unit_test(the_first_line_that_fits_wins),
        cmocka_unit_test(flags_are_set_and_taken_back_in_order),
        cmocka_unit_test(a_line_without_options_restricts_nothing),
        cmocka_unit_test(values_are_taken_out_of_their_quotes),
        cmocka_unit_test(the_first_value_of_a_variable_wins),
        cmocka_unit_test(permits_come_in_one_form),
        cmocka_unit_test(principals_are_whole_names),
        cmocka_unit_test(a_tunnel_keeps_its_unit),
        cmocka_unit_test(long_texts_are_bounded),
        cmocka_unit_test(long_texts_are_read_to_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
