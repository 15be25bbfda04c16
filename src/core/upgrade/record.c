/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A structure is the number of its fields and these, in the order of the table: the length of the name, the
 * name, the kind, the size of the value, the value. Numbers are as they are in memory: both ends are on one
 * machine. */
#include "core/upgrade/record.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static void *member_of(const RecordField *field, void *record) {
        return (char *) record + field->offset;
}

static const void *member_in(const RecordField *field, const void *record) {
        return (const char *) record + field->offset;
}

static void *item_of(const RecordType *type, const RecordList *list, size_t i) {
        return (char *) list->items + i * type->size;
}

static size_t count_fields(const RecordType *type) {
        size_t n = 0;
        while (type->fields[n].name)
                n++;
        return n;
}

/* ── to bytes ── */

static int append_number(Text *bytes, uint64_t number) {
        return text_append_bytes(bytes, &number, sizeof(number));
}

/* A list of no strings is not the same as none. */
static int append_strings(Text *bytes, const char *const *strings) {
        if (!strings)
                return 0;
        int r = text_append_bytes(bytes, "", 1);
        for (; r >= 0 && *strings; strings++)
                r = text_append_bytes(bytes, *strings, strlen(*strings) + 1);
        return r;
}

static int append_list(Text *bytes, const RecordType *type, const RecordList *list) {
        int r = append_number(bytes, list->n);
        for (size_t i = 0; r >= 0 && i < list->n; i++)
                r = record_encode(type, item_of(type, list, i), bytes);
        return r;
}

static int append_value(Text *bytes, const RecordField *field, const void *record) {
        const void *member = member_in(field, record);
        switch (field->kind) {
        case RECORD_FLAG:
                return text_append_bytes(bytes, *(const bool *) member ? "\1" : "\0", 1);
        case RECORD_NUMBER:
        case RECORD_INTEGER:
                return text_append_bytes(bytes, member, sizeof(uint64_t));
        case RECORD_STRING: {
                const char *string = *(const char *const *) member;
                return string ? text_append_bytes(bytes, string, strlen(string) + 1) : 0;
        }
        case RECORD_BYTES: {
                const RecordBytes *value = member;
                return value->size > 0 ? text_append_bytes(bytes, value->data, value->size) : 0;
        }
        case RECORD_STRINGS:
                return append_strings(bytes, *(const char *const *const *) member);
        case RECORD_LIST:
                return append_list(bytes, field->type, member);
        case RECORD_STRUCT:
                return record_encode(field->type, member, bytes);
        case _RECORD_KIND_MAX:
                break;
        }
        return -EINVAL;
}

static int append_field(Text *bytes, const RecordField *field, const void *record) {
        const uint8_t length = (uint8_t) strlen(field->name), kind = (uint8_t) field->kind;
        int r = text_append_bytes(bytes, &length, sizeof(length));
        if (r >= 0)
                r = text_append_bytes(bytes, field->name, length);
        if (r >= 0)
                r = text_append_bytes(bytes, &kind, sizeof(kind));
        size_t at = bytes->size;
        if (r >= 0)
                r = append_number(bytes, 0);
        if (r >= 0)
                r = append_value(bytes, field, record);
        if (r < 0)
                return r;
        uint64_t size = bytes->size - at - sizeof(size);
        memcpy(bytes->data + at, &size, sizeof(size));
        return 0;
}

int record_encode(const RecordType *type, const void *record, Text *bytes) {
        int r = append_number(bytes, count_fields(type));
        for (const RecordField *field = type->fields; r >= 0 && field->name; field++)
                r = append_field(bytes, field, record);
        return r;
}

/* ── and back ── */

typedef struct Reader {
        const char *at, *end;
        Problem *problem;
} Reader;

static int refuse_damaged(Reader *reader) {
        return problem_set(reader->problem, 409, NULL, "the state is damaged");
}

