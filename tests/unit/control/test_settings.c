/* What control_new() accepts, and links over TLS. */
#include "fixture.h"

#include "base/alloc.h"

#include "../cmocka_unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[64], *path_of[8];
enum { CA, CA_KEY, SERVER, SERVER_KEY, CLIENT, CLIENT_KEY, OTHER_CA, EMPTY };

static void run(const char *command)
{
    char *line = xasprintf("cd %s && { %s; } >/dev/null 2>&1", directory, command);

    if (system(line) != 0)
        fail_msg("%s", command);
    free(line);
}

#define KEY "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"

static int make_files(void **state)
{
    static const char *const names[] = {"ca.pem",     "ca.key",     "server.pem", "server.key",
                                        "client.pem", "client.key", "other.pem",  "empty.pem"};

    (void)state;
    strcpy(directory, "/tmp/parley-tls-XXXXXX");
    assert_non_null(mkdtemp(directory));
    for (int i = 0; i < 8; i++)
        path_of[i] = xasprintf("%s/%s", directory, names[i]);
    run("openssl req -x509 " KEY " -keyout ca.key -out ca.pem -subj /CN=ca");
    run("openssl req -x509 " KEY " -keyout other.key -out other.pem -subj /CN=other");
    run("openssl req " KEY " -keyout server.key -out server.csr -subj /CN=policy");
    run("echo 'subjectAltName=DNS:localhost' > san && openssl x509 -req -in server.csr -CA ca.pem "
        "-CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.pem");
    run("openssl req " KEY " -keyout client.key -out client.csr -subj /CN=parleyd");
    run("openssl x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
        "-out client.pem");
    run(": > empty.pem");
    return 0;
}

static int remove_files(void **state)
{
    char *line = xasprintf("rm -r %s", directory);

    (void)state;
    for (int i = 0; i < 8; i++)
        free(path_of[i]);
    assert_int_equal(system(line), 0);
    free(line);
    return 0;
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = xcalloc(1, 65536);

    assert_non_null(file);
    assert_true(fread(text, 1, 65535, file) > 0);
    fclose(file);
    return text;
}

/* ---- settings */

static void refused(const struct control_settings *settings, const char *words)
{
    char *error = NULL;

    assert_null(control_new(settings, &error));
    assert_non_null(error);
    if (strstr(error, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error, words);
    free(error);
}

static void accepted(const struct control_settings *settings)
{
    char *error = NULL;
    struct control *control = control_new(settings, &error);

    if (control == NULL)
        fail_msg("%s", error);
    control_free(&control);
}

static void targets(void **state)
{
    const struct control_target remote[] = {{"logs", "logs.example:1"}, {NULL, NULL}};
    const struct control_target broken[] = {{"logs", "nonsense"}, {NULL, NULL}};

    (void)state;
    accepted(&(struct control_settings){.policy = "unix:/nowhere"});
    accepted(&(struct control_settings){.policy = "127.0.0.1:1"});
    refused(&(struct control_settings){.policy = "policy.example:1"}, "would be plaintext");
    accepted(&(struct control_settings){.policy = "policy.example:1", .insecure = true});
    accepted(&(struct control_settings){.policy = "policy.example:1", .ca_file = path_of[CA]});
    refused(&(struct control_settings){.policy = "policy.example"},
            "\"policy.example\" has no port");
    refused(&(struct control_settings){.policy = NULL}, "is empty");
    refused(&(struct control_settings){.policy = "unix:/x", .targets = remote},
            "\"logs.example:1\" is beyond this machine");
    refused(&(struct control_settings){.policy = "unix:/x", .targets = broken}, "\"nonsense\"");
}

static void tokens(void **state)
{
    (void)state;
    accepted(&(struct control_settings){.policy = "unix:/x", .token = "abc.DEF-123=="});
    refused(&(struct control_settings){.policy = "unix:/x", .token = "abc\n"}, "policy token");
    refused(&(struct control_settings){.policy = "unix:/x", .token = "a b"}, "policy token");
}

static void files(void **state)
{
    (void)state;
    refused(&(struct control_settings){.policy = "unix:/x", .ca_file = "/nowhere/ca.pem"},
            "/nowhere/ca.pem: No such file");
    refused(&(struct control_settings){.policy = "unix:/x", .ca_file = path_of[EMPTY]},
            "empty.pem: not a PEM file");
    refused(&(struct control_settings){.policy = "unix:/x",
                                       .ca_file = path_of[CA],
                                       .cert_file = path_of[CLIENT]},
            "one without the other");
    refused(&(struct control_settings){.policy = "unix:/x",
                                       .cert_file = path_of[CLIENT],
                                       .key_file = path_of[CLIENT_KEY]},
            "without a policy CA");
    refused(&(struct control_settings){.policy = "unix:/x",
                                       .ca_file = path_of[CA],
                                       .cert_file = path_of[CLIENT],
                                       .key_file = path_of[CLIENT]},
            "client.pem: not a PEM file with \"PRIVATE KEY");
    refused(&(struct control_settings){.policy = "unix:/x", .ca_file = "/"}, "/: Is a directory");
}

/* ---- TLS */

static enum outcome ask_over_tls(const char *host, bool ask_for_client, int ca, bool with_client)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    char *cert = read_file(path_of[SERVER]), *key = read_file(path_of[SERVER_KEY]);
    char *client_ca = read_file(path_of[CA]), *target;
    struct heard heard = {0};
    enum outcome outcome;

    fixture_init(fixture);
    policy_server_stop(&fixture->policy);
    fixture->policy =
        policy_server_start("127.0.0.1:0", cert, key, ask_for_client ? client_ca : NULL);
    policy_server_set(fixture->policy, "ValidatePassword",
                      (struct script){.kind = SCRIPT_ECHO_PASSWORD});
    target = xasprintf("%s:%d", host, policy_server_port(fixture->policy));
    fixture->settings.policy = target;
    if (ca >= 0)
        fixture->settings.ca_file = path_of[ca];
    if (with_client) {
        fixture->settings.cert_file = path_of[CLIENT];
        fixture->settings.key_file = path_of[CLIENT_KEY];
    }
    fixture_open(fixture);
    fixture_ask_password(fixture, "x", &heard);
    outcome = heard.outcome;
    heard_clear(&heard);
    fixture_close(fixture);
    free(target);
    free(fixture);
    free(cert);
    free(key);
    free(client_ca);
    return outcome;
}

static void tls(void **state)
{
    (void)state;
    assert_int_equal(ask_over_tls("ipv4:127.0.0.1", false, -1, false), UNAVAILABLE); /* plaintext */
    assert_int_equal(ask_over_tls("localhost", false, CA, false), ANSWERED);
    assert_int_equal(ask_over_tls("localhost", false, OTHER_CA, false), UNAVAILABLE);
    assert_int_equal(ask_over_tls("127.0.0.1", false, CA, false), UNAVAILABLE); /* other name */
}

static void mutual_tls(void **state)
{
    (void)state;
    assert_int_equal(ask_over_tls("localhost", true, CA, true), ANSWERED);
    assert_int_equal(ask_over_tls("localhost", true, CA, false), UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets), cmocka_unit_test(tokens),     cmocka_unit_test(files),
        cmocka_unit_test(tls),     cmocka_unit_test(mutual_tls),
    };

    return cmocka_run_group_tests(tests, make_files, remove_files);
}
