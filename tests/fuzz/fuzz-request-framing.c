/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Input: a request's target on the first line, then its fields, each as name:value on a line of its own; what
 * is on a line may be anything, as it is what a lenient parser lets through. */
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/http/request-framing.h"
#include "fuzz.h"

static const int framing_statuses[] = { 400, 417, 431, 0 };
static const int target_statuses[] = { 400, 414, 0 };

static void check_target(const char *target, const char *host) {
        Problem problem = {};
        size_t offset = SIZE_MAX;
        int r = framing_check_target("OPTIONS", target, host, &offset, &problem);
        fuzz_check_problem(r, &problem, target_statuses);
        if (r < 0)
                return;
        FUZZ_CHECK(offset <= strlen(target) &&
                   (target[offset] == '/' || !target[offset] || streq(target, FRAMING_TARGET_SERVER)));
        FUZZ_CHECK(strcspn(target, " \t\r\n\x7f") == strlen(target));
        FUZZ_CHECK(offset == 0 || (host && strlen(target) >= strlen("http://") + strlen(host)));
}

static void add_line(
                Framing *framing,
                const char *line,
                size_t size,
                size_t *n_lengths,
                size_t *n_encodings) {
        const char *colon = memchr(line, ':', size);
        size_t name_size = colon ? (size_t) (colon - line) : size;
        const char *value = colon ? colon + 1 : line + size;
        *n_lengths += name_size == strlen("Content-Length") &&
                        strncasecmp(line, "Content-Length", name_size) == 0;
        *n_encodings += name_size == strlen("Transfer-Encoding") &&
                        strncasecmp(line, "Transfer-Encoding", name_size) == 0;
        framing_add(framing, line, name_size, value, size - (size_t) (value - line));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(freep) char *input = fuzz_string(data, size);
        Framing framing = {};
        Problem problem = {};
        size_t n_lengths = 0, n_encodings = 0;
        const char *end = input + size, *first = memchr(input, '\n', size);

        for (const char *line = first ? first + 1 : end; line < end;) {
                const char *next = memchr(line, '\n', (size_t) (end - line));
                size_t line_size = (size_t) ((next ?: end) - line);
                add_line(&framing, line, line_size, &n_lengths, &n_encodings);
                line += line_size + 1;
        }
        int r = framing_check(&framing, false, &problem);
        fuzz_check_problem(r, &problem, framing_statuses);
        if (r >= 0)
                FUZZ_CHECK(n_lengths + n_encodings <= 1);
        if (n_encodings > 0)
                FUZZ_CHECK(framing_check(&framing, true, &problem) < 0);

        if (first)
                input[first - input] = '\0';
        check_target(input, NULL);
        check_target(input, "localhost");
        return 0;
}
