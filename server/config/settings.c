#include "config/settings.h"

#include "base/alloc.h"

#include <ctype.h>
#include <string.h>

#define KIB        1024ull
#define MIB        (1024 * KIB)
#define GIB        (1024 * MIB)
#define SECOND     1000ull
#define HOUR       (3600 * SECOND)
#define AT(member) offsetof(struct config, member)

/* The order is the order of --help. */
const struct setting settings[] = {
    {"listen", "listen", SETTING_LIST, AT(listen), 0, 0, "HOST:PORT",
     "accept connections there; *:PORT is every address; port 0 takes a free one"},
    {"host_keys", "host-key", SETTING_LIST, AT(host_keys), 0, 0, "FILE",
     "private host key; one for each type"},
    {"workers", "workers", SETTING_NUMBER, AT(workers), 0, 1024, "N",
     "worker threads; 0: one per core"},
    {"daemon_name", "daemon-name", SETTING_TEXT, AT(daemon_name), 1, 255, "NAME",
     "what the policy knows this daemon as; default: the host's name"},
    {"version_comment", "version-comment", SETTING_TEXT, AT(version_comment), 1, 245, "TEXT",
     "what follows SSH-2.0- in the version line"},
    {"policy.target", "policy", SETTING_TEXT, AT(policy.target), 1, 1024, "TARGET",
     "the policy: unix:/path, dns:///host:port, host:port or xds:///name"},
    {"policy.exec", "policy-exec", SETTING_COMMAND, AT(policy.exec), 1, 64 * KIB, "CMD",
     "start and supervise this policy program instead"},
    {"policy.ca", "policy-ca", SETTING_TEXT, AT(policy.ca), 1, 4095, "FILE",
     "TLS to the policy: the CA certificates to trust"},
    {"policy.cert", "policy-cert", SETTING_TEXT, AT(policy.cert), 1, 4095, "FILE",
     "mutual TLS: our certificate"},
    {"policy.key", "policy-key", SETTING_TEXT, AT(policy.key), 1, 4095, "FILE",
     "mutual TLS: its private key"},
    {"policy.insecure", "policy-insecure", SETTING_BOOL, AT(policy.insecure), 0, 1, "BOOL",
     "allow a plaintext policy beyond loopback"},
    {"policy.token_file", "policy-token-file", SETTING_TEXT, AT(policy.token_file), 1, 4095, "FILE",
     "bearer token to send with every call"},
    {"policy.targets", "stream-target", SETTING_MAP, AT(policy.targets), 1, 1024, "NAME=TARGET",
     "a target that the policy may send Channel streams to, by name"},
    {"policy.auth_deadline", "policy-auth-deadline", SETTING_DURATION, AT(policy.auth_deadline_ms),
     1, HOUR, "TIME", "an authentication question unanswered for so long is a no"},
    {"policy.deadline", "policy-deadline", SETTING_DURATION, AT(policy.deadline_ms), 1, HOUR,
     "TIME", "any other question unanswered for so long is a no"},
    {"policy.deadlines", "rpc-deadline", SETTING_DURATION_MAP, AT(policy.deadlines), 1, HOUR,
     "HANDLER=TIME", "deadline of one handler"},
    {"policy.required_handlers", "required-handler", SETTING_LIST, AT(policy.required_handlers), 0,
     0, "HANDLER", "a policy without this handler refuses, whatever its default is"},
    {"policy.stream_start", "policy-stream-start", SETTING_DURATION, AT(policy.stream_start_ms), 1,
     HOUR, "TIME", "a stream must be accepted by then"},
    {"policy.stream_stall", "policy-stream-stall", SETTING_DURATION, AT(policy.stream_stall_ms), 0,
     24 * HOUR, "TIME", "end a stream that takes nothing for so long; 0: never"},
    {"policy.queue_bytes", "policy-queue-bytes", SETTING_SIZE, AT(policy.queue_bytes), 32 * KIB,
     16 * MIB, "SIZE", "queued for each stream and direction"},
    {"policy.queue_messages", "policy-queue-messages", SETTING_NUMBER, AT(policy.queue_messages), 1,
     4096, "N", "queued for each stream and direction"},
    {"limits.login_timeout", "login-timeout", SETTING_DURATION, AT(limits.login_timeout_ms), 0,
     24 * HOUR, "TIME", "from accept to login, the policy's time included; 0: none"},
    {"limits.max_failures", "max-failures", SETTING_NUMBER, AT(limits.max_failures), 1, 1000, "N",
     "failed login attempts before we disconnect"},
    {"limits.max_requests", "max-requests", SETTING_NUMBER, AT(limits.max_requests), 1, 100000, "N",
     "login requests of any kind, and responses, before we disconnect"},
    {"limits.max_sessions", "max-sessions", SETTING_NUMBER, AT(limits.max_sessions), 0, 100000, "N",
     "open sessions of a connection"},
    {"limits.max_channels", "max-channels", SETTING_NUMBER, AT(limits.max_channels), 0, 100000, "N",
     "open channels of a connection"},
    {"limits.max_debug_messages", "max-debug-messages", SETTING_NUMBER,
     AT(limits.max_debug_messages), 0, 10000, "N", "debug messages taken before login"},
    {"limits.start_up", "start-up", SETTING_TEXT, AT(admission.start_up), 1, 64, "BEGIN:RATE:FULL",
     "from BEGIN connections that are not logged in on, refuse RATE % of new "
     "ones, all at FULL; 0: never [10:30:100]"},
    {"limits.per_source_start_up", "per-source-start-up", SETTING_NUMBER, AT(admission.per_source),
     0, 1000000, "N", "connections of one source that are not logged in; 0: any number"},
    {"limits.per_source_net_block", "per-source-net-block", SETTING_TEXT, AT(admission.net_block),
     1, 64, "V4:V6", "bits of an address that make a source [32:128]"},
    {"limits.penalties", "penalties", SETTING_BOOL, AT(admission.penalties), 0, 1, "BOOL",
     "keep sources out for a while that misbehave before login; on unless =off"},
    {"limits.penalty_times", "penalty", SETTING_DURATION_MAP, AT(admission.penalty_times), 0,
     24 * HOUR, "OFFENCE=TIME",
     "crash, authfail, invaliduser, noauth, grace-exceeded, "
     "refuseconnection; min, max"},
    {"limits.penalty_sources", "penalty-sources", SETTING_NUMBER, AT(admission.penalty_sources), 1,
     1 << 20, "N", "penalised sources to remember, of IPv4 and of IPv6"},
    {"limits.penalty_overflow", "penalty-overflow", SETTING_TEXT, AT(admission.penalty_overflow), 1,
     64, "permissive|deny-all",
     "more sources than that: forget the earliest, or refuse everybody "
     "[permissive]"},
    {"limits.penalty_exempt", "penalty-exempt", SETTING_LIST, AT(admission.penalty_exempt), 0, 0,
     "NETWORK", "ADDRESS or ADDRESS/BITS that is never penalised"},
    {"limits.keepalive_interval", "keepalive-interval", SETTING_DURATION,
     AT(limits.keepalive_interval_ms), 0, 24 * HOUR, "TIME",
     "ask a silent client for a sign of life so often, in whole seconds; 0: never"},
    {"limits.keepalive_count", "keepalive-count", SETTING_NUMBER, AT(limits.keepalive_count), 1,
     1000, "N", "unanswered keepalives before we disconnect"},
    {"limits.window", "window", SETTING_SIZE, AT(limits.window_bytes), 4 * KIB, GIB, "SIZE",
     "window that we offer for each channel"},
    {"limits.max_packet", "max-packet", SETTING_SIZE, AT(limits.max_packet_bytes), KIB, 128 * KIB,
     "SIZE", "largest packet that we offer to take"},
    {"auth.hostbased_trust_claimed_host", "hostbased-trust-claimed-host", SETTING_BOOL,
     AT(auth.hostbased_trust_claimed_host), 0, 1, "BOOL",
     "host-based login: the client's host need not be the one that its address resolves to"},
    {"auth.gssapi", "gssapi", SETTING_BOOL, AT(auth.gssapi), 0, 1, "BOOL",
     "offer gssapi-with-mic, with Kerberos 5"},
    {"auth.gssapi_keytab", "gssapi-keytab", SETTING_TEXT, AT(auth.gssapi_keytab), 1, 4095, "FILE",
     "the keytab with our host/ key; default: Kerberos's own"},
    {"auth.gssapi_hostname", "gssapi-hostname", SETTING_TEXT, AT(auth.gssapi_hostname), 1, 255,
     "NAME", "accept tickets for host/NAME; default: the host's name"},
    {"auth.gssapi_any_host", "gssapi-any-host", SETTING_BOOL, AT(auth.gssapi_any_host), 0, 1,
     "BOOL", "accept tickets for every host/ key of the keytab"},
    {"auth.gssapi_key_exchange", "gssapi-key-exchange", SETTING_BOOL, AT(auth.gssapi_key_exchange),
     0, 1, "BOOL", "offer GSSAPI key exchange as well, and gssapi-keyex after it"},
    {"forward.deny", "forward-deny", SETTING_LIST, AT(forward.deny), 0, 0, "NETWORK",
     "never connect there for a client, whatever the policy says; \"none\": no such "
     "place [169.254.0.0/16, fe80::/10, fd00:ec2::254]"},
    {"forward.connect_timeout", "connect-timeout", SETTING_DURATION, AT(forward.connect_timeout_ms),
     SECOND, HOUR, "TIME",
     "for a connection that we make for a client, the name's resolution included"},
    {"upstream.keepalive", "upstream-keepalive", SETTING_DURATION, AT(upstream.keepalive_ms), 0,
     24 * HOUR, "TIME",
     "ask a silent upstream server for a sign of life so often, three times; 0: never"},
    {"transport.kex", "kex", SETTING_TEXT, AT(transport.kex), 1, 4095, "LIST",
     "key exchange methods, comma-separated, best first"},
    {"transport.ciphers", "ciphers", SETTING_TEXT, AT(transport.ciphers), 1, 4095, "LIST",
     "ciphers"},
    {"transport.macs", "macs", SETTING_TEXT, AT(transport.macs), 1, 4095, "LIST", "MACs"},
    {"transport.host_key_algorithms", "host-key-algorithms", SETTING_TEXT,
     AT(transport.host_key_algorithms), 1, 4095, "LIST", "host key algorithms"},
    {"transport.rekey_bytes", "rekey-bytes", SETTING_SIZE, AT(transport.rekey_bytes), 64 * KIB,
     64 * GIB, "SIZE", "new keys after so much data"},
    {"transport.rekey_time", "rekey-time", SETTING_DURATION, AT(transport.rekey_ms), SECOND,
     24 * HOUR, "TIME", "new keys after so long"},
    {"transport.rekey_answer", "rekey-answer", SETTING_DURATION, AT(transport.rekey_answer_ms),
     SECOND, HOUR, "TIME", "who has not finished new keys by then is cut off"},
    {"log.format", "log-format", SETTING_LOG_FORMAT, AT(log.format), 0, 0, "text|json",
     "key=value lines, or one JSON object a line"},
    {"log.level", "log-level", SETTING_LOG_LEVEL, AT(log.level), 0, 0, "LEVEL",
     "error, warn, info or debug"},
};

