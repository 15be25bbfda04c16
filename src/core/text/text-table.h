/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Aligned columns of text. A cell never holds what could reprogram a terminal or break a line: control
 * characters become "?". One character is taken to be one column wide. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/text.h"

#define TEXT_TABLE_COLUMNS_MAX 12

typedef struct TextTable TextTable;

/* HEADERS are the columns' names (not copied), NULL-terminated, at most TEXT_TABLE_COLUMNS_MAX; of columns
 * whose name begins with ">" the rest is the name, and they are aligned to the right. -ENOMEM. */
int text_table_new(const char *const *headers, TextTable **ret);
TextTable *text_table_free(TextTable *table);
DEFINE_POINTER_CLEANUP(TextTable, text_table_free)

/* Adds a row: as many CELLS as there are columns, each copied; NULL and "" become "-". -ENOMEM. */
int text_table_add(TextTable *table, const char *const *cells);

/* Appends the lines, the headers' first. Two spaces are between columns, none at a line's end. WIDTH: lines
 * are cut to so many columns, "…" then being the last; 0: never. -ENOMEM. */
int text_table_format(const TextTable *table, size_t width, Text *ret);

/* Appends the SIZE bytes at S, which are UTF-8, with control characters replaced by "?", but for those in
 * KEEP ("\n\t"). -ENOMEM. */
int text_append_printable(Text *text, const char *s, size_t size, const char *keep);
