/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "base/text.h"
#include "core/scheduling/lease.h"
#include "fail-alloc.h"
#include "test.h"

#define ID_A "0123456789abcdef0123456789abcdef"
#define ID_B "fedcba9876543210fedcba9876543210"

static char queue_a[] = "a:1", queue_b[] = "b:2", version[] = "1";

static LeaseRequest request_of(char *queue, usec_t ttl_sec) {
        return (LeaseRequest) { .queue = queue, .version = version, .ttl_usec = ttl_sec * USEC_PER_SEC };
}

static void a_lease_is_granted_renewed_and_expires(void **state) {
        Lease lease = {};
        LeaseRequest request = request_of(queue_a, 10);
        assert_false(lease_is_live(&lease, 0));
        assert_int_equal(lease_acquire(&lease, &request, ID_A, 100), 1);
        assert_true(lease_is_live(&lease, 100 + 10 * USEC_PER_SEC - 1));
        assert_false(lease_is_live(&lease, 100 + 10 * USEC_PER_SEC));
        assert_int_equal(lease_renew(&lease, ID_A, 5 * USEC_PER_SEC), 0);
        assert_true(lease_is_live(&lease, 14 * USEC_PER_SEC));
        assert_int_equal(lease_renew(&lease, ID_A, 15 * USEC_PER_SEC), -ENOENT);
}

static void the_holder_gets_its_own_lease_again_and_nobody_else(void **state) {
        Lease lease = {};
        LeaseRequest a = request_of(queue_a, 10), b = request_of(queue_b, 10);
        assert_int_equal(lease_acquire(&lease, &a, ID_A, 0), 1);
        assert_int_equal(lease_acquire(&lease, &a, ID_B, 1), 0);
        assert_string_equal(lease.id, ID_A);
        assert_int_equal(lease.epoch, 1);
        assert_int_equal(lease_acquire(&lease, &b, ID_B, 2), -EEXIST);
        assert_string_equal(lease.queue, "a:1");
}

static void a_later_holder_has_a_higher_epoch(void **state) {
        Lease lease = {};
        LeaseRequest a = request_of(queue_a, 1), b = request_of(queue_b, 1);
        assert_int_equal(lease_acquire(&lease, &a, ID_A, 0), 1);
        assert_int_equal(lease_acquire(&lease, &b, ID_B, 1 * USEC_PER_SEC), 1);
        assert_int_equal(lease.epoch, 2);
        assert_int_equal(lease_renew(&lease, ID_A, 1 * USEC_PER_SEC + 1), -ENOENT);
        assert_int_equal(lease_release(&lease, ID_A, 1 * USEC_PER_SEC + 1), -ENOENT);
        assert_int_equal(lease_release(&lease, ID_B, 1 * USEC_PER_SEC + 1), 0);
        assert_false(lease_is_live(&lease, 1 * USEC_PER_SEC + 1));
}

static void a_task_needs_the_live_lease(void **state) {
        static const struct {
                const char *label;
                bool live, required;
                const char *id;
                int status;
        } rows[] = {
                { "free runner, no lease named", false, false, NULL, 0 },
                { "free runner, an old lease named", false, false, ID_A, 423 },
                { "lease required, none named", false, true, NULL, 423 },
                { "leased, none named", true, false, NULL, 423 },
                { "leased, the right one", true, false, ID_A, 0 },
                { "leased, required, the right one", true, true, ID_A, 0 },
                { "leased, another", true, false, ID_B, 423 },
                { "leased, too short", true, false, "0123", 423 },
                { "leased, empty", true, false, "", 423 },
                { "leased, right but longer", true, false, ID_A "0", 423 },
        };
        for (FOREACH_ROW(row, rows)) {
                Lease lease = {};
                LeaseRequest a = request_of(queue_a, 10);
                Problem problem = {};
                if (row->live)
                        (void) lease_acquire(&lease, &a, ID_A, 0);
                int r = lease_check(&lease, row->id, row->required, 1, &problem);
                check_int(row->label, r, row->status == 0 ? 0 : -EBUSY);
                check_int(row->label, problem.status, row->status);
        }
}

