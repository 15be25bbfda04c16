/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The time, for those to whom it is an argument. */
#pragma once

#include "base/usec.h"

static inline Moment moment_now(void) {
        return (Moment) {
                .boottime_usec = usec_now(CLOCK_BOOTTIME),
                .realtime_usec = usec_now(CLOCK_REALTIME),
        };
}
