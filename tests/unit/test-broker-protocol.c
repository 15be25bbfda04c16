/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/text.h"
#include "core/wire/broker-protocol.h"
#include "fail-alloc.h"
#include "test.h"

static TaskDeviceLimit device_limits[] = {
        { .path = (char *) "/dev/vda", .limit = 1000 },
        { .path = (char *) "/dev/disk/by-id/x", .limit = UINT64_MAX },
};

static TaskAddress addresses[] = {
        { .family = AF_INET, .bytes = { 10 }, .size = 4, .n_bits = 8 },
        { .family = AF_INET6, .bytes = { [15] = 1 }, .size = 16, .n_bits = 128 },
};

static uint8_t cpus[] = { 0x05, 0x80 };

/* One property of each kind. */
static TaskProperty items[] = {
        { .name = "CPUWeight", .kind = TASK_PROPERTY_NUMBER, .number = 10000 },
        { .name = "MemoryHigh", .kind = TASK_PROPERTY_NUMBER, .number = UINT64_MAX },
        { .name = "AllowedCPUs", .kind = TASK_PROPERTY_MASK, .mask = cpus, .mask_size = sizeof(cpus) },
        { .name = "IPAddressDeny",
          .kind = TASK_PROPERTY_ADDRESSES,
          .addresses = addresses,
          .n_addresses = N_ELEMENTS(addresses) },
        { .name = "IOReadIOPSMax",
          .kind = TASK_PROPERTY_DEVICE_LIMITS,
          .limits = device_limits,
          .n_limits = N_ELEMENTS(device_limits) },
};

static TaskProperties properties = { .items = items, .n_items = N_ELEMENTS(items) };

static char *device_paths[] = { (char *) "/dev/nvidiactl", (char *) "/dev/nvidia0", NULL };

static BrokerRequest full_start(void) {
        return (BrokerRequest){
                .type = BROKER_START,
                .call_id = 0x1122334455667788,
                .order = {
                        .task_id = (char *) "7:a%2Fb",
                        .cpu_quota_usec = 500000,
                        .memory_max_bytes = 1048576,
                        .tasks_max = 2,
                        .stop_timeout_usec = 15 * USEC_PER_SEC,
                        .device_paths = device_paths,
                        .properties = &properties,
                },
        };
}

static BrokerRequest stop_of(const char *unit) {
        return (BrokerRequest) { .type = BROKER_STOP, .call_id = 1, .unit = (char *) unit };
}

static void every_field_arrives_as_it_was_sent(void **state) {
        BrokerRequest request = full_start();
        _cleanup_(broker_request_done) BrokerRequest read = {};
        _cleanup_(freep) void *block = NULL;
        size_t size;

        check_int("encode", broker_request_encode(&request, &block, &size), 0);
        check_int("decode", broker_request_decode(block, size, &read), 0);
        check_int("type", read.type, BROKER_START);
        assert_true(read.call_id == request.call_id);
        assert_true(broker_request_peek_id(block, size) == request.call_id);
        check_text("task", read.order.task_id, "7:a%2Fb");
        assert_true(read.order.cpu_quota_usec == 500000);
        assert_true(read.order.memory_max_bytes == 1048576);
        assert_true(read.order.tasks_max == 2);
        assert_true(read.order.stop_timeout_usec == 15 * USEC_PER_SEC);

        check_int("paths", (int) text_list_count(read.order.device_paths), 2);
        check_text("path", read.order.device_paths[1], "/dev/nvidia0");

        const TaskProperties *got = read.order.properties;
        check_int("properties", (int) got->n_items, (int) N_ELEMENTS(items));
        for (size_t i = 0; i < N_ELEMENTS(items); i++) {
                check_text(items[i].name, got->items[i].name, items[i].name);
                check_int(items[i].name, got->items[i].kind, items[i].kind);
        }
        assert_true(got->items[0].number == 10000);
        assert_true(got->items[1].number == UINT64_MAX);
        check_int("mask", (int) got->items[2].mask_size, 2);
        assert_memory_equal(got->items[2].mask, cpus, sizeof(cpus));
        check_int("addresses", (int) got->items[3].n_addresses, 2);
        for (size_t i = 0; i < N_ELEMENTS(addresses); i++) {
                const TaskAddress *address = &got->items[3].addresses[i];

                check_int("family", address->family, addresses[i].family);
                check_int("size", (int) address->size, (int) addresses[i].size);
                check_int("bits", (int) address->n_bits, (int) addresses[i].n_bits);
                assert_memory_equal(address->bytes, addresses[i].bytes, sizeof(address->bytes));
        }
        check_int("devices", (int) got->items[4].n_limits, 2);
        check_text("device", got->items[4].limits[1].path, "/dev/disk/by-id/x");
        assert_true(got->items[4].limits[0].limit == 1000);
        assert_true(got->items[4].limits[1].limit == UINT64_MAX);
}

