/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* In steps, since some of what is to be known is in the store: each task is read; where its id may be there
 * already, that is looked up; then it is decided on; what is new is stored; then all are described for the
 * answer. A batch goes through these steps a few tasks at a time, in order, and everybody else is served in
 * between; only their storing is not waited for before the next few. */

#include "queue/submit.h"

#include <assert.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/task/queue-spec.h"
#include "core/task/task-request.h"
#include "io/random-id.h"
#include "queue/after-lookup.h"
#include "queue/describe.h"
#include "queue/moment.h"
#include "queue/queue.h"
#include "queue/routes.h"

#define RETRY_AFTER_SEC 5

/* Of a batch in one turn: a millisecond's work, unless they are large. */
#define STEP_ITEMS 20

typedef enum Found {
        FOUND_UNKNOWN, /* the store is to be asked */
        FOUND_NOTHING,
        FOUND_SAME,  /* a task of this id and specification */
        FOUND_OTHER, /* a task of this id */
} Found;

/* One task of a request. */
typedef struct Item {
        struct Submit *submit; /* weak */
        json_object *body;     /* as it was submitted */
        QueueSpec *spec;
        AfterLookup *after; /* NULL: it waits for nobody, or is not new */
        char *task_id;
        Found found;
        bool is_new;     /* it is stored by this request */
        bool is_full;    /* refused because it does not fit now: the answer shows the capacity */
        Problem problem; /* status 0: none */
        json_object *attempt;
} Item;

/* A request under way. */
typedef struct Submit {
        Queue *queue;
        HttpRequest *request; /* NULL: the client is gone */
        json_object *body;    /* an array: it is a batch; NULL: a single task */
        LongJob *job;         /* what goes on in a later turn; NULL */
        Text outcomes;        /* of a batch */
        int error;            /* in making them */
        size_t n_lookups;     /* under way */
        size_t n_writes;      /* under way */
        size_t begin, end;    /* the items that are looked at; those before are decided on */
        size_t described;     /* items that are, or need not be */
        size_t n_items;
        Item items[];
} Submit;

static void submit_free(void *userdata) {
        Submit *submit = userdata;
        for (size_t i = 0; i < submit->n_items; i++) {
                Item *item = &submit->items[i];
                json_object_put(item->body);
                json_object_put(item->attempt);
                after_lookup_free(item->after);
                queue_spec_free(item->spec);
                free(item->task_id);
        }
        text_done(&submit->outcomes);
        json_object_put(submit->body);
        free(submit);
}

static void on_hangup(HttpRequest *request, void *userdata) {
        Submit *submit = userdata;
        submit->request = NULL;
}

static Submit *submit_new(Queue *queue, HttpRequest *request, size_t n) {
        Submit *submit = calloc(1, sizeof(*submit) + n * sizeof(Item));
        if (!submit) {
                http_request_answer_json(request, 200, NULL);
                return NULL;
        }
        submit->queue = queue;
        submit->request = request;
        submit->n_items = n;
        for (size_t i = 0; i < n; i++)
                submit->items[i].submit = submit;
        http_request_on_hangup(request, on_hangup, submit);
        return submit;
}

/* Goes on with STEP in a later turn, or at once when there is no memory to remember that. */
static void submit_later(Submit *submit, LongJobStep step) {
        assert(!submit->job);
        if (long_jobs_add(submit->queue->daemon.long_jobs, step, submit_free, submit, &submit->job) < 0) {
                submit->job = NULL;
                (void) step(submit);
        }
}

/* ── the answer ── */

static void answer_one(Submit *submit) {
        Item *item = &submit->items[0];
        HttpRequest *request = submit->request;
        _cleanup_(freep) char *location = NULL;
        if (item->problem.status) {
                http_request_answer_problem(
                                request,
                                &item->problem,
                                item->is_full ? queue_capacity_json(submit->queue) : NULL);
                return;
        }
        if (task_path_format(item->task_id, &location) >= 0)
                (void) http_request_add_header(request, "Location", location);
        http_request_answer_json(request, item->is_new ? 202 : 200, TAKE_PTR(item->attempt));
}

static json_object *item_outcome(Item *item) {
        return item->problem.status ?
                        task_batch_refused(
                                        item->task_id,
                                        &item->problem,
                                        item->is_full ? queue_capacity_json(item->submit->queue) : NULL) :
                        task_batch_accepted(item->task_id, item->is_new, TAKE_PTR(item->attempt));
}

