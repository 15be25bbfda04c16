/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/token.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SCHEME "Bearer "

int token_parse(const char *content, size_t size, char **ret) {
        if (size > 0 && content[size - 1] == '\n')
                size--;
        if (size < TOKEN_MIN || size > TOKEN_MAX)
                return -EINVAL;
        for (size_t i = 0; i < size; i++)
                if (content[i] <= ' ' || content[i] > '~')
                        return -EINVAL;
        *ret = strndup(content, size);
        return *ret ? 0 : -ENOMEM;
}

/* Walks over all of GIVEN whatever it finds; GIVEN's own length is no secret. */
bool token_matches(const char *token, const char *given, size_t given_size) {
        size_t token_size = strlen(token);
        unsigned bits = token_size != given_size;
        for (size_t i = 0; i < given_size; i++)
                bits |= (unsigned char) given[i] ^ (unsigned char) token[i % token_size];
        return bits == 0;
}

int token_check(const char *token, const char *authorization, Problem *reterr_problem) {
        if (!authorization)
                return problem_set(reterr_problem, 401, NULL, "a bearer token is required");
        bool is_bearer = strncasecmp(authorization, SCHEME, strlen(SCHEME)) == 0;
        const char *given = authorization + (is_bearer ? strlen(SCHEME) : 0);
        if (!is_bearer || !token_matches(token, given, strlen(given)))
                return problem_set(reterr_problem, 401, NULL, "the bearer token is not accepted");
        return 0;
}
