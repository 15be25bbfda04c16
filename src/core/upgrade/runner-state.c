/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/upgrade/runner-state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/http/event-log.h"
#include "core/scheduling/lease.h"
#include "core/task/resources.h"
#include "core/task/task-attempt.h"
#include "core/task/task-spec.h"
#include "core/task/task-state.h"
#include "core/wire/leader-protocol.h"

#define HEAD_SIZE (sizeof(RUNNER_STATE_HEAD) - 1)

/* ── what must be true of a state ── */

static bool resources_are_sound(const SavedResources *resources) {
        const SavedAmount *named = resources->named.items;
        for (size_t i = 0; i < resources->named.n; i++)
                if (!named[i].name || !resource_name_valid(named[i].name) ||
                    (i > 0 && strcmp(named[i - 1].name, named[i].name) >= 0))
                        return false;
        return resources->named.n <= RESOURCES_NAMED_MAX;
}

static bool spec_is_sound(const SavedSpec *spec) {
        return spec->task_id && spec->command && spec->when_full < _WHEN_FULL_MAX && spec->umask <= 0777 &&
                        resources_are_sound(&spec->resources);
}

static bool captures_are_sound(const RecordList *list) {
        const SavedCapture *capture = list->items;
        if (list->n != 1)
                return list->n == 0;
        bool in_memory = capture->file_fd < 0;
        return capture->bytes_kept <= capture->bytes_total &&
                        capture->memory.size == (in_memory ? capture->bytes_kept : 0) &&
                        (!capture->reading || capture->pipe_fd >= 0);
}

static bool leaders_are_sound(const RecordList *list) {
        const SavedLeader *leader = list->items;
        if (list->n != 1)
                return list->n == 0;
        return leader->pid > 0 && leader->pid_fd >= 0 && leader->control_fd >= 0 && leader->feed_fd >= 0 &&
                        leader->sent <= leader->pending.size;
}

/* A task holds devices from its start to its end. */
static bool devices_are_sound(const SavedTask *task) {
        const SavedGrant *grant = task->devices.items;
        bool holds = task->state != TASK_QUEUED && task->state != TASK_FINISHED;
        if (task->devices.n != 1)
                return task->devices.n == 0 && !holds;
        const SavedGrantKind *kinds = grant->kinds.items;
        for (size_t i = 0; i < grant->kinds.n; i++)
                if (!kinds[i].name || !kinds[i].ids)
                        return false;
        return grant->held == holds && (grant->environment || !holds);
}

static size_t count_strings(const char *const *strings) {
        size_t n = 0;
        while (strings && strings[n])
                n++;
        return n;
}

/* What a task in this state has, and has not. */
static bool phase_is_sound(const SavedTask *task) {
        bool has_leader = task->leader.n == 1, has_output = task->output.n == 1 && task->error.n == 1;
        switch ((TaskState) task->state) {
        case TASK_QUEUED:
                return !has_leader && !task->scope_asked;
        case TASK_PARKED:
                return has_output;
        case TASK_RELEASED:
        case TASK_RUNNING:
                return has_output && has_leader && !task->scope_asked && task->scope == TASK_SCOPE_POSSIBLE;
        case TASK_UNDOING:
                return !has_leader;
        case TASK_ENDING:
                return true;
        case TASK_FINISHED:
                return !has_leader && !task->scope_asked;
        case TASK_SPAWNING: /* a moment that no state is written in */
        case _TASK_STATE_MAX:
                break;
        }
        return false;
}

static bool task_is_sound(const SavedTask *task) {
        bool in_range = task->state < _TASK_STATE_MAX && task->result < _TASK_RESULT_MAX &&
                        task->end.stop <= STOP_SHUTDOWN && task->scope < _TASK_SCOPE_MAX;
        bool is_finished = task->state == TASK_FINISHED;
        return in_range && spec_is_sound(&task->spec) && captures_are_sound(&task->output) &&
                        captures_are_sound(&task->error) && leaders_are_sound(&task->leader) &&
                        count_strings(task->notes) <= TASK_NOTES_MAX && phase_is_sound(task) &&
                        devices_are_sound(task) && is_finished == (task->finish_order > 0) &&
                        is_finished == (task->result != TASK_RESULT_NONE);
}

static bool lease_is_sound(const SavedLease *lease) {
        return lease->id && lease->queue && lease->version && strlen(lease->id) < LEASE_ID_SIZE &&
                        strlen(lease->queue) <= LEASE_QUEUE_MAX &&
                        strlen(lease->version) <= LEASE_VERSION_MAX;
}