static size_t bytes_left(const Reader *reader) {
        return (size_t) (reader->end - reader->at);
}

/* NULL, with the problem, when there are not so many bytes. */
static const char *take(Reader *reader, size_t size) {
        if (bytes_left(reader) < size) {
                (void) refuse_damaged(reader);
                return NULL;
        }
        const char *bytes = reader->at;
        reader->at += size;
        return bytes;
}

static int take_number(Reader *reader, void *ret) {
        const char *bytes = take(reader, sizeof(uint64_t));
        if (!bytes)
                return -EEXIST;
        memcpy(ret, bytes, sizeof(uint64_t));
        return 0;
}

static int take_byte(Reader *reader, uint8_t *ret) {
        const char *byte = take(reader, 1);
        if (!byte)
                return -EEXIST;
        *ret = (uint8_t) *byte;
        return 0;
}

static int read_flag(Reader *reader, bool *ret) {
        uint8_t byte = 0;
        int r = take_byte(reader, &byte);
        if (r >= 0 && byte > 1)
                return refuse_damaged(reader);
        *ret = byte == 1;
        return r;
}

/* All of the value is one string. */
static int read_string(Reader *reader, const char **ret) {
        size_t size = bytes_left(reader);
        if (size > 0 && memchr(reader->at, '\0', size) != reader->end - 1)
                return refuse_damaged(reader);
        *ret = size > 0 ? reader->at : NULL;
        reader->at = reader->end;
        return 0;
}

static int read_strings(Reader *reader, const char ***ret) {
        if (bytes_left(reader) == 0)
                return 0;
        if (*reader->at != '\0' || reader->end[-1] != '\0')
                return refuse_damaged(reader);
        size_t n = 0;
        reader->at++;
        for (const char *s = reader->at; s < reader->end; s += strlen(s) + 1)
                n++;
        const char **strings = calloc(n + 1, sizeof(*strings));
        if (!strings)
                return problem_from_errno(reader->problem, -ENOMEM);
        for (size_t i = 0; i < n; i++) {
                strings[i] = reader->at;
                reader->at += strlen(reader->at) + 1;
        }
        *ret = strings;
        return 0;
}

static int read_struct(Reader *reader, const RecordType *type, void *record);

static int read_list(Reader *reader, const RecordType *type, RecordList *list) {
        uint64_t n = 0;
        int r = take_number(reader, &n);
        if (r < 0)
                return r;
        if (n > bytes_left(reader) / sizeof(uint64_t)) /* each item has at least the number of its fields */
                return refuse_damaged(reader);
        if (n == 0)
                return 0;
        list->items = calloc(n, type->size);
        if (!list->items)
                return problem_from_errno(reader->problem, -ENOMEM);
        for (; r >= 0 && list->n < n; list->n++)
                r = read_struct(reader, type, item_of(type, list, list->n));
        return r;
}

static int read_value(Reader *reader, const RecordField *field, void *record) {
        void *member = member_of(field, record);
        switch (field->kind) {
        case RECORD_FLAG:
                return read_flag(reader, member);
        case RECORD_NUMBER:
        case RECORD_INTEGER:
                return take_number(reader, member);
        case RECORD_STRING:
                return read_string(reader, member);
        case RECORD_BYTES: {
                RecordBytes *value = member;
                value->size = bytes_left(reader);
                value->data = value->size > 0 ? reader->at : NULL;
                reader->at = reader->end;
                return 0;
        }
        case RECORD_STRINGS:
                return read_strings(reader, member);
        case RECORD_LIST:
                return read_list(reader, field->type, member);
        case RECORD_STRUCT:
                return read_struct(reader, field->type, member);
        case _RECORD_KIND_MAX:
                break;
        }
        return refuse_damaged(reader);
}

static bool has_name(const RecordField *field, const char *name, size_t length) {
        return field->name && strlen(field->name) == length && memcmp(field->name, name, length) == 0;
}

