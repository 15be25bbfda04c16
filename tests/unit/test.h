/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What every unit test includes: cmocka behind the headers it needs, and checks that name the row of a
 * table at which they fail.
 *
 * No test calls skip(): cmocka 1.1.5 writes "not ok … # SKIP" then, which meson takes for a failure. A
 * program that cannot run at all writes "1..0 # SKIP why" and returns 0. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/json/json.h"
#include "core/json/problem.h"

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

/* for (FOREACH_ROW(row, rows)) … with row a pointer into the array rows. */
#define FOREACH_ROW(row, rows)                     \
        const __typeof__((rows)[0]) *row = (rows); \
        row < (rows) + N_ELEMENTS(rows);           \
        row++

/* Each names LABEL, what was got and what was wanted. */
#define check_true(label, condition) check_true_at(label, condition, #condition, __FILE__, __LINE__)
#define check_int(label, got, want)  check_int_at(label, got, want, #got, __FILE__, __LINE__)
#define check_u64(label, got, want)  check_u64_at(label, got, want, #got, __FILE__, __LINE__)
#define check_text(label, got, want) check_text_at(label, got, want, #got, __FILE__, __LINE__)

void check_true_at(const char *label, bool condition, const char *expression, const char *file, int line);
void check_int_at(
                const char *label,
                intmax_t got,
                intmax_t want,
                const char *expression,
                const char *file,
                int line);
void check_u64_at(
                const char *label,
                uint64_t got,
                uint64_t want,
                const char *expression,
                const char *file,
                int line);
/* NULL equals NULL only. */
void check_text_at(
                const char *label,
                const char *got,
                const char *want,
                const char *expression,
                const char *file,
                int line);

/* A problem with STATUS that blames FIELD ("" for none) and says something. */
#define check_problem(label, problem, status, field) \
        check_problem_at(label, problem, status, field, __FILE__, __LINE__)
void check_problem_at(
                const char *label,
                const Problem *problem,
                int status,
                const char *field,
                const char *file,
                int line);

/* The tree of TEXT, which must be good. The caller puts it. */
json_object *json_of(const char *text);

/* Checks that OBJECT is written as TEXT. */
void check_json(const char *label, json_object *object, const char *text);
