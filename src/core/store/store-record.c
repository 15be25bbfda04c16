/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/store/store-record.h"

#include <assert.h>
#include <errno.h>

#include "base/text.h"

static const char *const state_names[] = {
        [STORED_QUEUED] = "queued",   [STORED_RUNNING] = "running", [STORED_COMPLETED] = "completed",
        [STORED_ERRORED] = "errored", [STORED_KILLED] = "killed",
};
static_assert(sizeof(state_names) / sizeof(*state_names) == _STORED_STATE_MAX, "a name for each state");

static const char *const attempt_state_names[] = {
        [STORED_ATTEMPT_SENT] = "sent",         [STORED_ATTEMPT_RUNNING] = "running",
        [STORED_ATTEMPT_FINISHED] = "finished", [STORED_ATTEMPT_LOST] = "lost",
        [STORED_ATTEMPT_REFUSED] = "refused",
};
static_assert(sizeof(attempt_state_names) / sizeof(*attempt_state_names) == _STORED_ATTEMPT_STATE_MAX,
              "a name for each state");

static int find_name(const char *const *names, int n, const char *name) {
        for (int i = 0; i < n; i++)
                if (streq(names[i], name))
                        return i;
        return -EINVAL;
}

const char *stored_state_to_string(StoredState state) {
        return state_names[state];
}

int stored_state_from_string(const char *name) {
        return find_name(state_names, _STORED_STATE_MAX, name);
}

const char *stored_attempt_state_to_string(StoredAttemptState state) {
        return attempt_state_names[state];
}

int stored_attempt_state_from_string(const char *name) {
        return find_name(attempt_state_names, _STORED_ATTEMPT_STATE_MAX, name);
}

size_t stored_task_listed_bytes(const StoredTask *task) {
        return strlen(task->result ?: task->spec);
}
