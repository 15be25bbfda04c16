/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Columns are laid out by libsmartcols, which knows how wide characters are. It counts the headers as a row,
 * because it prints nothing of a table without rows. Its own way to cut lines is not used, as it does not
 * show that there was more. */
#include "ctl/table.h"

#include <assert.h>
#include <errno.h>
#include <libsmartcols.h>
#include <locale.h>
#include <wchar.h>

struct Table {
        struct libscols_table *columns;
        struct libscols_line *last_row; /* weak */
        size_t n_columns;
};

static int cell_set(struct libscols_line *row, size_t column, const char *s) {
        _cleanup_(text_done) Text text = {};
        if (!s || !*s)
                s = "-";
        int r = text_append_printable(&text, s, strlen(s), "");
        if (r < 0)
                return r;
        r = scols_line_refer_data(row, column, text.data);
        if (r < 0)
                return r;
        text.data = NULL;
        return 0;
}

int table_add(Table *table, const char *const *cells) {
        struct libscols_line *row = scols_table_new_line(table->columns, NULL);
        if (!row)
                return -ENOMEM;
        int r = 0;
        for (size_t i = 0; r >= 0 && i < table->n_columns; i++)
                r = cell_set(row, i, cells[i]);
        if (r < 0)
                (void) scols_table_remove_line(table->columns, row);
        table->last_row = r < 0 ? NULL : row;
        return r;
}

int table_paint(Table *table, size_t column, const char *sequence) {
        struct libscols_cell *cell = table->last_row ? scols_line_get_cell(table->last_row, column) : NULL;
        return cell && sequence ? scols_cell_set_color(cell, sequence) : 0;
}

static int columns_add(Table *table, const char *const *headers) {
        int r = scols_table_enable_noheadings(table->columns, 1);
        if (r >= 0)
                r = scols_table_enable_minout(table->columns, 1);
        if (r >= 0)
                r = scols_table_set_termforce(table->columns, SCOLS_TERMFORCE_NEVER);
        if (r >= 0)
                r = scols_table_set_column_separator(table->columns, "  ");
        for (; r >= 0 && headers[table->n_columns]; table->n_columns++) {
                int flags = *headers[table->n_columns] == '>' ? SCOLS_FL_RIGHT : 0;
                if (!scols_table_new_column(table->columns, NULL, 0, flags))
                        r = -ENOMEM;
        }
        return r;
}

int table_new(const char *const *headers, Table **ret) {
        _cleanup_(table_freep) Table *table = calloc(1, sizeof(*table));
        const char *names[TABLE_COLUMNS_MAX] = {};
        if (!table)
                return -ENOMEM;
        table->columns = scols_new_table();
        if (!table->columns)
                return -ENOMEM;
        int r = columns_add(table, headers);
        if (r < 0)
                return r;
        assert(table->n_columns <= TABLE_COLUMNS_MAX);
        for (size_t i = 0; i < table->n_columns; i++)
                names[i] = headers[i] + (*headers[i] == '>');
        r = table_add(table, names);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(table);
        return 0;
}

Table *table_free(Table *table) {
        if (!table)
                return NULL;
        scols_unref_table(table->columns);
        free(table);
        return NULL;
}

/* The size of the colour that begins at S, an escape sequence: cells hold none of their own. 0: there is
 * none. */
static size_t sequence_size(const char *s, size_t size) {
        const char *end = size > 0 && *s == '\033' ? memchr(s, 'm', size) : NULL;
        return end ? (size_t) (end - s) + 1 : 0;
}

/* How many of the SIZE bytes at S fill at most N columns of a terminal. */
static size_t bytes_of_columns(const char *s, size_t size, size_t n) {
        mbstate_t state = {};
        size_t i = 0;
        while (i < size) {
                size_t skipped = sequence_size(s + i, size - i);
                i += skipped;
                if (skipped > 0)
                        continue;
                wchar_t c;
                size_t n_bytes = mbrtowc(&c, s + i, size - i, &state);
                if (n_bytes == 0 || n_bytes > size - i)
                        break;
                int width = wcwidth(c);
                if (width > 0 && (size_t) width > n)
                        break;
                n -= width > 0 ? (size_t) width : 0;
                i += n_bytes;
        }
        return i;
}

static int line_append(Text *text, const char *line, size_t size, size_t width) {
        bool fits = width == 0 || bytes_of_columns(line, size, width) == size;
        int r = text_append_bytes(text, line, fits ? size : bytes_of_columns(line, size, width - 1));
        bool may_be_coloured = !fits && memchr(line, '\033', size);
        if (r >= 0 && may_be_coloured)
                r = text_append(text, "\033[0m");
        return r < 0 ? r : text_append(text, fits ? "\n" : "…\n");
}

static int lines_append(Table *table, size_t width, Text *ret) {
        _cleanup_(freep) char *lines = NULL;
        int r = scols_print_table_to_string(table->columns, &lines);
        for (const char *line = lines; r >= 0 && line && *line;) {
                size_t size = strcspn(line, "\n");
                r = line_append(ret, line, size, width);
                line += size + (line[size] == '\n');
        }
        return r;
}

/* Bytes are UTF-8 here, whatever the user's locale is; libsmartcols asks the locale. */
int table_format(Table *table, size_t width, bool colours, Text *ret) {
        locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
        if (!utf8)
                return -errno;
        locale_t before = uselocale(utf8);
        int r = scols_table_enable_colors(table->columns, colours);
        if (r >= 0)
                r = lines_append(table, width, ret);
        (void) uselocale(before);
        freelocale(utf8);
        return r;
}
