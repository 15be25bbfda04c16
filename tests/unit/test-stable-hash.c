/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <stdio.h>

#include "core/text/stable-hash.h"
#include "test.h"

/* Queues of different versions must come to the same choices: these values are part of the protocol. */
static void the_values_never_change(void **state) {
        static const struct {
                const char *text;
                uint64_t hash;
        } rows[] = {
                { "", UINT64_C(0xefd01f60ba992926) },
                { "a", UINT64_C(0x82a2a958a9bece5b) },
                { "b", UINT64_C(0x6e673288764ad2d0) },
                { "ab", UINT64_C(0xda71cbd11dd9bde4) },
                { "10.0.0.1:2503", UINT64_C(0xc52345eab34a0988) },
                { "task-1", UINT64_C(0x599bc41316911c67) },
                { "ü", UINT64_C(0x9a8fa3aaaa09fd21) },
        };
        for (FOREACH_ROW(row, rows))
                check_u64(row->text, stable_hash(row->text), row->hash);
        assert_true(stable_hash_u64(0) == 0);
        assert_true(stable_hash_u64(1) == UINT64_C(0xb456bcfc34c2cb2c));
        assert_true(stable_hash_u64(UINT64_MAX) == UINT64_C(0x64b5720b4b825f21));
}

/* Few short names are the common case: their hashes must not lean to one side. */
static void short_names_spread(void **state) {
        unsigned n_ones[64] = {};
        for (unsigned i = 0; i < 1000; i++) {
                char name[16];
                (void) snprintf(name, sizeof(name), "w%u", i);
                uint64_t hash = stable_hash(name);
                for (unsigned bit = 0; bit < 64; bit++)
                        n_ones[bit] += hash >> bit & 1;
        }
        for (unsigned bit = 0; bit < 64; bit++)
                assert_in_range(n_ones[bit], 420, 580);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_values_never_change),
                cmocka_unit_test(short_names_spread),
        };
        return cmocka_run_group_tests_name("stable-hash", tests, NULL, NULL);
}
