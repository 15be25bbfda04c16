/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/text.h"
#include "core/task/task-properties.h"
#include "fail-alloc.h"
#include "test.h"

/* The one property of {"NAME":VALUE}. */
static TaskProperties *parse_one(const char *name, const char *value, Problem *ret_problem) {
        _cleanup_(json_putp) json_object *object = NULL;
        _cleanup_(text_done) Text text = {};
        TaskProperties *properties = NULL;

        check_int(name, text_appendf(&text, "{\"%s\":%s}", name, value), 0);
        object = json_of(text.data);

        *ret_problem = (Problem) {};
        if (task_properties_parse(object, "/properties", &properties, ret_problem) < 0)
                return NULL;

        check_u64(name, properties->n_items, 1);
        check_text(name, properties->items[0].name, name);
        return properties;
}

static void check_refused(const char *name, const char *value, const char *field) {
        Problem problem;
        TaskProperties *properties = parse_one(name, value, &problem);

        check_true(value, !properties);
        check_problem(value, &problem, 400, field);
}

static void numbers_are_read(void **state) {
        static const struct {
                const char *name, *value;
                uint64_t number;
        } rows[] = {
                { "CPUWeight", "1", 1 },
                { "CPUWeight", "10000", 10000 },
                { "IOWeight", "100", 100 },
                { "MemoryMin", "0", 0 },
                { "MemoryLow", "\"0\"", 0 },
                { "MemoryHigh", "1", 1 },
                { "MemoryHigh", "536870912", 536870912 },
                { "MemoryHigh", "9223372036854775807", INT64_MAX },
                { "MemoryHigh", "\"9999999999999999999\"", UINT64_C(9999999999999999999) },
                { "MemoryHigh", "\"9999999T\"", UINT64_C(9999999) << 40 },
                { "MemoryHigh", "\"infinity\"", UINT64_MAX },
                { "MemoryHigh", "\"1\"", 1 },
                { "MemoryHigh", "\"1K\"", 1024 },
                { "MemoryHigh", "\"512M\"", 536870912 },
                { "MemoryHigh", "\"3G\"", UINT64_C(3221225472) },
                { "MemoryHigh", "\"1T\"", UINT64_C(1099511627776) },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(task_properties_freep) TaskProperties *properties = NULL;
                Problem problem;

                properties = parse_one(row->name, row->value, &problem);
                check_true(row->value, properties != NULL);
                check_int(row->value, properties->items[0].kind, TASK_PROPERTY_NUMBER);
                check_u64(row->value, properties->items[0].number, row->number);
        }
}

static void other_numbers_are_refused(void **state) {
        static const struct {
                const char *name, *value;
        } rows[] = {
                { "CPUWeight", "0" },
                { "CPUWeight", "10001" },
                { "CPUWeight", "-1" },
                { "CPUWeight", "1.5" },
                { "CPUWeight", "\"100\"" },
                { "CPUWeight", "null" },
                { "IOWeight", "true" },
                { "MemoryHigh", "0" },
                { "MemoryHigh", "\"0\"" },
                { "MemoryHigh", "-1" },
                { "MemoryHigh", "1.5" },
                { "MemoryHigh", "9223372036854775808" },
                { "MemoryHigh", "\"10000000000000000000\"" },
                { "MemoryHigh", "\"10000000T\"" },
                { "MemoryHigh", "\"18446744073709551615\"" },
                { "MemoryHigh", "\"184467440737095516140\"" },
                { "MemoryHigh", "\"16777216T\"" },
                { "MemoryHigh", "\"\"" },
                { "MemoryHigh", "\"M\"" },
                { "MemoryHigh", "\"1m\"" },
                { "MemoryHigh", "\"1MB\"" },
                { "MemoryHigh", "\"1 M\"" },
                { "MemoryHigh", "\"1P\"" },
                { "MemoryHigh", "\"1.5G\"" },
                { "MemoryHigh", "\"+1\"" },
                { "MemoryHigh", "\"-1\"" },
                { "MemoryHigh", "\"50%\"" },
                { "MemoryHigh", "\"Infinity\"" },
                { "MemoryHigh", "[1]" },
                { "MemoryHigh", "null" },
        };

        for (FOREACH_ROW(row, rows)) {
                char field[64];

                (void) snprintf(field, sizeof(field), "/properties/%s", row->name);
                check_refused(row->name, row->value, field);
        }
}

