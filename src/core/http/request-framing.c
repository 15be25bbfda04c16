/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/request-framing.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"

static const char *const single_names[_FRAMING_SINGLE_MAX] = {
        [FRAMING_AUTHORIZATION] = "Authorization",
        [FRAMING_CONTENT_ENCODING] = "Content-Encoding",
        [FRAMING_CONTENT_LENGTH] = "Content-Length",
        [FRAMING_CONTENT_RANGE] = "Content-Range",
        [FRAMING_CONTENT_TYPE] = "Content-Type",
        [FRAMING_COOKIE] = "Cookie",
        [FRAMING_EXPECT] = "Expect",
        [FRAMING_HOST] = "Host",
        [FRAMING_LEASE] = "Daggyr-Lease",
        [FRAMING_ORIGIN] = "Origin",
        [FRAMING_SEC_FETCH_SITE] = "Sec-Fetch-Site",
        [FRAMING_TRANSFER_ENCODING] = "Transfer-Encoding",
};

static bool text_is(const char *text, size_t size, const char *other) {
        return size == strlen(other) && strncasecmp(text, other, size) == 0;
}

static FramingSingle single_of(const char *name, size_t size) {
        FramingSingle i = 0;
        while (i < _FRAMING_SINGLE_MAX && !text_is(name, size, single_names[i]))
                i++;
        return i;
}

static bool is_token(const char *name, size_t size) {
        for (size_t i = 0; i < size; i++) {
                char c = name[i];
                bool is_alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
                if (!is_alnum && (c == 0 || !strchr("!#$%&'*+-.^_`|~", c)))
                        return false;
        }
        return size > 0;
}

static bool is_value(const char *value, size_t size) {
        for (size_t i = 0; i < size; i++) {
                unsigned char c = (unsigned char) value[i];
                if ((c < ' ' && c != '\t') || c == 0x7f)
                        return false;
        }
        return true;
}

static bool is_number(const char *value, size_t size) {
        uint64_t number;
        char digits[24];
        if (size == 0 || size >= sizeof(digits))
                return false;
        for (size_t i = 0; i < size; i++)
                if (value[i] < '0' || value[i] > '9')
                        return false;
        memcpy(digits, value, size);
        digits[size] = 0;
        return text_parse_u64(digits, 0, UINT64_MAX, &number) >= 0;
}

static void check_single(
                FramingSingle name,
                bool seen_before,
                const char *value,
                size_t size,
                Problem *problem) {
        if (seen_before)
                (void) problem_set(problem, 400, NULL, "there are two %s headers", single_names[name]);
        else if (name == FRAMING_CONTENT_LENGTH && !is_number(value, size))
                (void) problem_set(problem, 400, NULL, "the Content-Length is no number");
        else if (name == FRAMING_TRANSFER_ENCODING && !text_is(value, size, "chunked"))
                (void) problem_set(problem, 400, NULL, "the only Transfer-Encoding known is chunked");
        else if (name == FRAMING_EXPECT && !text_is(value, size, "100-continue"))
                (void) problem_set(problem, 417, NULL, "nothing but 100-continue can be expected");
}

void framing_add(Framing *framing, const char *name, size_t name_size, const char *value, size_t value_size) {
        assert(framing);
        if (framing->problem.status != 0)
                return;
        if (++framing->n_fields > FRAMING_FIELDS_MAX)
                (void) problem_set(
                                &framing->problem,
                                431,
                                NULL,
                                "there are more than %d headers",
                                FRAMING_FIELDS_MAX);
        else if (!is_token(name, name_size))
                (void) problem_set(&framing->problem, 400, NULL, "a header's name is malformed");
        else if (!is_value(value, value_size))
                (void) problem_set(
                                &framing->problem,
                                400,
                                NULL,
                                "a header's value has control characters in it");
        if (framing->problem.status != 0)
                return;

        FramingSingle single = single_of(name, name_size);
        if (single >= _FRAMING_SINGLE_MAX)
                return;
        check_single(single, framing->seen[single], value, value_size, &framing->problem);
        framing->seen[single] = true;
}

int framing_check(const Framing *framing, bool http_1_0, Problem *reterr_problem) {
        assert(framing);
        assert(reterr_problem);
        if (framing->problem.status != 0)
                return problem_set(
                                reterr_problem, framing->problem.status, NULL, "%s", framing->problem.detail);
        if (!framing->seen[FRAMING_HOST] && !http_1_0)
                return problem_set(reterr_problem, 400, NULL, "the request has no Host header");
        if (!framing->seen[FRAMING_TRANSFER_ENCODING])
                return 0;
        if (framing->seen[FRAMING_CONTENT_LENGTH])
                return problem_set(
                                reterr_problem,
                                400,
                                NULL,
                                "there are both a Content-Length and a Transfer-Encoding");
        if (http_1_0)
                return problem_set(reterr_problem, 400, NULL, "HTTP/1.0 has no Transfer-Encoding");
        return 0;
}

static const char *after_scheme(const char *target) {
        static const char *const schemes[] = { "http://", "https://" };
        for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++)
                if (strncasecmp(target, schemes[i], strlen(schemes[i])) == 0)
                        return target + strlen(schemes[i]);
        return NULL;
}

int framing_check_target(
                const char *method,
                const char *target,
                const char *host,
                size_t *ret_offset,
                Problem *reterr_problem) {
        assert(method);
        assert(target);
        assert(ret_offset);
        assert(reterr_problem);
        size_t size = strlen(target);
        if (size > FRAMING_TARGET_BYTES_MAX)
                return problem_set(reterr_problem, 414, NULL, "the request's target is too long");
        for (size_t i = 0; i < size; i++)
                if ((unsigned char) target[i] <= ' ' || target[i] == 0x7f)
                        return problem_set(
                                        reterr_problem,
                                        400,
                                        NULL,
                                        "there are control characters in the target");
        bool is_server = streq(target, FRAMING_TARGET_SERVER) && streq(method, "OPTIONS");
        if (*target == '/' || is_server) {
                *ret_offset = 0;
                return 0;
        }

        const char *authority = after_scheme(target);
        if (!authority)
                return problem_set(reterr_problem, 400, NULL, "the request's target is not a path");
        size_t authority_size = strcspn(authority, "/?");
        if (!host || !text_is(authority, authority_size, host))
                return problem_set(
                                reterr_problem, 400, NULL, "the request's target and its Host header differ");
        if (authority[authority_size] == '?')
                return problem_set(reterr_problem, 400, NULL, "the request's target has no path");
        *ret_offset = (size_t) (authority + authority_size - target);
        return 0;
}
