/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "core/sharing/sharing-master.h"
#include "fail-alloc.h"
#include "test.h"

#define SEC  USEC_PER_SEC
#define ID_A "0123456789abcdef0123456789abcdef"
#define ID_B "fedcba9876543210fedcba9876543210"

/* ADDRESS NULL ends a list of them. */
typedef struct Row {
        const char *address, *version, *id, *worker;
} Row;

static SharingQueue queue_of(const Row *row) {
        SharingQueue queue = { .address = strdup(row->address), .version = strdup(row->version) };
        if (row->id)
                memcpy(queue.id, row->id, strlen(row->id));
        assert_int_equal(worker_set_new(&row->worker, row->worker != NULL, &queue.workers), 0);
        return queue;
}

static SharingQueue *queues_of(const Row *rows, size_t *ret_n) {
        SharingQueue *queues = calloc(16, sizeof(SharingQueue));
        size_t n = 0;
        for (; rows[n].address; n++)
                queues[n] = queue_of(&rows[n]);
        *ret_n = n;
        return queues;
}

static void the_master_has_the_highest_version_then_the_lowest_address(void **state) {
        static const struct {
                Row queues[4];
                int want; /* -1: none */
        } rows[] = {
                { { { "a:1", "19" }, { "b:1", "20" } }, 1 },
                { { { "a:1", "9" }, { "b:1", "10" } }, 0 },   /* strings, not numbers */
                { { { "a:1", "v10" }, { "b:1", "V9" } }, 0 }, /* by bytes */
                { { { "b:1", "1" }, { "a:1", "1" } }, 1 },
                { { { "h:9", "1" }, { "h:10", "1" } }, 1 }, /* strings again */
                { { { "host:1", "1" }, { "host1:1", "1" } }, 1 },
                { { { "a:1", "not_discoverable_20" }, { "b:1", "1" } }, 1 },
                { { { "a:1", "not_discoverable_20" } }, -1 },
                { { { "a:1", "not_discoverable" } }, 0 },
                { { { "a:1", "1", ID_B }, { "a:1", "1", ID_A } }, 1 },
                { {}, -1 },
        };
        for (FOREACH_ROW(row, rows)) {
                size_t n, index = 0;
                SharingQueue *queues = queues_of(row->queues, &n);
                const char *label = row->queues[0].version ?: "no queues";
                check_int(label, sharing_master_find(queues, n, &index), row->want < 0 ? -ENOENT : 0);
                check_int(label, (intmax_t) index, row->want < 0 ? 0 : row->want);
                sharing_queues_free(queues, n);
        }
}

static void a_queue_is_kept_once_however_often_it_was_found(void **state) {
        static const Row rows[] = {
                { "a:1", "1", ID_A }, { "localhost:1", "1", ID_A },    { "b:1", "1" },       { "b:1", "1" },
                { "b:1", "2" },       { "c:1", "not_discoverable_1" }, { "b:1", "1", ID_B }, {},
        };
        size_t n;
        SharingQueue *queues = queues_of(rows, &n);
        sharing_queues_tidy(queues, &n);
        assert_int_equal(n, 4);
        assert_string_equal(queues[0].address, "a:1");
        assert_string_equal(queues[1].address, "b:1");
        assert_string_equal(queues[2].version, "2");
        assert_string_equal(queues[3].id, ID_B);
        sharing_queues_free(queues, n);
}

static void an_asker_is_found_by_id_or_by_its_exact_name(void **state) {
        static const Row known[] = {
                { "a:1", "1", ID_A }, { "b:1", "1" }, { "c:1", "1" }, { "c:1", "1", ID_B }, {},
        };
        static const struct {
                const char *label;
                Row asker;
                int want;
        } rows[] = {
                { "by id, under another name", { "x:9", "2", ID_A }, 0 },
                { "by name", { "b:1", "1" }, 1 },
                { "by the name of one that has an id", { "a:1", "1" }, 0 },
                { "another version", { "b:1", "2" }, -1 },
                { "another spelling", { "b.example:1", "1" }, -1 },
                { "an id that nobody has, a name that one has", { "b:1", "1", "00" }, -1 },
                { "a name that two have", { "c:1", "1" }, -1 },
                { "the id of one of them", { "c:1", "1", ID_B }, 3 },
        };
        size_t n;
        SharingQueue *queues = queues_of(known, &n);
        for (FOREACH_ROW(row, rows)) {
                SharingQueue asker = queue_of(&row->asker);
                size_t index = 0;
                check_int(row->label,
                          sharing_queue_find(queues, n, &asker, &index),
                          row->want < 0 ? -ENOENT : 0);
                check_int(row->label, (intmax_t) index, row->want < 0 ? 0 : row->want);
                sharing_queue_done(&asker);
        }
        sharing_queues_free(queues, n);
}

