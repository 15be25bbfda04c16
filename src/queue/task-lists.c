/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/task-lists.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "queue/describe.h"

/* Of stored text that are read in one step: a millisecond's work, unless a single task is larger. */
#define PIECE_BYTES ((size_t) 64 * 1024)

/* Each is behind what was told before; so many, at most, are read for one page. */
#define OUTDATED_MAX (2 * TASK_LIST_MAX)

static_assert(TASK_LIST_MAX <= STORE_LIST_LIMIT_MAX, "the store can read a page");

typedef struct ListJob ListJob;
struct ListJob {
        TaskLists *lists; /* weak */
        ListJob *previous, *next;
        HttpRequest *request; /* NULL: the client is gone, while the store was asked */
        TaskListRequest wanted;
        TaskPage page;
        unsigned n_outdated; /* pieces that ended before a task that had ended meanwhile */
};

struct TaskLists {
        const TaskSources *sources;
        ListJob *first; /* the one that is made */
};

int task_lists_new(const TaskSources *sources, TaskLists **ret) {
        TaskLists *lists = calloc(1, sizeof(*lists));
        if (!lists)
                return -ENOMEM;
        lists->sources = sources;
        *ret = lists;
        return 0;
}

static void job_free(ListJob *job) {
        TaskLists *lists = job->lists;
        DL_DELETE2(lists->first, job, previous, next);
        task_page_done(&job->page);
        free(job);
}

TaskLists *task_lists_free(TaskLists *lists) {
        if (!lists)
                return NULL;
        while (lists->first)
                job_free(lists->first);
        free(lists);
        return NULL;
}

/* NEXT is the store's, 0 at the end of the list. */
static void job_answer(ListJob *job, int r, uint64_t next) {
        HttpRequest *request = job->request;
        http_request_on_hangup(request, NULL, NULL);
        if (r >= 0)
                r = task_page_end(&job->page, next > 0 ? next : UINT64_MAX);
        if (r >= 0)
                http_request_answer_text(request, 200, "application/json", &job->page.text);
        else
                describe_answer_error(request, r);
        job_free(job);
}

/* A result is stored as it is shown. */
static int add_entry(ListJob *job, const StoreEntry *entry) {
        if (entry->task.result)
                return task_page_add_text(&job->page, entry->task.result, strlen(entry->task.result));
        json_object *attempt;
        int r = describe_entry(job->lists->sources, entry, OUTPUT_NONE, &attempt);
        return r < 0 ? r : task_page_add(&job->page, attempt);
}

static void run_first(TaskLists *lists);

static void on_piece(
                int r,
                const StoreEntry *entries,
                size_t n,
                uint64_t next,
                const Moment *now,
                void *userdata) {
        ListJob *job = userdata;
        TaskLists *lists = job->lists;
        size_t bytes = 0;
        for (size_t i = 0; job->request && r >= 0 && i < n; i++) {
                r = add_entry(job, &entries[i]);
                bytes += stored_task_listed_bytes(&entries[i].task);
                if (r >= 0)
                        job->wanted.after = entries[i].task.seq;
        }
        /* One that has ended since the piece was read begins the next one. */
        bool is_outdated = r == -EAGAIN && job->n_outdated++ < OUTDATED_MAX;
        if (is_outdated)
                r = 0;
        else
                job->wanted.after = next;
        /* A piece that is neither large nor the last ended because many tasks were looked at for few. */
        bool goes_on = is_outdated ||
                        (next > 0 && bytes >= PIECE_BYTES &&
                         !task_page_is_full(&job->page, job->wanted.limit));
        if (!job->request)
                job_free(job);
        else if (r < 0 || !goes_on)
                job_answer(job, r, next);
        run_first(lists);
}

static int read_piece(ListJob *job) {
        const TaskSources *sources = job->lists->sources;
        const TaskListRequest *wanted = &job->wanted;
        return sources->store_port->list(
                        sources->store,
                        &(StoreFilter) {
                                        .state = wanted->state ? stored_state_from_string(wanted->state) : -1,
                                        .labels = wanted->labels,
                                        .after = wanted->after == UINT64_MAX ? 0 : wanted->after,
                                        .limit = wanted->limit - job->page.n_tasks,
                                        .bytes_max = PIECE_BYTES,
                        },
                        on_piece,
                        job);
}

static void run_first(TaskLists *lists) {
        while (lists->first) {
                int r = read_piece(lists->first);
                if (r >= 0)
                        return;
                job_answer(lists->first, r, 0);
        }
}

static void on_hangup(HttpRequest *request, void *userdata) {
        ListJob *job = userdata;
        job->request = NULL;
        if (job != job->lists->first)
                job_free(job);
}

void task_lists_answer(TaskLists *lists, HttpRequest *request, const TaskListRequest *wanted) {
        ListJob *job = calloc(1, sizeof(*job));
        if (!job) {
                describe_answer_error(request, -ENOMEM);
                return;
        }
        *job = (ListJob) { .lists = lists, .request = request, .wanted = *wanted };
        DL_APPEND2(lists->first, job, previous, next);
        http_request_on_hangup(request, on_hangup, job);
        if (lists->first == job)
                run_first(lists);
}
