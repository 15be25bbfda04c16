/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the sources of the runner share. runner.c: start, run, reload, stop; runner-systemd.c: how it comes to
 * be ready; runner-admission.c: which waiting task starts when. */
#pragma once

#include "runner/runner.h"

/* Tasks that are not finished. */
static inline size_t runner_n_live(const Runner *runner) {
        return runner->tasks.n_tasks - runner->tasks.n_finished;
}

/* Reckons the capacity anew: from the host, the slice's limits and the configuration. */
void runner_update_capacity(Runner *runner);

/* Connects to systemd, and goes on from there until the runner is ready. A negative errno, logged. */
int runner_connect(Runner *runner);

/* Negative errno. */
int runner_init_admission(Runner *runner);
