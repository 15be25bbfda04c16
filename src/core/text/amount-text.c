/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/text/amount-text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define MB_BYTES    1048576.0
#define NUMBER_SIZE 32

/* The decimal number that *s begins with, without sign or exponent; *s then is behind it. */
static int take_number(const char **s, double *ret) {
        char copy[NUMBER_SIZE];
        size_t n = strspn(*s, "0123456789.");
        if (n == 0 || n >= sizeof(copy))
                return -EINVAL;
        memcpy(copy, *s, n);
        copy[n] = 0;
        int r = text_parse_double(copy, ret);
        if (r < 0)
                return r;
        *s += n;
        return 0;
}

int amount_parse_memory_mb(const char *s, uint64_t *ret_mb) {
        static const struct {
                char letter;
                double bytes;
        } units[] = {
                { 'K', 1024.0 },
                { 'M', MB_BYTES },
                { 'G', 1024 * MB_BYTES },
                { 'T', 1024 * 1024 * MB_BYTES },
        };
        double number, bytes = -1;
        int r = take_number(&s, &number);
        if (r < 0)
                return r;
        if (!*s)
                bytes = number * MB_BYTES;
        for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
                if (*s == units[i].letter && (!s[1] || streq(s + 1, "B") || streq(s + 1, "iB")))
                        bytes = number * units[i].bytes;
        if (bytes < 0)
                return -EINVAL;
        if (bytes <= 0 || bytes > 0x1p53)
                return -ERANGE;
        *ret_mb = (uint64_t) ceil(bytes / MB_BYTES);
        return 0;
}

/* The name of a unit that *s begins with, or nothing, which are seconds. */
static int take_unit(const char **s, double *ret_seconds) {
        static const struct {
                const char *name;
                double seconds;
        } units[] = {
                { "", 1 },   { "us", 1e-6 }, { "ms", 1e-3 },  { "s", 1 },       { "sec", 1 },
                { "m", 60 }, { "min", 60 },  { "h", 3600.0 }, { "d", 86400.0 },
        };
        size_t n = strcspn(*s, " 0123456789.");
        for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
                if (strlen(units[i].name) == n && strncmp(*s, units[i].name, n) == 0) {
                        *s += n;
                        *ret_seconds = units[i].seconds;
                        return 0;
                }
        return -EINVAL;
}

int amount_parse_seconds(const char *s, double seconds_max, double *ret_seconds) {
        double sum = 0;
        do {
                double number, unit;
                int r = take_number(&s, &number);
                if (r < 0)
                        return r;
                r = take_unit(&s, &unit);
                if (r < 0)
                        return r;
                sum += number * unit;
                s += strspn(s, " ");
        } while (*s);
        if (!(sum <= seconds_max))
                return -ERANGE;
        *ret_seconds = sum;
        return 0;
}

void amount_format_bytes(uint64_t bytes, char buffer[static AMOUNT_TEXT_SIZE]) {
        static const char letters[] = "BKMGTPE";
        double number = (double) bytes;
        size_t i = 0;
        /* 1023.95 would be shown as 1024.0. */
        for (; number >= 1023.95 && letters[i + 1]; i++)
                number /= 1024;
        bool whole = i == 0 || fabs(number - round(number)) < 0.05;
        (void) snprintf(buffer, AMOUNT_TEXT_SIZE, whole ? "%.0f%c" : "%.1f%c", number, letters[i]);
}

void amount_format_span(usec_t span_usec, char buffer[static AMOUNT_TEXT_SIZE]) {
        uint64_t seconds = span_usec / USEC_PER_SEC;
        if (span_usec == USEC_INFINITY)
                (void) snprintf(buffer, AMOUNT_TEXT_SIZE, "-");
        else if (seconds == 0)
                (void) snprintf(buffer, AMOUNT_TEXT_SIZE, "%" PRIu64 "ms", span_usec / USEC_PER_MSEC);
        else if (seconds < 60)
                (void) snprintf(buffer,
                                AMOUNT_TEXT_SIZE,
                                "%" PRIu64 ".%" PRIu64 "s",
                                seconds,
                                span_usec % USEC_PER_SEC / (100 * USEC_PER_MSEC));
        else if (seconds < 3600)
                (void) snprintf(buffer,
                                AMOUNT_TEXT_SIZE,
                                "%" PRIu64 "min %" PRIu64 "s",
                                seconds / 60,
                                seconds % 60);
        else if (seconds < 86400)
                (void) snprintf(buffer,
                                AMOUNT_TEXT_SIZE,
                                "%" PRIu64 "h %" PRIu64 "min",
                                seconds / 3600,
                                seconds / 60 % 60);
        else
                (void) snprintf(buffer,
                                AMOUNT_TEXT_SIZE,
                                "%" PRIu64 "d %" PRIu64 "h",
                                seconds / 86400,
                                seconds / 3600 % 24);
}

/* Days since 1970-01-01 of a date in the Gregorian calendar; years start in March, so that the leap day is
 * the last one. */
static int64_t days_from_date(int64_t year, int64_t month, int64_t day) {
        if (month <= 2)
                year--;
        int64_t era = year / 400, year_of_era = year % 400;
        int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
        return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

int amount_parse_rfc3339(const char *s, usec_t *ret_realtime_usec) {
        static const char form[] = "dddd-dd-ddTdd:dd:dd.ddddddZ";
        uint64_t numbers[7] = {};
        size_t n = 0;
        if (strlen(s) != strlen(form))
                return -EINVAL;
        for (size_t i = 0; form[i]; i++)
                if (form[i] == 'd') {
                        if (s[i] < '0' || s[i] > '9')
                                return -EINVAL;
                        numbers[n] = numbers[n] * 10 + (uint64_t) (s[i] - '0');
                } else {
                        if (s[i] != form[i])
                                return -EINVAL;
                        n++;
                }
        if (numbers[0] < 1970 || numbers[1] < 1 || numbers[1] > 12 || numbers[2] < 1 || numbers[2] > 31 ||
            numbers[3] > 23 || numbers[4] > 59 || numbers[5] > 60)
                return -EINVAL;
        uint64_t days = (uint64_t) days_from_date(
                        (int64_t) numbers[0], (int64_t) numbers[1], (int64_t) numbers[2]);
        uint64_t seconds = ((days * 24 + numbers[3]) * 60 + numbers[4]) * 60 + numbers[5];
        *ret_realtime_usec = seconds * USEC_PER_SEC + numbers[6];
        return 0;
}