static void turns_last_until_a_share_has_arrived_everywhere(void **state) {
        assert_int_equal(sharing_epoch(0, 10 * SEC, 30 * SEC, 30 * SEC), 0);
        assert_int_equal(sharing_epoch(70 * SEC - 1, 10 * SEC, 30 * SEC, 30 * SEC), 0);
        assert_int_equal(sharing_epoch(70 * SEC, 10 * SEC, 30 * SEC, 30 * SEC), 1);
        assert_int_equal(sharing_epoch(70 * SEC, USEC_INFINITY, 30 * SEC, 30 * SEC), 0);
        assert_int_equal(sharing_epoch(5, 0, 0, 0), 5);
}

/* ---- the cache: what is asked, what happens, what is answered ---- */

/* Asks as ROW at ASKED_SEC, now NOW_SEC; *RET_SHARE is the one worker of the share, "" for none. */
static int ask(SharingCache *cache,
               const Row *row,
               usec_t asked_sec,
               usec_t now_sec,
               char ret_share[static 32]) {
        SharingQueue asker = queue_of(row);
        WorkerSet *share = NULL;
        int r = sharing_cache_ask(cache, &asker, asked_sec * SEC, now_sec * SEC, &share);
        ret_share[0] = '\0';
        if (share && share->n_ids > 0)
                (void) snprintf(ret_share, 32, "%s", share->ids[0]);
        check_true("a share comes with these answers only",
                   (r == SHARING_ANSWER_SHARE || r == SHARING_ANSWER_LOST) == (share != NULL));
        worker_set_unref(share);
        sharing_queue_done(&asker);
        return r;
}

static void finish(SharingCache *cache, const Row *rows) {
        size_t n;
        SharingQueue *queues = queues_of(rows, &n);
        assert_int_equal(sharing_cache_finish_scan(cache, queues, n, 0), 0);
}

static const Row row_a = { "a:1", "1", NULL, "wa" }, row_b = { "b:1", "1", NULL, "wb" },
                 row_a2 = { "a:1", "2", NULL, "wa" };
static const Row only_a[] = { { "a:1", "1", NULL, "wa" }, {} };
static const Row both[] = { { "a:1", "1", NULL, "wa" }, { "b:1", "1", NULL, "wb" }, {} };

static void one_scan_serves_all_who_ask_meanwhile(void **state) {
        _cleanup_(sharing_cache_done) SharingCache cache = { .ttl_usec = 30 * SEC, .strict = true };
        char share[32];
        assert_int_equal(ask(&cache, &row_a, 100, 100, share), SHARING_ANSWER_SCAN);
        assert_int_equal(ask(&cache, &row_b, 101, 101, share), SHARING_ANSWER_WAIT);
        assert_int_equal(ask(&cache, &row_a, 101, 101, share), SHARING_ANSWER_WAIT);
        finish(&cache, both);
        assert_int_equal(ask(&cache, &row_a, 100, 105, share), SHARING_ANSWER_SHARE);
        assert_string_equal(share, "wa");
        assert_int_equal(ask(&cache, &row_b, 101, 105, share), SHARING_ANSWER_SHARE);
        assert_string_equal(share, "wb");
}

static void who_has_other_workers_than_were_split_is_a_reason_to_look(void **state) {
        static const Row before[] = { { "a:1", "1", "0123", "wa" }, {} };
        static const Row after[] = { { "a:1", "1", "0123", "wb" }, {} };
        static const Row emcee[] = { { "a:1", "1", NULL, "wb" }, {} };
        _cleanup_(sharing_cache_done) SharingCache cache = { .ttl_usec = 30 * SEC, .strict = true };
        char share[32];
        assert_int_equal(ask(&cache, &before[0], 100, 100, share), SHARING_ANSWER_SCAN);
        finish(&cache, before);
        assert_int_equal(ask(&cache, &before[0], 101, 101, share), SHARING_ANSWER_SHARE);
        assert_int_equal(ask(&cache, &after[0], 102, 102, share), SHARING_ANSWER_SCAN);
        assert_int_equal(ask(&cache, &after[0], 103, 103, share), SHARING_ANSWER_WAIT);
        finish(&cache, after);
        assert_int_equal(ask(&cache, &after[0], 102, 104, share), SHARING_ANSWER_SHARE);
        assert_string_equal(share, "wb");
        assert_int_equal(ask(&cache, &before[0], 101, 104, share), SHARING_ANSWER_SHARE); /* once only */

        sharing_cache_done(&cache);
        cache = (SharingCache) { .ttl_usec = 30 * SEC };
        assert_int_equal(ask(&cache, &row_a, 100, 100, share), SHARING_ANSWER_SCAN);
        finish(&cache, only_a);
        assert_int_equal(ask(&cache, &emcee[0], 101, 101, share), SHARING_ANSWER_SHARE);
        assert_string_equal(share, "wa");
}

