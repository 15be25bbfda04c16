/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

void fuzz_check(bool condition, const char *expression, const char *file, int line) {
        if (condition)
                return;

        (void) fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, expression);
        abort();
}

static bool status_is_known(int status, const int *statuses) {
        if (status == 503)
                return true;

        for (; *statuses != 0; statuses++)
                if (*statuses == status)
                        return true;

        return false;
}

void fuzz_check_problem(int r, const Problem *problem, const int *statuses) {
        if (r >= 0) {
                FUZZ_CHECK(problem->status == 0);
                return;
        }

        FUZZ_CHECK(status_is_known(problem->status, statuses));
        FUZZ_CHECK(problem->detail[0] != 0);
        FUZZ_CHECK(memchr(problem->detail, 0, sizeof(problem->detail)) != NULL);
        FUZZ_CHECK(memchr(problem->field, 0, sizeof(problem->field)) != NULL);
        FUZZ_CHECK(text_is_utf8(problem->detail, strlen(problem->detail)));
        FUZZ_CHECK(text_is_utf8(problem->field, strlen(problem->field)));
        FUZZ_CHECK(problem->field[0] == 0 || problem->field[0] == '/');
}

char *fuzz_string(const uint8_t *data, size_t size) {
        char *s = malloc(size + 1);

        if (!s)
                abort();
        if (size > 0)
                memcpy(s, data, size);
        s[size] = 0;
        return s;
}

void fuzz_check_round_trip(json_object *object) {
        _cleanup_(json_putp) json_object *again = NULL;
        _cleanup_(freep) char *text = NULL, *text_again = NULL;
        Problem problem = {};
        size_t size;

        FUZZ_CHECK(json_format(object, &text, &size) == 0);
        FUZZ_CHECK(strlen(text) == size);
        FUZZ_CHECK(json_parse(text, size, &again, &problem) == 0);
        FUZZ_CHECK(json_object_equal(object, again));
        FUZZ_CHECK(json_format(again, &text_again, NULL) == 0);
        FUZZ_CHECK(streq(text, text_again));
}
