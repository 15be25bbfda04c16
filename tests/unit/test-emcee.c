/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>

#include "base/text.h"
#include "core/scheduling/worker-id.h"
#include "core/sharing/emcee.h"
#include "fail-alloc.h"
#include "test.h"

#define ID "0123456789abcdef0123456789abcdef"

static WorkerSet *set_of(const char *const *ids) {
        WorkerSet *set = NULL;
        assert_int_equal(worker_set_new(ids, text_list_count((char *const *) ids), &set), 0);
        return set;
}

static void addresses_are_read_as_emcee_reads_them(void **state) {
        static const struct {
                const char *text, *address;
                int64_t port;
        } rows[] = {
                { "h:42", "h:42", 42 },
                { "h:042", "h:42", 42 },
                { "h:+5", "h:5", 5 },
                { "h:-5", "h:-5", -5 },
                { "h:-0", "h:0", 0 },
                { "h:70000", "h:70000", 70000 },
                { ":h:42", "h:42", 42 },
                { "h:42:", "h:42", 42 },
                { "::1:42", "1:42", 42 },
                { "h::42", "h:42", 42 },
                { "10.0.0.5:41000", "10.0.0.5:41000", 41000 },
                { "h:9223372036854775807", "h:9223372036854775807", INT64_MAX },
                { "h:-9223372036854775808", "h:-9223372036854775808", INT64_MIN },
                { "h:9223372036854775808", NULL },
                { "h:-9223372036854775809", NULL },
                { "[::1]:42", NULL },
                { "a:b:1", NULL },
                { "h", NULL },
                { "h:", NULL },
                { ":42", NULL },
                { "", NULL },
                { "::", NULL },
                { "h:x", NULL },
                { "h:4 ", NULL },
                { "h:+", NULL },
                { "h:+-5", NULL },
                { "h:0x2a", NULL },
                { "h:4.0", NULL },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(freep) char *address = NULL;
                int64_t port = 0;
                check_int(row->text,
                          emcee_address_parse(row->text, &address, &port),
                          row->address ? 0 : -EINVAL);
                check_text(row->text, address, row->address);
                check_int(row->text, port, row->port);
        }
}

/* What one route's parser makes of TEXT, as one string; NULL when it refuses. */
typedef int (*Show)(json_object *body, Text *text, Problem *reterr_problem);

static int show_set(const WorkerSet *set, Text *text) {
        int r = 0;
        for (size_t i = 0; i < set->n_ids && r >= 0; i++)
                r = text_appendf(text, " %s", set->ids[i]);
        return r;
}

static int show_version(json_object *body, Text *text, Problem *reterr_problem) {
        _cleanup_(freep) char *version = NULL;
        int r = emcee_queue_version_parse(body, &version, reterr_problem);
        return r < 0 ? r : text_append(text, version);
}

static int show_ids(json_object *body, Text *text, Problem *reterr_problem) {
        _cleanup_(worker_set_unrefp) WorkerSet *workers = NULL;
        int r = emcee_worker_ids_parse(body, &workers, reterr_problem);
        return r < 0 ? r : show_set(workers, text);
}

static int show_asker(json_object *body, Text *text, Problem *reterr_problem) {
        _cleanup_(sharing_queue_done) SharingQueue asker = {};
        int r = emcee_workers_to_utilize_parse(body, &asker, reterr_problem);
        if (r < 0)
                return r;
        r = text_appendf(text, "%s/%s", asker.address, asker.version);
        return r < 0 ? r : show_set(asker.workers, text);
}

static int show_share(json_object *body, Text *text, Problem *reterr_problem) {
        _cleanup_(worker_set_unrefp) WorkerSet *workers = NULL;
        int r = emcee_share_parse(body, &workers, reterr_problem);
        return r < 0 ? r : show_set(workers, text);
}

static int show_toggle(json_object *body, Text *text, Problem *reterr_problem) {
        bool enabled;
        int r = emcee_toggle_parse(body, &enabled, reterr_problem);
        return r < 0 ? r : text_append(text, enabled ? "on" : "off");
}

