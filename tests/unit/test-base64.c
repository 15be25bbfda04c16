/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>

#include "core/text/base64.h"
#include "test.h"

typedef struct Pair {
        const char *text;
        const char *bytes;
        size_t size;
} Pair;

/* The first seven are those of RFC 4648, section 10. */
static const Pair pairs[] = {
        { "", "", 0 },
        { "Zg==", "f", 1 },
        { "Zm8=", "fo", 2 },
        { "Zm9v", "foo", 3 },
        { "Zm9vYg==", "foob", 4 },
        { "Zm9vYmE=", "fooba", 5 },
        { "Zm9vYmFy", "foobar", 6 },
        { "AAAA", "\0\0\0", 3 },
        { "////", "\xff\xff\xff", 3 },
        { "+/8=", "\xfb\xff", 2 },
};

static void bytes_become_text(void **state) {
        for (FOREACH_ROW(pair, pairs)) {
                _cleanup_(text_done) Text text = {};
                check_int(pair->text, base64_encode(pair->bytes, pair->size, &text), 0);
                check_text(pair->text, text.data ?: "", pair->text);
        }
}

static void text_becomes_bytes_behind_what_was_there(void **state) {
        for (FOREACH_ROW(pair, pairs)) {
                _cleanup_(text_done) Text bytes = {};
                assert_int_equal(text_append(&bytes, "<"), 0);
                check_int(pair->text, base64_decode(pair->text, strlen(pair->text), &bytes), 0);
                check_u64(pair->text, bytes.size, 1 + pair->size);
                assert_memory_equal(bytes.data + 1, pair->bytes, pair->size);
        }
}

static void anything_else_is_refused(void **state) {
        static const char *const texts[] = {
                "Z",    "Zg",     "Zg=",          "Zm9",  "====", "Z===", "=Zg=",     "Zg==Zg==",   "Zh==",
                "Zm9=", "Zm8=\n", "Zm9v\n\n\n\n", " Zg=", "Zm-v", "Zm_v", "Zm9vZg=v", "Z\xc3\xa4v",
        };
        for (FOREACH_ROW(text, texts)) {
                _cleanup_(text_done) Text bytes = {};
                check_int(*text, base64_decode(*text, strlen(*text), &bytes), -EINVAL);
                check_u64(*text, bytes.size, 0);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(bytes_become_text),
                cmocka_unit_test(text_becomes_bytes_behind_what_was_there),
                cmocka_unit_test(anything_else_is_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
