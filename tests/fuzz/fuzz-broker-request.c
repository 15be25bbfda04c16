/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A block either is refused or is, byte for byte, what encoding its request makes. */
#include <errno.h>
#include <string.h>

#include "core/wire/broker-protocol.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(broker_request_done) BrokerRequest request = {};
        _cleanup_(freep) void *again = NULL;
        size_t again_size;

        int r = broker_request_decode(data, size, &request);
        if (r < 0) {
                FUZZ_CHECK(r == -EBADMSG || r == -EPROTO || r == -ENOMEM);
                FUZZ_CHECK(!request.order.task_id && !request.order.properties && !request.unit);
                return 0;
        }

        FUZZ_CHECK(broker_request_peek_id(data, size) == request.call_id);
        FUZZ_CHECK((request.type == BROKER_START) == (request.order.task_id != NULL));
        FUZZ_CHECK(broker_request_encode(&request, &again, &again_size) == 0);
        FUZZ_CHECK(again_size == size);
        FUZZ_CHECK(memcmp(again, data, size) == 0);
        return 0;
}
