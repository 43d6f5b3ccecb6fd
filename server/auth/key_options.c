#include "auth/key_options.h"

#include "auth/authorized_keys.h"
#include "base/alloc.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ENVIRONMENT_MAX 256
#define TUNNEL_UNIT_MAX 0x7ffffffd /* OpenSSH's */

void key_options_init(struct key_options *options)
{
    *options = (struct key_options){.tunnel = TUNNEL_UNSET};
    options->restrictions = xmalloc(sizeof(*options->restrictions));
    policy__restrictions__init(options->restrictions);
}

void key_options_clear(struct key_options *options)
{
    policy__restrictions__free_unpacked(options->restrictions, NULL);
    policy__patterns__free_unpacked(options->principals, NULL);
    buf_clear(&options->from);
    *options = (struct key_options){0};
}

static ProtobufCBinaryData data_of(struct bytes b)
{
    return (ProtobufCBinaryData){.len = b.len, .data = b.len ? xmemdup(b.data, b.len) : NULL};
}

/* ---- parts */

Policy__Patterns *patterns_new(void)
{
    Policy__Patterns *list = xmalloc(sizeof(*list));

    policy__patterns__init(list);
    return list;
}

void patterns_add(Policy__Patterns *list, char *text)
{
    list->patterns = xrealloc(list->patterns, (list->n_patterns + 1) * sizeof(*list->patterns));
    list->patterns[list->n_patterns++] = text;
}

long options_number(struct bytes text, long max)
{
    long value = 0;

    if (text.len == 0 || text.len > 10)
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        if (!isdigit(text.data[i]))
            return -1;
        value = value * 10 + (text.data[i] - '0');
    }
    return value <= max ? value : -1;
}

/* ---- options with a value */

static const char *set_command(struct key_options *options, struct bytes value)
{
    Policy__Restrictions *r = options->restrictions;

    if (r->forced_case == POLICY__RESTRICTIONS__FORCED_FORCE_COMMAND)
        return "command: given twice";
    r->forced_case = POLICY__RESTRICTIONS__FORCED_FORCE_COMMAND;
    r->force_command = data_of(value);
    return NULL;
}

static const char *set_from(struct key_options *options, struct bytes value)
{
    if (options->has_from)
        return "from: given twice";
    options->has_from = true;
    buf_put(&options->from, value);
    return sources_problem(value);
}

static const char *set_principals(struct key_options *options, struct bytes value)
{
    if (options->principals != NULL)
        return "principals: given twice";
    options->principals = patterns_new();
    while (value.len > 0) {
        const uint8_t *comma = memchr(value.data, ',', value.len);
        size_t len = comma ? (size_t)(comma - value.data) : value.len;
        size_t taken = comma ? len + 1 : len;

        if (len > 0)
            patterns_add(options->principals, bytes_to_string(bytes_of(value.data, len)));
        value = bytes_of(value.data + taken, value.len - taken);
    }
    return NULL;
}

static const char *set_expiry(struct key_options *options, struct bytes value)
{
    uint64_t when;

    if (!expiry_parse(value, &when))
        return "expiry-time: not a time";
    if (options->expires_at == 0 || when < options->expires_at)
        options->expires_at = when;
    return NULL;
}

static bool is_variable_name(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!isalnum(name.data[i]) && name.data[i] != '_')
            return false;
    return name.len > 0;
}

static bool has_variable(const Policy__Restrictions *r, struct bytes name)
{
    for (size_t i = 0; i < r->n_environment; i++)
        if (bytes_equal(name, bytes_of(r->environment[i]->name.data, r->environment[i]->name.len)))
            return true;
    return false;
}

static const char *add_environment(struct key_options *options, struct bytes value)
{
    Policy__Restrictions *r = options->restrictions;
    const uint8_t *equals = value.len ? memchr(value.data, '=', value.len) : NULL;
    size_t len = equals ? (size_t)(equals - value.data) : 0;
    struct bytes name = bytes_of(value.data, len);
    Policy__EnvVar *variable;

    if (equals == NULL || !is_variable_name(name))
        return "environment: not NAME=value";
    if (has_variable(r, name)) /* the first one wins */
        return NULL;
    if (r->n_environment == ENVIRONMENT_MAX)
        return "environment: too many variables";
    variable = xmalloc(sizeof(*variable));
    policy__env_var__init(variable);
    variable->name = data_of(name);
    variable->value = data_of(bytes_of(equals + 1, value.len - len - 1));
    r->environment = xrealloc(r->environment, (r->n_environment + 1) * sizeof(*r->environment));
    r->environment[r->n_environment++] = variable;
    return NULL;
}

static const char *set_tunnel(struct key_options *options, struct bytes value)
{
    long unit = options_number(value, TUNNEL_UNIT_MAX);

    if (value.len == 3 && strncasecmp((const char *)value.data, "any", 3) == 0)
        options->tunnel = TUNNEL_ANY;
    else if (unit >= 0)
        options->tunnel = (int32_t)unit;
    else
        return "tunnel: not a unit";
    return NULL;
}

