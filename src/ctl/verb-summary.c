/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* summary: how many tasks there are of each kind. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/shell-status.h"
#include "ctl/attempt.h"
#include "ctl/say.h"
#include "ctl/task-list.h"
#include "ctl/verbs.h"

/* How many there are of each state and result. */
typedef struct Count {
        char *state, *result;
        uint64_t n;
} Count;

#define COUNTS_MAX 64

typedef struct Summary {
        Count counts[COUNTS_MAX];
        size_t n;
        uint64_t total;
} Summary;

static void summary_done(Summary *summary) {
        for (size_t i = 0; i < summary->n; i++) {
                free(summary->counts[i].state);
                free(summary->counts[i].result);
        }
}

static int on_summed(json_object *attempt, void *userdata) {
        Summary *summary = userdata;
        const char *state = member_text(attempt, "state"), *result = member_text(attempt, "result");
        Count *count = summary->counts;
        while (count < summary->counts + summary->n &&
               !(streq(count->state, state) && streq(count->result, result)))
                count++;
        summary->total++;
        if (count == summary->counts + summary->n) {
                if (summary->n == COUNTS_MAX)
                        return 0;
                *count = (Count) { .state = strdup(state), .result = strdup(result) };
                summary->n++;
                if (!count->state || !count->result)
                        return SHELL_STATUS_REFUSED;
        }
        count->n++;
        return 0;
}

static int compare_counts(const void *a, const void *b) {
        static const char *const order[] = { "queued", "running", "completed", "errored", "killed" };
        const Count *x = a, *y = b;
        size_t i = 0, j = 0;
        while (i < 5 && !streq(order[i], x->state))
                i++;
        while (j < 5 && !streq(order[j], y->state))
                j++;
        return i != j ? (i > j) - (i < j) : strcmp(x->result, y->result);
}

static int print_summary_json(const Summary *summary) {
        _cleanup_(json_putp) json_object *object = json_object_new_object(),
                                         *counts = json_object_new_array();
        _cleanup_(freep) char *text = NULL;
        int r = object && counts ? json_add_u64(object, "total", summary->total) : -ENOMEM;
        for (size_t i = 0; r >= 0 && i < summary->n; i++) {
                const Count *count = &summary->counts[i];
                json_object *row = json_object_new_object();
                r = row ? json_add_string(row, "state", count->state) : -ENOMEM;
                if (r >= 0)
                        r = json_add_string(row, "result", *count->result ? count->result : NULL);
                if (r >= 0)
                        r = json_add_u64(row, "tasks", count->n);
                if (row)
                        r = r < 0 ? (json_object_put(row), r) : json_append(counts, row);
        }
        if (r >= 0)
                r = json_add(object, "counts", TAKE_PTR(counts));
        if (r >= 0)
                r = json_format(object, &text, NULL);
        return r < 0 ? r : print_line(text, strlen(text));
}

static int print_summary(const Summary *summary) {
        static const char *const headers[] = { "STATE", "RESULT", ">TASKS", NULL };
        _cleanup_(table_freep) Table *table = NULL;
        char n[24];
        int r = table_new(headers, &table);
        for (size_t i = 0; r >= 0 && i < summary->n; i++) {
                const Count *count = &summary->counts[i];
                (void) snprintf(n, sizeof(n), "%" PRIu64, count->n);
                const char *const cells[] = { count->state, count->result, n };
                r = table_add(table, cells);
                if (r >= 0)
                        r = table_paint(table, 0, attempt_state_colour(count->state));
        }
        (void) snprintf(n, sizeof(n), "%" PRIu64, summary->total);
        const char *const cells[] = { "total", "", n };
        if (r >= 0)
                r = table_add(table, cells);
        return r < 0 ? r : print_table(table);
}

int verb_summary(Session *session, char **arguments) {
        _cleanup_(summary_done) Summary summary = {};
        TaskFilter filter;
        if (task_filter_parse(&session->options, usec_now(CLOCK_REALTIME), &filter) < 0)
                return SHELL_STATUS_USAGE;
        int status = task_list(
                        session, &filter, &(TaskListing) { .on_task = on_summed, .userdata = &summary });
        if (status != 0)
                return status;
        qsort(summary.counts, summary.n, sizeof(*summary.counts), compare_counts);
        int r = session->json ? print_summary_json(&summary) : print_summary(&summary);
        return r < 0 ? SHELL_STATUS_REFUSED : 0;
}
