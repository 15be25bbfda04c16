/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the fuzz targets share. Each is one function that takes any bytes and aborts when a property does
 * not hold: libFuzzer feeds it inputs of its own making, replay.c those of corpus/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/json/json.h"
#include "core/json/problem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Aborts unless CONDITION holds, whatever NDEBUG says. */
#define FUZZ_CHECK(condition) fuzz_check(condition, #condition, __FILE__, __LINE__)
void fuzz_check(bool condition, const char *expression, const char *file, int line);

/* Checks that R and PROBLEM tell of the same: no problem, or one of STATUSES (ended by 0, 503 always among
 * them) with a sentence of its own in UTF-8. */
void fuzz_check_problem(int r, const Problem *problem, const int *statuses);

/* The SIZE bytes at DATA as a string, up to the first NUL. The caller frees it. */
char *fuzz_string(const uint8_t *data, size_t size);

/* Checks that OBJECT is read back as it is written. */
void fuzz_check_round_trip(json_object *object);
