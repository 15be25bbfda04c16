/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Calls by which systemd queues a job, from the message to the end of that job.
 *
 * - StartTransientUnit() answers with a job; the process is in its cgroup only when JobRemoved says "done"
 * (252, 257, 262).
 * - dbus-daemon refuses more than 128 pending replies of a connection, so the calls under way are bounded. */
#include <stdio.h>

#include "base/text.h"
#include "io/systemd1-internal.h"

#define CALLS_UNDER_WAY_MAX 16
#define CALL_TIMEOUT_USEC   (30 * USEC_PER_SEC)

typedef struct Job {
        sd_bus_message *message; /* until it was sent */
        char *unit;
        char *path; /* of the job, once systemd has answered */
        sd_bus_slot *slot;
} Job;

static void job_free(void *payload) {
        Job *job = payload;
        if (!job)
                return;
        sd_bus_slot_unref(job->slot);
        sd_bus_message_unref(job->message);
        free(job->unit);
        free(job->path);
        free(job);
}

static int call_errno(const sd_bus_error *error) {
        if (sd_bus_error_has_name(error, "org.freedesktop.systemd1.UnitExists"))
                return -EEXIST;
        if (sd_bus_error_has_name(error, "org.freedesktop.systemd1.NoSuchUnit"))
                return -ENOENT;
        return systemd1_reply_errno(error);
}

static int on_reply(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        QueuedCall *call = userdata;
        Job *job = call->payload;
        if (sd_bus_message_is_method_error(reply, NULL)) {
                const sd_bus_error *error = sd_bus_message_get_error(reply);
                _cleanup_(freep) char *message = strdup(error->message ?: error->name);
                queued_call_finish(call, call_errno(error), message ?: "out of memory");
                return 0;
        }
        const char *path;
        int r = sd_bus_message_read(reply, "o", &path);
        if (r >= 0) {
                job->path = strdup(path);
                r = job->path ? 0 : -ENOMEM;
        }
        if (r < 0)
                queued_call_finish(call, r, "cannot read systemd's reply");
        return 0;
}

static int job_send(QueuedCall *call, void *payload, void *userdata) {
        Systemd1 *systemd1 = userdata;
        Job *job = payload;
        int r = sd_bus_call_async(systemd1->bus, &job->slot, job->message, on_reply, call, CALL_TIMEOUT_USEC);
        job->message = sd_bus_message_unref(job->message);
        r = systemd1_send_errno(r);
        return r == -EAGAIN ? -EIO : r;
}

static void job_ended(QueuedCall *call, const char *result) {
        if (streq(result, "done")) {
                queued_call_finish(call, 0, NULL);
                return;
        }
        _cleanup_(text_done) Text message = {};
        (void) text_appendf(&message, "systemd's job ended with result \"%s\"", result);
        queued_call_finish(call, -EIO, message.data ?: "systemd's job failed");
}

int systemd1_on_job_removed(sd_bus_message *signal, void *userdata, sd_bus_error *reterr_error) {
        Systemd1 *systemd1 = userdata;
        const char *path, *unit, *result;
        uint32_t id;
        if (sd_bus_message_read(signal, "uoss", &id, &path, &unit, &result) < 0)
                return 0;
        for (QueuedCall *call = systemd1->jobs.calls; call; call = call->next) {
                const Job *job = call->payload;
                if (job->path && streq(job->unit, unit) && streq(job->path, path)) {
                        job_ended(call, result);
                        break;
                }
        }
        return 0;
}

int systemd1_jobs_init(Systemd1 *systemd1) {
        static const CallCarrier carrier = { .send = job_send, .payload_free = job_free };
        return call_queue_init(
                        &systemd1->jobs,
                        systemd1->event,
                        &carrier,
                        systemd1,
                        CALLS_UNDER_WAY_MAX,
                        CALL_TIMEOUT_USEC);
}

int systemd1_call_job(
                Systemd1 *systemd1,
                sd_bus_message *message,
                const char *unit,
                CallDone done,
                void *userdata,
                QueuedCall **ret) {
        Job *job = calloc(1, sizeof(*job));
        if (!job) {
                sd_bus_message_unref(message);
                return -ENOMEM;
        }
        *job = (Job) { .message = message, .unit = strdup(unit) };
        if (!job->unit) {
                job_free(job);
                return -ENOMEM;
        }
        return call_queue_add(&systemd1->jobs, job, done, userdata, ret);
}

int systemd1_stop_unit(
                Systemd1 *systemd1,
                const char *name,
                CallDone done,
                void *userdata,
                QueuedCall **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r = systemd1_manager_message(systemd1, "StopUnit", &m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "ss", name, "replace");
        if (r < 0)
                return r;
        return systemd1_call_job(systemd1, TAKE_PTR(m), name, done, userdata, ret);
}

void systemd1_kill_unit(Systemd1 *systemd1, const char *name, int signal) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        if (systemd1_manager_message(systemd1, "KillUnit", &m) < 0 ||
            sd_bus_message_append(m, "ssi", name, "all", (int32_t) signal) < 0 ||
            sd_bus_message_set_expect_reply(m, false) < 0)
                return;
        (void) sd_bus_send(systemd1->bus, m, NULL);
}