_Static_assert(sizeof(settings) / sizeof(settings[0]) == SETTING_COUNT, "one row a setting");

bool setting_is_map(const struct setting *setting)
{
    return setting->kind == SETTING_MAP || setting->kind == SETTING_DURATION_MAP;
}

bool setting_is_list(const struct setting *setting)
{
    return setting->kind == SETTING_LIST || setting_is_map(setting);
}

void *setting_member(const struct setting *setting, const struct config *config)
{
    return (char *)config + setting->offset;
}

const struct setting *setting_by_path(const char *path)
{
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (strcmp(settings[i].path, path) == 0)
            return &settings[i];
    return NULL;
}

static const struct setting *setting_by_member(const struct config *config, const void *member)
{
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (setting_member(&settings[i], config) == member)
            return &settings[i];
    return NULL;
}

enum setting_source setting_source(const struct config *config, const void *member)
{
    const struct setting *setting = setting_by_member(config, member);

    return setting ? config->origins->source[setting - settings] : SOURCE_DEFAULT;
}

const char *config_where(const struct config *config, const void *member)
{
    const struct setting *setting = setting_by_member(config, member);

    if (setting == NULL)
        return "configuration";
    if (config->origins->where[setting - settings] == NULL)
        return setting->path;
    return config->origins->where[setting - settings];
}

char *setting_variable(const struct setting *setting)
{
    char *name = xasprintf("PARLEY_%s", setting->flag);

    for (char *c = name; *c != '\0'; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    return name;
}
