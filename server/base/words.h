/*
 * Lines and words of the text files that OpenSSH defines (authorized_keys, known_hosts, lists of
 * revoked keys), and the patterns that stand in them. Views of the text; nothing is copied.
 */
#ifndef PARLEY_BASE_WORDS_H
#define PARLEY_BASE_WORDS_H

#include "base/bytes.h"

/* Takes the first line off the text: without its newline and the CR before it. */
struct bytes line_take(struct bytes *text);
/* Without the blanks and tabs that it begins with. */
struct bytes blanks_skip(struct bytes text);
/* Takes the first word and the blanks around it off the line; empty at its end. */
struct bytes word_take(struct bytes *line);
/* Takes the first item of a list off it, and the comma behind that. *more: there was a comma, so
 * another item follows, perhaps an empty one. */
struct bytes item_take(struct bytes *list, bool *more);
/* Is `name` one of the list's items, as it stands? */
bool list_has(struct bytes list, struct bytes name);

/* '?' stands for one byte, '*' for any number; upper and lower case of ASCII are the same. All of
 * the text must match. In time at most the product of both lengths. */
bool pattern_matches(struct bytes pattern, struct bytes text);

#endif