static void requests_are_checked(void **state) {
        static const struct {
                const char *text, *field;
        } rows[] = {
                { "{\"queue\":\"h:1\",\"version\":\"1\"}", "/ttl" },
                { "{\"queue\":\"h:1\",\"version\":\"1\",\"ttl\":0.5}", "/ttl" },
                { "{\"queue\":\"h:1\",\"version\":\"1\",\"ttl\":3601}", "/ttl" },
                { "{\"queue\":\"h\",\"version\":\"1\",\"ttl\":1}", "/queue" },
                { "{\"queue\":\":1\",\"version\":\"1\",\"ttl\":1}", "/queue" },
                { "{\"queue\":\"h:0\",\"version\":\"1\",\"ttl\":1}", "/queue" },
                { "{\"queue\":\"h:65536\",\"version\":\"1\",\"ttl\":1}", "/queue" },
                { "{\"queue\":\"a b:1\",\"version\":\"1\",\"ttl\":1}", "/queue" },
                { "{\"queue\":\"h:1\",\"version\":1,\"ttl\":1}", "/version" },
                { "{\"queue\":\"h:1\",\"version\":\"1\",\"ttl\":1,\"x\":1}", "/x" },
                { "[]", "" },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *body = json_of(row->text);
                LeaseRequest request = {};
                Problem problem = {};
                check_int(row->text, lease_request_parse(body, &request, &problem), -EINVAL);
                check_problem(row->text, &problem, 400, row->field);
        }
}

static void a_good_request_is_read(void **state) {
        _cleanup_(json_putp) json_object *body = json_of(
                        "{\"queue\":\"[::1]:80\",\"version\":\"v2\",\"ttl\":1.5}");
        _cleanup_(lease_request_done) LeaseRequest request = {};
        Problem problem = {};
        assert_int_equal(lease_request_parse(body, &request, &problem), 0);
        assert_string_equal(request.queue, "[::1]:80");
        assert_string_equal(request.version, "v2");
        assert_int_equal(request.ttl_usec, 1500000);
}

static void its_json_hides_the_id_from_others(void **state) {
        Lease lease = {};
        LeaseRequest a = request_of(queue_a, 30);
        (void) lease_acquire(&lease, &a, ID_A, 0);
        _cleanup_(json_putp) json_object *shown = lease_to_json(&lease, false, 10 * USEC_PER_SEC, 0);
        check_json("for others",
                   shown,
                   "{\"queue\":\"a:1\",\"version\":\"1\",\"epoch\":1,\"ttl\":30,"
                   "\"expires\":\"1970-01-01T00:00:20.000000Z\"}");
        _cleanup_(json_putp) json_object *own = lease_to_json(&lease, true, 10 * USEC_PER_SEC, 0);
        json_object *id = NULL;
        assert_true(json_object_object_get_ex(own, "lease_id", &id));
        assert_string_equal(json_object_get_string(id), ID_A);
}

static int try_json(void *userdata) {
        json_object *object = lease_to_json(userdata, true, 0, 0);
        if (!object)
                return -ENOMEM;
        json_object_put(object);
        return 0;
}

static void running_out_of_memory_leaves_nothing_behind(void **state) {
        Lease lease = {};
        LeaseRequest a = request_of(queue_a, 30);
        (void) lease_acquire(&lease, &a, ID_A, 0);
        fail_alloc_loop(try_json, &lease);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_lease_is_granted_renewed_and_expires),
                cmocka_unit_test(the_holder_gets_its_own_lease_again_and_nobody_else),
                cmocka_unit_test(a_later_holder_has_a_higher_epoch),
                cmocka_unit_test(a_task_needs_the_live_lease),
                cmocka_unit_test(requests_are_checked),
                cmocka_unit_test(a_good_request_is_read),
                cmocka_unit_test(its_json_hides_the_id_from_others),
                cmocka_unit_test(running_out_of_memory_leaves_nothing_behind),
        };
        return cmocka_run_group_tests_name("lease", tests, NULL, NULL);
}
