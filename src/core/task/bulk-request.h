/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which tasks a request is about that names none by its id: POST /api/v1/tasks/{stop,retry,forget}. */
#pragma once

#include <json-c/json.h>
#include <stdint.h>

#include "core/json/problem.h"

#define BULK_LABELS_MAX 8

typedef struct BulkRequest {
        char **labels; /* "key=value", all of which must hold; NULL-terminated; NULL: any */
        char *state;   /* as clients see it; NULL: any */
} BulkRequest;

/* Reads {"labels":{…},"state":"…"}, of which one at least must be there: who means all tasks says so by
 * naming each state. 400. */
int bulk_request_parse(json_object *body, BulkRequest *ret, Problem *reterr_problem);
void bulk_request_done(BulkRequest *request);

/* The answer: {"matched","changed"}. NULL when out of memory. */
json_object *bulk_answer_new(uint64_t n_matched, uint64_t n_changed);
