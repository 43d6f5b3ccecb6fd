#include "unit/cmocka_unit.h"

#include "config/config.h"
#include "config/settings.h" /* to see that the example has every setting */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[] = "/tmp/parley-config-XXXXXX";
static struct config config;
static char *error;

static void write_file(const char *name, const char *text, size_t len, mode_t mode)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), len);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static int setup_group(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL || chdir(directory) != 0)
        return -1;
    write_file("key", "a key\n", 6, 0600);
    return 0;
}

static int teardown_group(void **state)
{
    (void)state;
    unlink("key");
    unlink("p.yaml");
    unlink("other");
    return chdir("/") == 0 ? rmdir(directory) : -1;
}

static int teardown(void **state)
{
    (void)state;
    config_clear(&config);
    free(error);
    error = NULL;
    return 0;
}

/* Loads with these flags, NULL-terminated. */
static enum config_verdict load(const char *const *flags)
{
    char *argv[24] = {(char *)"parleyd"};
    int argc = 1;

    teardown(NULL);
    for (; *flags != NULL; flags++)
        argv[argc++] = (char *)*flags;
    return config_load(&config, argc, argv, &error);
}

#define LOAD(...) load((const char *const[]){__VA_ARGS__, NULL})

static enum config_verdict load_text(const char *text, size_t len)
{
    write_file("p.yaml", text, len, 0600);
    return LOAD("--config", "p.yaml", "--host-key", "key");
}

/* ---- the file */

struct file_case {
    struct bytes text;
    const char *error; /* starts with this */
};