static int add_outcome(Submit *submit, json_object *outcome) {
        _cleanup_(json_putp) json_object *owned = outcome;
        _cleanup_(freep) char *text = NULL;
        size_t size = 0;
        int r = owned ? json_format(owned, &text, &size) : -ENOMEM;
        if (r >= 0)
                r = text_append(&submit->outcomes, submit->outcomes.size == 0 ? "[" : ",");
        return r < 0 ? r : text_append_bytes(&submit->outcomes, text, size);
}

static void answer_batch(Submit *submit) {
        if (submit->error >= 0 && submit->outcomes.size == 0)
                submit->error = text_append(&submit->outcomes, "[");
        if (submit->error >= 0)
                submit->error = text_append(&submit->outcomes, "]");
        if (submit->error >= 0)
                http_request_answer_text(submit->request, 200, "application/json", &submit->outcomes);
        else
                http_request_answer_json(submit->request, 200, NULL);
}

/* What was refused for now by a member that does not lead any more, the next one decides on. Tasks that were
 * taken are there already then; but not those whose ids the client does not know yet. */
static void leave_to_next(Submit *submit) {
        const Problem *refusal = NULL;
        for (size_t i = 0; i < submit->n_items; i++) {
                const Item *item = &submit->items[i];
                if (item->is_new && !item->spec->task->task_id)
                        return;
                if (item->problem.status == 503)
                        refusal = &item->problem;
        }
        if (refusal)
                queue_leave_to_next(submit->queue, &submit->request, refusal);
}

static void answer(Submit *submit) {
        leave_to_next(submit);
        if (submit->request) {
                http_request_on_hangup(submit->request, NULL, NULL);
                if (submit->body)
                        answer_batch(submit);
                else
                        answer_one(submit);
        }
        submit_free(submit);
}

static void describe_items(Submit *submit);

/* The next item is described, or cannot be. In a batch its outcome becomes text at once. */
static void item_described(Submit *submit) {
        Item *item = &submit->items[submit->described++];
        if (submit->body && submit->error >= 0)
                submit->error = add_outcome(submit, item_outcome(item));
}

static void on_described(int r, json_object *object, void *userdata) {
        Submit *submit = userdata;
        Item *item = &submit->items[submit->described];
        item->attempt = object;
        if (r == -ENOENT) /* others may forget it while the rest of a batch is taken */
                (void) problem_set_for_now(
                                &item->problem, 503, RETRY_AFTER_SEC, "the task was forgotten meanwhile");
        item_described(submit);
        describe_items(submit);
}

static bool describe_step(void *userdata) {
        Submit *submit = userdata;
        submit->job = NULL;
        describe_items(submit);
        return false;
}

static void describe_items(Submit *submit) {
        OutputMode mode = submit->body ? OUTPUT_NONE : OUTPUT_FULL;
        size_t end = submit->described + STEP_ITEMS;
        for (; submit->request && submit->described < submit->n_items; item_described(submit)) {
                Item *item = &submit->items[submit->described];
                if (submit->described == end) {
                        submit_later(submit, describe_step);
                        return;
                }
                if (item->problem.status ||
                    describe_now(&submit->queue->sources, item->task_id, mode, &item->attempt) >= 0)
                        continue;
                if (describe_task(&submit->queue->sources, item->task_id, mode, on_described, submit) >= 0)
                        return;
        }
        answer(submit);
}

/* ── storing ── */

/* Some items on their way to the disk. */
typedef struct Storing {
        Submit *submit;
        size_t begin, end;
} Storing;

static void storing_done(Submit *submit, const Storing *storing, int r) {
        for (size_t i = storing->begin; r < 0 && i < storing->end; i++)
                if (submit->items[i].problem.status == 0)
                        (void) problem_from_errno(&submit->items[i].problem, r);
        if (submit->n_writes == 0 && submit->begin == submit->n_items)
                describe_items(submit);
}

static void on_accepted(int r, const Moment *now, void *userdata) {
        _cleanup_(freep) Storing *storing = userdata;
        storing->submit->n_writes--;
        storing_done(storing->submit, storing, r);
}

int submit_check(Queue *queue, const QueueSpec *spec, Problem *problem) {
        Scheduler *scheduler = delivery_scheduler(queue->delivery);
        if (queue_is_draining(queue))
                return problem_set_for_now(
                                problem,
                                503,
                                RETRY_AFTER_SEC,
                                "this queue is draining and takes no new tasks");
        if (!scheduler_could_fit(scheduler, &spec->task->resources))
                return problem_set(problem, 422, "/resources", "no worker can ever offer these resources");
        if (scheduler_n_waiting(scheduler) + delivery_n_uncommitted(queue->delivery) >=
            queue->config->queue_max)
                return problem_set_for_now(problem, 429, RETRY_AFTER_SEC, "too many tasks are waiting");
        return 0;
}