static int refuse_lack(const Reader *reader, const RecordType *type, const RecordField *field) {
        return problem_set(
                        reader->problem,
                        409,
                        NULL,
                        "the state of a %s lacks \"%s\"",
                        type->name,
                        field->name);
}

/* The field NAME stands where FIELD should: one that is not known here, or FIELD itself is missing. */
static int refuse_field(
                const Reader *reader,
                const RecordType *type,
                const RecordField *field,
                const char *name,
                size_t length) {
        for (const RecordField *known = type->fields; known->name; known++)
                if (has_name(known, name, length) && field->name)
                        return refuse_lack(reader, type, field);
        char shown[RECORD_QUOTE_SIZE];
        record_quote(name, length, shown);
        return problem_set(
                        reader->problem,
                        409,
                        NULL,
                        "the state of a %s has \"%s\", which is not known here",
                        type->name,
                        shown);
}

static int read_field(Reader *reader, const RecordType *type, const RecordField *field, void *record) {
        uint8_t length = 0, kind = 0;
        uint64_t size = 0;
        int r = take_byte(reader, &length);
        if (r < 0)
                return r;
        const char *name = take(reader, length);
        if (!name)
                return -EEXIST;
        if (!has_name(field, name, length))
                return refuse_field(reader, type, field, name, length);
        r = take_byte(reader, &kind);
        if (r >= 0)
                r = take_number(reader, &size);
        if (r >= 0 && (kind != field->kind || size > bytes_left(reader)))
                r = refuse_damaged(reader);
        if (r < 0)
                return r;
        Reader inside = { .at = reader->at, .end = reader->at + size, .problem = reader->problem };
        reader->at += size;
        r = read_value(&inside, field, record);
        return r >= 0 && inside.at != inside.end ? refuse_damaged(reader) : r;
}

static int read_struct(Reader *reader, const RecordType *type, void *record) {
        uint64_t n = 0;
        int r = take_number(reader, &n);
        const RecordField *field = type->fields;
        for (uint64_t i = 0; r >= 0 && i < n; i++) {
                r = read_field(reader, type, field, record);
                field += field->name != NULL;
        }
        if (r >= 0 && field->name)
                return refuse_lack(reader, type, field);
        return r;
}

int record_decode(
                const RecordType *type,
                const void *block,
                size_t size,
                void *record,
                Problem *reterr_problem) {
        Reader reader = { .at = block, .end = (const char *) block + size, .problem = reterr_problem };
        memset(record, 0, type->size);
        int r = read_struct(&reader, type, record);
        if (r >= 0 && reader.at != reader.end)
                r = refuse_damaged(&reader);
        if (r < 0)
                record_done(type, record);
        return r;
}

void record_quote(const char *bytes, size_t size, char ret[static RECORD_QUOTE_SIZE]) {
        size_t n = size < RECORD_QUOTE_SIZE ? size : RECORD_QUOTE_SIZE - 1;
        memcpy(ret, bytes, n);
        for (size_t i = 0; i < n; i++)
                if (ret[i] < ' ' || ret[i] > '~')
                        ret[i] = '?';
        ret[n] = 0;
}

int record_bytes_append(const RecordBytes *bytes, Text *text) {
        return bytes->size > 0 ? text_append_bytes(text, bytes->data, bytes->size) : 0;
}

void record_done(const RecordType *type, void *record) {
        for (const RecordField *field = type->fields; field->name; field++) {
                void *member = member_of(field, record);
                if (field->kind == RECORD_STRINGS)
                        free(*(void **) member);
                else if (field->kind == RECORD_STRUCT)
                        record_done(field->type, member);
                else if (field->kind == RECORD_LIST) {
                        RecordList *list = member;
                        for (size_t i = 0; i < list->n; i++)
                                record_done(field->type, item_of(field->type, list, i));
                        free(list->items);
                }
        }
        memset(record, 0, type->size);
}