static const struct file_case wrong_files[] = {
    {BYTES("listen: [\n"), "p.yaml:2: not YAML: "},
    {BYTES("listen: ':22'\n"), "p.yaml:1: listen: expected a list"},
    {BYTES("policy:\n  target: [a]\n"), "p.yaml:2: policy.target: expected one value"},
    {BYTES("policy: a\n"), "p.yaml:1: policy: expected a mapping"},
    {BYTES("- a\n"), "p.yaml:1: expected a mapping"},
    {BYTES("policy:\n  target: a:1\nwho: me\n"), "p.yaml:3: who: unknown key"},
    {BYTES("policy:\n  target: a:1\n\n  targt: b\n"), "p.yaml:4: policy.targt: unknown key"},
    {BYTES("workers: 1\nlog: {}\nworkers: 2\n"),
     "p.yaml:3: workers is set twice (first on line 1)"},
    {BYTES("policy: {target: a:1}\n---\nworkers: 1\n"), "p.yaml:2: a second document starts"},
    {BYTES("listen: [&x ':1', *x]\n"), "p.yaml:1: aliases are not supported"},
    {BYTES("policy:\n  target: \"a\\0b\"\n"), "p.yaml:2: the text holds a NUL"},
    {BYTES("policy:\n  target: \"a\\nb\"\n"),
     "p.yaml:2: policy.target: the value has a control character"},
    {BYTES("policy:\n  target:\n"), "p.yaml:2: policy.target: the value is empty"},
    {BYTES("a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}\n"), "p.yaml:1: nested too deep"},
    {BYTES("? [a]\n: b\n"), "p.yaml:1: a key is not plain text"},
    {BYTES("workers: many\n"), "p.yaml:1: workers: \"many\" is not a number"},
    {BYTES("workers: -1\n"), "p.yaml:1: workers: \"-1\" is not a number"},
    {BYTES("workers: 1025\n"), "p.yaml:1: workers: 1025 is out of range: 0 to 1024"},
    {BYTES("workers: 99999999999999999999\n"),
     "p.yaml:1: workers: \"99999999999999999999\" is not"},
    {BYTES("limits:\n  max_failures: 6\n  login_timeout: 2 weeks\n"),
     "p.yaml:3: limits.login_timeout: \"2 weeks\" is not a time such as"},
    {BYTES("limits: {window: 1TB}\n"), "p.yaml:1: limits.window: \"1TB\" is not a size such as"},
    {BYTES("limits: {window: 2GiB}\n"),
     "p.yaml:1: limits.window: 2GiB is out of range: 4KiB to 1GiB"},
    {BYTES("limits:\n  window: 999999999999999999GiB\n"), "p.yaml:2: limits.window: "},
    {BYTES("policy:\n  deadline: 0\n"), "p.yaml:2: policy.deadline: 0 is out of range: 1ms to 1h"},
    {BYTES("policy:\n  insecure: maybe\n"),
     "p.yaml:2: policy.insecure: \"maybe\" is not true or false"},
    {BYTES("log:\n  level: loud\n"),
     "p.yaml:2: log.level: \"loud\" is not error, warn, info or debug"},
    {BYTES("workers: \"a\n\n  b\\e[2J\"\n"), "p.yaml:1: workers: \"a?b?[2J\" is not a number"},
    {BYTES("log:\n  format: xml\n"), "p.yaml:2: log.format: \"xml\" is not text or json"},
    {BYTES("policy:\n  targets:\n    a: x:1\n    b c: y:1\n"),
     "p.yaml:4: policy.targets: \"b c\" is not a name"},
    {BYTES("policy:\n  targets:\n    a: [x]\n"), "p.yaml:3: policy.targets.a: expected one value"},
    {BYTES("policy:\n  targets:\n    a: {b: c}\n"),
     "p.yaml:3: policy.targets.a: expected one value"},
    {BYTES("policy:\n  targets: [a]\n"), "p.yaml:2: policy.targets: expected a mapping"},
    {BYTES("policy:\n  deadlines:\n    ValidatePassword: soon\n"),
     "p.yaml:3: policy.deadlines: ValidatePassword: \"soon\" is not a time"},
    {BYTES("workers: 1\n"), "p.yaml: no policy: "},
    {BYTES("policy:\n  target: a:1\n  exec: b\n"),
     "p.yaml:3: policy.exec: excludes p.yaml:2: policy.target"},
    {BYTES("policy: {target: a:1}\nlisten:\n  - :22\n  - host\n"),
     "p.yaml:4: listen: \"host\": no port"},
    {BYTES("policy: {target: a:1}\nversion_comment: my-server\n"),
     "p.yaml:2: version_comment: only printable ASCII"},
    {BYTES("policy:\n  target: a:1\n  ca: nowhere\n"),
     "p.yaml:3: policy.ca: nowhere: No such file or directory"},
    {BYTES("policy:\n  target: a:1\n  cert: key\n"), "p.yaml:3: policy.cert: needs policy.ca"},
    {BYTES("policy:\n  target: a:1\n  ca: key\n  cert: key\n"),
     "p.yaml:4: policy.cert: needs policy.key"},
    {BYTES("policy:\n  target: a:1\n  ca: key\n  key: key\n"),
     "p.yaml:4: policy.key: needs policy.cert"},
    {BYTES("policy:\n  target: a:1\n  token_file: key\n"),
     "p.yaml:3: policy.token_file: key: not one line with a bearer token"},
    {BYTES("policy:\n  target: a:1\n  token_file: /\n"),
     "p.yaml:3: policy.token_file: /: not a regular file"},
    {BYTES("policy: {target: a:1}\nlimits:\n  window: 8KiB\n"),
     "limits.max_packet: larger than the window"},
};

static void each_wrong_file_names_its_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wrong_files) / sizeof(wrong_files[0]); i++) {
        const struct file_case *one = &wrong_files[i];

        if (load_text((const char *)one->text.data, one->text.len) != CONFIG_WRONG)
            fail_msg("case %zu: accepted, expected \"%s\"", i, one->error);
        if (strncmp(error, one->error, strlen(one->error)) != 0)
            fail_msg("case %zu: \"%s\", expected \"%s\"", i, error, one->error);
        assert_null(strchr(error, '\n'));
    }
}

