/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The bearer token that clients over TCP show (RFC 6750). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/json/problem.h"

#define TOKEN_MIN 16
#define TOKEN_MAX 1024

/* The token in the SIZE bytes of a token file: one line of TOKEN_MIN…TOKEN_MAX visible ASCII characters, one
 * line break at its end allowed. -EINVAL otherwise. The caller frees *ret. */
int token_parse(const char *content, size_t size, char **ret);

/* 401 unless AUTHORIZATION, the header's value or NULL, is "Bearer " and TOKEN. The time it takes tells
 * nothing of how much of it was right. */
int token_check(const char *token, const char *authorization, Problem *reterr_problem);

/* Whether the GIVEN_SIZE bytes at GIVEN are TOKEN, which is not empty, told in a time that depends on
 * GIVEN_SIZE alone. */
bool token_matches(const char *token, const char *given, size_t given_size);