static int check_fits_now(Item *item, const Moment *now) {
        Scheduler *scheduler = delivery_scheduler(item->submit->queue->delivery);
        const TaskSpec *spec = item->spec->task;
        if (spec->when_full != WHEN_FULL_REJECT ||
            scheduler_fits_now(scheduler, &spec->resources, now->boottime_usec))
                return 0;
        item->is_full = true;
        return problem_set(&item->problem, 409, NULL, "the task does not fit right now");
}

/* *RET is how those have ended that it is to wait for, and that are not live. */
static int check_after(Item *item, const AfterState **ret) {
        char field[PROBLEM_FIELD_SIZE];
        size_t missing;
        *ret = NULL;
        if (!item->after)
                return 0;
        *ret = after_lookup_states(item->after, &missing);
        if (*ret)
                return 0;
        json_pointer_index(field, "/after", missing);
        return problem_set(&item->problem, 422, field, "there is no task of this id");
}

/* A new task goes into BATCH. */
static Task *decide(Item *item, StoreBatch *batch, const Moment *now) {
        if (item->problem.status || item->found == FOUND_SAME)
                return NULL;
        if (item->found == FOUND_OTHER) {
                (void) problem_set(&item->problem, 409, NULL, "a different task has this id");
                return NULL;
        }
        const AfterState *after;
        if (check_after(item, &after) < 0 || check_fits_now(item, now) < 0 ||
            submit_check(item->submit->queue, item->spec, &item->problem) < 0)
                return NULL;
        Task *task = NULL;
        int r = delivery_put_task(
                        item->submit->queue->delivery,
                        &(NewTask) {
                                        .task_id = item->task_id,
                                        .spec = item->spec,
                                        .body = item->body,
                                        .after = after,
                        },
                        batch,
                        now,
                        &task);
        if (r == -EAGAIN)
                (void) problem_set_for_now(
                                &item->problem, 503, RETRY_AFTER_SEC, "the store is busy: try again");
        else if (r == -EDQUOT)
                (void) problem_set_for_now(
                                &item->problem,
                                429,
                                RETRY_AFTER_SEC,
                                "too many tasks wait for too many others");
        else if (r == -EMSGSIZE)
                (void) problem_set(
                                &item->problem,
                                413,
                                NULL,
                                "with what the queue adds for a worker, the task is larger than "
                                "\"body_max_bytes\"");
        else if (r < 0)
                (void) problem_from_errno(&item->problem, r);
        item->is_new = r >= 0;
        return r < 0 ? NULL : task;
}

static void look_up(Item *item);
static void look_up_again(Submit *submit);

static void next_items(Submit *submit);

/* Decides on the items that are looked at. */
static void decide_items(Submit *submit) {
        StoreBatch *batch = NULL;
        Moment now = moment_now();
        Task *tasks[STEP_ITEMS];
        size_t n_tasks = 0;
        Storing *storing = malloc(sizeof(*storing));
        int r = storing ? store_batch_new(&batch) : -ENOMEM;
        Storing items = { .submit = submit, .begin = submit->begin, .end = submit->end };
        submit->begin = submit->end;
        for (size_t i = items.begin; r >= 0 && i < items.end; i++) {
                Item *item = &submit->items[i];
                look_up(item); /* an earlier one of this very request may have its id */
                Task *task = decide(item, batch, &now);
                if (task)
                        tasks[n_tasks++] = task;
        }
        bool is_refused = r >= 0 && n_tasks == 0 && !submit->body && submit->items[0].problem.status;
        bool is_last = items.end == submit->n_items; /* SUBMIT may be gone when these are done */
        if (r < 0 || is_refused) {
                free(storing);
                store_batch_free(batch);
                storing_done(submit, &items, r);
        } else {
                *storing = items;
                submit->n_writes++;
                /* Even when nothing is new: what was there already may still be on its way to the disk. */
                delivery_accept(submit->queue->delivery, batch, tasks, n_tasks, on_accepted, storing, &now);
        }
        if (!is_last)
                next_items(submit);
}

/* ── what is there already ── */

