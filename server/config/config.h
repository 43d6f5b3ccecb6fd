/*
 * The configuration: flags, PARLEY_* environment variables and a YAML file (flag beats environment
 * beats file), parsed and checked once, at start. Plain data; the daemon maps it to each room's own
 * settings.
 */
#ifndef PARLEY_CONFIG_CONFIG_H
#define PARLEY_CONFIG_CONFIG_H

#include "base/log.h"
#include "base/network.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* One entry of a list or a map. */
struct config_item {
    char *name;      /* a map's key; NULL in a list */
    char *text;      /* as written */
    uint64_t number; /* its value, in a map of durations: milliseconds */
    char *where; /* "parleyd.yaml:12: policy.targets", "PARLEY_LISTEN", "--listen": starts an error
                    about it */
};

struct config_list {
    struct config_item *items;
    size_t count;
};

/* Who may begin to log in. */
struct config_admission {
    char *start_up, *net_block, *penalty_overflow; /* as written; NULL: the default */
    uint64_t per_source;                           /* 0: any number */
    bool penalties;
    struct config_list penalty_times;  /* offence, "min" or "max" -> milliseconds */
    uint64_t penalty_sources;          /* for each address family */
    struct config_list penalty_exempt; /* networks */

    /* What the texts mean; known once the whole is checked */
    uint32_t begin, rate, full; /* full 0: no limit */
    uint32_t v4_bits, v6_bits;
    uint64_t crash_ms, auth_fail_ms, invalid_user_ms, no_auth_ms, grace_ms,
        refused_ms; /* 0: none */
    uint64_t min_ms, max_ms;
    bool overflow_denies;
    struct network *exempt; /* as many as penalty_exempt has */
};

struct config {
    char *file; /* NULL: none was given */

    struct config_list listen;    /* HOST:PORT */
    struct config_list host_keys; /* files */
    uint64_t workers;             /* 0: one per core */
    char *daemon_name;            /* NULL: the host's name */
    char *version_comment;        /* NULL: Parley_<version> */

    struct {
        char *target, *exec; /* exactly one of them is set */
        char *ca, *cert, *key;
        bool insecure;
        char *token_file;
        char *token; /* the token file's content; a secret */
        struct config_list targets;
        uint64_t auth_deadline_ms, deadline_ms;
        struct config_list deadlines;         /* handler name -> milliseconds */
        struct config_list required_handlers; /* handler names */
        uint64_t stream_start_ms, stream_stall_ms;
        uint64_t queue_bytes, queue_messages;
    } policy;

    struct {
        uint64_t login_timeout_ms; /* 0: none */
        uint64_t max_failures, max_requests;
        uint64_t max_sessions, max_channels;
        uint64_t max_debug_messages;
        uint64_t keepalive_interval_ms, keepalive_count; /* interval 0: off */
        uint64_t window_bytes, max_packet_bytes;
    } limits;

    struct config_admission admission; /* keys of limits in the file */

    struct {
        bool hostbased_trust_claimed_host;
        bool gssapi;
        char *gssapi_keytab, *gssapi_hostname; /* NULL: Kerberos's default, the host's name */
        bool gssapi_any_host, gssapi_key_exchange;
    } auth;

    struct {
        struct config_list deny; /* NETWORK */
        struct network *denied;  /* what they mean; the default if none is set */
        size_t denied_count;
        uint64_t connect_timeout_ms;
    } forward;

    struct {
        uint64_t keepalive_ms; /* 0: off */
    } upstream;

    struct {
        char *kex, *ciphers, *macs, *host_key_algorithms; /* comma-separated; NULL: our defaults */
        uint64_t rekey_bytes, rekey_ms, rekey_answer_ms;
    } transport;

    struct {
        enum log_format format;
        enum log_level level;
    } log;

    struct config_list unknown_variables; /* PARLEY_* that are no setting: worth a warning */
    struct config_origins *origins;       /* who set what */
};

enum config_verdict {
    CONFIG_RUN,
    CONFIG_CHECK,   /* --check: as CONFIG_RUN, but nothing is to be started */
    CONFIG_HELP,    /* --help: nothing was read */
    CONFIG_VERSION, /* --version: nothing was read */
    CONFIG_USAGE,   /* a wrong flag: *error is set, exit status 2 */
    CONFIG_WRONG,   /* anything else that is wrong: *error is set, exit status 1 */
};

/* *error: one line without newline and without "parleyd: ", owned by the caller. The config is to
 * be cleared whatever the verdict is. */
enum config_verdict config_load(struct config *config, int argc, char **argv, char **error);
void config_clear(struct config *config);

/* What set this member, to start an error about it: "parleyd.yaml:7: policy.target",
 * "PARLEY_POLICY", "--policy"; its path if it is the default. */
const char *config_where(const struct config *config, const void *member);

void config_print_help(FILE *out);

#endif