static void lists_of_cpus_become_masks(void **state) {
        static const struct {
                const char *value;
                size_t size;
                uint8_t mask[4];
        } rows[] = {
                { "\"0\"", 1, { 0x01 } },           { "\"7\"", 1, { 0x80 } },
                { "\"8\"", 2, { 0x00, 0x01 } },     { "\"0-3,5\"", 1, { 0x2f } },
                { "\"0-3 5\"", 1, { 0x2f } },       { "\" 0-3 , 5, \"", 1, { 0x2f } },
                { "\"5,0-3,2-3,5\"", 1, { 0x2f } }, { "\"6-9\"", 2, { 0xc0, 0x03 } },
                { "\"3-3\"", 1, { 0x08 } },         { "\"0-31\"", 4, { 0xff, 0xff, 0xff, 0xff } },
                { "\"007\"", 1, { 0x80 } },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(task_properties_freep) TaskProperties *properties = NULL;
                Problem problem;

                properties = parse_one("AllowedCPUs", row->value, &problem);
                check_true(row->value, properties != NULL);
                check_int(row->value, properties->items[0].kind, TASK_PROPERTY_MASK);
                check_u64(row->value, properties->items[0].mask_size, row->size);
                check_true(row->value, memcmp(properties->items[0].mask, row->mask, row->size) == 0);
        }
}

static void the_highest_cpu_is_8191(void **state) {
        _cleanup_(task_properties_freep) TaskProperties *properties = NULL;
        Problem problem;

        properties = parse_one("AllowedMemoryNodes", "\"8191\"", &problem);
        assert_non_null(properties);
        check_u64("size", properties->items[0].mask_size, 1024);
        check_u64("last", properties->items[0].mask[1023], 0x80);
        check_refused("AllowedCPUs", "\"8192\"", "/properties/AllowedCPUs");
}

static void other_lists_of_cpus_are_refused(void **state) {
        static const char *const values[] = {
                "\"\"",
                "\" \"",
                "\",\"",
                "\"a\"",
                "\"1-\"",
                "\"-1\"",
                "\"3-1\"",
                "\"1-2-3\"",
                "\"1;2\"",
                "\"1\\t2\"",
                "\"0x1\"",
                "\"0-8192\"",
                "\"all\"",
                "3",
                "[0,1]",
                "null",
                "\"99999999999999999999999\"",
        };

        for (FOREACH_ROW(value, values))
                check_refused("AllowedCPUs", *value, "/properties/AllowedCPUs");
}

/* "127.0.0.0/8 ::1/128", for comparison. */
static void write_addresses(const TaskProperty *property, Text *text) {
        for (size_t i = 0; i < property->n_addresses; i++) {
                const TaskAddress *address = &property->addresses[i];
                char literal[INET6_ADDRSTRLEN];

                assert_int_equal(address->size, address->family == AF_INET ? 4 : 16);
                assert_non_null(inet_ntop(address->family, address->bytes, literal, sizeof(literal)));
                check_int("append",
                          text_appendf(text, "%s%s/%u", i > 0 ? " " : "", literal, address->n_bits),
                          0);
        }
}