/* No list lets a task open anything, an empty one nothing. */
static void no_devices_are_not_all_devices(void **state) {
        char *nothing[] = { NULL };

        for (int restricted = 0; restricted <= 1; restricted++) {
                BrokerRequest request = full_start();
                _cleanup_(broker_request_done) BrokerRequest read = {};
                _cleanup_(freep) void *block = NULL;
                size_t size;

                request.order.device_paths = restricted ? nothing : NULL;
                check_int("encode", broker_request_encode(&request, &block, &size), 0);
                check_int("decode", broker_request_decode(block, size, &read), 0);
                check_int("restricted", read.order.device_paths != NULL, restricted);
        }
}

static void only_devices_below_dev_are_taken(void **state) {
        static const struct {
                const char *path;
                bool valid;
        } rows[] = {
                { "/dev/nvidia0", true },
                { "/dev/dri/renderD128", true },
                { "/dev/char/195:0", true },
                { "/dev/shmem", true },
                { "/dev", false },
                { "/dev/", false },
                { "/tmp/node", false },
                { "/devices/node", false },
                { "dev/node", false },
                { "char-pts", false },
                { "", false },
                { "/dev/../tmp/node", false },
                { "/dev/dri/..", false },
                { "/dev//node", false },
                { "/dev/./node", false },
                { "/dev/dri/", false },
                { "/dev/a b", false },
                { "/dev/a%n", false },
                { "/dev/a\n", false },
                { "/dev/shm/node", false },
                { "/dev/fd/3", false },
        };

        for (FOREACH_ROW(row, rows)) {
                BrokerRequest request = full_start();
                _cleanup_(broker_request_done) BrokerRequest read = {};
                _cleanup_(freep) void *block = NULL;
                size_t size;

                request.order.device_paths = (char *[]) { (char *) row->path, NULL };
                check_int(row->path, broker_request_encode(&request, &block, &size), 0);
                check_int(row->path, broker_request_decode(block, size, &read), row->valid ? 0 : -EBADMSG);
        }
}

static void stops_and_kills_carry_a_unit(void **state) {
        static const BrokerRequestType types[] = { BROKER_STOP, BROKER_KILL };

        for (size_t i = 0; i < N_ELEMENTS(types); i++) {
                BrokerRequest request = stop_of("daggyr-task-a\\x2db.scope");
                _cleanup_(broker_request_done) BrokerRequest read = {};
                _cleanup_(freep) void *block = NULL;
                size_t size;

                request.type = types[i];
                check_int("encode", broker_request_encode(&request, &block, &size), 0);
                check_int("decode", broker_request_decode(block, size, &read), 0);
                check_int("type", read.type, types[i]);
                check_text("unit", read.unit, request.unit);
        }
}

static void a_block_that_is_cut_or_longer_is_none(void **state) {
        BrokerRequest request = full_start();
        _cleanup_(freep) char *block = NULL;
        size_t size;

        check_int("encode", broker_request_encode(&request, (void **) &block, &size), 0);
        for (size_t n = 0; n < size; n++) {
                BrokerRequest read = {};

                check_int("cut", broker_request_decode(block, n, &read), -EBADMSG);
                assert_null(read.order.task_id);
        }

        _cleanup_(freep) char *longer = calloc(1, size + 1);
        BrokerRequest read = {};
        assert_non_null(longer);
        memcpy(longer, block, size);
        check_int("longer", broker_request_decode(longer, size + 1, &read), -EBADMSG);
}

static void a_block_of_another_version_is_told_apart(void **state) {
        BrokerRequest request = full_start(), read = {};
        _cleanup_(freep) char *block = NULL;
        size_t size;

        check_int("encode", broker_request_encode(&request, (void **) &block, &size), 0);
        block[0] ^= 1;
        check_int("decode", broker_request_decode(block, size, &read), -EPROTO);
}