static bool events_are_sound(const SavedEvents *events) {
        return events->first_id > 0 && events->first_id <= events->next_id &&
                        events->next_id - events->first_id == events->log.n && events->log.n <= EVENT_LOG_MAX;
}

static bool runner_is_sound(const RunnerState *state) {
        return state->program_version && state->instance_id && strlen(state->instance_id) == 32 &&
                        state->own_unit && resources_are_sound(&state->total) &&
                        lease_is_sound(&state->lease) && lease_is_sound(&state->lease_told) &&
                        events_are_sound(&state->events) && state->spawner.protocol &&
                        state->broker.protocol && state->port <= UINT16_MAX;
}

static int refuse_unsound(Problem *problem, const char *what, const char *which) {
        char shown[RECORD_QUOTE_SIZE];
        record_quote(which, strlen(which), shown);
        return problem_set(problem, 409, NULL, "the state of %s%s is one that cannot be", what, shown);
}

static int check_tasks(const RunnerState *state, Problem *problem) {
        const SavedTask *tasks = state->tasks.items;
        for (size_t i = 0; i < state->tasks.n; i++) {
                const SavedTask *task = &tasks[i];
                if (!task_is_sound(task) || task->sequence >= state->next_sequence ||
                    (i > 0 && task->sequence <= tasks[i - 1].sequence))
                        return refuse_unsound(problem, "task ", task->spec.task_id ?: "");
                /* The broker puts those into scopes only whose spawner lives. */
                if (task->state == TASK_PARKED && task->leader.n > 0 &&
                    !streq(state->spawner.protocol, SPAWN_REQUEST))
                        return problem_set(
                                        problem,
                                        409,
                                        NULL,
                                        "busy: a task is being started by a spawner of another version");
                if (task->leader.n > 0 && state->leader_protocol != LEADER_PROTOCOL)
                        return problem_set(
                                        problem,
                                        409,
                                        NULL,
                                        "tasks run by leaders that speak in version %llu, and not %d",
                                        (unsigned long long) state->leader_protocol,
                                        LEADER_PROTOCOL);
        }
        return 0;
}

/* ── to bytes and back ── */

int runner_state_encode(const RunnerState *state, Text *bytes) {
        int r = text_append(bytes, RUNNER_STATE_HEAD);
        return r < 0 ? r : record_encode(&runner_state_type, state, bytes);
}

/* The head of another version is told from what is no state at all. */
static int refuse_head(const char *block, size_t size, Problem *problem) {
        static const char begin[] = "daggyr runner state ";
        const char *end = memchr(block, '\n', size < 64 ? size : 64);
        if (!end || size < sizeof(begin) || memcmp(block, begin, sizeof(begin) - 1) != 0)
                return problem_set(problem, 409, NULL, "this is no state of a runner");
        const char *version = block + sizeof(begin) - 1;
        const char *own = &RUNNER_STATE_HEAD[sizeof(begin) - 1];
        char shown[RECORD_QUOTE_SIZE];
        record_quote(version, (size_t) (end - version), shown);
        return problem_set(
                        problem,
                        409,
                        NULL,
                        "the state is of version %s, and this program knows version %.*s",
                        shown,
                        (int) strcspn(own, "\n"),
                        own);
}

int runner_state_decode(const void *block, size_t size, RunnerState *ret, Problem *reterr_problem) {
        *ret = (RunnerState) {};
        if (size < HEAD_SIZE || memcmp(block, RUNNER_STATE_HEAD, HEAD_SIZE) != 0)
                return refuse_head(block, size, reterr_problem);
        int r = record_decode(
                        &runner_state_type,
                        (const char *) block + HEAD_SIZE,
                        size - HEAD_SIZE,
                        ret,
                        reterr_problem);
        if (r < 0)
                return r;
        r = runner_is_sound(ret) ? check_tasks(ret, reterr_problem) :
                                   refuse_unsound(reterr_problem, "the runner", "");
        if (r < 0)
                runner_state_done(ret);
        return r;
}

void runner_state_done(RunnerState *state) {
        record_done(&runner_state_type, state);
}

int record_list_new(RecordList *list, size_t n, size_t size) {
        *list = (RecordList) {};
        if (n == 0)
                return 0;
        list->items = calloc(n, size);
        if (!list->items)
                return -ENOMEM;
        list->n = n;
        return 0;
}
