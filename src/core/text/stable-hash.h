/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A hash that is the same on every machine, in every version and process: where several programs, or one
 * program twice, must come to the same choice. Not for tables that strangers fill. */
#pragma once

#include <stdint.h>

/* Of the string TEXT: text_hash(), then the finalizer of MurmurHash3, as the former alone leaves the high
 * bits of short strings alike. */
uint64_t stable_hash(const char *text);

/* Of a number. */
uint64_t stable_hash_u64(uint64_t value);
