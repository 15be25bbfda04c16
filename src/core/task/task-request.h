/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the requests of the task API ask beyond the task itself, and what their answers have besides the
 * attempt: the same at a runner and at a queue. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"
#include "base/usec.h"
#include "core/http/query.h"
#include "core/json/problem.h"

#define TASK_WAIT_SEC_MAX 300.0
#define TASK_LIST_MAX     1000 /* tasks on a page */
#define TASK_BATCH_MAX    1000

/* A thousand ordinary tasks are less. */
#define TASK_PAGE_BYTES_MAX ((size_t) 2 * 1024 * 1024)

#define OUTPUT_TAIL_BYTES (8 * 1024) /* of each stream, with OUTPUT_TAIL */

/* The names in the queries that are read here, each NULL-terminated. */
extern const char *const task_get_query[];
extern const char *const task_delete_query[];
extern const char *const task_output_query[];
extern const char *const tasks_list_query[];
extern const char *const tasks_list_repeatable[];

/* "wait": for how long an answer may be put off; 0 when it is not there. 400. */
int task_wait_parse(const Query *query, usec_t *ret, Problem *reterr_problem);

/* "keep": whether a finished task is only to be shown, not forgotten. Whoever wants a task stopped may come a
 * moment too late, and not have seen its result yet. 400. */
int task_keep_parse(const Query *query, bool *ret, Problem *reterr_problem);

typedef enum OutputMode {
        OUTPUT_NONE,
        OUTPUT_TAIL,
        OUTPUT_FULL,   /* up to inline_output_bytes of each stream: the default */
        OUTPUT_DAGGYR, /* all that was captured, and the attempt in the form a DaggyR server reads */
        _OUTPUT_MODE_MAX,
} OutputMode;

/* "output": "none", "tail" or "full". 400. */
int output_mode_parse(const Query *query, OutputMode *ret, Problem *reterr_problem);

typedef struct OutputRequest {
        bool is_error;   /* "stream": stderr, not stdout */
        uint64_t offset; /* in bytes */
        bool follow;
} OutputRequest;

/* "stream", "offset" and "follow". 400. */
int output_request_parse(const Query *query, OutputRequest *ret, Problem *reterr_problem);

/* 400 unless STATE is NULL or one of task_state_public(); the field is "state" in a query as in a body. */
int task_state_check(const char *state, Problem *reterr_problem);

typedef struct TaskListRequest {
        const char *state;                       /* weak: one of task_state_public(), or NULL: any */
        const char *labels[QUERY_ITEMS_MAX + 1]; /* weak: "key=value", all must hold; NULL-terminated */
        uint64_t limit;                          /* 1 … TASK_LIST_MAX */
        uint64_t after; /* the number of the last task of the page before, or UINT64_MAX: from the beginning
                         */
} TaskListRequest;

/* "state", "label" (at most LABELS_MAX times), "limit" and "after". QUERY must stay. 400. */
int task_list_request_parse(
                const Query *query,
                size_t labels_max,
                TaskListRequest *ret,
                Problem *reterr_problem);

/* The answer, a page: {"tasks","next"}. It is made a task at a time, and bounded in bytes as well:
 * TASK_PAGE_BYTES_MAX and one task more. Zero-initialise it; task_page_done(). */
typedef struct TaskPage {
        Text text;
        uint64_t n_tasks;
} TaskPage;

void task_page_done(TaskPage *page);

/* Whether it takes no more of tasks, of which LIMIT are wanted. */
bool task_page_is_full(const TaskPage *page, uint64_t limit);

/* Appends TASK, which it drops. -ENOMEM, also for NULL. */
int task_page_add(TaskPage *page, json_object *task);

/* The same with its JSON, of SIZE bytes. */
int task_page_add_text(TaskPage *page, const char *text, size_t size);

/* Completes the text. NEXT is the "after" of the next page, or UINT64_MAX at the end. -ENOMEM. */
int task_page_end(TaskPage *page, uint64_t next);

/* 400 unless BODY is an array of no more than TASK_BATCH_MAX. */
int task_batch_check(json_object *body, Problem *reterr_problem);

/* The id in ELEMENT of a batch, whatever else is wrong with it; NULL when there is none. */
const char *task_batch_id(json_object *element);

/* An element of the answer to a batch: {"task_id","status","attempt"}. Takes ATTEMPT over. NULL when out of
 * memory, or ATTEMPT is NULL. */
json_object *task_batch_accepted(const char *task_id, bool is_new, json_object *attempt);

/* {"task_id","status","problem"}; TASK_ID may be NULL. Takes EXTRA over, which is as for problem_to_json().
 * NULL when out of memory. */
json_object *task_batch_refused(const char *task_id, const Problem *problem, json_object *extra);

/* The path of a task. -ENOMEM. The caller frees *ret. */
int task_path_format(const char *task_id, char **ret);