static void addresses_are_read_and_words_stand_for_some(void **state) {
        static const struct {
                const char *value, *addresses;
        } rows[] = {
                { "[\"10.0.0.0/8\"]", "10.0.0.0/8" },
                { "[\"10.1.2.3/8\"]", "10.0.0.0/8" },
                { "[\"255.255.255.255/9\"]", "255.128.0.0/9" },
                { "[\"192.168.0.1\"]", "192.168.0.1/32" },
                { "[\"192.168.0.1/0\"]", "0.0.0.0/0" },
                { "[\"::1\"]", "::1/128" },
                { "[\"2001:db8::ff/32\"]", "2001:db8::/32" },
                { "[\"2001:db8::ff/121\"]", "2001:db8::80/121" },
                { "[\"::ffff:1.2.3.4/128\"]", "::ffff:1.2.3.4/128" },
                { "[\"any\"]", "0.0.0.0/0 ::/0" },
                { "[\"localhost\"]", "127.0.0.0/8 ::1/128" },
                { "[\"link-local\"]", "169.254.0.0/16 fe80::/64" },
                { "[\"multicast\"]", "224.0.0.0/4 ff00::/8" },
                { "[\"any\",\"1.2.3.4\",\"localhost\"]", "0.0.0.0/0 ::/0 1.2.3.4/32 127.0.0.0/8 ::1/128" },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(task_properties_freep) TaskProperties *properties = NULL;
                _cleanup_(text_done) Text text = {};
                Problem problem;

                properties = parse_one("IPAddressDeny", row->value, &problem);
                check_true(row->value, properties != NULL);
                check_int(row->value, properties->items[0].kind, TASK_PROPERTY_ADDRESSES);
                write_addresses(&properties->items[0], &text);
                check_text(row->value, text.data, row->addresses);
        }
}

static void other_addresses_are_refused(void **state) {
        static const struct {
                const char *value, *field;
        } rows[] = {
                { "[]", "/properties/IPAddressAllow" },
                { "\"any\"", "/properties/IPAddressAllow" },
                { "{}", "/properties/IPAddressAllow" },
                { "null", "/properties/IPAddressAllow" },
                { "[7]", "/properties/IPAddressAllow/0" },
                { "[null]", "/properties/IPAddressAllow/0" },
                { "[\"\"]", "/properties/IPAddressAllow/0" },
                { "[\"any\",\"Any\"]", "/properties/IPAddressAllow/1" },
                { "[\"any\",\"any\",\"10.0.0.0/33\"]", "/properties/IPAddressAllow/2" },
                { "[\"::/129\"]", "/properties/IPAddressAllow/0" },
                { "[\"10.0.0.0/\"]", "/properties/IPAddressAllow/0" },
                { "[\"10.0.0.0/-1\"]", "/properties/IPAddressAllow/0" },
                { "[\"10.0.0.0/8/8\"]", "/properties/IPAddressAllow/0" },
                { "[\"10.0.0.0/255.0.0.0\"]", "/properties/IPAddressAllow/0" },
                { "[\"10.0.0\"]", "/properties/IPAddressAllow/0" },
                { "[\" 10.0.0.0\"]", "/properties/IPAddressAllow/0" },
                { "[\"[::1]\"]", "/properties/IPAddressAllow/0" },
                { "[\"fe80::1%lo\"]", "/properties/IPAddressAllow/0" },
                { "[\"example.com\"]", "/properties/IPAddressAllow/0" },
                { "[\"any/8\"]", "/properties/IPAddressAllow/0" },
                { "[\"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000\"]",
                  "/properties/IPAddressAllow/0" },
        };

        for (FOREACH_ROW(row, rows))
                check_refused("IPAddressAllow", row->value, row->field);
}

/* An array of N strings "any". */
static void write_any(Text *text, size_t n) {
        check_int("append", text_append(text, "["), 0);
        for (size_t i = 0; i < n; i++)
                check_int("append", text_append(text, i > 0 ? ",\"any\"" : "\"any\""), 0);
        check_int("append", text_append(text, "]"), 0);
}

