/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/version.h"

#include <string.h>

static enum version_result refuse(struct version_line *out, const char *problem)
{
    out->problem = problem;
    return VERSION_REFUSED;
}

/* Could `input` still become, or is it, a line that starts like this? */
static bool starts_like(struct bytes input, const char *prefix)
{
    size_t len = strlen(prefix);

    return memcmp(input.data, prefix, input.len < len ? input.len : len) == 0;
}

/* It becomes part of log lines and of questions to the policy: text only. */
static bool is_printable(struct bytes line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.data[i] < 0x20 || line.data[i] == 0x7f)
            return false;
    return text_is_clean(line);
}

static void take_line(struct bytes input, const uint8_t *end, struct version_line *out)
{
    out->consumed = (size_t)(end - input.data) + 1;
    out->line = bytes_of(input.data, out->consumed - 1);
    if (out->line.len > 0 && out->line.data[out->line.len - 1] == '\r')
        out->line.len--;
}

enum version_result version_parse(struct bytes input, struct version_line *out)
{
    size_t seen = input.len < VERSION_LINE_MAX ? input.len : VERSION_LINE_MAX;
    const uint8_t *end;

    *out = (struct version_line){0};
    if (input.len == 0)
        return VERSION_INCOMPLETE;
    /* "1.99" is a client that can also speak SSH 1 (RFC 4253 section 5.1). */
    if (!starts_like(input, "SSH-2.0-") && !starts_like(input, "SSH-1.99-"))
        return refuse(out, starts_like(input, "SSH-") ? "SSH protocol 2.0 is required"
                                                      : "this is an SSH server");
    end = memchr(input.data, '\n', seen);
    if (memchr(input.data, '\0', end ? (size_t)(end - input.data) : seen) != NULL)
        return refuse(out, "NUL in the version line");
    if (end == NULL)
        return input.len < VERSION_LINE_MAX ? VERSION_INCOMPLETE
                                            : refuse(out, "version line longer than 255 bytes");
    take_line(input, end, out);
    if (out->line.len < strlen("SSH-2.0-x") || !is_printable(out->line))
        return refuse(out, "malformed version line");
    return VERSION_OK;
}

enum version_result version_parse_server(struct bytes input, struct version_line *out)
{
    size_t seen = input.len < VERSION_OTHER_LINE_MAX ? input.len : VERSION_OTHER_LINE_MAX;
    const uint8_t *end;

    *out = (struct version_line){0};
    if (input.len == 0)
        return VERSION_INCOMPLETE;
    if (starts_like(input, "SSH-"))
        return version_parse(input, out);
    end = memchr(input.data, '\n', seen);
    if (memchr(input.data, '\0', end ? (size_t)(end - input.data) : seen) != NULL ||
        (end == NULL && seen == VERSION_OTHER_LINE_MAX))
        return refuse(out, "this is not an SSH server");
    if (end == NULL)
        return VERSION_INCOMPLETE;
    take_line(input, end, out);
    return VERSION_OTHER_LINE;
}
