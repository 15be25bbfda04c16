/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Aligned columns of text, for terminals and for awk. A cell never holds what could reprogram a terminal or
 * break a line: control characters become "?". */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/text.h"

#define TABLE_COLUMNS_MAX 12

typedef struct Table Table;

/* HEADERS are the columns' names, NULL-terminated, at most TABLE_COLUMNS_MAX; of columns whose name begins
 * with ">" the rest is the name, and they are aligned to the right. -ENOMEM. */
int table_new(const char *const *headers, Table **ret);
Table *table_free(Table *table);
DEFINE_POINTER_CLEANUP(Table, table_free)

/* Adds a row: as many CELLS as there are columns, each copied; NULL and "" become "-". -ENOMEM. */
int table_add(Table *table, const char *const *cells);

/* Has the cell in COLUMN of the row that was added last shown in a colour, an escape sequence of terminals
 * that is not copied; NULL: in none. -ENOMEM. */
int table_paint(Table *table, size_t column, const char *sequence);

/* Appends the lines, the headers' first. Two spaces are between columns, none at a line's end. WIDTH: lines
 * are cut to so many columns of a terminal, "…" then being the last; 0: never. COLOURS: as they were painted.
 * -ENOMEM. */
int table_format(Table *table, size_t width, bool colours, Text *ret);
