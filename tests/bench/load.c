#include "load.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: parley-bench-load login|bulk|echo|hold --port N --user NAME --key FILE [OPTION...]\n"
    "  --host ADDRESS     default 127.0.0.1\n"
    "  --kex, --cipher    default curve25519-sha256, aes128-gcm@openssh.com\n"
    "  --command TEXT     the exec request\n"
    "  --count N          login, hold: connections; echo: round trips\n"
    "  --parallel N       login, hold: at once\n"
    "  --bytes N          bulk\n"
    "  --direction D      bulk: up or down\n"
    "  --forward PORT     bulk: through a channel to that port, instead of a command\n"
    "  --size N           echo: bytes of one round trip\n"
    "Prints JSON lines; bulk, echo and hold wait for a line on stdin after each \"event\".\n";

bool load_wait(const char *event)
{
    char line[16];

    printf("{\"event\": \"%s\"}\n", event);
    fflush(stdout);
    return fgets(line, sizeof(line), stdin) != NULL;
}

static bool parse(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {
        {"host", required_argument, NULL, 'h'},      {"port", required_argument, NULL, 'p'},
        {"user", required_argument, NULL, 'u'},      {"key", required_argument, NULL, 'k'},
        {"kex", required_argument, NULL, 'x'},       {"cipher", required_argument, NULL, 'c'},
        {"command", required_argument, NULL, 'r'},   {"count", required_argument, NULL, 'n'},
        {"parallel", required_argument, NULL, 'j'},  {"bytes", required_argument, NULL, 'b'},
        {"direction", required_argument, NULL, 'd'}, {"size", required_argument, NULL, 's'},
        {"forward", required_argument, NULL, 'f'},   {0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'h':
            options->host = optarg;
            break;
        case 'p':
            options->port = (unsigned)atoi(optarg);
            break;
        case 'u':
            options->user = optarg;
            break;
        case 'k':
            options->key_file = optarg;
            break;
        case 'x':
            options->kex = optarg;
            break;
        case 'c':
            options->cipher = optarg;
            break;
        case 'r':
            options->command = optarg;
            break;
        case 'n':
            options->count = (unsigned)atoi(optarg);
            break;
        case 'j':
            options->parallel = (unsigned)atoi(optarg);
            break;
        case 'b':
            options->bytes = strtoull(optarg, NULL, 10);
            break;
        case 'd':
            options->direction = optarg;
            break;
        case 's':
            options->size = (unsigned)atoi(optarg);
            break;
        case 'f':
            options->forward = (unsigned)atoi(optarg);
            break;
        default:
            return false;
        }
    }
    return options->port > 0 && options->port < 65536 && options->user != NULL &&
           options->key_file != NULL && options->count > 0 && options->parallel > 0 &&
           options->size > 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const struct options *options);
    } modes[] = {
        {"login", load_login}, {"bulk", load_bulk}, {"echo", load_echo}, {"hold", load_hold}};
    struct options options = {.host = "127.0.0.1",
                              .kex = "curve25519-sha256",
                              .cipher = "aes128-gcm@openssh.com",
                              .command = "",
                              .direction = "down",
                              .count = 1,
                              .parallel = 1,
                              .size = 1};

    signal(SIGPIPE, SIG_IGN);
    if (argc >= 2 && parse(argc - 1, argv + 1, &options))
        for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
            if (strcmp(argv[1], modes[i].name) == 0)
                return modes[i].run(&options);
    fputs(usage, stderr);
    return 2;
}