static const char whole_file[] = "listen: [':22', '127.0.0.1:0']\n"
                                 "workers: 3\n"
                                 "daemon_name: edge-1\n"
                                 "version_comment: Parley_test demo-1\n"
                                 "policy:\n"
                                 "  target: unix:/run/policy.sock\n"
                                 "  insecure: yes\n"
                                 "  targets: {rec: 'unix:/run/rec', b.c: 'h:1'}\n"
                                 "  auth_deadline: 1500ms\n"
                                 "  deadline: 7\n"
                                 "  deadlines: {ValidatePassword: 20s}\n"
                                 "  required_handlers: [ConnectionMade, PtyRequested]\n"
                                 "  queue_bytes: 1MiB\n"
                                 "limits: {login_timeout: 1m, max_channels: 20, window: 64K}\n"
                                 "transport: {ciphers: 'a,b', rekey_time: 2h}\n"
                                 "log: {format: json, level: debug}\n";

static void a_whole_file_is_read(void **state)
{
    (void)state;
    assert_int_equal(load_text(whole_file, sizeof(whole_file) - 1), CONFIG_RUN);
    assert_int_equal(config.listen.count, 2);
    assert_string_equal(config.listen.items[1].text, "127.0.0.1:0");
    assert_string_equal(config.listen.items[1].where, "p.yaml:1: listen");
    assert_int_equal(config.workers, 3);
    assert_string_equal(config.daemon_name, "edge-1");
    assert_string_equal(config.version_comment, "Parley_test demo-1");
    assert_string_equal(config.policy.target, "unix:/run/policy.sock");
    assert_true(config.policy.insecure);
    assert_int_equal(config.policy.targets.count, 2);
    assert_string_equal(config.policy.targets.items[0].name, "rec");
    assert_string_equal(config.policy.targets.items[1].name, "b.c");
    assert_string_equal(config.policy.targets.items[1].text, "h:1");
    assert_int_equal(config.policy.auth_deadline_ms, 1500);
    assert_int_equal(config.policy.deadline_ms, 7000);
    assert_string_equal(config.policy.deadlines.items[0].name, "ValidatePassword");
    assert_int_equal(config.policy.deadlines.items[0].number, 20000);
    assert_int_equal(config.policy.required_handlers.count, 2);
    assert_int_equal(config.policy.queue_bytes, 1 << 20);
    assert_int_equal(config.limits.login_timeout_ms, 60000);
    assert_int_equal(config.limits.max_channels, 20);
    assert_int_equal(config.limits.window_bytes, 65536);
    assert_string_equal(config.transport.ciphers, "a,b");
    assert_int_equal(config.transport.rekey_ms, 7200000);
    assert_int_equal(config.log.format, LOG_JSON);
    assert_int_equal(config.log.level, LOG_DEBUG);
    assert_string_equal(config_where(&config, &config.policy.target), "p.yaml:6: policy.target");
    assert_string_equal(config_where(&config, &config.limits.max_packet_bytes),
                        "limits.max_packet");
}

/* design.md section 6 */
static void defaults_are_those_of_the_design(void **state)
{
    (void)state;
    assert_int_equal(LOAD("--policy", "a:1", "--host-key", "key"), CONFIG_RUN);
    assert_int_equal(config.listen.count, 1);
    assert_string_equal(config.listen.items[0].text, "*:2222");
    assert_int_equal(config.policy.auth_deadline_ms, 10000);
    assert_int_equal(config.policy.deadline_ms, 5000);
    assert_int_equal(config.policy.queue_bytes, 512 << 10);
    assert_int_equal(config.policy.queue_messages, 64);
    assert_int_equal(config.limits.login_timeout_ms, 120000);
    assert_int_equal(config.limits.max_failures, 6);
    assert_int_equal(config.limits.max_requests, 40);
    assert_int_equal(config.limits.max_sessions, 10);
    assert_int_equal(config.limits.max_channels, 1000);
    assert_int_equal(config.limits.max_debug_messages, 16);
    assert_int_equal(config.limits.window_bytes, 2 << 20);
    assert_int_equal(config.limits.max_packet_bytes, 32 << 10);
    assert_int_equal(config.transport.rekey_bytes, 1 << 30);
    assert_int_equal(config.transport.rekey_ms, 3600000);
    assert_false(config.policy.insecure);
}

