/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/describe.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/text/unit-name.h"
#include "queue/moment.h"

/* Two are enough, but for a task that ends and is tried again all the while. */
#define READS_MAX 100

static int add_empty_outputs(json_object *object, OutputMode mode) {
        if (mode == OUTPUT_NONE) {
                json_object_object_del(object, "output");
                json_object_object_del(object, "error");
                return 0;
        }
        int r = json_add_string(object, "output", "");
        return r < 0 ? r : json_add_string(object, "error", "");
}

static int describe_live(
                const Task *task,
                const char *spec_text,
                const StoreEntry *entry,
                OutputMode mode,
                json_object **ret) {
        _cleanup_(json_putp) json_object *object = NULL;
        int r = task_describe(
                        task,
                        spec_text,
                        entry ? entry->attempts : NULL,
                        entry ? entry->n_attempts : 0,
                        &object);
        if (r >= 0)
                r = add_empty_outputs(object, mode);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(object);
        return 0;
}

/* Whether the attempt has all that the stream said. */
static bool is_whole(json_object *attempt, StoredStream stream) {
        const char *key = stream == STORED_STDERR ? "error_truncated" : "output_truncated";
        json_object *truncated;
        return json_object_object_get_ex(attempt, key, &truncated) && !json_object_get_boolean(truncated);
}

/* Cut at characters: a piece begins and ends with whole ones where it is not the stream's own begin or end.
 */
static int add_output(
                json_object *attempt,
                const char *key,
                StoredStream stream,
                const StoreOutput *output,
                OutputMode mode) {
        bool is_piece = output->size < output->total, is_tail = is_piece && mode == OUTPUT_TAIL;
        bool has_end = (!is_piece || is_tail) && is_whole(attempt, stream);
        const char *bytes = output->bytes ?: "";
        size_t begin = is_tail ? text_cut_off_begin(bytes, output->size) : 0;
        size_t end = has_end ? output->size : text_cut_off_end(bytes, output->size);
        return queue_attempt_add_output(attempt, key, bytes + begin, end > begin ? end - begin : 0, is_piece);
}

static int describe_finished(const StoreEntry *entry, OutputMode mode, json_object **ret) {
        static const char *const keys[] = { [STORED_STDOUT] = "output", [STORED_STDERR] = "error" };
        _cleanup_(json_putp) json_object *object = NULL;
        Problem problem = {};
        int r = json_parse(entry->task.result, strlen(entry->task.result), &object, &problem);
        for (StoredStream i = STORED_STDOUT; r >= 0 && mode != OUTPUT_NONE && i <= STORED_STDERR; i++)
                r = add_output(object, keys[i], i, &entry->outputs[i], mode);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(object);
        return 0;
}

int describe_now(const TaskSources *sources, const char *task_id, OutputMode mode, json_object **ret) {
        const Task *task = delivery_find_task(sources->delivery, task_id);
        if (!task || task->is_stored || !task->spec_text || task->attempt_number > 1 ||
            (task->attempt_number == 1 && !task->attempt_id))
                return -EAGAIN;
        return describe_live(task, task->spec_text, NULL, mode, ret);
}

int describe_entry(const TaskSources *sources, const StoreEntry *entry, OutputMode mode, json_object **ret) {
        if (entry->task.result)
                return describe_finished(entry, mode, ret);
        const Task *task = delivery_find_task(sources->delivery, entry->task.task_id);
        return task ? describe_live(task, entry->task.spec, entry, mode, ret) : -EAGAIN;
}

typedef struct Description {
        const TaskSources *sources; /* weak */
        char task_id[TASK_ID_MAX + 1];
        OutputMode mode;
        unsigned n_reads;
        DescribeDone done;
        void *userdata;
} Description;

static int description_read(Description *description);

/* What was read may be older than the end of the task, of which the queue has heard meanwhile; that is there
 * when it is read again. */