static const struct {
    const char *name;
    const char *(*set)(struct key_options *options, struct bytes value);
} valued[] = {
    {"command", set_command},
    {"environment", add_environment},
    {"expiry-time", set_expiry},
    {"from", set_from},
    {"permitlisten", permit_listen_add},
    {"permitopen", permit_open_add},
    {"principals", set_principals},
    {"tunnel", set_tunnel},
};

/* ---- options without */

#define FIELD(name) offsetof(Policy__Restrictions, name)

static const struct {
    const char *name; /* "no-" in front of it says the opposite */
    size_t field;
    bool value;
    bool restricted; /* `restrict` takes it away */
} flags[] = {
    {"agent-forwarding", FIELD(no_agent_forwarding), false, true},
    {"port-forwarding", FIELD(no_port_forwarding), false, true},
    {"pty", FIELD(no_pty), false, true},
    {"touch-required", FIELD(touch_not_required), false, false},
    {"user-rc", FIELD(no_user_rc), false, true},
    {"verify-required", FIELD(verify_required), true, false},
    {"x11-forwarding", FIELD(no_x11_forwarding), false, true},
};

static void set_flag(Policy__Restrictions *r, size_t field, bool value)
{
    *(protobuf_c_boolean *)((char *)r + field) = value;
}

/* No option gives tunnels back. */
static void restrict_all(Policy__Restrictions *r)
{
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (flags[i].restricted)
            set_flag(r, flags[i].field, !flags[i].value);
    r->no_tunnel = true;
}

static bool is_named(struct bytes text, const char *name)
{
    return text.len == strlen(name) && strncasecmp((const char *)text.data, name, text.len) == 0;
}

static const char *apply_flag(struct key_options *options, struct bytes name)
{
    bool negated = name.len > 3 && strncasecmp((const char *)name.data, "no-", 3) == 0;
    struct bytes positive = negated ? bytes_of(name.data + 3, name.len - 3) : name;

    if (is_named(name, "restrict")) {
        restrict_all(options->restrictions);
        return NULL;
    }
    if (is_named(name, "cert-authority")) {
        options->cert_authority = true;
        return NULL;
    }
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (is_named(positive, flags[i].name)) {
            set_flag(options->restrictions, flags[i].field, flags[i].value != negated);
            return NULL;
        }
    return "an unknown option";
}

/* ---- the text */

static struct bytes skip(struct bytes text, size_t count)
{
    return bytes_of(text.data + count, text.len - count);
}

/* A value in quotes, in which \" stands for a quote and every other backslash for itself. */
static const char *take_value(struct bytes *text, struct buf *value)
{
    size_t i;

    if (text->len == 0 || text->data[0] != '"')
        return "a value that does not begin with a quote";
    for (i = 1; i < text->len && text->data[i] != '"'; i++) {
        if (text->data[i] == '\\' && i + 1 < text->len && text->data[i + 1] == '"')
            i++;
        buf_put_u8(value, text->data[i]);
    }
    if (i == text->len)
        return "a quote that does not end";
    *text = skip(*text, i + 1);
    return NULL;
}

static const char *apply_value(struct key_options *options, struct bytes name, struct bytes *text)
{
    struct buf value = {0};
    const char *why = "an unknown option";

    for (size_t i = 0; i < sizeof(valued) / sizeof(valued[0]); i++) {
        if (!is_named(name, valued[i].name))
            continue;
        why = take_value(text, &value);
        if (why == NULL)
            why = valued[i].set(options, buf_bytes(&value));
        break;
    }
    buf_clear(&value);
    return why;
}

static const char *take_option(struct key_options *options, struct bytes *text)
{
    struct bytes name;
    size_t len = 0;

    while (len < text->len && strchr(",= \t\"", text->data[len]) == NULL)
        len++;
    name = bytes_of(text->data, len);
    *text = skip(*text, len);
    if (text->len > 0 && text->data[0] == '=') {
        *text = skip(*text, 1);
        return apply_value(options, name, text);
    }
    return len > 0 ? apply_flag(options, name) : NULL; /* OpenSSH lets ",," pass */
}

static bool at_end(struct bytes text)
{
    return text.len == 0 || text.data[0] == ' ' || text.data[0] == '\t';
}

const char *key_options_parse(struct key_options *options, struct bytes *text)
{
    while (!at_end(*text)) {
        const char *why = take_option(options, text);

        if (why != NULL)
            return why;
        if (at_end(*text))
            break;
        if (text->data[0] != ',')
            return "no comma after an option";
        *text = skip(*text, 1);
    }
    if (options->principals != NULL && !options->cert_authority)
        return "principals: without cert-authority";
    if (options->tunnel >= 0)
        options->restrictions->no_tunnel = true;
    return NULL;
}