static void there_are_up_to_256_addresses(void **state) {
        _cleanup_(task_properties_freep) TaskProperties *properties = NULL;
        _cleanup_(text_done) Text most = {}, more = {};
        Problem problem;

        write_any(&most, TASK_PROPERTY_ADDRESSES_MAX);
        properties = parse_one("IPAddressAllow", most.data, &problem);
        assert_non_null(properties);
        check_u64("all", properties->items[0].n_addresses, 2 * TASK_PROPERTY_ADDRESSES_MAX);

        write_any(&more, TASK_PROPERTY_ADDRESSES_MAX + 1);
        check_refused("IPAddressAllow", more.data, "/properties/IPAddressAllow");
}

static void limits_of_devices_are_read(void **state) {
        static const struct {
                const char *name, *value;
                size_t n;
                TaskDeviceLimit limits[2];
        } rows[] = {
                { "IOReadBandwidthMax", "{\"/dev/vda\":1000000}", 1, { { (char *) "/dev/vda", 1000000 } } },
                { "IOWriteBandwidthMax", "{\"/dev/vda\":\"10M\"}", 1, { { (char *) "/dev/vda", 10000000 } } },
                { "IOReadIOPSMax",
                  "{\"/dev/vda\":\"infinity\"}",
                  1,
                  { { (char *) "/dev/vda", UINT64_MAX } } },
                { "IOWriteIOPSMax",
                  "{\"/dev/sda\":\"2K\",\"/dev/mapper/vg-lv\":1}",
                  2,
                  { { (char *) "/dev/sda", 2000 }, { (char *) "/dev/mapper/vg-lv", 1 } } },
                { "IOReadIOPSMax",
                  "{\"/dev/disk/by-id/wwn-0x5000c500a1b2c3d4-part1\":7,\"/dev/block/8:0\":\"1G\"}",
                  2,
                  { { (char *) "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4-part1", 7 },
                    { (char *) "/dev/block/8:0", 1000000000 } } },
        };

        for (FOREACH_ROW(row, rows)) {
                _cleanup_(task_properties_freep) TaskProperties *properties = NULL;
                Problem problem;

                properties = parse_one(row->name, row->value, &problem);
                check_true(row->value, properties != NULL);
                check_int(row->value, properties->items[0].kind, TASK_PROPERTY_DEVICE_LIMITS);
                check_u64(row->value, properties->items[0].n_limits, row->n);
                for (size_t i = 0; i < row->n; i++) {
                        check_text(row->value, properties->items[0].limits[i].path, row->limits[i].path);
                        check_u64(row->value, properties->items[0].limits[i].limit, row->limits[i].limit);
                }
        }
}

static void other_limits_of_devices_are_refused(void **state) {
        static const struct {
                const char *value, *field;
        } rows[] = {
                { "{}", "/properties/IOReadBandwidthMax" },
                { "[]", "/properties/IOReadBandwidthMax" },
                { "1000", "/properties/IOReadBandwidthMax" },
                { "{\"/dev/vda\":0}", "/properties/IOReadBandwidthMax/~1dev~1vda" },
                { "{\"/dev/vda\":\"0K\"}", "/properties/IOReadBandwidthMax/~1dev~1vda" },
                { "{\"/dev/vda\":null}", "/properties/IOReadBandwidthMax/~1dev~1vda" },
                { "{\"/dev/vda\":1,\"/dev/vdb\":\"x\"}", "/properties/IOReadBandwidthMax/~1dev~1vdb" },
                { "{\"\":1}", "/properties/IOReadBandwidthMax/" },
                { "{\"vda\":1}", "/properties/IOReadBandwidthMax/vda" },
                { "{\"/\":1}", "/properties/IOReadBandwidthMax/~1" },
                { "{\"/dev\":1}", "/properties/IOReadBandwidthMax/~1dev" },
                { "{\"/dev/\":1}", "/properties/IOReadBandwidthMax/~1dev~1" },
                { "{\"/dev/vda/\":1}", "/properties/IOReadBandwidthMax/~1dev~1vda~1" },
                { "{\"/dev//vda\":1}", "/properties/IOReadBandwidthMax/~1dev~1~1vda" },
                { "{\"/dev/./vda\":1}", "/properties/IOReadBandwidthMax/~1dev~1.~1vda" },
                { "{\"/dev/..\":1}", "/properties/IOReadBandwidthMax/~1dev~1.." },
                { "{\"/dev/disk/../shm/x\":1}", "/properties/IOReadBandwidthMax/~1dev~1disk~1..~1shm~1x" },
                { "{\"/dev/shm/x\":1}", "/properties/IOReadBandwidthMax/~1dev~1shm~1x" },
                { "{\"/home/user/mount/x\":1}", "/properties/IOReadBandwidthMax/~1home~1user~1mount~1x" },
                { "{\"/dev/a b\":1}", "/properties/IOReadBandwidthMax/~1dev~1a b" },
                { "{\"/dev/%n\":1}", "/properties/IOReadBandwidthMax/~1dev~1%n" },
                { "{\"/dev/a\\nDelegate=yes\":1}", "/properties/IOReadBandwidthMax/~1dev~1a\nDelegate=yes" },
                { "{\"/dev/a\\\\x20\":1}", "/properties/IOReadBandwidthMax/~1dev~1a\\x20" },
        };

        for (FOREACH_ROW(row, rows))
                check_refused("IOReadBandwidthMax", row->value, row->field);
}