static void a_split_is_valid_from_the_beginning_of_its_scan(void **state) {
        _cleanup_(sharing_cache_done) SharingCache cache = { .ttl_usec = 30 * SEC, .strict = true };
        char share[32];
        assert_int_equal(ask(&cache, &row_a, 100, 100, share), SHARING_ANSWER_SCAN);
        finish(&cache, both);
        assert_int_equal(ask(&cache, &row_a, 129, 129, share), SHARING_ANSWER_SHARE);
        assert_int_equal(ask(&cache, &row_a, 130, 130, share), SHARING_ANSWER_SCAN);
        finish(&cache, only_a);
        assert_int_equal(ask(&cache, &row_a, 130, 170, share), SHARING_ANSWER_SHARE); /* it took long */
        assert_int_equal(ask(&cache, &row_a, 170, 170, share), SHARING_ANSWER_SCAN);
}

static void a_new_queue_renews_the_split_and_an_unknown_one_does_so_once(void **state) {
        _cleanup_(sharing_cache_done) SharingCache cache = { .ttl_usec = 30 * SEC, .strict = true };
        char share[32];
        assert_int_equal(ask(&cache, &row_a, 100, 100, share), SHARING_ANSWER_SCAN);
        finish(&cache, only_a);
        assert_int_equal(ask(&cache, &row_b, 110, 110, share), SHARING_ANSWER_SCAN);
        finish(&cache, both);
        assert_int_equal(ask(&cache, &row_b, 110, 111, share), SHARING_ANSWER_SHARE);

        assert_int_equal(ask(&cache, &row_a2, 112, 112, share), SHARING_ANSWER_SCAN);
        finish(&cache, both);
        assert_int_equal(ask(&cache, &row_a2, 112, 113, share), SHARING_ANSWER_LOST);
        assert_string_equal(share, "");
        assert_int_equal(ask(&cache, &row_a2, 120, 120, share), SHARING_ANSWER_LOST);
        assert_int_equal(ask(&cache, &row_a2, 142, 142, share), SHARING_ANSWER_SCAN); /* renewed anyway */
        finish(&cache, (const Row[]) { { "a:1", "2", NULL, "wa" }, {} });
        assert_int_equal(ask(&cache, &row_a2, 142, 143, share), SHARING_ANSWER_SHARE);
}

static void who_came_while_the_scan_went_on_gets_another(void **state) {
        _cleanup_(sharing_cache_done) SharingCache cache = { .ttl_usec = 30 * SEC, .strict = true };
        char share[32];
        assert_int_equal(ask(&cache, &row_a, 100, 100, share), SHARING_ANSWER_SCAN);
        assert_int_equal(ask(&cache, &row_b, 101, 101, share), SHARING_ANSWER_WAIT);
        finish(&cache, only_a); /* b was not there yet when it was b's turn */
        assert_int_equal(ask(&cache, &row_b, 101, 102, share), SHARING_ANSWER_SCAN);
        finish(&cache, both);
        assert_int_equal(ask(&cache, &row_b, 101, 103, share), SHARING_ANSWER_SHARE);
}

static void without_strict_who_is_not_found_keeps_all_as_with_emcee(void **state) {
        _cleanup_(sharing_cache_done) SharingCache cache = { .ttl_usec = 30 * SEC };
        char share[32];
        assert_int_equal(ask(&cache, &row_b, 100, 100, share), SHARING_ANSWER_SCAN);
        finish(&cache, only_a);
        assert_int_equal(ask(&cache, &row_b, 100, 101, share), SHARING_ANSWER_LOST);
        assert_string_equal(share, "wb");
}