#define INFO(address) \
        "{\"queueInfo\":{\"queueAddress\":" address ",\"queueVersion\":\"19\"},\"workerIds\":[]}"

static void bodies_are_read_and_refused(void **state) {
        static const struct {
                Show show;
                const char *body, *want, *field; /* no WANT: refused, FIELD to blame */
        } rows[] = {
                { show_version, "{\"responseType\":\"queueVersion\",\"version\":\"19.0.0\"}", "19.0.0" },
                { show_version, "{\"version\":\"v\",\"x\":null,\"responseType\":\"queueVersion\"}", "v" },
                { show_version, "{\"caseId\":\"queueVersion\",\"version\":\"1\"}", NULL, "/responseType" },
                { show_version, "{\"responseType\":\"other\",\"version\":\"1\"}", NULL, "/responseType" },
                { show_version, "{\"responseType\":\"queueVersion\",\"version\":19}", NULL, "/version" },
                { show_version, "{\"responseType\":\"queueVersion\",\"version\":null}", NULL, "/version" },
                { show_version, "[]", NULL, "" },

                { show_ids, "{\"workerIds\":[\"mac2\",\"mac1\",\"mac2\"]}", " mac1 mac2" },
                { show_ids, "{\"workerIds\":[]}", "" },
                { show_ids, "{}", NULL, "/workerIds" },
                { show_ids, "{\"workerIds\":null}", NULL, "/workerIds" },
                { show_ids, "{\"workerIds\":\"mac1\"}", NULL, "/workerIds" },
                { show_ids, "{\"workerIds\":[\"mac1\",2]}", NULL, "/workerIds/1" },
                { show_ids, "{\"workerIds\":[null]}", NULL, "/workerIds/0" },

                { show_asker,
                  "{\"queueInfo\":{\"queueAddress\":\"h:0041000\",\"queueVersion\":\"19\",\"x\":1},"
                  "\"workerIds\":[\"b\",\"a\"]}",
                  "h:41000/19 a b" },
                { show_asker, INFO("\"h\""), NULL, "/queueInfo/queueAddress" },
                { show_asker, INFO("\"[::1]:1\""), NULL, "/queueInfo/queueAddress" },
                { show_asker, INFO("5"), NULL, "/queueInfo/queueAddress" },
                { show_asker,
                  "{\"queueInfo\":{\"queueAddress\":\"h:1\"},\"workerIds\":[]}",
                  NULL,
                  "/queueInfo/queueVersion" },
                { show_asker, "{\"queueInfo\":\"h:1\",\"workerIds\":[]}", NULL, "/queueInfo" },
                { show_asker, "{\"workerIds\":[]}", NULL, "/queueInfo" },
                { show_asker,
                  "{\"queueInfo\":{\"queueAddress\":\"h:1\",\"queueVersion\":\"\"}}",
                  NULL,
                  "/workerIds" },

                { show_share, "{\"caseId\":\"workersToUtilize\",\"workerIds\":[\"x\"]}", " x" },
                { show_share, "{\"caseId\":\"workerIds\",\"workerIds\":[\"x\"]}", NULL, "/caseId" },
                { show_share, "{\"workerIds\":[\"x\"]}", NULL, "/caseId" },

                { show_toggle, "{\"status\":\"enabled\"}", "on" },
                { show_toggle, "{\"status\":\"disabled\",\"x\":{}}", "off" },
                { show_toggle, "{\"status\":\"Enabled\"}", NULL, "/status" },
                { show_toggle, "{\"status\":true}", NULL, "/status" },
                { show_toggle, "{}", NULL, "/status" },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *body = json_of(row->body);
                _cleanup_(text_done) Text text = {};
                Problem problem = {};
                check_int(row->body, row->show(body, &text, &problem), row->want ? 0 : -EINVAL);
                if (row->want)
                        check_text(row->body, text.data ?: "", row->want);
                else
                        check_problem(row->body, &problem, 400, row->field);
        }
}

