/* From the policy's answer to a plan: nothing of it comes from the client, unless the answer says
 * so (channel.proto, ProcessEndpoint). */
#include "endpoints/process.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VARIABLES_MAX 1024 /* of an answer */

static bool holds(ProtobufCBinaryData data, char c)
{
    return data.len > 0 && memchr(data.data, c, data.len) != NULL;
}

static bool is_sane(const Policy__EnvVar *variable)
{
    return variable->name.len > 0 && !holds(variable->name, '=') && !holds(variable->name, '\0') &&
           !holds(variable->value, '\0');
}

bool endpoint_process_check(const Policy__ProcessEndpoint *answer, const char **why)
{
    if (answer->n_argv == 0 || answer->argv[0].len == 0) {
        *why = "no program was named to run";
        return false;
    }
    if (answer->user[0] == '\0' && geteuid() == 0) {
        *why = "this server runs no program as root unless the policy names the user";
        return false;
    }
    *why = "the program to run is not well-formed";
    for (size_t i = 0; i < answer->n_argv; i++)
        if (holds(answer->argv[i], '\0'))
            return false;
    if (holds(answer->directory, '\0') || answer->n_environment > VARIABLES_MAX)
        return false;
    for (size_t i = 0; i < answer->n_environment; i++)
        if (!is_sane(answer->environment[i]))
            return false;
    return true;
}

/* ---- the environment: the first to set a name has it */

struct variables {
    char **list;
    size_t count;
};

static bool is_set(const struct variables *variables, struct bytes name)
{
    for (size_t i = 0; i < variables->count; i++)
        if (strncmp(variables->list[i], (const char *)name.data, name.len) == 0 &&
            variables->list[i][name.len] == '=')
            return true;
    return false;
}

static void add(struct variables *variables, struct bytes name, struct bytes value)
{
    if (is_set(variables, name))
        return;
    variables->list = xrealloc(variables->list, (variables->count + 2) * sizeof(char *));
    variables->list[variables->count++] =
        xasprintf("%.*s=%.*s", (int)name.len, (const char *)name.data, (int)value.len,
                  value.len > 0 ? (const char *)value.data : "");
    variables->list[variables->count] = NULL;
}

static void add_all(struct variables *variables, Policy__EnvVar *const *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (is_sane(from[i]))
            add(variables, bytes_of(from[i]->name.data, from[i]->name.len),
                bytes_of(from[i]->value.data, from[i]->value.len));
}

static char **environment_of(const Policy__ProcessEndpoint *answer,
                             const Policy__SessionStart *session, Policy__EnvVar *const *provided,
                             size_t provided_count)
{
    struct variables variables = {.list = xcalloc(1, sizeof(char *))};

    add_all(&variables, answer->environment, answer->n_environment);
    add_all(&variables, provided, provided_count);
    if (answer->keep_environment && session->pty != NULL && session->pty->term[0] != '\0')
        add(&variables, BYTES("TERM"), bytes_of_string(session->pty->term));
    if (answer->keep_environment)
        add_all(&variables, session->environment, session->n_environment);
    return variables.list;
}

/* ---- the plan */

static char *string_of(ProtobufCBinaryData data)
{
    return bytes_to_string(bytes_of(data.data, data.len));
}

void process_plan(struct plan *plan, const Policy__ProcessEndpoint *answer,
                  const Policy__SessionStart *session, Policy__EnvVar *const *provided,
                  size_t provided_count)
{
    *plan = (struct plan){
        .argv = xcalloc(answer->n_argv + 1, sizeof(char *)),
        .environment = environment_of(answer, session, provided, provided_count),
        .directory = string_of(answer->directory),
        .user = xstrdup(answer->user),
        .groups = xcalloc(answer->n_groups + 1, sizeof(char *)),
        .max_processes = answer->max_processes,
        .max_memory_bytes = answer->max_memory_bytes,
        .has_terminal = session->pty != NULL,
        .parent = (uint32_t)getpid(),
    };
    for (size_t i = 0; i < answer->n_argv; i++)
        plan->argv[i] = string_of(answer->argv[i]);
    for (size_t i = 0; i < answer->n_groups; i++)
        plan->groups[i] = xstrdup(answer->groups[i]);
}