static void a_scan_that_failed_leaves_the_old_split(void **state) {
        _cleanup_(sharing_cache_done) SharingCache cache = { .ttl_usec = 30 * SEC, .strict = true };
        char share[32];
        assert_true(sharing_cache_start_scan(&cache, 100 * SEC));
        assert_false(sharing_cache_start_scan(&cache, 100 * SEC));
        finish(&cache, only_a);
        assert_int_equal(ask(&cache, &row_b, 110, 110, share), SHARING_ANSWER_SCAN);
        sharing_cache_abandon_scan(&cache);
        assert_int_equal(ask(&cache, &row_a, 111, 111, share), SHARING_ANSWER_SHARE);
        assert_int_equal(ask(&cache, &row_b, 111, 111, share), SHARING_ANSWER_SCAN);
        sharing_cache_abandon_scan(&cache);
        assert_int_equal(ask(&cache, &row_a, 130, 130, share), SHARING_ANSWER_SCAN);
}

static void not_even_many_unknown_ones_cause_many_scans(void **state) {
        _cleanup_(sharing_cache_done) SharingCache cache = { .ttl_usec = 30 * SEC, .strict = true };
        char share[32], name[32];
        assert_true(sharing_cache_start_scan(&cache, 100 * SEC));
        finish(&cache, only_a);
        for (int i = 0; i < SHARING_UNKNOWN_MAX + 10; i++) {
                const Row row = { name, "1", NULL, "w" };
                (void) snprintf(name, sizeof(name), "x:%d", i);
                check_int(name, ask(&cache, &row, 100, 100, share), SHARING_ANSWER_LOST);
        }
        assert_int_equal(ask(&cache, &row_b, 105, 105, share), SHARING_ANSWER_LOST);
        assert_int_equal(ask(&cache, &row_a, 105, 105, share), SHARING_ANSWER_SHARE);
}

static void what_a_queue_said_last_is_remembered(void **state) {
        _cleanup_(sharing_cache_done) SharingCache cache = { .ttl_usec = 30 * SEC, .strict = true };
        SharingQueue a = queue_of(&row_a), b = queue_of(&row_b);
        assert_null(sharing_cache_workers(&cache, &a));
        assert_true(sharing_cache_start_scan(&cache, 100 * SEC));
        finish(&cache, only_a);
        assert_true(worker_set_has(sharing_cache_workers(&cache, &a), "wa"));
        assert_null(sharing_cache_workers(&cache, &b));
        sharing_queue_done(&a);
        sharing_queue_done(&b);
}

static int try_cache(void *userdata) {
        const SharingQueue *lost = userdata;
        _cleanup_(sharing_cache_done) SharingCache cache = { .ttl_usec = 30 * SEC, .strict = true };
        WorkerSet *share = NULL;
        assert_true(sharing_cache_start_scan(&cache, 1));
        int r = sharing_cache_finish_scan(&cache, NULL, 0, 0);
        if (r < 0)
                return r;
        r = sharing_cache_ask(&cache, lost, 1, 1, &share);
        worker_set_unref(share);
        return r;
}

static void running_out_of_memory_leaves_nothing_behind(void **state) {
        SharingQueue lost = queue_of(&row_b);
        fail_alloc_loop(try_cache, &lost);
        sharing_queue_done(&lost);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_master_has_the_highest_version_then_the_lowest_address),
                cmocka_unit_test(a_queue_is_kept_once_however_often_it_was_found),
                cmocka_unit_test(an_asker_is_found_by_id_or_by_its_exact_name),
                cmocka_unit_test(turns_last_until_a_share_has_arrived_everywhere),
                cmocka_unit_test(one_scan_serves_all_who_ask_meanwhile),
                cmocka_unit_test(who_has_other_workers_than_were_split_is_a_reason_to_look),
                cmocka_unit_test(a_split_is_valid_from_the_beginning_of_its_scan),
                cmocka_unit_test(a_new_queue_renews_the_split_and_an_unknown_one_does_so_once),
                cmocka_unit_test(who_came_while_the_scan_went_on_gets_another),
                cmocka_unit_test(without_strict_who_is_not_found_keeps_all_as_with_emcee),
                cmocka_unit_test(a_scan_that_failed_leaves_the_old_split),
                cmocka_unit_test(not_even_many_unknown_ones_cause_many_scans),
                cmocka_unit_test(what_a_queue_said_last_is_remembered),
                cmocka_unit_test(running_out_of_memory_leaves_nothing_behind),
        };
        return cmocka_run_group_tests_name("sharing-master", tests, NULL, NULL);
}