static Found compare(const Item *item, const char *spec_text) {
        _cleanup_(queue_spec_freep) QueueSpec *spec = NULL;
        int r = delivery_parse_spec(item->submit->queue->delivery, spec_text, item->task_id, &spec);
        return r >= 0 && queue_spec_equal(spec, item->spec) ? FOUND_SAME : FOUND_OTHER;
}

/* As far as memory tells. */
static void look_up(Item *item) {
        if (item->problem.status || item->found == FOUND_SAME || item->found == FOUND_OTHER)
                return;
        const Task *task = delivery_find_task(item->submit->queue->delivery, item->task_id);
        if (task && task->spec_text)
                item->found = compare(item, task->spec_text);
        else if (task) /* too large to be kept */
                item->found = FOUND_UNKNOWN;
}

static void looked_up(Submit *submit) {
        if (--submit->n_lookups == 0)
                look_up_again(submit);
}

static void on_got(int r, const StoreEntry *entry, const Moment *now, void *userdata) {
        Item *item = userdata;
        if (r >= 0)
                item->found = compare(item, entry->task.spec);
        else if (r == -ENOENT)
                item->found = FOUND_NOTHING;
        else
                (void) problem_from_errno(&item->problem, r);
        looked_up(item->submit);
}

static void ask_store(Item *item) {
        const Queue *queue = item->submit->queue;
        int r = queue->store_port->get(queue->store, item->task_id, &(StoreWanted) {}, on_got, item);
        if (r < 0)
                (void) problem_from_errno(&item->problem, r);
        else
                item->submit->n_lookups++;
}

static void on_after_known(void *userdata) {
        const Item *item = userdata;
        looked_up(item->submit);
}

/* Whom a new task is to wait for. */
static void look_up_after(Item *item) {
        int r = 0;
        if (!item->after)
                r = after_lookup_new(
                                &item->submit->queue->sources,
                                item->spec->after,
                                on_after_known,
                                item,
                                &item->after);
        if (r >= 0)
                r = after_lookup_begin(item->after);
        if (r < 0)
                (void) problem_from_errno(&item->problem, r);
        else if (r > 0)
                item->submit->n_lookups++;
}

/* Until all is known: a task may have come, and gone to the store, while others were looked up. */
static void look_up_again(Submit *submit) {
        for (size_t i = submit->begin; i < submit->end; i++) {
                Item *item = &submit->items[i];
                look_up(item);
                if (!item->problem.status && item->found == FOUND_UNKNOWN)
                        ask_store(item);
                if (!item->problem.status && item->found == FOUND_NOTHING && item->spec->after)
                        look_up_after(item);
        }
        if (submit->n_lookups == 0)
                decide_items(submit);
}

/* ── what is wanted ── */

static int item_read(Item *item, json_object *body, const char *task_id) {
        TaskDefaults defaults = { .resources = item->submit->queue->config->default_resources };
        item->body = json_object_get(body);
        int r = queue_spec_parse(body, task_id, &defaults, &item->spec, &item->problem);
        if (r < 0)
                return r;
        if (item->spec->task->task_id)
                item->task_id = strdup(item->spec->task->task_id);
        else {
                item->found = FOUND_NOTHING;
                (void) random_id_new(&item->task_id);
        }
        return item->task_id ? 0 : problem_from_errno(&item->problem, ENOMEM);
}

static void item_read_of_batch(Item *item, json_object *element) {
        if (item_read(item, element, NULL) >= 0)
                return;
        const char *shown_id = item->task_id ? NULL : task_batch_id(element);
        if (shown_id)
                item->task_id = strdup(shown_id);
}

static bool next_step(void *userdata) {
        Submit *submit = userdata;
        submit->job = NULL;
        submit->end = submit->n_items - submit->begin < STEP_ITEMS ? submit->n_items :
                                                                     submit->begin + STEP_ITEMS;
        for (size_t i = submit->begin; i < submit->end; i++)
                item_read_of_batch(&submit->items[i], json_object_array_get_idx(submit->body, i));
        look_up_again(submit);
        return false;
}

static void next_items(Submit *submit) {
        submit_later(submit, next_step);
}

void submit_one(Queue *queue, HttpRequest *request, json_object *body, const char *task_id) {
        Submit *submit = submit_new(queue, request, 1);
        if (!submit)
                return;
        submit->end = 1;
        (void) item_read(&submit->items[0], body, task_id);
        look_up_again(submit);
}

void submit_many(Queue *queue, HttpRequest *request, json_object *body) {
        Submit *submit = submit_new(queue, request, json_object_array_length(body));
        if (!submit)
                return;
        submit->body = json_object_get(body);
        next_items(submit);
}
