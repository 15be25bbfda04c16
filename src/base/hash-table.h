/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* uthash as it is used here; include this and never <uthash.h>. A source that uses its macros stands between
 * NOLINTBEGIN and NOLINTEND of readability-function-size and clang-analyzer-core.NullDereference: the macros
 * count as hundreds of statements each, and the analyzer loses its way in them. */
#pragma once

/* An allocation that fails inside uthash must not end the process: the element is then simply not in. */
#define HASH_NONFATAL_OOM 1

/* clang warns of uthash's (2.3.0) switch wherever one of its macros is expanded; gcc warns of all others. */
#ifdef __clang__
        #pragma clang diagnostic ignored "-Wimplicit-fallthrough"
#endif

#include <uthash.h>
