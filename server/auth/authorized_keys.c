/*
 * Lines are read twice: once to find the bad ones and to note where the good ones are, and again
 * when a key is offered that a line holds. So a long text costs little more than itself.
 */
#include "auth/authorized_keys.h"

#include "auth/key_options.h"
#include "base/alloc.h"
#include "base/words.h"
#include "transport/transport.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    uint64_t hash; /* of the key's blob */
    uint32_t offset, len, number;
    bool cert_authority;
};

struct authorized_keys {
    struct buf text;
    struct entry *entries;
    size_t count, cap;
};

/* ---- one line */

struct parsed {
    struct key_options options;
    struct buf blob;
};

/* What follows it is a comment. */
static bool read_key(struct bytes text, struct buf *blob)
{
    return public_key_take_text(&text, blob) && public_key_type_of(buf_bytes(blob)) != NULL;
}

static bool starts_with(struct bytes text, const char *prefix)
{
    return text.len >= strlen(prefix) && memcmp(text.data, prefix, strlen(prefix)) == 0;
}

/* No option begins like a key's type; this only chooses the words. */
static const char *key_problem(struct bytes text)
{
    if (starts_with(text, "ssh-") || starts_with(text, "ecdsa-") || starts_with(text, "sk-"))
        return "the key is malformed, or of a type that is not accepted";
    return "no key";
}

static const char *parse_line(struct bytes line, struct parsed *out)
{
    const char *why;

    if (memchr(line.data, '\0', line.len) != NULL)
        return "a NUL byte";
    key_options_init(&out->options);
    if (read_key(line, &out->blob))
        return NULL;
    why = key_options_parse(&out->options, &line);
    if (why == NULL && !read_key(blanks_skip(line), &out->blob))
        why = key_problem(blanks_skip(line));
    return why;
}

static void parsed_clear(struct parsed *parsed)
{
    key_options_clear(&parsed->options);
    buf_clear(&parsed->blob);
}

/* ---- all of them */

struct parser {
    struct authorized_keys *keys;
    authorized_keys_report *report;
    void *arg;
    size_t reports;
};

/* The text is not ours: it must not fill the log. */
static void complain(struct parser *parser, size_t number, const char *why)
{
    if (parser->report == NULL || parser->reports == AUTHORIZED_KEYS_MAX_REPORTS)
        return;
    if (++parser->reports == AUTHORIZED_KEYS_MAX_REPORTS) {
        number = 0;
        why = "more lines than these accept nothing";
    }
    parser->report(parser->arg, number, why);
}

/* FNV-1a. Two blobs with one hash cost a second look, no more. */
static uint64_t hash_of(struct bytes blob)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < blob.len; i++)
        hash = (hash ^ blob.data[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static struct bytes text_of(const struct authorized_keys *keys, const struct entry *entry)
{
    return bytes_of(keys->text.data + entry->offset, entry->len);
}

static void keep(struct parser *parser, struct bytes line, size_t number,
                 const struct parsed *parsed)
{
    struct authorized_keys *keys = parser->keys;

    if (keys->count == keys->cap) {
        keys->cap = keys->cap ? 2 * keys->cap : 8;
        keys->entries = xrealloc(keys->entries, keys->cap * sizeof(*keys->entries));
    }
    keys->entries[keys->count++] = (struct entry){
        .hash = hash_of(buf_bytes(&parsed->blob)),
        .offset = (uint32_t)(line.data - keys->text.data),
        .len = (uint32_t)line.len,
        .number = (uint32_t)number,
        .cert_authority = parsed->options.cert_authority,
    };
}

static void take_line(struct parser *parser, struct bytes line, size_t number,
                      struct parsed *scratch)
{
    const char *why;

    line = blanks_skip(line);
    if (line.len == 0 || line.data[0] == '#')
        return;
    why = parse_line(line, scratch);
    if (why == NULL)
        keep(parser, line, number, scratch);
    else
        complain(parser, number, why);
}

static void take_lines(struct parser *parser, struct bytes text)
{
    for (size_t number = 1; text.len > 0; number++) {
        struct parsed scratch = {0};

        take_line(parser, line_take(&text), number, &scratch);
        parsed_clear(&scratch);
    }
}

struct authorized_keys *authorized_keys_parse(struct bytes text, authorized_keys_report *report,
                                              void *arg)
{
    struct parser parser = {.keys = xcalloc(1, sizeof(*parser.keys)), .report = report, .arg = arg};

    if (text.len > AUTHORIZED_KEYS_MAX_BYTES) {
        complain(&parser, 0, "the text is too long");
        return parser.keys;
    }
    buf_put(&parser.keys->text, text);
    take_lines(&parser, buf_bytes(&parser.keys->text));
    return parser.keys;
}

void authorized_keys_free(struct authorized_keys **where)
{
    struct authorized_keys *keys = *where;

    *where = NULL;
    if (keys == NULL)
        return;
    buf_clear(&keys->text);
    free(keys->entries);
    free(keys);
}

size_t authorized_keys_count(const struct authorized_keys *keys)
{
    return keys->count;
}

/* ---- asking */

static bool fits(const struct parsed *parsed, const struct authorized_query *query)
{
    const struct key_options *options = &parsed->options;

    if (!bytes_equal(buf_bytes(&parsed->blob), query->blob))
        return false;
    if (options->expires_at != 0 && query->now >= options->expires_at)
        return false;
    return !options->has_from || sources_match(buf_bytes(&options->from), query->peer_ip);
}

static struct authorized_line *line_of(struct parsed *parsed, size_t number)
{
    struct authorized_line *line = xcalloc(1, sizeof(*line));

    line->number = number;
    line->expires_at = parsed->options.expires_at;
    line->tunnel = parsed->options.tunnel;
    line->restrictions = parsed->options.restrictions;
    line->principals = parsed->options.principals;
    parsed->options.restrictions = NULL;
    parsed->options.principals = NULL;
    return line;
}

struct authorized_line *authorized_keys_find(const struct authorized_keys *keys,
                                             const struct authorized_query *query, size_t *cursor)
{
    uint64_t hash = hash_of(query->blob);
    struct authorized_line *line = NULL;

    while (line == NULL && *cursor < keys->count) {
        const struct entry *entry = &keys->entries[(*cursor)++];
        struct parsed parsed = {0};

        if (entry->hash != hash || entry->cert_authority != query->cert_authority)
            continue;
        if (parse_line(text_of(keys, entry), &parsed) == NULL && fits(&parsed, query))
            line = line_of(&parsed, entry->number);
        parsed_clear(&parsed);
    }
    return line;
}

void authorized_line_free(struct authorized_line **where)
{
    struct authorized_line *line = *where;

    *where = NULL;
    if (line == NULL)
        return;
    policy__restrictions__free_unpacked(line->restrictions, NULL);
    policy__patterns__free_unpacked(line->principals, NULL);
    free(line);
}

bool authorized_line_names(const struct authorized_line *line, struct bytes principal)
{
    if (line->principals == NULL)
        return false;
    for (size_t i = 0; i < line->principals->n_patterns; i++)
        if (bytes_are(principal, line->principals->patterns[i]))
            return true;
    return false;
}
