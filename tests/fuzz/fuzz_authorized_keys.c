/* authorized_keys text. What is found in it must stand there, and fit the contract. */
#include "fuzz/feed.h"

#include "auth/authorized_keys.h"

#include <assert.h>
#include <string.h>

/* The key of the seeds. */
#define KEY "AAAAC3NzaC1lZDI1NTE5AAAAIJUpySGXH1IDqeQPUE7f/ySnYPKo9aKLnlYgW1f+ICrZ"
#define NOW UINT64_C(1700000000)

struct reports {
    size_t count, last_line;
};

static void on_report(void *arg, size_t line, const char *why)
{
    struct reports *reports = arg;

    assert(why != NULL && why[0] != '\0');
    assert(line > reports->last_line || line == 0);
    reports->last_line = line;
    reports->count++;
}

static struct bytes line_numbered(struct bytes text, size_t number)
{
    for (;;) {
        const uint8_t *newline = text.len ? memchr(text.data, '\n', text.len) : NULL;
        size_t len = newline ? (size_t)(newline - text.data) : text.len;

        if (--number == 0)
            return bytes_of(text.data, len);
        assert(newline != NULL);
        text = bytes_of(newline + 1, text.len - len - 1);
    }
}

static void check_patterns(const Policy__Patterns *list)
{
    for (size_t i = 0; list != NULL && i < list->n_patterns; i++) {
        const char *colon = strrchr(list->patterns[i], ':');

        assert(text_is_clean(bytes_of_string(list->patterns[i])));
        assert(colon != NULL && colon != list->patterns[i]);
        assert(strcmp(colon + 1, "*") == 0 || strspn(colon + 1, "0123456789") == strlen(colon + 1));
    }
}

static void check_line(struct bytes text, const struct authorized_line *line)
{
    struct bytes source = line_numbered(text, line->number);

    assert(memmem(source.data, source.len, KEY, strlen(KEY)) != NULL);
    assert(memchr(source.data, '\0', source.len) == NULL);
    assert(line->expires_at == 0 || line->expires_at > NOW);
    assert(line->tunnel < 0 || line->restrictions->no_tunnel);
    check_patterns(line->restrictions->permit_open);
    check_patterns(line->restrictions->permit_listen);
    for (size_t i = 0; i < line->restrictions->n_environment; i++)
        assert(line->restrictions->environment[i]->name.len > 0);
    if (line->principals != NULL)
        for (size_t i = 0; i < line->principals->n_patterns; i++)
            assert(authorized_line_names(line, bytes_of_string(line->principals->patterns[i])));
    assert(!authorized_line_names(line, bytes_of(NULL, 0)));
}

static size_t check_all(struct bytes text, const struct authorized_keys *keys,
                        struct authorized_query *query)
{
    struct authorized_line *line;
    size_t cursor = 0, last = 0, found = 0;

    while ((line = authorized_keys_find(keys, query, &cursor)) != NULL) {
        assert(line->number > last);
        last = line->number;
        check_line(text, line);
        authorized_line_free(&line);
        found++;
    }
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char *const peers[] = {"192.0.2.7", "2001:db8::7", ""};
    struct bytes text = bytes_of(data, len);
    struct reports reports = {0};
    struct authorized_keys *keys = authorized_keys_parse(text, on_report, &reports);
    struct buf blob = {0};

    assert(reports.count <= AUTHORIZED_KEYS_MAX_REPORTS);
    assert(buf_put_base64(&blob, BYTES(KEY)));
    for (size_t i = 0; i < sizeof(peers) / sizeof(peers[0]); i++) {
        struct authorized_query query = {.blob = buf_bytes(&blob), .peer_ip = peers[i], .now = NOW};
        size_t found = check_all(text, keys, &query);

        query.cert_authority = true;
        found += check_all(text, keys, &query);
        assert(found <= authorized_keys_count(keys));
    }
    buf_clear(&blob);
    authorized_keys_free(&keys);
    return 0;
}
