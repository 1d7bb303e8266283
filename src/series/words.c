/* SPDX-License-Identifier: Apache-2.0 */
#include "series/words.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"

static const int64_t last_ms = INT64_C(253402300799999); /* 9999-12-31T23:59:59.999Z */

bool as_is_line(const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        uint32_t character;
        size_t length = as_utf8_decode(text, left, &character);
        if (length == 0 || character < 0x20 || (character >= 0x7f && character < 0xa0)) {
            return false;
        }
        text += length;
        left -= length;
    }
    return true;
}

void as_stamp_write(int64_t time_ms, char out[AS_STAMP_SIZE])
{
    int64_t ms = time_ms < 0 ? 0 : time_ms > last_ms ? last_ms : time_ms;
    time_t seconds = (time_t)(ms / 1000);
    struct tm parts;
    char text[AS_STAMP_SIZE];
    (void)gmtime_r(&seconds, &parts);
    (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    (void)snprintf(out, AS_STAMP_SIZE, "%.19s.%03dZ", text, (int)(ms % 1000));
}

/* `count` digits; −1: they are none. */
static int number_at(const char *text, int count)
{
    int value = 0;
    for (int i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -1;
        }
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

/* ".123456Z" or "Z": milliseconds, −1: neither. */
static int read_fraction(const char *text)
{
    int ms = 0;
    if (*text == '.') {
        int digits = 0;
        int weight = 100;
        for (text++; *text >= '0' && *text <= '9' && digits < 9; text++, digits++) {
            ms += (*text - '0') * weight;
            weight /= 10;
        }
        if (digits == 0) {
            return -1;
        }
    }
    return strcmp(text, "Z") == 0 ? ms : -1;
}

bool as_stamp_read(const char *text, int64_t *time_ms)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd";
    for (size_t i = 0; i < sizeof form - 1; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        if (form[i] == 'd' ? !digit : text[i] != form[i]) {
            return false;
        }
    }
    struct tm parts = {.tm_year = number_at(text, 4) - 1900,
                       .tm_mon = number_at(text + 5, 2) - 1,
                       .tm_mday = number_at(text + 8, 2),
                       .tm_hour = number_at(text + 11, 2),
                       .tm_min = number_at(text + 14, 2),
                       .tm_sec = number_at(text + 17, 2)};
    const struct tm told = parts;
    int ms = read_fraction(text + sizeof form - 1);
    time_t seconds = timegm(&parts);
    /* timegm makes the 2nd of March of the 30th of February. */
    bool same = parts.tm_year == told.tm_year && parts.tm_mon == told.tm_mon &&
                parts.tm_mday == told.tm_mday && parts.tm_hour == told.tm_hour &&
                parts.tm_min == told.tm_min && parts.tm_sec == told.tm_sec;
    if (ms < 0 || !same || seconds < 0) {
        return false;
    }
    *time_ms = (int64_t)seconds * 1000 + ms;
    return true;
}

int64_t as_stamp_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
