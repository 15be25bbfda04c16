/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"

#include <inttypes.h>
#include <string.h>

#include "base/text.h"

void check_true_at(const char *label, bool condition, const char *expression, const char *file, int line) {
        if (condition)
                return;
        print_error("%s: not true: %s\n", label, expression);
        _fail(file, line);
}

void check_int_at(
                const char *label,
                intmax_t got,
                intmax_t want,
                const char *expression,
                const char *file,
                int line) {
        if (got == want)
                return;
        print_error("%s: %s is %jd, not %jd\n", label, expression, got, want);
        _fail(file, line);
}

void check_u64_at(
                const char *label,
                uint64_t got,
                uint64_t want,
                const char *expression,
                const char *file,
                int line) {
        if (got == want)
                return;
        print_error("%s: %s is %" PRIu64 ", not %" PRIu64 "\n", label, expression, got, want);
        _fail(file, line);
}

void check_text_at(
                const char *label,
                const char *got,
                const char *want,
                const char *expression,
                const char *file,
                int line) {
        if (streq_null(got, want))
                return;
        print_error("%s: %s is '%s', not '%s'\n", label, expression, got ?: "(null)", want ?: "(null)");
        _fail(file, line);
}

void check_problem_at(
                const char *label,
                const Problem *problem,
                int status,
                const char *field,
                const char *file,
                int line) {
        check_int_at(label, problem->status, status, "status", file, line);
        check_text_at(label, problem->field, field, "field", file, line);
        check_true_at(label, problem->detail[0] != '\0', "detail is not empty", file, line);
}

json_object *json_of(const char *text) {
        json_object *object = NULL;
        Problem problem = {};
        int r;

        r = json_parse(text, strlen(text), &object, &problem);
        if (r < 0)
                fail_msg("%s: %s", text, problem.detail);
        return object;
}

void check_json(const char *label, json_object *object, const char *text) {
        _cleanup_(freep) char *formatted = NULL;

        check_int(label, json_format(object, &formatted, NULL), 0);
        check_text(label, formatted, text);
}
