/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Taking tasks: deciding on them, storing them, and only then saying so. */
#pragma once

#include <json-c/json.h>

#include "core/json/problem.h"
#include "io/http-server.h"

typedef struct Queue Queue;
typedef struct QueueSpec QueueSpec;

/* Whether QUEUE takes a task like SPEC now. 422, 429, 503. */
int submit_check(Queue *queue, const QueueSpec *spec, Problem *reterr_problem);

/* Takes the task of BODY, which is changed; TASK_ID is from the path, or NULL. Answers REQUEST. */
void submit_one(Queue *queue, HttpRequest *request, json_object *body, const char *task_id);

/* Takes those of the array BODY, each for itself, and answers with what came of each. */
void submit_many(Queue *queue, HttpRequest *request, json_object *body);