/* What a change of one field of a valid request to an invalid value leads to. The encoder would assert. */
static void orders_beyond_the_bounds_are_refused(void **state) {
        static const struct {
                const char *label;
                size_t offset; /* of a number of 64 bits behind the head */
                uint64_t value;
        } rows[] = {
                { "no CPU", 0, 0 },
                { "too much CPU", 0, SCOPE_CPU_QUOTA_MAX + 1 },
                { "infinite CPU", 0, UINT64_MAX },
                { "no memory", 8, 0 },
                { "too much memory", 8, SCOPE_MEMORY_MAX + 1 },
                { "no tasks", 16, 0 },
                { "too many tasks", 16, SCOPE_TASKS_MAX + 1 },
                { "endless stop", 24, SCOPE_STOP_TIMEOUT_MAX + 1 },
                { "too many properties", 32, TASK_PROPERTIES_MAX + 1 },
                { "something in the gap", 32, (uint64_t) 1 << 32 },
        };

        for (FOREACH_ROW(row, rows)) {
                BrokerRequest request = full_start(), read = {};
                _cleanup_(freep) char *block = NULL;
                size_t size;

                request.order.properties = NULL;
                check_int(row->label, broker_request_encode(&request, (void **) &block, &size), 0);
                memcpy(block + 24 + row->offset, &row->value, sizeof(row->value));
                check_int(row->label, broker_request_decode(block, size, &read), -EBADMSG);
        }
}

static void a_scope_of_a_task_is_told_from_all_other_units(void **state) {
        static const struct {
                const char *unit;
                bool valid;
        } rows[] = {
                { "daggyr-task-a.scope", true },
                { "daggyr-task-7:x.scope", true },
                { "daggyr-task-a\\x2db.scope", true },
                { "daggyr-task-a-0123456789abcdef.scope", true },
                { "daggyr-task-.scope", false },
                { "daggyr-task-a.service", false },
                { "daggyr-task-a", false },
                { "daggyr-task-a/b.scope", false },
                { "daggyr-task-a\n.scope", false },
                { "daggyr-task-a b.scope", false },
                { "daggyr-task-*.scope", false },
                { "daggyr-task-a\\x2.scope", false },
                { "daggyr-task-a\\.scope", false },
                { "daggyr-task-%n.scope", false },
                { "x-daggyr-task-a.scope", false },
                { "daggyr.service", false },
                { "daggyr.slice", false },
                { "init.scope", false },
                { "", false },
        };

        for (FOREACH_ROW(row, rows))
                check_int(row->unit, broker_unit_valid(row->unit), row->valid);

        char longest[300] = "daggyr-task-";
        memset(longest + strlen(longest), 'a', 255 - strlen("daggyr-task-") - strlen(".scope"));
        strcpy(longest + 255 - strlen(".scope"), ".scope");
        check_int("longest", broker_unit_valid(longest), true);
        strcpy(longest + 255 - strlen(".scope"), "a.scope");
        check_int("too long", broker_unit_valid(longest), false);
}

static void the_longest_id_fits_and_none_that_is_longer(void **state) {
        static char id[SCOPE_TASK_ID_MAX + 2];
        BrokerRequest request = full_start(), again = {};
        _cleanup_(broker_request_done) BrokerRequest read = {};
        _cleanup_(freep) char *block = NULL;
        size_t size;

        memset(id, 'a', SCOPE_TASK_ID_MAX);
        request.order.task_id = id;
        request.order.device_paths = NULL; /* the block ends with the id */
        request.order.properties = NULL;
        check_int("encode", broker_request_encode(&request, (void **) &block, &size), 0);
        check_int("decode", broker_request_decode(block, size, &read), 0);

        _cleanup_(freep) char *longer = malloc(size + 1);
        assert_non_null(longer);
        memcpy(longer, block, size - 1);
        memcpy(longer + size - 1, "a", 2);
        uint32_t longer_size = (uint32_t) size + 1;
        memcpy(longer + 20, &longer_size, sizeof(longer_size));
        check_int("longer", broker_request_decode(longer, size + 1, &again), -EBADMSG);
}

/* A list of COUNT paths as long as they may be, for text_list_free(). */
static char **longest_paths(size_t count) {
        char path[TASK_PROPERTY_DEVICE_PATH_MAX + 1] = "/dev/";
        char **paths = NULL;

        memset(path + strlen(path), 'a', sizeof(path) - 1 - strlen(path));
        for (size_t i = 0; i < count; i++)
                assert_int_equal(text_list_append(&paths, path), 0);
        return paths;
}