static void there_are_up_to_64_devices(void **state) {
        for (size_t beyond = 0; beyond < 2; beyond++) {
                _cleanup_(task_properties_freep) TaskProperties *properties = NULL;
                _cleanup_(text_done) Text value = {};
                Problem problem;

                check_int("append", text_append(&value, "{\"/dev/a\":1"), 0);
                for (size_t i = 1; i < TASK_PROPERTY_DEVICE_LIMITS_MAX + beyond; i++)
                        check_int("append", text_appendf(&value, ",\"/dev/a%zu\":1", i), 0);
                check_int("append", text_append(&value, "}"), 0);

                properties = parse_one("IOReadIOPSMax", value.data, &problem);
                check_int("devices", properties != NULL, beyond == 0);
                if (beyond > 0)
                        check_problem("devices", &problem, 400, "/properties/IOReadIOPSMax");
        }
}

static void what_daggyr_sets_itself_is_refused_with_advice(void **state) {
        static const struct {
                const char *name, *advice;
        } rows[] = {
                { "CPUQuota", "\"cores\"" },
                { "CPUQuotaPerSecUSec", "\"cores\"" },
                { "MemoryMax", "\"memory_mb\"" },
                { "MemoryLimit", "\"memory_mb\"" },
                { "MemorySwapMax", "no swap" },
                { "TasksMax", "\"tasks_max\"" },
                { "RuntimeMaxSec", "\"timeout\"" },
                { "TimeoutStopSec", "\"grace\"" },
                { "KillMode", "daggyr" },
                { "Slice", "slice" },
                { "User", "\"user\"" },
                { "WorkingDirectory", "\"working_directory\"" },
                { "Environment", "\"environment\"" },
                { "UMask", "\"umask\"" },
        };

        for (FOREACH_ROW(row, rows)) {
                Problem problem;
                char field[64];

                (void) snprintf(field, sizeof(field), "/properties/%s", row->name);
                check_true(row->name, !parse_one(row->name, "1", &problem));
                check_problem(row->name, &problem, 400, field);
                check_true(row->name, strstr(problem.detail, row->advice) != NULL);
        }
}

static void everything_else_is_refused(void **state) {
        static const char *const names[] = {
                "",
                "cpuweight",
                "CPUWeight ",
                "CPUShares",
                "Conflicts",
                "BindsTo",
                "PIDs",
                "DeviceAllow",
                "BPFProgram",
                "IPIngressFilterPath",
                "ExecStart",
                "FinalKillSignal",
                "MemoryHighScale",
                "AddRef",
        };

        for (FOREACH_ROW(name, names)) {
                char field[64];

                (void) snprintf(field, sizeof(field), "/properties/%s", *name);
                check_refused(*name, "1", field);
        }
}