static void on_got(int r, const StoreEntry *entry, const Moment *now, void *userdata) {
        Description *description = userdata;
        json_object *object = NULL;
        if (r >= 0)
                r = describe_entry(description->sources, entry, description->mode, &object);
        if (r == -EAGAIN) {
                r = description->n_reads < READS_MAX ? description_read(description) : -EIO;
                if (r >= 0)
                        return;
        }
        description->done(r, object, description->userdata);
        free(description);
}

static int description_read(Description *description) {
        const TaskSources *sources = description->sources;
        uint64_t bytes_max = sources->config->inline_output_bytes;
        if (description->mode == OUTPUT_TAIL && bytes_max > OUTPUT_TAIL_BYTES)
                bytes_max = OUTPUT_TAIL_BYTES;
        description->n_reads++;
        return sources->store_port->get(
                        sources->store,
                        description->task_id,
                        &(StoreWanted) {
                                        .attempts = true,
                                        .output_bytes_max = description->mode == OUTPUT_NONE ? 0 : bytes_max,
                                        .tail = description->mode == OUTPUT_TAIL,
                        },
                        on_got,
                        description);
}

int describe_task(
                const TaskSources *sources,
                const char *task_id,
                OutputMode mode,
                DescribeDone done,
                void *userdata) {
        Description *description = malloc(sizeof(*description));
        if (!description)
                return -ENOMEM;
        *description = (Description) { .sources = sources, .mode = mode, .done = done, .userdata = userdata };
        (void) strncpy(description->task_id, task_id, TASK_ID_MAX);
        int r = description_read(description);
        if (r < 0)
                free(description);
        return r;
}

void describe_answer_error(HttpRequest *request, int r) {
        Problem problem = {};
        if (r == -ENOENT)
                (void) problem_set(&problem, 404, NULL, "there is no task of this id");
        else
                (void) problem_from_errno(&problem, r);
        http_request_answer_problem(request, &problem, NULL);
}

/* Why it waits, if it does. */
static int add_pending(const TaskSources *sources, const char *task_id, json_object *object) {
        const Task *task = delivery_find_task(sources->delivery, task_id);
        json_object *pending = NULL;
        if (!task || task->is_stored)
                return 0;
        Moment now = moment_now();
        int r = task_describe_pending(task, &now, &pending);
        return r < 0 || !pending ? r : json_add(object, "pending", pending);
}

/* A request that waits for the store. */
typedef struct PendingAnswer {
        const TaskSources *sources; /* weak */
        HttpRequest *request;       /* NULL: the client is gone */
        int status;
        char task_id[TASK_ID_MAX + 1];
} PendingAnswer;

static void on_hangup(HttpRequest *request, void *userdata) {
        PendingAnswer *pending = userdata;
        pending->request = NULL;
}

static void on_described(int r, json_object *object, void *userdata) {
        PendingAnswer *pending = userdata;
        HttpRequest *request = pending->request;
        int status = pending->status;
        if (r >= 0 && request)
                r = add_pending(pending->sources, pending->task_id, object);
        free(pending);
        if (!request || r < 0)
                object = (json_object_put(object), NULL);
        if (!request)
                return;
        http_request_on_hangup(request, NULL, NULL);
        if (r < 0)
                describe_answer_error(request, r);
        else
                http_request_answer_json(request, status, object);
}

void describe_answer(
                const TaskSources *sources,
                HttpRequest *request,
                int status,
                const char *task_id,
                OutputMode mode) {
        json_object *object = NULL;
        int r = describe_now(sources, task_id, mode, &object);
        if (r >= 0) {
                if (add_pending(sources, task_id, object) < 0)
                        object = (json_object_put(object), NULL);
                http_request_answer_json(request, status, object);
                return;
        }
        PendingAnswer *pending = malloc(sizeof(*pending));
        r = pending ? 0 : -ENOMEM;
        if (pending) {
                *pending = (PendingAnswer) { .sources = sources, .request = request, .status = status };
                (void) strncpy(pending->task_id, task_id, TASK_ID_MAX);
                r = describe_task(sources, task_id, mode, on_described, pending);
        }
        if (r >= 0) {
                http_request_on_hangup(request, on_hangup, pending);
                return;
        }
        free(pending);
        describe_answer_error(request, r);
}