static void strings_and_sets_have_limits(void **state) {
        char longest[WORKER_ID_MAX + 2];
        Problem problem = {};
        memset(longest, 'x', sizeof(longest) - 1);
        longest[sizeof(longest) - 1] = '\0';
        for (int too_long = 1; too_long >= 0; too_long--) {
                _cleanup_(json_putp) json_object *body = json_object_new_object();
                json_object *array = json_object_new_array();
                _cleanup_(worker_set_unrefp) WorkerSet *workers = NULL;
                assert_int_equal(json_append(array, json_object_new_string(longest + !too_long)), 0);
                assert_int_equal(json_add(body, "workerIds", array), 0);
                assert_int_equal(emcee_worker_ids_parse(body, &workers, &problem), too_long ? -EINVAL : 0);
        }
        for (size_t n = WORKER_SET_MAX; n <= WORKER_SET_MAX + 1; n++) {
                _cleanup_(json_putp) json_object *body = json_object_new_object();
                json_object *array = json_object_new_array();
                _cleanup_(worker_set_unrefp) WorkerSet *workers = NULL;
                for (size_t i = 0; i < n; i++)
                        assert_int_equal(json_append(array, json_object_new_string("")), 0);
                assert_int_equal(json_add(body, "workerIds", array), 0);
                assert_int_equal(
                                emcee_worker_ids_parse(body, &workers, &problem),
                                n > WORKER_SET_MAX ? -EINVAL : 0);
        }
}

static void bodies_are_written(void **state) {
        static const char *const ids[] = { "mac2", "mac1", NULL };
        static char address[] = "h:1", version[] = "19", worker_id[] = "mac1", bucket[] = "b1";
        char *buckets[] = { bucket, NULL };
        _cleanup_(worker_set_unrefp) WorkerSet *set = set_of(ids);
        const SharingQueue asker = { .address = address, .version = version, .workers = set };
        const EmceeWorkerStatus status = { worker_id, true, false, false, true, buckets };
        json_object *bodies[6] = {};
        static const char *const want[] = {
                "{}",
                "{\"responseType\":\"queueVersion\",\"version\":\"19\"}",
                "{\"workerIds\":[\"mac1\",\"mac2\"]}",
                "{\"queueInfo\":{\"queueAddress\":\"h:1\",\"queueVersion\":\"19\"},"
                "\"workerIds\":[\"mac1\",\"mac2\"]}",
                "{\"caseId\":\"workersToUtilize\",\"workerIds\":[\"mac1\",\"mac2\"]}",
                "{\"workerAliveness\":[\"mac1\",{\"registered\":true,\"disabled\":false,\"silent\":false,"
                "\"workerUtilizationPermission\":\"allowedToUtilize\",\"bucketIdsBeingProcessed\":[\"b1\"]}]}",
        };
        assert_int_equal(emcee_void_format(&bodies[0]), 0);
        assert_int_equal(emcee_queue_version_format(version, &bodies[1]), 0);
        assert_int_equal(emcee_worker_ids_format(set, &bodies[2]), 0);
        assert_int_equal(emcee_workers_to_utilize_format(&asker, &bodies[3]), 0);
        assert_int_equal(emcee_share_format(set, &bodies[4]), 0);
        assert_int_equal(emcee_worker_status_format(&status, 1, &bodies[5]), 0);
        for (size_t i = 0; i < N_ELEMENTS(bodies); i++) {
                check_json(want[i], bodies[i], want[i]);
                json_object_put(bodies[i]);
        }
}

static void errors_have_emcees_form(void **state) {
        _cleanup_(freep) char *with_field = NULL, *without = NULL;
        Problem problem = {};
        (void) problem_set(&problem, 400, "/workerIds", "is required");
        assert_int_equal(emcee_error_format("/workerIds", &problem, &with_field), 0);
        assert_string_equal(
                        with_field,
                        "Failed to process request with path \"/workerIds\", error: \"/workerIds: is required\"");
        (void) problem_set(&problem, 400, NULL, "not valid JSON");
        assert_int_equal(emcee_error_format("/queueVersion", &problem, &without), 0);
        assert_string_equal(
                        without,
                        "Failed to process request with path \"/queueVersion\", error: \"not valid JSON\"");
}

