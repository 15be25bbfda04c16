/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Why a request was refused, in the terms of RFC 9457 (application/problem+json). A plain value:
 * decisions fill it in, the HTTP layer sends it. */
#pragma once

#include <json-c/json.h>

#define PROBLEM_DETAIL_SIZE 256
#define PROBLEM_FIELD_SIZE  160

typedef struct Problem {
        int status;                       /* HTTP status; 0 while there is no problem */
        unsigned retry_after_sec;         /* for Retry-After; 0 = no such header */
        char detail[PROBLEM_DETAIL_SIZE]; /* one sentence for a person, UTF-8 */
        char field[PROBLEM_FIELD_SIZE];   /* JSON pointer (RFC 6901) of the input at fault, or "" */
} Problem;

/* Fills PROBLEM and returns the negative errno that stands for STATUS: 400 -EINVAL, 401 and 403
 * -EACCES, 404 -ENOENT, 405 -EOPNOTSUPP, 409 -EEXIST, 413 -EFBIG, 415 -EPROTONOSUPPORT, 421 -EREMOTE,
 * 422 -ERANGE, 423 -EBUSY, 429 -EDQUOT, 503 -EAGAIN, anything else -EIO. FIELD may be NULL.
 * What does not fit is cut at a character boundary. */
int problem_set(Problem *problem, int status, const char *field, const char *format, ...)
                __attribute__((format(printf, 4, 5)));

/* The same for what may work a little later: STATUS (429, 503, …) with Retry-After. */
int problem_set_for_now(Problem *problem, int status, unsigned retry_after_sec, const char *detail);

/* For -ENOMEM and other failures of ours in the middle of a decision: 503, "try again".
 * Returns ERROR as a negative errno. */
int problem_from_errno(Problem *problem, int error);

/* The phrase of RFC 9110 for STATUS, used as the title: 404 → "Not Found". */
const char *problem_title(int status);

/* {"type":"about:blank","title","status","detail"[,"field"]} and the members of EXTRA (dropped; may be NULL)
 * that a particular problem adds: capacity, holder, … -ENOMEM. The caller puts *ret. */
int problem_to_json(const Problem *problem, json_object *extra, json_object **ret);