/* All that a task may ask for at once, with each part as long as it may be. */
static void the_largest_order_fits(void **state) {
        static char id[SCOPE_TASK_ID_MAX + 1];
        _cleanup_(text_list_freep) char **paths = longest_paths(SCOPE_DEVICES_MAX);
        TaskProperty all[TASK_PROPERTIES_MAX] = {};
        TaskDeviceLimit limits[TASK_PROPERTY_DEVICE_LIMITS_MAX];
        TaskAddress many[2 * TASK_PROPERTY_ADDRESSES_MAX];
        uint8_t mask[TASK_PROPERTY_MASK_MAX];
        TaskProperties most = { .items = all };
        BrokerRequest request = full_start();
        _cleanup_(broker_request_done) BrokerRequest read = {};
        _cleanup_(freep) void *block = NULL;
        size_t size;

        memset(id, 'a', SCOPE_TASK_ID_MAX);
        memset(mask, 0xff, sizeof(mask));
        for (size_t i = 0; i < N_ELEMENTS(limits); i++)
                limits[i] = (TaskDeviceLimit) { .path = paths[i], .limit = 1 };
        for (size_t i = 0; i < N_ELEMENTS(many); i++)
                many[i] = (TaskAddress) { .family = AF_INET6, .size = 16, .n_bits = 128 };
        for (const TaskPropertyForm *form; (form = task_property_form(most.n_items)); most.n_items++)
                all[most.n_items] = (TaskProperty) {
                        .name = form->name,
                        .kind = form->kind,
                        .number = form->min,
                        .mask = mask,
                        .mask_size = sizeof(mask),
                        .addresses = many,
                        .n_addresses = N_ELEMENTS(many),
                        .limits = limits,
                        .n_limits = N_ELEMENTS(limits),
                };

        request.order.task_id = id;
        request.order.device_paths = paths;
        request.order.properties = &most;
        assert_int_equal(broker_request_encode(&request, &block, &size), 0);
        assert_int_equal(broker_request_decode(block, size, &read), 0);
        assert_int_equal(text_list_count(read.order.device_paths), SCOPE_DEVICES_MAX);
}

static void more_devices_than_the_bound_are_refused(void **state) {
        _cleanup_(text_list_freep) char **paths = longest_paths(SCOPE_DEVICES_MAX + 1);
        BrokerRequest request = full_start();
        _cleanup_(freep) void *block = NULL;
        size_t size;

        request.order.device_paths = paths;
        assert_int_equal(broker_request_encode(&request, &block, &size), -E2BIG);
        assert_null(block);
}

static void replies_are_whole(void **state) {
        BrokerReply reply = { .call_id = 1, .message = "no" };

        check_int("whole", broker_reply_valid(&reply, sizeof(reply)), true);
        check_int("cut", broker_reply_valid(&reply, sizeof(reply) - 1), false);
        memset(reply.message, 'x', sizeof(reply.message));
        check_int("endless", broker_reply_valid(&reply, sizeof(reply)), false);
}

static int try_round_trip(void *userdata) {
        _cleanup_(broker_request_done) BrokerRequest read = {};
        _cleanup_(freep) void *block = NULL;
        size_t size;

        int r = broker_request_encode(userdata, &block, &size);
        return r < 0 ? r : broker_request_decode(block, size, &read);
}

static void without_memory_there_is_no_request(void **state) {
        BrokerRequest request = full_start();

        fail_alloc_loop(try_round_trip, &request);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_field_arrives_as_it_was_sent),
                cmocka_unit_test(no_devices_are_not_all_devices),
                cmocka_unit_test(only_devices_below_dev_are_taken),
                cmocka_unit_test(stops_and_kills_carry_a_unit),
                cmocka_unit_test(a_block_that_is_cut_or_longer_is_none),
                cmocka_unit_test(a_block_of_another_version_is_told_apart),
                cmocka_unit_test(orders_beyond_the_bounds_are_refused),
                cmocka_unit_test(a_scope_of_a_task_is_told_from_all_other_units),
                cmocka_unit_test(the_longest_id_fits_and_none_that_is_longer),
                cmocka_unit_test(the_largest_order_fits),
                cmocka_unit_test(more_devices_than_the_bound_are_refused),
                cmocka_unit_test(replies_are_whole),
                cmocka_unit_test(without_memory_there_is_no_request),
        };
        return cmocka_run_group_tests_name("broker-protocol", tests, NULL, NULL);
}
