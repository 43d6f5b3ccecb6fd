#include "config/config.h"

#include "base/alloc.h"
#include "config/settings.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

/* Values of getopt_long(): below these, rows of the table. */
enum { FLAG_FIRST_ROW = 256, FLAG_CONFIG = 1000, FLAG_CHECK, FLAG_HELP, FLAG_VERSION };

#define FLAG_COUNT (SETTING_COUNT + 4)

/* The command line, read but not yet applied: weaker sources come first. */
struct command_line {
    const char *file;
    enum config_verdict verdict;
    struct {
        const struct setting *setting;
        const char *text;
    } * given;
    size_t count;
};

static void make_options(struct option options[FLAG_COUNT + 1])
{
    static const struct option own[] = {
        {"config", required_argument, NULL, FLAG_CONFIG},
        {"check", no_argument, NULL, FLAG_CHECK},
        {"help", no_argument, NULL, FLAG_HELP},
        {"version", no_argument, NULL, FLAG_VERSION},
        {NULL, 0, NULL, 0},
    };

    for (int i = 0; i < SETTING_COUNT; i++)
        options[i] = (struct option){
            .name = settings[i].flag,
            .has_arg = settings[i].kind == SETTING_BOOL ? optional_argument : required_argument,
            .val = FLAG_FIRST_ROW + i,
        };
    memcpy(options + SETTING_COUNT, own, sizeof(own));
}

static void take_flag(struct command_line *line, int flag)
{
    if (flag == FLAG_CONFIG) {
        line->file = optarg;
    } else if (flag == FLAG_CHECK) {
        line->verdict = CONFIG_CHECK;
    } else if (flag == FLAG_HELP) {
        line->verdict = CONFIG_HELP;
    } else if (flag == FLAG_VERSION) {
        line->verdict = CONFIG_VERSION;
    } else {
        line->given[line->count].setting = &settings[flag - FLAG_FIRST_ROW];
        line->given[line->count++].text = optarg ? optarg : "true";
    }
}

/* False: *error is set. */
static bool read_flags(struct command_line *line, int argc, char **argv, char **error)
{
    struct option options[FLAG_COUNT + 1];
    int flag;

    make_options(options);
    line->given = xcalloc((size_t)argc, sizeof(*line->given));
    line->verdict = CONFIG_RUN;
    optind = 0; /* glibc: start afresh */
    opterr = 0;
    while ((flag = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
        if (flag == ':')
            *error = xasprintf("%s: needs a value; see parleyd --help", argv[optind - 1]);
        else if (flag == '?' && optopt > 0 && optopt < FLAG_FIRST_ROW)
            *error = xasprintf("-%c: no such flag; see parleyd --help", optopt);
        else if (flag == '?')
            *error = xasprintf("%s: %s; see parleyd --help", argv[optind - 1],
                               optopt ? "takes no value" : "no such flag");
        if (*error != NULL)
            return false;
        take_flag(line, flag);
        if (line->verdict == CONFIG_HELP || line->verdict == CONFIG_VERSION)
            return true;
    }
    if (optind < argc)
        *error = xasprintf("\"%s\": not a flag; see parleyd --help", argv[optind]);
    return *error == NULL;
}

static bool apply_flags(struct config *config, const struct command_line *line, char **error)
{
    bool ok = true;

    for (size_t i = 0; ok && i < line->count; i++) {
        char *where = xasprintf("--%s", line->given[i].setting->flag);

        ok = setting_apply_pair(config, line->given[i].setting, SOURCE_FLAG, where,
                                line->given[i].text, error);
        free(where);
    }
    return ok;
}

void config_set_defaults(struct config *config)
{
    *config = (struct config){
        .policy = {.auth_deadline_ms = 10000,
                   .deadline_ms = 5000,
                   .stream_start_ms = 5000,
                   .queue_bytes = 512 << 10,
                   .queue_messages = 64},
        .limits = {.login_timeout_ms = 120000,
                   .max_failures = 6,
                   .max_requests = 40,
                   .max_sessions = 10,
                   .max_channels = 1000,
                   .max_debug_messages = 16,
                   .keepalive_count = 3,
                   .window_bytes = 2 << 20,
                   .max_packet_bytes = 32 << 10},
        .admission = {.per_source = 8, .penalties = true, .penalty_sources = 65536},
        .forward = {.connect_timeout_ms = 30000},
        .upstream = {.keepalive_ms = 30000},
        .transport = {.rekey_bytes = 1 << 30, .rekey_ms = 3600000, .rekey_answer_ms = 60000},
        .log = {.format = LOG_TEXT, .level = LOG_INFO},
        .origins = xcalloc(1, sizeof(struct config_origins)),
    };
}

static void default_listen(struct config *config)
{
    if (config->listen.count > 0)
        return;
    config->listen.items = xcalloc(1, sizeof(*config->listen.items));
    config->listen.items[0].text = xstrdup("*:2222");
    config->listen.items[0].where = xstrdup("listen");
    config->listen.count = 1;
}

static enum config_verdict apply_all(struct config *config, const struct command_line *line,
                                     char **error)
{
    const char *file = line->file ? line->file : getenv("PARLEY_CONFIG");

    if (file != NULL && file[0] != '\0' && !config_read_file(config, file, error))
        return CONFIG_WRONG;
    if (!config_read_environment(config, error))
        return CONFIG_WRONG;
    if (!apply_flags(config, line, error))
        return CONFIG_USAGE;
    default_listen(config);
    if (config_check(config, error))
        return line->verdict;
    /* Nothing but the command line can be the cause then. */
    return config->file == NULL && config->policy.target == NULL && config->policy.exec == NULL
               ? CONFIG_USAGE
               : CONFIG_WRONG;
}

/* What is wrong is told in one line, whatever the value that it quotes. */
static void make_one_line(char *error)
{
    for (; error != NULL && *error != '\0'; error++)
        if ((unsigned char)*error < ' ' || *error == 0x7f)
            *error = '?';
}

enum config_verdict config_load(struct config *config, int argc, char **argv, char **error)
{
    struct command_line line = {0};
    enum config_verdict verdict = CONFIG_USAGE;

    *error = NULL;
    config_set_defaults(config);
    if (read_flags(&line, argc, argv, error))
        verdict = line.verdict;
    if (verdict == CONFIG_RUN || verdict == CONFIG_CHECK)
        verdict = apply_all(config, &line, error);
    make_one_line(*error);
    free(line.given);
    return verdict;
}
