/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Input: what a browser sends as Host, Cookie and If-None-Match, a line each. */
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/http/cookie.h"
#include "core/http/static-file.h"
#include "fuzz.h"

#define TAG "\"0123abcd\""

/* The line at *REST, which moves behind it; "" behind the last one. */
static char *next_line(char **rest) {
        char *line = *rest, *end = strchr(line, '\n');
        if (end)
                *end = 0;
        *rest = end ? end + 1 : line + strlen(line);
        return line;
}

static void check_cookie(const char *host, const char *header) {
        char name[COOKIE_NAME_SIZE];
        const char *value = NULL;
        size_t size = 0;
        _cleanup_(freep) char *more = NULL;
        cookie_name("daggyd", host, name);
        FUZZ_CHECK(strspn(name, "daggy-0123456789") == strlen(name));
        if (cookie_find(header, name, &value, &size)) {
                FUZZ_CHECK(value > header && value + size <= header + strlen(header));
                FUZZ_CHECK(!memchr(value, ';', size));
        } else {
                FUZZ_CHECK(text_format(&more, "%s; %s=xyz", header, name) >= 0);
                FUZZ_CHECK(cookie_find(more, name, &value, &size) && size == 3 &&
                           memcmp(value, "xyz", 3) == 0);
        }
}

static void check_tags(const char *header) {
        _cleanup_(freep) char *more = NULL;
        if (static_file_is_known(header, TAG))
                FUZZ_CHECK(strchr(header, '*') || strstr(header, TAG));
        FUZZ_CHECK(text_format(&more, "W/" TAG ",%s", header) >= 0);
        FUZZ_CHECK(static_file_is_known(more, TAG));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(freep) char *input = fuzz_string(data, size);
        char *rest = input, *host = next_line(&rest), *cookie = next_line(&rest);
        check_cookie(host, cookie);
        check_tags(next_line(&rest));
        return 0;
}
