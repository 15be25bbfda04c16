/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What json_parse() lets pass, it writes and reads back alike. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(json_putp) json_object *object = NULL;
        Problem problem = {};
        int r;

        r = json_parse((const char *) data, size, &object, &problem);
        fuzz_check_problem(r, &problem, (const int[]) { 400, 413, 0 });
        if (r < 0) {
                FUZZ_CHECK(!object);
                return 0;
        }

        fuzz_check_round_trip(object);
        return 0;
}
