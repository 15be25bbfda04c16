/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Input: the body of a request for a lease. What is accepted holds what the header promises, and is granted,
 * renewed and shown. */
#include <string.h>

#include "base/text.h"
#include "core/scheduling/lease.h"
#include "fuzz.h"

#define ID       "0123456789abcdef0123456789abcdef"
#define NOW_USEC UINT64_C(1000)

static void check_granted(const LeaseRequest *request) {
        Lease lease = {};
        Problem problem = {};

        FUZZ_CHECK(lease_acquire(&lease, request, ID, NOW_USEC) == 1);
        FUZZ_CHECK(streq(lease.queue, request->queue) && streq(lease.version, request->version));
        FUZZ_CHECK(lease_is_live(&lease, NOW_USEC + request->ttl_usec - 1));
        FUZZ_CHECK(!lease_is_live(&lease, NOW_USEC + request->ttl_usec));
        FUZZ_CHECK(lease_check(&lease, ID, true, NOW_USEC, &problem) == 0);
        FUZZ_CHECK(lease_acquire(&lease, request, "other", NOW_USEC) == 0);

        _cleanup_(json_putp) json_object *shown = lease_to_json(&lease, true, NOW_USEC, NOW_USEC);
        FUZZ_CHECK(shown);
        fuzz_check_round_trip(shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(json_putp) json_object *body = NULL;
        _cleanup_(lease_request_done) LeaseRequest request = {};
        Problem problem = {};

        int r = json_parse((const char *) data, size, &body, &problem);
        if (r >= 0)
                r = lease_request_parse(body, &request, &problem);
        fuzz_check_problem(r, &problem, (const int[]) { 400, 0 });
        if (r < 0)
                return 0;

        FUZZ_CHECK(strlen(request.queue) <= LEASE_QUEUE_MAX && strrchr(request.queue, ':'));
        FUZZ_CHECK(strlen(request.version) <= LEASE_VERSION_MAX);
        FUZZ_CHECK(request.ttl_usec >= USEC_PER_SEC && request.ttl_usec <= 3600 * USEC_PER_SEC);
        check_granted(&request);
        return 0;
}
