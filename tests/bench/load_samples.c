#include "load.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void reserve(struct samples *samples, size_t count)
{
    if (count <= samples->room)
        return;
    samples->room = count * 2;
    samples->values = realloc(samples->values, samples->room * sizeof(*samples->values));
    if (samples->values == NULL)
        abort();
}

void samples_add(struct samples *samples, double value)
{
    reserve(samples, samples->count + 1);
    samples->values[samples->count++] = value;
}

void samples_join(struct samples *samples, const struct samples *more)
{
    reserve(samples, samples->count + more->count);
    if (more->count > 0)
        memcpy(samples->values + samples->count, more->values,
               more->count * sizeof(*samples->values));
    samples->count += more->count;
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

double samples_at(struct samples *samples, double quantile)
{
    size_t index;

    if (samples->count == 0)
        return 0;
    qsort(samples->values, samples->count, sizeof(*samples->values), compare);
    index = (size_t)(quantile * (double)samples->count);
    return samples->values[index < samples->count ? index : samples->count - 1];
}

void samples_clear(struct samples *samples)
{
    free(samples->values);
    *samples = (struct samples){0};
}
