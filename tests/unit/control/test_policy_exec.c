/* The policy program: started, watched, started again, stopped. This program is also its own
 * policy. */
#include "fixture.h"

#include "base/alloc.h"
#include "control/exec_child.h"

#include "../cmocka_unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- the policy: `program --policy PIDFILE [stubborn]` */

static void write_pid(const char *path)
{
    char *new_path = xasprintf("%s.new", path);
    FILE *file = fopen(new_path, "w");

    fprintf(file, "%ld\n", (long)getpid());
    fclose(file);
    rename(new_path, path);
    free(new_path);
}

static int be_policy(const char *pid_file, bool stubborn)
{
    const char *address = getenv("PARLEY_POLICY_ADDRESS");
    struct policy_server *server;

    if (address == NULL || getenv(EXEC_PARENT_VARIABLE) != NULL || getsid(0) != getpid())
        return 9;
    if (stubborn)
        signal(SIGTERM, SIG_IGN);
    server = policy_server_start(address, NULL, NULL, NULL);
    policy_server_set(server, "ValidatePassword", (struct script){.kind = SCRIPT_ECHO_PASSWORD});
    write_pid(pid_file);
    for (;;)
        pause();
}

static char self[256];

static char *policy_command(const struct fixture *fixture, const char *more)
{
    return xasprintf("%s --policy %s/pid%s", self, fixture->directory, more);
}

static pid_t read_pid(const struct fixture *fixture)
{
    char *path = xasprintf("%s/pid", fixture->directory);
    FILE *file = fopen(path, "r");
    long pid = 0;

    if (file != NULL) {
        if (fscanf(file, "%ld", &pid) != 1)
            pid = 0;
        fclose(file);
    }
    free(path);
    return (pid_t)pid;
}

static void remove_pid(const struct fixture *fixture)
{
    char *path = xasprintf("%s/pid", fixture->directory);

    unlink(path);
    free(path);
}

/* Gone, or waiting to be reaped by whoever inherited it. */
static bool is_gone(pid_t pid)
{
    char path[64], line[256] = "", state = 'Z';
    const char *after_name;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    file = fopen(path, "r");
    if (file == NULL)
        return true;
    if (fgets(line, sizeof(line), file) != NULL && (after_name = strrchr(line, ')')) != NULL)
        state = after_name[2];
    fclose(file);
    return state == 'Z' || state == 'X';
}

static size_t entries(const char *path)
{
    DIR *directory = opendir(path);
    size_t count = 0;

    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count - 2;
}

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));

    fixture_init(fixture);
    policy_server_stop(&fixture->policy);
    setenv("XDG_RUNTIME_DIR", fixture->directory, 1);
    fixture->settings.policy = NULL;
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    char *command = (char *)fixture->settings.policy_exec;

    remove_pid(fixture);
    if (fixture->control != NULL)
        control_log_counts(fixture->control);
    fixture_close(fixture);
    free(command);
    assert_int_equal(access(fixture->directory, F_OK), -1); /* nothing was left in it */
    free(fixture);
    return 0;
}

static void start(struct fixture *fixture, char *command)
{
    fixture->settings.policy_exec = command;
    fixture_open(fixture);
    assert_int_equal(fixture->ready, 0);
}

static void it_answers(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};
    struct stat info;
    char path[256];
    struct dirent *entry;
    DIR *directory;

    start(fixture, policy_command(fixture, ""));
    fixture_until(fixture, &fixture->ready, 1);
    assert_null(fixture->ready_error);
    fixture_ask_password(fixture, "x", &heard);
    assert_int_equal(heard.outcome, ANSWERED);
    heard_clear(&heard);
    /* a private directory with a private socket */
    directory = opendir(fixture->directory);
    while ((entry = readdir(directory)) != NULL)
        if (strncmp(entry->d_name, "parley-policy-", 14) == 0) {
            snprintf(path, sizeof(path), "%.64s/%.64s", fixture->directory, entry->d_name);
            assert_int_equal(stat(path, &info), 0);
            assert_int_equal(info.st_mode & 07777, 0700);
            strcat(path, "/policy.sock");
            assert_int_equal(stat(path, &info), 0);
            assert_int_equal(info.st_mode & 07777, 0600);
        }
    closedir(directory);
    assert_int_equal(entries(fixture->directory), 2); /* and the pid file */
}

static void it_is_started_again(void **state)
{
    struct fixture *fixture = *state;
    struct heard heard = {0};
    uint64_t killed;
    pid_t first;

    start(fixture, policy_command(fixture, ""));
    fixture_until(fixture, &fixture->ready, 1);
    fixture_ask_password(fixture, "x", &heard);
    assert_int_equal(heard.outcome, ANSWERED);
    for (int round = 0; round < 2; round++) {
        first = read_pid(fixture);
        remove_pid(fixture);
        kill(first, SIGKILL);
        killed = clock_ms();
        do {
            fixture_run_ms(fixture, 10);
            fixture_ask_password(fixture, "x", &heard);
        } while ((heard.outcome != ANSWERED || read_pid(fixture) == 0) &&
                 clock_ms() - killed < 10000);
        assert_int_equal(heard.outcome, ANSWERED);
        assert_int_not_equal(read_pid(fixture), first);
    }
    assert_int_equal(fixture->ready, 1); /* only the first start is told */
    heard_clear(&heard);
}

