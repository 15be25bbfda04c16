/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Input: a runner's state. It either is refused with a sentence or is, byte for byte, what encoding makes of
 * what was read; and the specifications in it can be made again, or are refused with a sentence. */
#include <errno.h>
#include <string.h>

#include "core/upgrade/runner-state.h"
#include "core/upgrade/saved-values.h"
#include "fuzz.h"

static void check_specs(const RunnerState *state) {
        const SavedTask *tasks = state->tasks.items;
        for (size_t i = 0; i < state->tasks.n; i++) {
                _cleanup_(task_spec_freep) TaskSpec *spec = NULL;
                Problem problem = {};
                int r = saved_spec_to(&tasks[i].spec, &spec, &problem);
                fuzz_check_problem(r, &problem, (const int[]) { 409, 0 });
                FUZZ_CHECK((r >= 0) == (spec != NULL));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(runner_state_done) RunnerState state = {};
        _cleanup_(text_done) Text again = {};
        Problem problem = {};
        int r = runner_state_decode(data, size, &state, &problem);
        fuzz_check_problem(r, &problem, (const int[]) { 409, 0 });
        if (r < 0) {
                FUZZ_CHECK(!state.tasks.items && !state.own_unit);
                return 0;
        }
        FUZZ_CHECK(runner_state_encode(&state, &again) == 0);
        FUZZ_CHECK(again.size == size);
        FUZZ_CHECK(memcmp(again.data, data, size) == 0);
        check_specs(&state);
        return 0;
}
