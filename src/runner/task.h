/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A task and everything it owns at any stage; what happens to it is told in task-run.c. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/hash-table.h"
#include "base/usec.h"
#include "core/scheduling/admission.h"
#include "core/scheduling/capacity.h"
#include "core/task/devices.h"
#include "core/task/journal-entry.h"
#include "core/task/task-attempt.h"
#include "core/task/task-request.h"
#include "core/task/task-spec.h"
#include "core/task/task-state.h"
#include "io/call-queue.h"
#include "io/capture.h"
#include "io/leader-process.h"
#include "runner/own-unit.h"
#include "service/waiters.h"

typedef struct Runner Runner;
typedef struct Task Task;
typedef struct TaskReader TaskReader;

typedef enum TaskStream {
        TASK_STREAM_OUTPUT,
        TASK_STREAM_ERROR,
        _TASK_STREAM_MAX,
} TaskStream;

typedef struct TaskJournal {
        LineSplitter output, error;
        JournalRate rate;
} TaskJournal;

struct Task {
        Runner *runner; /* weak */
        TaskSpec *spec;
        char *unit;
        char *queue;          /* whose lease it was accepted under; NULL: there was none */
        uint64_t lease_epoch; /* of that */

        TaskState state;
        TaskEnd end;
        TaskResult result;
        TaskUsage usage;
        usec_t submit_usec, start_usec, stop_usec; /* to show, see task_clock() */
        usec_t submit_boottime_usec;
        usec_t start_boottime_usec, stop_boottime_usec;
        char *notes[TASK_NOTES_MAX + 1]; /* NULL-terminated */

        AdmissionEntry waiting;
        CapacityCharge charge;
        DeviceGrant *devices; /* from its start on; NULL: none yet */
        TaskScope scope;
        QueuedCall *scope_call;
        usec_t scope_taken_until_usec; /* 0: its name is not, as far as is known */
        unsigned start_attempts;
        LeaderProcess *leader;
        OwnUnitQuestion *shutdown_question; /* kept once it is answered: it is asked once … */
        bool shutdown_asked;                /* … also if that was before an upgrade */
        Capture *output, *error;
        TaskJournal journal;
        sd_event_source *timeout_source; /* the task's own limit */
        sd_event_source *scope_source;   /* systemd is asked again to make the scope, or to end it */
        sd_event_source *slow_source;    /* the kernel takes long to execute the command */
        sd_event_source *overdue_source; /* a leader that does not get done */
        sd_event_source *remains_source; /* what SIGKILL was sent to is looked at again … */
        usec_t remains_interval_usec;    /* … after so long */
        usec_t killed_usec;              /* when SIGKILL was sent first (CLOCK_BOOTTIME); 0: it was not */
        bool unkillable;                 /* it did not help, which has been told */

        Waiters waiters;     /* for its end */
        TaskReader *readers; /* of its output */

        UT_hash_handle by_id;
        Task *previous, *next; /* the table's order of submission */
        uint64_t sequence;
        Task *previous_finished, *next_finished;
        char *told;        /* once it is finished: the whole attempt, while that is small; NULL */
        size_t kept_bytes; /* charged to the table once finished */
        unsigned kept_files;
};

/* Takes over SPEC, whose task_id is set, in every case. */
int task_new(Runner *runner, TaskSpec *spec, Task **ret);
Task *task_free(Task *task);
DEFINE_POINTER_CLEANUP(Task, task_free)

/* Adds a line to the attempt's "executor" notes. Out of memory or too many: it is left out. */
void task_note(Task *task, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool task_is_live(const Task *task);

/* Whether clients see TASK in STATE (NULL: any) and all of LABELS hold for it, "key=value" (NULL: any). */
bool task_matches(const Task *task, const char *state, const char *const *labels);

/* The time of day at NOW_BOOTTIME_USEC as the task shows it: what the wall clock said at its submission, and
 * what has passed since. So a clock that is set meanwhile changes no order and no duration. */
usec_t task_clock(const Task *task, usec_t now_boottime_usec);

/* Writes down the attempt of a task that is finished, which will not change: it goes into the event of its
 * end and into the answers of whoever waits or asks. */
void task_write_down(Task *task);

/* Tells those who listen to /api/v1/events what has become of it. */
void task_send_event(const Task *task);

/* The TaskAttempt as it is now; the caller puts it. NULL when out of memory. */
json_object *task_to_json(const Task *task, OutputMode mode);

/* Answers REQUEST with the attempt and STATUS as soon as TASK is finished, or with what it is then after
 * TIMEOUT_USEC. Takes care of a client that goes away. */
void task_wait_add(Task *task, HttpRequest *request, int status, OutputMode mode, usec_t timeout_usec);

/* Answers all who wait for its end with what it is now: they may ask again. */
void task_end_waits(Task *task);
