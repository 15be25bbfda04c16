/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/postgres-result.h"

#include <endian.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t postgres_result_n_rows(const PostgresResult *result) {
        return (size_t) PQntuples(result);
}

/* libpq asks for a result that can be written to, and only reads it. */
uint64_t postgres_result_n_changed(const PostgresResult *result) {
        return strtoull(PQcmdTuples((PGresult *) result), NULL, 10);
}

static bool is_null(const PostgresResult *result, size_t row, size_t column) {
        return PQgetisnull(result, (int) row, (int) column) != 0;
}

const char *postgres_result_text(const PostgresResult *result, size_t row, size_t column) {
        return is_null(result, row, column) ? NULL : PQgetvalue(result, (int) row, (int) column);
}

static int64_t number_of_bytes(const char *bytes, int size) {
        uint16_t two;
        uint32_t four;
        uint64_t eight;
        switch (size) {
        case sizeof(two):
                memcpy(&two, bytes, sizeof(two));
                return (int16_t) be16toh(two);
        case sizeof(four):
                memcpy(&four, bytes, sizeof(four));
                return (int32_t) be32toh(four);
        case sizeof(eight):
                memcpy(&eight, bytes, sizeof(eight));
                return (int64_t) be64toh(eight);
        default:
                return 0;
        }
}

int64_t postgres_result_i64(const PostgresResult *result, size_t row, size_t column) {
        if (is_null(result, row, column))
                return 0;
        const char *value = PQgetvalue(result, (int) row, (int) column);
        if (PQfformat(result, (int) column) == 0)
                return strtoll(value, NULL, 10);
        return number_of_bytes(value, PQgetlength(result, (int) row, (int) column));
}

uint64_t postgres_result_u64(const PostgresResult *result, size_t row, size_t column) {
        return (uint64_t) postgres_result_i64(result, row, column);
}

bool postgres_result_bool(const PostgresResult *result, size_t row, size_t column) {
        if (is_null(result, row, column))
                return false;
        const char *value = PQgetvalue(result, (int) row, (int) column);
        return PQfformat(result, (int) column) == 0 ? *value == 't' : *value != 0;
}

const void *postgres_result_bytes(const PostgresResult *result, size_t row, size_t column, size_t *ret_size) {
        *ret_size = (size_t) PQgetlength(result, (int) row, (int) column);
        return is_null(result, row, column) ? NULL : PQgetvalue(result, (int) row, (int) column);
}

PostgresValue postgres_text(const char *text) {
        return (PostgresValue) { .data = text };
}

PostgresValue postgres_number(int64_t number, char buffer[static POSTGRES_NUMBER_SIZE]) {
        (void) snprintf(buffer, POSTGRES_NUMBER_SIZE, "%" PRId64, number);
        return (PostgresValue) { .data = buffer };
}

PostgresValue postgres_bool(bool value) {
        return (PostgresValue) { .data = value ? "t" : "f" };
}

PostgresValue postgres_bytes(const void *bytes, size_t size) {
        return (PostgresValue) { .data = bytes, .size = (int) size, .binary = true };
}

static int append_element(Text *to, const char *element) {
        int r = text_append(to, "\"");
        while (r >= 0 && *element) {
                size_t n = strcspn(element, "\"\\");
                r = text_append_bytes(to, element, n);
                element += n;
                if (r >= 0 && *element)
                        r = text_append_bytes(to, (const char[]) { '\\', *element++ }, 2);
        }
        return r < 0 ? r : text_append(to, "\"");
}

int postgres_append_array(Text *to, char *const *list) {
        int r = text_append(to, "{");
        for (size_t i = 0; r >= 0 && list && list[i]; i++) {
                if (i > 0)
                        r = text_append(to, ",");
                if (r >= 0)
                        r = append_element(to, list[i]);
        }
        return r < 0 ? r : text_append(to, "}");
}
