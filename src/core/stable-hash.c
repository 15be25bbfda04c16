/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/stable-hash.h"

#define FNV_OFFSET UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME  UINT64_C(0x100000001b3)

uint64_t stable_hash_u64(uint64_t value) {
        value ^= value >> 33;
        value *= UINT64_C(0xff51afd7ed558ccd);
        value ^= value >> 33;
        value *= UINT64_C(0xc4ceb9fe1a85ec53);
        value ^= value >> 33;
        return value;
}

uint64_t stable_hash(const char *text, uint64_t seed) {
        uint64_t hash = FNV_OFFSET ^ stable_hash_u64(seed);
        for (; *text; text++)
                hash = (hash ^ (unsigned char) *text) * FNV_PRIME;
        return stable_hash_u64(hash);
}
