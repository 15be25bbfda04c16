/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Input: the content of a token file, a line with a single "=", and the value of an Authorization header. */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/http/token.h"
#include "fuzz.h"

#define SEPARATOR "\n=\n"

static void check_token(const char *token, const char *header) {
        Problem problem = {};
        _cleanup_(freep) char *good = NULL;

        int r = token_check(token, header, &problem);
        fuzz_check_problem(r, &problem, (const int[]) { 401, 0 });
        if (r >= 0)
                FUZZ_CHECK(strlen(header) > strlen(token) &&
                           streq(header + strlen(header) - strlen(token), token));

        FUZZ_CHECK(asprintf(&good, "Bearer %s", token) >= 0);
        FUZZ_CHECK(token_check(token, good, &problem) == 0);
        good[strlen(good) - 1] ^= 1;
        FUZZ_CHECK(token_check(token, good, &problem) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(freep) char *input = fuzz_string(data, size), *token = NULL;
        char *header = strstr(input, SEPARATOR);

        if (header) {
                *header = '\0';
                header += strlen(SEPARATOR);
        }
        if (token_parse(input, strlen(input), &token) < 0)
                return 0;
        FUZZ_CHECK(strlen(token) >= TOKEN_MIN && strlen(token) <= TOKEN_MAX && !strpbrk(token, " \n\t"));
        check_token(token, header);
        return 0;
}