static void an_empty_file_sets_nothing(void **state)
{
    (void)state;
    write_file("p.yaml", "# nothing\n", 10, 0600);
    assert_int_equal(LOAD("--config", "p.yaml", "--host-key", "key", "--policy", "a:1"),
                     CONFIG_RUN);
    assert_int_equal(LOAD("--config", "absent.yaml"), CONFIG_WRONG);
    assert_string_equal(error, "absent.yaml: No such file or directory");
    assert_int_equal(LOAD("--config", "/"), CONFIG_WRONG);
    assert_string_equal(error, "/: Is a directory");
}

static void sections_and_lists_may_be_empty(void **state)
{
    static const char text[] = "listen:\nlog:\nlimits: {}\npolicy:\n  targets:\n  deadlines: {}\n"
                               "  required_handlers: []\n  target: a:1\n";

    (void)state;
    assert_int_equal(load_text(text, sizeof(text) - 1), CONFIG_RUN);
    assert_int_equal(config.listen.count, 1); /* the default */
    assert_int_equal(config.policy.targets.count, 0);
    assert_int_equal(config.policy.required_handlers.count, 0);
}

/* ---- the example */

/* "#key: value" is a setting that is commented out, "# text" is text. */
static size_t uncomment(char *out, const char *in)
{
    size_t len = 0;
    bool at_start = true;

    for (; *in != '\0'; in++) {
        if (at_start && in[0] == '#' && in[1] != ' ' && in[1] != '\n' && in[1] != '\0')
            continue;
        if (at_start && in[0] == '#' && in[1] == ' ' && in[2] == ' ' && in[3] != ' ')
            continue;
        at_start = *in == '\n' || (at_start && *in == ' ');
        out[len++] = *in;
    }
    out[len] = '\0';
    return len;
}

static char *read_example(void)
{
    FILE *file = fopen(PARLEY_SOURCE_DIR "/server/config/parleyd.example.yaml", "r");
    char *text = calloc(1, 32768);

    assert_non_null(file);
    assert_in_range(fread(text, 1, 32767, file), 1, 32766);
    fclose(file);
    return text;
}

static void the_example_is_right_and_whole(void **state)
{
    char *example = read_example(), *all = malloc(32768);
    struct config untouched;

    (void)state;
    write_file("other", "token\n", 6, 0600);
    assert_int_equal(load_text(example, strlen(example)), CONFIG_RUN);
    write_file("p.yaml", all, uncomment(all, example), 0600);
    if (LOAD("--config", "p.yaml", "--host-key", "key", "--policy", "a:1", "--policy-ca", "key",
             "--policy-cert", "key", "--policy-key", "key", "--policy-token-file",
             "other") != CONFIG_RUN)
        fail_msg("%s", error);
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (config.origins->source[i] == SOURCE_DEFAULT)
            fail_msg("%s is missing in the example", settings[i].path);
    /* Where it shows a default, it is the default. */
    config_set_defaults(&untouched);
    assert_memory_equal(&config.limits, &untouched.limits, sizeof(config.limits));
    assert_int_equal(config.policy.auth_deadline_ms, untouched.policy.auth_deadline_ms);
    assert_int_equal(config.policy.queue_bytes, untouched.policy.queue_bytes);
    assert_int_equal(config.transport.rekey_bytes, untouched.transport.rekey_bytes);
    config_clear(&untouched);
    free(example);
    free(all);
}

/* ---- who wins */

