/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What daggyctl has to say to people, and what it reads out of JSON that a daemon sent: nothing in there is
 * taken for granted, and nothing of it reaches the terminal raw. */
#pragma once

#include <json-c/json.h>
#include <stddef.h>

#include "ctl/table.h"

/* One line "daggyctl: …" to stderr, control characters replaced. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Writes SIZE bytes to stdout. -errno, which is said, unless the reader is gone (-EPIPE), as nobody is told
 * of that who ends a pipe early. */
int print_bytes(const void *bytes, size_t size);

/* The same, and a line's end if there is none. */
int print_line(const char *bytes, size_t size);

/* Prints the table, cut to the terminal's width and in colours if stdout is one. -errno. */
int print_table(Table *table);

/* The same of its last row alone. */
int print_table_end(Table *table);

/* A member of OBJECT: NULL, "" or 0 when it is absent or of another type. */
json_object *member(json_object *object, const char *key);
const char *member_text(json_object *object, const char *key);
double member_number(json_object *object, const char *key);
bool member_bool(json_object *object, const char *key);

/* The elements of an array; 0 and NULL for what is none. */
size_t element_count(json_object *array);
json_object *element(json_object *array, size_t i);
