/* expiry-time="..." of authorized_keys. */
#include "auth/key_options.h"

#include <strings.h>
#include <time.h>

/* Two digits, or four; -1 if one is none. */
static int number(const uint8_t *digits, size_t count)
{
    int value = 0;

    for (size_t i = 0; i < count; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return -1;
        value = value * 10 + (digits[i] - '0');
    }
    return value;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return month == 2 && leap ? 29 : days[month - 1];
}

static bool has_suffix(struct bytes text, const char *suffix, size_t len)
{
    return text.len >= len &&
           strncasecmp((const char *)text.data + text.len - len, suffix, len) == 0;
}

static bool strip_utc(struct bytes *text)
{
    size_t len = has_suffix(*text, "Z", 1) ? 1 : has_suffix(*text, "UTC", 3) ? 3 : 0;

    text->len -= len;
    return len > 0;
}

/* As mktime() does, which looks at the file of the time zone again for each line of a long text. In
 * the hours that a clock's change skips or repeats either side may be meant. */
static time_t local_to_utc(time_t local)
{
    time_t when = local;

    for (int i = 0; i < 2; i++) {
        struct tm there;

        if (localtime_r(&when, &there) == NULL)
            return 0;
        when = local - there.tm_gmtoff;
    }
    return when;
}

bool expiry_parse(struct bytes text, uint64_t *seconds_since_1970)
{
    bool utc = strip_utc(&text);
    int year, month, day, hour = 0, minute = 0, second = 0;
    struct tm tm;
    time_t when;

    if (text.len != 8 && text.len != 12 && text.len != 14)
        return false;
    year = number(text.data, 4);
    month = number(text.data + 4, 2);
    day = number(text.data + 6, 2);
    if (text.len >= 12) {
        hour = number(text.data + 8, 2);
        minute = number(text.data + 10, 2);
    }
    if (text.len == 14)
        second = number(text.data + 12, 2);
    if (year < 0 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) ||
        hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return false;
    tm = (struct tm){.tm_year = year - 1900,
                     .tm_mon = month - 1,
                     .tm_mday = day,
                     .tm_hour = hour,
                     .tm_min = minute,
                     .tm_sec = second};
    when = timegm(&tm);
    if (!utc)
        when = local_to_utc(when);
    if (when <= 0) /* 0 would say "never", and what is before 1970 was not meant */
        return false;
    *seconds_since_1970 = (uint64_t)when;
    return true;
}