static void it_ends_at_once(void **state)
{
    struct fixture *fixture = *state;

    start(fixture, xstrdup("sh -c 'exit 3'"));
    fixture_until(fixture, &fixture->ready, 1);
    assert_string_equal(fixture->ready_error, "policy program ended with status 3");
    fixture_run_ms(fixture, 300);
    assert_int_equal(fixture->ready, 1);
}

static void it_does_not_exist(void **state)
{
    struct fixture *fixture = *state;

    start(fixture, xstrdup("/nowhere/policy 2>/dev/null"));
    fixture_until(fixture, &fixture->ready, 1);
    assert_string_equal(fixture->ready_error, "policy program ended with status 127");
}

/* What it started goes with it, and our descriptors do not reach it. */
static void its_children_end_too(void **state)
{
    struct fixture *fixture = *state;
    int leaked = open("/dev/null", O_RDONLY); /* without CLOEXEC */
    char *command = xasprintf("test ! -e /proc/self/fd/%d || exit 4; sleep 1000 & echo $! > "
                              "%s/pid.new; mv %s/pid.new %s/pid; wait",
                              leaked, fixture->directory, fixture->directory, fixture->directory);
    pid_t child;

    start(fixture, command);
    for (int i = 0; i < 1000 && (child = read_pid(fixture)) == 0; i++)
        fixture_run_ms(fixture, 5);
    assert_int_not_equal(child, 0);
    assert_false(is_gone(child));
    assert_int_equal(fixture->ready, 0);
    asker_free(&fixture->asker);
    control_free(&fixture->control);
    for (int i = 0; i < 1000 && !is_gone(child); i++)
        fixture_run_ms(fixture, 5);
    assert_true(is_gone(child));
    close(leaked);
}

static void stubborn_one_is_killed(void **state)
{
    struct fixture *fixture = *state;
    uint64_t before;
    pid_t pid;

    start(fixture, policy_command(fixture, " stubborn"));
    fixture_until(fixture, &fixture->ready, 1);
    for (int i = 0; i < 1000 && (pid = read_pid(fixture)) == 0; i++)
        fixture_run_ms(fixture, 5);
    before = clock_ms();
    asker_free(&fixture->asker);
    control_free(&fixture->control);
    assert_in_range(clock_ms() - before, 4900, 8000);
    assert_true(is_gone(pid));
}

static void never_started(void **state)
{
    struct fixture *fixture = *state;
    char *error = NULL;

    fixture->settings.policy_exec = xstrdup("true");
    fixture->control = control_new(&fixture->settings, &error);
    assert_non_null(fixture->control);
    assert_int_equal(entries(fixture->directory), 1);
}

/* ---- the daemon is killed: `program --daemon DIRECTORY` is one that can be */

__attribute__((noreturn)) static void be_daemon(const char *directory)
{
    struct fixture fixture;

    fixture_init(&fixture);
    policy_server_stop(&fixture.policy);
    rmdir(fixture.directory); /* a killed one cannot clean up */
    setenv("XDG_RUNTIME_DIR", directory, 1);
    fixture.settings.policy = NULL;
    fixture.settings.policy_exec = xasprintf("%s --policy %s/pid", self, directory);
    fixture_open(&fixture);
    for (;;)
        fixture_run_ms(&fixture, 1000);
}

static void it_ends_with_a_killed_daemon(void **state)
{
    struct fixture *fixture = *state;
    char *argv[] = {self, (char *)"--daemon", fixture->directory, NULL};
    char *clean = xasprintf("rm -r %s", fixture->directory);
    pid_t daemon, policy = 0;

    assert_int_equal(posix_spawn(&daemon, self, NULL, NULL, argv, environ), 0);
    for (int i = 0; i < 2000 && (policy = read_pid(fixture)) == 0; i++)
        fixture_run_ms(fixture, 5);
    assert_int_not_equal(policy, 0);
    kill(daemon, SIGKILL);
    waitpid(daemon, NULL, 0);
    for (int i = 0; i < 1000 && !is_gone(policy); i++)
        fixture_run_ms(fixture, 5);
    assert_true(is_gone(policy));
    assert_int_equal(system(clean), 0);
    free(clean);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(it_answers),        TEST(it_is_started_again),          TEST(it_ends_at_once),
        TEST(it_does_not_exist), TEST(its_children_end_too),         TEST(stubborn_one_is_killed),
        TEST(never_started),     TEST(it_ends_with_a_killed_daemon),
    };
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (len <= 0)
        return 1;
    if (argc == 3 && strcmp(argv[1], "--exec-child") == 0)
        return exec_child_main(argv[2]);
    if (argc >= 3 && strcmp(argv[1], "--policy") == 0)
        return be_policy(argv[2], argc > 3);
    if (argc == 3 && strcmp(argv[1], "--daemon") == 0)
        be_daemon(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
