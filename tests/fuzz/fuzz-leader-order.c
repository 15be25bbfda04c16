/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A block either is refused or is, byte for byte, what encoding its order makes. */
#include <errno.h>
#include <string.h>

#include "core/wire/leader-protocol.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(leader_order_done) LeaderOrder order = {};
        _cleanup_(freep) void *block = malloc(size > 0 ? size : 1), *again = NULL;
        size_t again_size;
        int r;

        if (!block)
                return 0;
        if (size > 0)
                memcpy(block, data, size);

        r = leader_order_decode(block, size, &order);
        if (r < 0) {
                FUZZ_CHECK(r == -EBADMSG || r == -ENOMEM);
                FUZZ_CHECK(!order.command && !order.environment);
                return 0;
        }

        FUZZ_CHECK(order.command[0] != NULL);
        FUZZ_CHECK(leader_order_encode(&order, &again, &again_size) == 0);
        FUZZ_CHECK(again_size == size);
        FUZZ_CHECK(memcmp(again, data, size) == 0);
        return 0;
}
