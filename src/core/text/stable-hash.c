/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/text/stable-hash.h"

#include "base/text.h"

uint64_t stable_hash_u64(uint64_t value) {
        value ^= value >> 33;
        value *= UINT64_C(0xff51afd7ed558ccd);
        value ^= value >> 33;
        value *= UINT64_C(0xc4ceb9fe1a85ec53);
        value ^= value >> 33;
        return value;
}

uint64_t stable_hash(const char *text) {
        return stable_hash_u64(text_hash(text));
}
