/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "ctl/terminal.h"

void say(const char *format, ...) {
        _cleanup_(freep) char *message = NULL;
        _cleanup_(text_done) Text line = {};
        va_list arguments;
        terminal_leave(); /* where it would be seen for a moment only */
        va_start(arguments, format);
        int r = text_vformat(&message, format, arguments);
        va_end(arguments);
        if (r < 0)
                return;
        if (text_append(&line, "daggyctl: ") >= 0 &&
            text_append_printable(&line, message, strlen(message), "") >= 0 && text_append(&line, "\n") >= 0)
                (void) !write(STDERR_FILENO, line.data, line.size);
}

int print_bytes(const void *bytes, size_t size) {
        const char *rest = bytes;
        while (size > 0) {
                ssize_t n = write(STDOUT_FILENO, rest, size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        int r = -errno;
                        if (r != -EPIPE)
                                say("cannot write to standard output: %s", strerror(-r));
                        return r;
                }
                rest += n;
                size -= (size_t) n;
        }
        return 0;
}

int print_line(const char *bytes, size_t size) {
        int r = print_bytes(bytes, size);
        if (r >= 0 && (size == 0 || bytes[size - 1] != '\n'))
                r = print_bytes("\n", 1);
        return r;
}

int print_table(Table *table) {
        _cleanup_(text_done) Text text = {};
        int r = table_format(
                        table, terminal_width(STDOUT_FILENO), terminal_has_colours(STDOUT_FILENO), &text);
        return r < 0 ? r : print_bytes(text.data, text.size);
}

int print_table_end(Table *table) {
        _cleanup_(text_done) Text text = {};
        int r = table_format(
                        table, terminal_width(STDOUT_FILENO), terminal_has_colours(STDOUT_FILENO), &text);
        if (r < 0)
                return r;
        size_t begin = text.size > 0 ? text.size - 1 : 0;
        while (begin > 0 && text.data[begin - 1] != '\n')
                begin--;
        return print_bytes(text.data + begin, text.size - begin);
}

json_object *member(json_object *object, const char *key) {
        json_object *value = NULL;
        return json_object_is_type(object, json_type_object) &&
                                        json_object_object_get_ex(object, key, &value) ?
                        value :
                        NULL;
}

const char *member_text(json_object *object, const char *key) {
        json_object *value = member(object, key);
        return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

double member_number(json_object *object, const char *key) {
        json_object *value = member(object, key);
        bool is_number = json_object_is_type(value, json_type_int) ||
                        json_object_is_type(value, json_type_double);
        return is_number ? json_object_get_double(value) : 0;
}

bool member_bool(json_object *object, const char *key) {
        json_object *value = member(object, key);
        return json_object_is_type(value, json_type_boolean) && json_object_get_boolean(value);
}

size_t element_count(json_object *array) {
        return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

json_object *element(json_object *array, size_t i) {
        return json_object_array_get_idx(array, i);
}