static void identities_are_written_and_read(void **state) {
        static const struct {
                const char *value, *address;
        } rows[] = {
                { ID " host:41000", "host:41000" },
                { ID " host:041000", "host:41000" },
                { ID " host", NULL },
                { ID, NULL },
                { ID "0 host:1", NULL },
                { "0123456789ABCDEF0123456789abcdef host:1", NULL },
                { "0123 host:1", NULL },
                { " host:1", NULL },
                { "", NULL },
        };
        for (FOREACH_ROW(row, rows)) {
                char id[SHARING_QUEUE_ID_SIZE] = "";
                _cleanup_(freep) char *address = NULL, *again = NULL;
                check_int(row->value,
                          emcee_identity_parse(row->value, id, &address),
                          row->address ? 0 : -EINVAL);
                check_text(row->value, address, row->address);
                check_text(row->value, id, row->address ? ID : "");
                if (!row->address)
                        continue;
                check_int(row->value, emcee_identity_format(id, address, &again), 0);
                check_text(row->value, again, ID " host:41000");
        }
}

typedef struct TryParse {
        Show show;
        json_object *body;
} TryParse;

static int try_show(void *userdata) {
        const TryParse *try = userdata;
        _cleanup_(text_done) Text text = {};
        Problem problem = {};
        return try->show(try->body, &text, &problem);
}

static int try_format(void *userdata) {
        const EmceeWorkerStatus *status = userdata;
        static char address[] = "h:1", version[] = "19";
        static const char *const ids[] = { "mac2", "mac1", NULL };
        _cleanup_(worker_set_unrefp) WorkerSet *set = NULL;
        _cleanup_(json_putp) json_object *a = NULL, *b = NULL, *c = NULL, *d = NULL, *e = NULL, *f = NULL;
        _cleanup_(freep) char *text = NULL, *value = NULL;
        const Problem problem = { .status = 400 };
        int r = worker_set_new(ids, 2, &set);
        const SharingQueue asker = { .address = address, .version = version, .workers = set };
        if (r >= 0)
                r = emcee_void_format(&a);
        if (r >= 0)
                r = emcee_queue_version_format(version, &b);
        if (r >= 0)
                r = emcee_worker_ids_format(set, &c);
        if (r >= 0)
                r = emcee_workers_to_utilize_format(&asker, &d);
        if (r >= 0)
                r = emcee_share_format(set, &e);
        if (r >= 0)
                r = emcee_worker_status_format(status, 1, &f);
        if (r >= 0)
                r = emcee_error_format("/x", &problem, &text);
        return r < 0 ? r : emcee_identity_format(ID, address, &value);
}

static void running_out_of_memory_leaves_nothing_behind(void **state) {
        static const struct {
                Show show;
                const char *body;
        } rows[] = {
                { show_version, "{\"responseType\":\"queueVersion\",\"version\":\"19.0.0\"}" },
                { show_ids, "{\"workerIds\":[\"mac2\",\"mac1\"]}" },
                { show_asker, INFO("\"h:1\"") },
                { show_share, "{\"caseId\":\"workersToUtilize\",\"workerIds\":[\"x\"]}" },
                { show_toggle, "{\"status\":\"enabled\"}" },
        };
        for (FOREACH_ROW(row, rows)) {
                _cleanup_(json_putp) json_object *body = json_of(row->body);
                TryParse try = { row->show, body };
                fail_alloc_loop(try_show, &try);
        }
        static char worker_id[] = "mac1", bucket[] = "b1";
        char *buckets[] = { bucket, NULL };
        EmceeWorkerStatus status = { worker_id, true, false, false, true, buckets };
        fail_alloc_loop(try_format, &status);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(addresses_are_read_as_emcee_reads_them),
                cmocka_unit_test(bodies_are_read_and_refused),
                cmocka_unit_test(strings_and_sets_have_limits),
                cmocka_unit_test(bodies_are_written),
                cmocka_unit_test(errors_have_emcees_form),
                cmocka_unit_test(identities_are_written_and_read),
                cmocka_unit_test(running_out_of_memory_leaves_nothing_behind),
        };
        return cmocka_run_group_tests_name("emcee", tests, NULL, NULL);
}