static void flags_beat_environment_beats_file(void **state)
{
    static const char text[] = "listen: [':1', ':2']\nworkers: 1\nhost_keys: [key]\n"
                               "policy: {target: 'file:1'}\nlimits: {max_sessions: 1}\n";

    (void)state;
    write_file("p.yaml", text, sizeof(text) - 1, 0600);
    setenv("PARLEY_CONFIG", "p.yaml", 1);
    setenv("PARLEY_WORKERS", "2", 1);
    setenv("PARLEY_LISTEN", ":3,,[::1]:4", 1);
    setenv("PARLEY_MAX_SESSIONS", "", 1); /* as good as unset */
    setenv("PARLEY_RPC_DEADLINE", "Channel=1s,PtyRequested=2s", 1);
    assert_int_equal(LOAD("--check"), CONFIG_CHECK);
    assert_int_equal(config.workers, 2);
    assert_int_equal(config.listen.count, 2);
    assert_string_equal(config.listen.items[1].text, "[::1]:4");
    assert_string_equal(config.listen.items[1].where, "PARLEY_LISTEN");
    assert_int_equal(config.limits.max_sessions, 1);
    assert_int_equal(config.policy.deadlines.items[1].number, 2000);
    assert_int_equal(LOAD("--workers=4", "--listen", ":5", "--policy-insecure"), CONFIG_RUN);
    assert_int_equal(config.workers, 4);
    assert_int_equal(config.listen.count, 1);
    assert_string_equal(config.listen.items[0].text, ":5");
    assert_string_equal(config_where(&config, &config.workers), "--workers");
    assert_true(config.policy.insecure);
    /* A stronger source's kind of policy replaces the weaker one's other kind. */
    assert_int_equal(LOAD("--policy-exec", "./policy --flag"), CONFIG_RUN);
    assert_null(config.policy.target);
    setenv("PARLEY_POLICY_EXEC", "x", 1);
    assert_int_equal(LOAD("--policy", "a:1"), CONFIG_RUN);
    assert_null(config.policy.exec);
    assert_int_equal(LOAD("--policy", "a:1", "--policy-exec", "x"), CONFIG_WRONG);
    assert_string_equal(error, "--policy-exec: excludes --policy");
}

static int clear_environment(void **state)
{
    unsetenv("PARLEY_CONFIG");
    unsetenv("PARLEY_WORKERS");
    unsetenv("PARLEY_LISTEN");
    unsetenv("PARLEY_MAX_SESSIONS");
    unsetenv("PARLEY_RPC_DEADLINE");
    unsetenv("PARLEY_POLICY_EXEC");
    unsetenv("PARLEY_LOG_LEVEL");
    return teardown(state);
}

static void a_bad_variable_is_named(void **state)
{
    (void)state;
    setenv("PARLEY_LOG_LEVEL", "loud", 1);
    assert_int_equal(LOAD("--policy", "a:1"), CONFIG_WRONG);
    assert_string_equal(error, "PARLEY_LOG_LEVEL: \"loud\" is not error, warn, info or debug");
    unsetenv("PARLEY_LOG_LEVEL");
    setenv("PARLEY_RPC_DEADLINE", "Channel", 1);
    assert_int_equal(LOAD("--policy", "a:1"), CONFIG_WRONG);
    assert_string_equal(error, "PARLEY_RPC_DEADLINE: \"Channel\" is not HANDLER=TIME");
}

static void an_unknown_variable_is_noted(void **state)
{
    (void)state;
    setenv("PARLEY_LOG_LEVL", "debug", 1);
    setenv("PARLEY_PORT_22_TCP_ADDR", "192.0.2.1", 1);
    setenv("PARLEY_POLICY_SERVICE_HOST", "192.0.2.1", 1);
    assert_int_equal(LOAD("--policy", "a:1", "--host-key", "key"), CONFIG_RUN);
    assert_int_equal(config.unknown_variables.count, 1);
    assert_string_equal(config.unknown_variables.items[0].text, "PARLEY_LOG_LEVL");
    unsetenv("PARLEY_LOG_LEVL");
    unsetenv("PARLEY_PORT_22_TCP_ADDR");
    unsetenv("PARLEY_POLICY_SERVICE_HOST");
}

/* ---- flags */

