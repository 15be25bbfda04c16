/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/text/text-table.h"

#include <assert.h>
#include <errno.h>

#define GAP 2

struct TextTable {
        size_t n_columns;
        bool right[TEXT_TABLE_COLUMNS_MAX];
        size_t widths[TEXT_TABLE_COLUMNS_MAX];
        char **cells; /* row by row, the headers' first */
        size_t n_cells, n_allocated;
};

static bool is_continuation(char c) {
        return ((unsigned char) c & 0xc0) == 0x80;
}

static size_t columns_of(const char *s, size_t size) {
        size_t n = 0;
        for (size_t i = 0; i < size; i++)
                n += !is_continuation(s[i]);
        return n;
}

int text_append_printable(Text *text, const char *s, size_t size, const char *keep) {
        for (size_t i = 0; i < size; i++) {
                unsigned char c = (unsigned char) s[i];
                bool is_c1 = c == 0xc2 && i + 1 < size && ((unsigned char) s[i + 1] & 0xe0) == 0x80;
                bool is_control = c < 0x20 || c == 0x7f;
                bool bad = is_c1 || (is_control && (c == 0 || !strchr(keep, c)));
                int r = bad ? text_append(text, "?") : text_append_bytes(text, &s[i], 1);
                if (r < 0)
                        return r;
                if (is_c1)
                        i++;
        }
        return 0;
}

static int cell_add(TextTable *table, size_t column, const char *s) {
        _cleanup_(text_done) Text text = {};
        if (!s || !*s)
                s = "-";
        int r = text_append_printable(&text, s, strlen(s), "");
        if (r < 0)
                return r;
        if (table->n_cells == table->n_allocated) {
                size_t n = table->n_allocated ? 2 * table->n_allocated : 64;
                char **cells = reallocarray(table->cells, n, sizeof(*cells));
                if (!cells)
                        return -ENOMEM;
                table->cells = cells;
                table->n_allocated = n;
        }
        size_t width = columns_of(text.data, text.size);
        if (width > table->widths[column])
                table->widths[column] = width;
        table->cells[table->n_cells++] = TAKE_PTR(text.data);
        return 0;
}

int text_table_new(const char *const *headers, TextTable **ret) {
        _cleanup_(text_table_freep) TextTable *table = calloc(1, sizeof(*table));
        if (!table)
                return -ENOMEM;
        for (; headers[table->n_columns]; table->n_columns++) {
                assert(table->n_columns < TEXT_TABLE_COLUMNS_MAX);
                const char *name = headers[table->n_columns];
                table->right[table->n_columns] = *name == '>';
                int r = cell_add(table, table->n_columns, name + (*name == '>'));
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(table);
        return 0;
}

TextTable *text_table_free(TextTable *table) {
        if (!table)
                return NULL;
        for (size_t i = 0; i < table->n_cells; i++)
                free(table->cells[i]);
        free(table->cells);
        free(table);
        return NULL;
}

int text_table_add(TextTable *table, const char *const *cells) {
        size_t before = table->n_cells;
        for (size_t i = 0; i < table->n_columns; i++) {
                int r = cell_add(table, i, cells[i]);
                if (r < 0) {
                        while (table->n_cells > before)
                                free(table->cells[--table->n_cells]);
                        return r;
                }
        }
        return 0;
}

static int spaces_add(Text *line, size_t n) {
        int r = 0;
        for (; n > 0 && r >= 0; n--)
                r = text_append(line, " ");
        return r;
}

static int line_format(const TextTable *table, char *const *cells, Text *line) {
        for (size_t i = 0; i < table->n_columns; i++) {
                size_t padding = table->widths[i] - columns_of(cells[i], strlen(cells[i]));
                bool last = i + 1 == table->n_columns;
                int r = table->right[i] ? spaces_add(line, padding) : 0;
                if (r >= 0)
                        r = text_append(line, cells[i]);
                if (r >= 0 && !last)
                        r = spaces_add(line, GAP + (table->right[i] ? 0 : padding));
                if (r < 0)
                        return r;
        }
        return 0;
}

/* How many bytes of S make N columns. */
static size_t bytes_of_columns(const char *s, size_t n) {
        size_t i = 0;
        for (; s[i]; i++)
                if (!is_continuation(s[i]) && n-- == 0)
                        break;
        return i;
}

int text_table_format(const TextTable *table, size_t width, Text *ret) {
        for (size_t i = 0; i < table->n_cells; i += table->n_columns) {
                _cleanup_(text_done) Text line = {};
                int r = line_format(table, table->cells + i, &line);
                if (r >= 0 && width > 0 && columns_of(line.data, line.size) > width) {
                        r = text_append_bytes(ret, line.data, bytes_of_columns(line.data, width - 1));
                        if (r >= 0)
                                r = text_append(ret, "…");
                } else if (r >= 0)
                        r = text_append_bytes(ret, line.data, line.size);
                if (r >= 0)
                        r = text_append(ret, "\n");
                if (r < 0)
                        return r;
        }
        return 0;
}
