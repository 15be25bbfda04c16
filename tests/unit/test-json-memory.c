/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Memory that runs out inside of json-c. This executable's malloc() takes the place of libc's for libraries
 * too, which the other tests' --wrap does not. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"
#include "test.h"

#if defined(__has_feature)
        #define HAS_FEATURE(name) __has_feature(name)
#else
        #define HAS_FEATURE(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)

int main(void) {
        (void) puts("1..0 # SKIP AddressSanitizer has a malloc() of its own");
        return 0;
}

#else

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *memory, size_t size);

/* volatile: the compiler is sure that malloc() changes none of them. */
static volatile size_t calls_left; /* until the one that fails; 0 when none is to fail */
static volatile bool fails_on;     /* and with it all that follow */
static volatile bool hit;

static bool fails_now(void) {
        if (hit && fails_on) {
                errno = ENOMEM;
                return true;
        }
        if (calls_left == 0)
                return false;
        calls_left = calls_left - 1;
        if (calls_left > 0)
                return false;
        hit = true;
        errno = ENOMEM;
        return true;
}

void *malloc(size_t size) {
        return fails_now() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size) {
        return fails_now() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *memory, size_t size) {
        return fails_now() ? NULL : __libc_realloc(memory, size);
}

/* A string, a key and a number each longer than json-c's first buffer, more members and elements than its
 * first tables hold, and numbers behind them all, because json-c sets errno to 0 at each. */
static const char sample[] =
                "{\"command\":[\"rm\",\"-r\",\"/srv/a-rather-long-name-of-a-folder/and-of-one-in-it\",1,2,3,4,5,6,7,8,"
                "9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34],"
                "\"a-key-that-is-longer-than-thirty-two-bytes-are\":1.25,\"n\":123456,\"o\":{},\"p\":[],\"q\":null,"
                "\"e\":\"\\n\\u00e9\\u20ac\\ud83d\\ude00 and so on, until it is long\","
                "\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"f\":5,\"g\":6,\"h\":7,\"i\":8,\"j\":9,\"k\":10,\"l\":11,"
                "\"z\":0}";

static char *text_of(json_object *object) {
        char *text = NULL;

        assert_int_equal(json_format(object, &text, NULL), 0);
        return text;
}

static int parse_with_failure(size_t n, json_object **ret, Problem *problem) {
        int r;

        hit = false;
        calls_left = n;
        r = json_parse(sample, strlen(sample), ret, problem);
        calls_left = 0;
        return r;
}

static void each_parse_is_whole_or_refused(bool lasting) {
        _cleanup_(json_putp) json_object *whole = NULL;
        _cleanup_(freep) char *expected = NULL;
        size_t n = 1;

        fails_on = lasting;
        assert_int_equal(parse_with_failure(0, &whole, &(Problem) {}), 0);
        expected = text_of(whole);
        do {
                _cleanup_(json_putp) json_object *object = NULL;
                _cleanup_(freep) char *text = NULL;
                Problem problem = {};
                int r = parse_with_failure(n++, &object, &problem);
                bool was_hit = hit;

                hit = false;
                if (r < 0) {
                        assert_true(was_hit);
                        assert_int_equal(r, -ENOMEM);
                        assert_int_equal(problem.status, 503);
                        continue;
                }
                text = text_of(object);
                assert_string_equal(text, expected);
                if (!was_hit)
                        break;
        } while (true);
        assert_true(n > 50);
}

static void a_text_is_read_whole_or_not_at_all(void **state) {
        each_parse_is_whole_or_refused(false);
}

static void nor_where_memory_stays_away(void **state) {
        each_parse_is_whole_or_refused(true);
}

static void a_text_is_written_whole_or_not_at_all(void **state) {
        _cleanup_(freep) char *expected = NULL;

        for (size_t n = 0;; n++) {
                /* Anew each time: json-c keeps the buffer of an object that was written. */
                _cleanup_(json_putp) json_object *object = NULL;
                _cleanup_(freep) char *text = NULL;
                int r;

                assert_int_equal(json_parse(sample, strlen(sample), &object, &(Problem) {}), 0);
                hit = fails_on = false;
                calls_left = n;
                r = json_format(object, &text, NULL);
                calls_left = 0;
                if (n == 0) {
                        assert_int_equal(r, 0);
                        expected = TAKE_PTR(text);
                } else if (hit)
                        assert_int_equal(r, -ENOMEM);
                else {
                        assert_string_equal(text, expected);
                        assert_true(n > 3);
                        break;
                }
        }
}

/* Not under valgrind, which leads all calls to its own. */
static bool can_fail(void) {
        void *volatile memory;

        hit = false;
        calls_left = 1;
        memory = malloc(1);
        calls_left = 0;
        free(memory);
        return hit;
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_text_is_read_whole_or_not_at_all),
                cmocka_unit_test(nor_where_memory_stays_away),
                cmocka_unit_test(a_text_is_written_whole_or_not_at_all),
        };

        if (!can_fail()) {
                (void) puts("1..0 # SKIP this malloc() is not ours");
                return 0;
        }
        hit = false;
        return cmocka_run_group_tests_name("json-memory", tests, NULL, NULL);
}

#endif