static void several_properties_keep_their_order(void **state) {
        _cleanup_(json_putp) json_object *object = json_of(
                        "{\"IOWeight\":7,\"AllowedCPUs\":\"0\",\"IPAddressDeny\":[\"any\"],"
                        "\"IPAddressAllow\":[\"localhost\"],\"IOReadIOPSMax\":{\"/dev/vda\":1}}");
        _cleanup_(task_properties_freep) TaskProperties *properties = NULL;
        Problem problem = {};

        check_int("parse", task_properties_parse(object, "", &properties, &problem), 0);
        check_u64("all", properties->n_items, 5);
        check_text("first", properties->items[0].name, "IOWeight");
        check_text("last", properties->items[4].name, "IOReadIOPSMax");
        check_true("size", task_properties_size(properties) > 5 * sizeof(TaskProperty));
        check_u64("size of none", task_properties_size(NULL), 0);
}

static void no_properties_are_an_empty_list(void **state) {
        _cleanup_(json_putp) json_object *object = json_of("{}");
        _cleanup_(task_properties_freep) TaskProperties *properties = NULL;
        Problem problem = {};

        check_int("parse", task_properties_parse(object, "", &properties, &problem), 0);
        check_u64("none", properties->n_items, 0);
}

static void only_an_object_of_up_to_32_members_will_do(void **state) {
        static const char *const texts[] = { "[]", "1", "\"IOWeight\"", "null" };
        _cleanup_(json_putp) json_object *large = json_object_new_object();
        TaskProperties *properties = NULL;
        Problem problem = {};

        for (FOREACH_ROW(text, texts)) {
                _cleanup_(json_putp) json_object *object = json_of(*text);

                check_int(*text, task_properties_parse(object, "/p", &properties, &problem), -EINVAL);
                check_problem(*text, &problem, 400, "/p");
        }

        for (int i = 0; i <= TASK_PROPERTIES_MAX; i++) {
                char name[16];

                (void) snprintf(name, sizeof(name), "a%d", i);
                check_int(name, json_add_u64(large, name, 1), 0);
        }
        check_int("large", task_properties_parse(large, "/p", &properties, &problem), -EINVAL);
        check_problem("large", &problem, 400, "/p");
        assert_null(properties);
}

static int try_parse(void *userdata) {
        _cleanup_(task_properties_freep) TaskProperties *properties = NULL;
        Problem problem = {};
        int r = task_properties_parse(userdata, "", &properties, &problem);

        if (r < 0)
                check_problem("no memory", &problem, 503, "");
        return r;
}

static void without_memory_there_are_no_properties(void **state) {
        _cleanup_(json_putp)
                        json_object *object = json_of("{\"AllowedCPUs\":\"0\",\"IPAddressDeny\":[\"any\"],"
                                                      "\"IOReadIOPSMax\":{\"/dev/vda\":1,\"/dev/vdb\":2}}");

        fail_alloc_loop(try_parse, object);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(numbers_are_read),
                cmocka_unit_test(other_numbers_are_refused),
                cmocka_unit_test(lists_of_cpus_become_masks),
                cmocka_unit_test(the_highest_cpu_is_8191),
                cmocka_unit_test(other_lists_of_cpus_are_refused),
                cmocka_unit_test(addresses_are_read_and_words_stand_for_some),
                cmocka_unit_test(other_addresses_are_refused),
                cmocka_unit_test(there_are_up_to_256_addresses),
                cmocka_unit_test(limits_of_devices_are_read),
                cmocka_unit_test(other_limits_of_devices_are_refused),
                cmocka_unit_test(there_are_up_to_64_devices),
                cmocka_unit_test(what_daggyr_sets_itself_is_refused_with_advice),
                cmocka_unit_test(everything_else_is_refused),
                cmocka_unit_test(several_properties_keep_their_order),
                cmocka_unit_test(no_properties_are_an_empty_list),
                cmocka_unit_test(only_an_object_of_up_to_32_members_will_do),
                cmocka_unit_test(without_memory_there_are_no_properties),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
