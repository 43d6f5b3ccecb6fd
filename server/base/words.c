#include "base/words.h"

#include <string.h>

/* ---- lines and words */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static struct bytes skip(struct bytes text, size_t len)
{
    return len == 0 ? text : bytes_of(text.data + len, text.len - len);
}

/* What stands before the first such byte, or all of the text, is taken off it, and that byte too.
 */
static struct bytes take_until(struct bytes *text, uint8_t end, bool *found)
{
    const uint8_t *at = text->len ? memchr(text->data, end, text->len) : NULL;
    struct bytes taken = bytes_of(text->data, at ? (size_t)(at - text->data) : text->len);

    *found = at != NULL;
    *text = skip(*text, taken.len + (at != NULL));
    return taken;
}

struct bytes line_take(struct bytes *text)
{
    bool found;
    struct bytes line = take_until(text, '\n', &found);

    if (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    return line;
}

struct bytes item_take(struct bytes *list, bool *more)
{
    return take_until(list, ',', more);
}

bool list_has(struct bytes list, struct bytes name)
{
    bool more;

    do {
        if (bytes_equal(item_take(&list, &more), name))
            return true;
    } while (more);
    return false;
}

struct bytes blanks_skip(struct bytes text)
{
    size_t len = 0;

    while (len < text.len && is_blank(text.data[len]))
        len++;
    return skip(text, len);
}

struct bytes word_take(struct bytes *line)
{
    struct bytes rest = blanks_skip(*line);
    struct bytes word = bytes_of(rest.data, 0);

    while (word.len < rest.len && !is_blank(rest.data[word.len]))
        word.len++;
    *line = blanks_skip(skip(rest, word.len));
    return word;
}

/* ---- patterns */

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

/* Iterative, with one point to come back to: the last star. */
bool pattern_matches(struct bytes pattern, struct bytes text)
{
    size_t at = 0, done = 0, star = SIZE_MAX, resume = 0;

    while (done < text.len) {
        uint8_t wanted = at < pattern.len ? pattern.data[at] : '\0';

        if (at < pattern.len && wanted == '*') {
            star = at++;
            resume = done;
        } else if (at < pattern.len && (wanted == '?' || lower(wanted) == lower(text.data[done]))) {
            at++;
            done++;
        } else if (star != SIZE_MAX) {
            at = star + 1;
            done = ++resume;
        } else {
            return false;
        }
    }
    while (at < pattern.len && pattern.data[at] == '*')
        at++;
    return at == pattern.len;
}