static void wrong_flags_are_usage_errors(void **state)
{
    (void)state;
    assert_int_equal(LOAD("--foo"), CONFIG_USAGE);
    assert_string_equal(error, "--foo: no such flag; see parleyd --help");
    assert_int_equal(LOAD("--policy"), CONFIG_USAGE);
    assert_string_equal(error, "--policy: needs a value; see parleyd --help");
    assert_int_equal(LOAD("--check=1"), CONFIG_USAGE);
    assert_string_equal(error, "--check=1: takes no value; see parleyd --help");
    assert_int_equal(LOAD("-x"), CONFIG_USAGE);
    assert_string_equal(error, "-x: no such flag; see parleyd --help");
    assert_int_equal(LOAD("file.yaml"), CONFIG_USAGE);
    assert_string_equal(error, "\"file.yaml\": not a flag; see parleyd --help");
    assert_int_equal(LOAD("--max-sessions", "abc"), CONFIG_USAGE);
    assert_string_equal(error, "--max-sessions: \"abc\" is not a number");
    assert_int_equal(LOAD("--stream-target", "rec"), CONFIG_USAGE);
    assert_string_equal(error, "--stream-target: \"rec\" is not NAME=TARGET");
    assert_int_equal(LOAD("--stream-target", "a=x:1", "--stream-target", "a=x:2"), CONFIG_USAGE);
    assert_string_equal(error, "--stream-target: a is set twice");
    assert_int_equal(LOAD("--host-key", "key"), CONFIG_USAGE);
    assert_string_equal(error, "no policy: give --policy TARGET or --policy-exec CMD");
    assert_int_equal(LOAD("--help"), CONFIG_HELP);
    assert_int_equal(LOAD("--version"), CONFIG_VERSION);
}

#define LOAD_LIMIT(...) LOAD("--policy", "a:1", "--host-key", "key", __VA_ARGS__)

static void limits_of_sources_are_understood(void **state)
{
    const struct config_admission *a = &config.admission;

    (void)state;
    assert_int_equal(LOAD("--policy", "a:1", "--host-key", "key"), CONFIG_RUN);
    assert_int_equal(a->begin, 10);
    assert_int_equal(a->rate, 30);
    assert_int_equal(a->full, 100);
    assert_int_equal(a->v4_bits, 32);
    assert_int_equal(a->v6_bits, 128);
    assert_int_equal(a->crash_ms, 90000);
    assert_int_equal(a->max_ms, 600000);
    assert_true(a->penalties);
    assert_false(a->overflow_denies);
    assert_int_equal(LOAD_LIMIT("--start-up", "25", "--per-source-net-block", "24:64",
                                "--penalties=off", "--penalty", "authfail=7", "--penalty",
                                "min=20s", "--penalty-overflow", "deny-all", "--penalty-exempt",
                                "127.0.0.0/8", "--penalty-exempt", "::1"),
                     CONFIG_RUN);
    assert_int_equal(a->begin, 25);
    assert_int_equal(a->rate, 100);
    assert_int_equal(a->full, 25);
    assert_int_equal(a->v4_bits, 24);
    assert_int_equal(a->v6_bits, 64);
    assert_int_equal(a->auth_fail_ms, 7000);
    assert_int_equal(a->no_auth_ms, 1000);
    assert_int_equal(a->min_ms, 20000);
    assert_false(a->penalties);
    assert_true(a->overflow_denies);
    assert_int_equal(a->exempt[0].bits, 8);
    assert_int_equal(a->exempt[1].bits, 128);
}

