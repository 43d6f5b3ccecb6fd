/*
 * Memory. Small allocations of fixed size never fail: they end the process when memory is gone,
 * because nothing sensible can follow. What a peer may size is capped by its caller first.
 */
#ifndef PARLEY_BASE_ALLOC_H
#define PARLEY_BASE_ALLOC_H

#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t size);
void *xmemdup(const void *data, size_t len);
char *xstrdup(const char *text);
char *xstrndup(const char *text, size_t len); /* stops at a NUL as well */
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Zeroes and frees a string that may be a secret; NULL is fine. */
void secret_free(char *text);

#endif
