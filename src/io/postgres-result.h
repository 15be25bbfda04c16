/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Values of a result, of statements with texts or with bytes (PostgresStatement.binary). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "io/postgres.h"

size_t postgres_result_n_rows(const PostgresResult *result);

/* How many rows an INSERT, UPDATE or DELETE was about. */
uint64_t postgres_result_n_changed(const PostgresResult *result);

/* Valid as long as RESULT; NULL for null. */
const char *postgres_result_text(const PostgresResult *result, size_t row, size_t column);

/* Of smallint, integer and bigint; 0 for null and for what is none. */
int64_t postgres_result_i64(const PostgresResult *result, size_t row, size_t column);
uint64_t postgres_result_u64(const PostgresResult *result, size_t row, size_t column);

bool postgres_result_bool(const PostgresResult *result, size_t row, size_t column);

/* Of bytea, in a result of bytes only. Valid as long as RESULT; NULL for null. */
const void *postgres_result_bytes(const PostgresResult *result, size_t row, size_t column, size_t *ret_size);

/* Parameters. Texts of numbers are written to BUFFER. */
#define POSTGRES_NUMBER_SIZE sizeof("-9223372036854775808")

PostgresValue postgres_text(const char *text);
PostgresValue postgres_number(int64_t number, char buffer[static POSTGRES_NUMBER_SIZE]);
PostgresValue postgres_bool(bool value);
PostgresValue postgres_bytes(const void *bytes, size_t size);

/* Appends the text of an array of texts; of LIST, NULL-terminated or NULL. -ENOMEM. */
int postgres_append_array(Text *to, char *const *list);
