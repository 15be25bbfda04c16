/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Structures to bytes and back, each by a table of its fields, for a reader that may be another version of
 * the program than the writer: every field goes with its name, so that one that is missing, or too many, is
 * named. Bytes that decode are exactly those that encoding makes of what was read. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "core/json/problem.h"

typedef struct RecordType RecordType;

/* Bytes that are no text; DATA is weak. */
typedef struct RecordBytes {
        const void *data;
        size_t size;
} RecordBytes;

/* N structures of a type, one behind the other; ITEMS is from malloc(). */
typedef struct RecordList {
        void *items;
        size_t n;
} RecordList;

typedef enum RecordKind {
        RECORD_FLAG,    /* bool */
        RECORD_NUMBER,  /* uint64_t */
        RECORD_INTEGER, /* int64_t */
        RECORD_STRING,  /* const char *, weak; may be NULL */
        RECORD_BYTES,   /* RecordBytes */
        RECORD_STRINGS, /* const char **, NULL-terminated, of weak strings, itself from malloc(); may be NULL
                         */
        RECORD_LIST,    /* RecordList */
        RECORD_STRUCT,  /* a structure inside of this one */
        _RECORD_KIND_MAX,
} RecordKind;

typedef struct RecordField {
        const char *name; /* at most 255 bytes */
        RecordKind kind;
        size_t offset;
        const RecordType *type; /* of a list's items, or of the structure; these do not nest without end */
} RecordField;

struct RecordType {
        const char *name; /* what a problem calls such a structure: "task" */
        size_t size;
        const RecordField *fields; /* the last one without name */
};

/* Appends RECORD, a structure of TYPE. -ENOMEM. */
int record_encode(const RecordType *type, const void *record, Text *bytes);

/* Reads a structure of TYPE that takes up all of BLOCK into *RECORD, which is zeroed first; strings and bytes
 * point into BLOCK. On failure *RECORD holds nothing: 409 with a sentence on what does not fit, or 503. */
int record_decode(
                const RecordType *type,
                const void *block,
                size_t size,
                void *record,
                Problem *reterr_problem);

#define RECORD_QUOTE_SIZE 101

/* What a sentence may quote of the SIZE bytes at BYTES, which somebody else has written: their beginning,
 * with a question mark for each byte that is no printable ASCII. */
void record_quote(const char *bytes, size_t size, char ret[static RECORD_QUOTE_SIZE]);

/* Appends what was saved as BYTES to TEXT. -ENOMEM. */
int record_bytes_append(const RecordBytes *bytes, Text *text);

/* Frees the lists that RECORD holds, of whatever origin, and zeroes it. */
void record_done(const RecordType *type, void *record);