static void wrong_limits_of_sources_are_named(void **state)
{
    static const char *const start_ups[] = {
        "10:30", "10:30:", "10:0:100", "10:101:100", "11:30:10", "0:30:0",  "1:2:3:4",
        " 1",    "-1",     "1x",       "99999999",   ":",        "10:30:5x"};

    (void)state;
    for (size_t i = 0; i < sizeof(start_ups) / sizeof(start_ups[0]); i++) {
        assert_int_equal(LOAD_LIMIT("--start-up", start_ups[i]), CONFIG_WRONG);
        assert_ptr_equal(strstr(error, "--start-up: "), error);
    }
    assert_int_equal(LOAD_LIMIT("--per-source-net-block", "33:64"), CONFIG_WRONG);
    assert_string_equal(error,
                        "--per-source-net-block: \"33:64\" is not V4:V6, bits up to 32 and 128");
    assert_int_equal(LOAD_LIMIT("--penalty", "rudeness=1s"), CONFIG_WRONG);
    assert_string_equal(error, "--penalty: no offence is named \"rudeness\"");
    assert_int_equal(LOAD_LIMIT("--penalty", "min=20m"), CONFIG_WRONG);
    assert_string_equal(error, "--penalty: min is longer than max");
    assert_int_equal(LOAD_LIMIT("--penalty-overflow", "maybe"), CONFIG_WRONG);
    assert_string_equal(error, "--penalty-overflow: \"maybe\" is not permissive or deny-all");
    assert_int_equal(LOAD_LIMIT("--penalty-exempt", "localhost"), CONFIG_WRONG);
    assert_string_equal(error, "--penalty-exempt: \"localhost\" is not ADDRESS or ADDRESS/BITS");
}

static void host_keys_are_looked_at(void **state)
{
    (void)state;
    assert_int_equal(LOAD("--policy", "a:1"), CONFIG_WRONG);
    assert_non_null(strstr(error, "no host key: make one with  ssh-keygen -q -t ed25519"));
    assert_int_equal(LOAD("--policy", "a:1", "--host-key", "absent"), CONFIG_WRONG);
    assert_string_equal(error, "--host-key: absent: No such file or directory");
    write_file("other", "x", 1, 0640);
    assert_int_equal(LOAD("--policy", "a:1", "--host-key", "key", "--host-key", "other"),
                     CONFIG_WRONG);
    assert_string_equal(
        error, "--host-key: other: others may read this private key (mode 0640): chmod 600 it");
}

static void the_token_is_read_from_its_file(void **state)
{
    (void)state;
    write_file("other", "abc.DEF-123=\n", 13, 0600);
    assert_int_equal(LOAD("--policy", "a:1", "--host-key", "key", "--policy-token-file", "other"),
                     CONFIG_RUN);
    assert_string_equal(config.policy.token, "abc.DEF-123=");
}

/* --help is made from the same table; it must name every flag, and fit its line. */
static void help_shows_defaults(void **state)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    config_print_help(out);
    fclose(out);
    assert_non_null(strstr(text, "--login-timeout TIME"));
    assert_non_null(strstr(text, "[2m]"));
    assert_non_null(strstr(text, "[512KiB]"));
    assert_non_null(strstr(text, "--listen HOST:PORT"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(each_wrong_file_names_its_line, teardown),
        cmocka_unit_test_teardown(a_whole_file_is_read, teardown),
        cmocka_unit_test_teardown(defaults_are_those_of_the_design, teardown),
        cmocka_unit_test_teardown(an_empty_file_sets_nothing, teardown),
        cmocka_unit_test_teardown(sections_and_lists_may_be_empty, teardown),
        cmocka_unit_test_teardown(the_example_is_right_and_whole, teardown),
        cmocka_unit_test_teardown(flags_beat_environment_beats_file, clear_environment),
        cmocka_unit_test_teardown(a_bad_variable_is_named, clear_environment),
        cmocka_unit_test_teardown(an_unknown_variable_is_noted, clear_environment),
        cmocka_unit_test_teardown(wrong_flags_are_usage_errors, teardown),
        cmocka_unit_test_teardown(limits_of_sources_are_understood, teardown),
        cmocka_unit_test_teardown(wrong_limits_of_sources_are_named, teardown),
        cmocka_unit_test_teardown(host_keys_are_looked_at, teardown),
        cmocka_unit_test_teardown(the_token_is_read_from_its_file, teardown),
        cmocka_unit_test(help_shows_defaults),
    };

    return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
