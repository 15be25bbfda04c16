/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Where a request ends, and whether everybody between the client and us sees its end at the same place:
 * what can be read in two ways is refused, as that is how one request is smuggled inside another. HTTP
 * libraries are lenient here, each in its own way. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/json/problem.h"

#define FRAMING_TARGET_BYTES_MAX ((size_t) 8192)
#define FRAMING_FIELDS_MAX       100
#define FRAMING_TARGET_SERVER    "*" /* no path of the server, but the server itself */

/* Names of which a request has at most one. */
typedef enum FramingSingle {
        FRAMING_AUTHORIZATION,
        FRAMING_CONTENT_ENCODING,
        FRAMING_CONTENT_LENGTH,
        FRAMING_CONTENT_RANGE,
        FRAMING_CONTENT_TYPE,
        FRAMING_COOKIE,
        FRAMING_EXPECT,
        FRAMING_HOST,
        FRAMING_LEASE,
        FRAMING_ORIGIN,
        FRAMING_SEC_FETCH_SITE,
        FRAMING_TRANSFER_ENCODING,
        _FRAMING_SINGLE_MAX,
} FramingSingle;

/* All zeros to begin with. Add each field, in the order in which they came, then check. */
typedef struct Framing {
        unsigned n_fields;
        bool seen[_FRAMING_SINGLE_MAX];
        Problem problem; /* the first one found; status 0: none yet */
} Framing;

/* One header field. NUL bytes in it are found by the sizes. */
void framing_add(Framing *framing, const char *name, size_t name_size, const char *value, size_t value_size);

/* 400, and 414, 417 and 431 for what these mean, with a negative errno; 0 when all is well. HTTP_1_0: the
 * request is of that version, which has no transfer coding and need not have a Host. */
int framing_check(const Framing *framing, bool http_1_0, Problem *reterr_problem);

/* Finds the path in TARGET, as it stands in the request line: a path, or http(s)://authority/path with
 * the very AUTHORITY that HOST (NULL when absent) has. *RET_OFFSET says where the path begins; for an empty
 * path it is the end of TARGET. With the METHOD "OPTIONS", TARGET may be FRAMING_TARGET_SERVER, too. 400 for
 * every other form, 414 for a long one. */
int framing_check_target(
                const char *method,
                const char *target,
                const char *host,
                size_t *ret_offset,
                Problem *reterr_problem);
