/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What other queues ask, in Emcee's protocol, and what people ask about it. */

#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "core/sharing/emcee.h"
#include "queue/moment.h"
#include "queue/queue.h"
#include "queue/routes.h"
#include "queue/sharing-describe.h"

/* Emcee checks no Content-Type. */
static int check_header(
                void *userdata,
                const HttpRequest *request,
                const RequestContext *context,
                Problem *reterr_problem) {
        return 0;
}

/* Everything that is wrong is a 400 there; but who is kept out is told so. */
static void refuse(void *userdata, HttpRequest *request, const Problem *problem) {
        _cleanup_(freep) char *text = NULL;
        int status = problem->status == 401 || problem->status == 403 || problem->status == 421 ?
                        problem->status :
                        400;
        (void) emcee_error_format(http_request_path(request), problem, &text);
        http_request_answer(request, status, "text/plain", text, text ? strlen(text) : 0);
}

const EndpointStyle emcee_style = {
        .check_header = check_header,
        .refuse = refuse,
};

static void answer(HttpRequest *request, const Queue *queue, json_object *object) {
        (void) http_request_add_header(request, EMCEE_IDENTITY_HEADER, http_sharing_identity(queue->sharing));
        http_request_answer_json(request, 200, object);
}

/* An empty body is not JSON, and so not a request. */
static int check_body(HttpRequest *request, json_object **ret) {
        Problem problem = {};
        int r = request_parse_body(request, ret, &problem);
        if (r < 0)
                refuse(NULL, request, &problem);
        return r;
}

void route_queue_version(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Queue *queue = userdata;
        _cleanup_(json_putp) json_object *body = NULL;
        json_object *object = NULL;
        if (check_body(request, &body) < 0)
                return;
        (void) emcee_queue_version_format(http_sharing_shown_version(queue->sharing), &object);
        answer(request, queue, object);
}

void route_worker_ids(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Queue *queue = userdata;
        _cleanup_(json_putp) json_object *body = NULL;
        json_object *object = NULL;
        if (check_body(request, &body) < 0)
                return;
        (void) emcee_worker_ids_format(http_sharing_configured(queue->sharing), &object);
        answer(request, queue, object);
}

/* A queue of ours says who it is by a header, so that it does not matter how its address is spelled. */
static void take_identity(const HttpRequest *request, SharingQueue *asker) {
        const char *identity = http_request_header(request, EMCEE_IDENTITY_HEADER);
        char *address;
        if (!identity || emcee_identity_parse(identity, asker->id, &address) < 0)
                return;
        free(asker->address);
        asker->address = address;
}

void route_workers_to_utilize(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Queue *queue = userdata;
        _cleanup_(json_putp) json_object *body = NULL;
        SharingQueue asker = {};
        Problem problem = {};
        if (check_body(request, &body) < 0)
                return;
        if (emcee_workers_to_utilize_parse(body, &asker, &problem) < 0) {
                refuse(NULL, request, &problem);
                return;
        }
        take_identity(request, &asker);
        http_sharing_answer_share(queue->sharing, request, &asker);
}

void route_toggle_sharing(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Queue *queue = userdata;
        _cleanup_(json_putp) json_object *body = NULL;
        json_object *object = NULL;
        Problem problem = {};
        bool enabled;
        if (check_body(request, &body) < 0)
                return;
        if (emcee_toggle_parse(body, &enabled, &problem) < 0) {
                refuse(NULL, request, &problem);
                return;
        }
        http_sharing_toggle(queue->sharing, enabled);
        (void) emcee_void_format(&object);
        answer(request, queue, object);
}

static int status_of(const Worker *worker, EmceeWorkerStatus *ret) {
        *ret = (EmceeWorkerStatus) {
                .id = strdup(worker->id),
                .registered = worker->identity != WORKER_UNKNOWN,
                .disabled = worker->disabled,
                .silent = worker->silent,
                .permitted = worker->permitted,
        };
        return ret->id ? 0 : -ENOMEM;
}

/* The ids of what runs there, as the queue's clients know them. */
static int add_buckets(const ScheduledWorker *worker, EmceeWorkerStatus *status) {
        status->buckets = calloc(worker->worker.n_attempts + 1, sizeof(char *));
        if (!status->buckets)
                return -ENOMEM;
        size_t n = 0;
        for (const ScheduledTask *scheduled = worker->attempts; scheduled;
             scheduled = scheduled->next_at_worker) {
                const Task *task = scheduled->userdata;
                status->buckets[n] = strdup(task->task_id);
                if (!status->buckets[n])
                        return -ENOMEM;
                n++;
        }
        return 0;
}

void route_worker_status(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Queue *queue = userdata;
        _cleanup_(json_putp) json_object *body = NULL;
        json_object *object = NULL;
        if (check_body(request, &body) < 0)
                return;
        EmceeWorkerStatus *status = calloc(queue->workers.n_workers + 1, sizeof(*status));
        int r = status ? 0 : -ENOMEM;
        for (size_t i = 0; r >= 0 && i < queue->workers.n_workers; i++) {
                const ScheduledWorker *worker = http_worker_scheduled(queue->workers.workers[i]->http);
                r = status_of(&worker->worker, &status[i]);
                if (r >= 0)
                        r = add_buckets(worker, &status[i]);
        }
        if (r >= 0)
                (void) emcee_worker_status_format(status, queue->workers.n_workers, &object);
        emcee_worker_status_free(status, status ? queue->workers.n_workers : 0);
        answer(request, queue, object);
}

void route_queues(void *userdata, HttpRequest *request, const RequestContext *context) {
        const Queue *queue = userdata;
        Moment now = moment_now();
        http_request_answer_json(request, 200, sharing_describe(http_sharing_state(queue->sharing), &now));
}
