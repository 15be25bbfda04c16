/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/task/property-effect.h"
#include "test.h"

static TaskDeviceLimit two_limits[] = { { (char *) "/dev/vda", 1000 }, { (char *) "/dev/vdb", 500 } };

static TaskProperty limits_of(const char *name) {
        return (TaskProperty) {
                .name = name,
                .kind = TASK_PROPERTY_DEVICE_LIMITS,
                .limits = two_limits,
                .n_limits = 2,
        };
}

static void every_property_but_addresses_has_a_place(void **state) {
        const TaskPropertyForm *form;
        for (size_t i = 0; (form = task_property_form(i)); i++) {
                const PropertyPlace *place = property_place(form->name);
                assert_int_equal(place == NULL, form->kind == TASK_PROPERTY_ADDRESSES);
                if (place) {
                        assert_non_null(place->controller);
                        assert_non_null(place->unified[0]);
                }
        }
        assert_null(property_place("ExecStart"));
}

static void cgroup_v1_has_no_soft_limits_and_no_sets(void **state) {
        const char *const names[] = {
                "MemoryMin",          "MemoryLow",     "MemoryHigh",     "AllowedCPUs",
                "AllowedMemoryNodes", "IOReadIOPSMax", "IOWriteIOPSMax",
        };
        for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
                assert_null(property_place(names[i])->legacy[0]);
        assert_string_equal(property_place("CPUWeight")->legacy[0], "cpu.shares");
}

static void a_number_is_in_force_where_its_file_is(void **state) {
        TaskProperty property = { .name = "MemoryHigh", .kind = TASK_PROPERTY_NUMBER, .number = 4096 };
        assert_int_equal(property_effect(&property, "4096\n"), PROPERTY_IN_FORCE);
        assert_int_equal(property_effect(&property, NULL), PROPERTY_WITHOUT_EFFECT);
}

static void a_set_is_in_force_unless_the_kernel_has_an_empty_one(void **state) {
        uint8_t mask = 1;
        TaskProperty property = {
                .name = "AllowedCPUs",
                .kind = TASK_PROPERTY_MASK,
                .mask = &mask,
                .mask_size = 1,
        };
        assert_int_equal(property_effect(&property, "0\n"), PROPERTY_IN_FORCE);
        assert_int_equal(property_effect(&property, "\n"), PROPERTY_WITHOUT_EFFECT);
        assert_int_equal(property_effect(&property, ""), PROPERTY_WITHOUT_EFFECT);
        assert_int_equal(property_effect(&property, NULL), PROPERTY_WITHOUT_EFFECT);
}

static void limits_of_devices_are_counted(void **state) {
        TaskProperty property = limits_of("IOReadBandwidthMax");
        assert_int_equal(property_effect(&property, "8:0 1000\n8:16 500\n"), PROPERTY_IN_FORCE);
        assert_int_equal(property_effect(&property, "8:0 1000\n"), PROPERTY_PARTLY);
        assert_int_equal(property_effect(&property, ""), PROPERTY_WITHOUT_EFFECT);
        assert_int_equal(property_effect(&property, NULL), PROPERTY_WITHOUT_EFFECT);
}

static void one_line_of_cgroup_v2_holds_four_limits(void **state) {
        const char *io_max =
                        "8:0 rbps=1000 wbps=max riops=max wiops=70\n8:16 rbps=500 wbps=max riops=9 wiops=max";
        static const struct {
                const char *name;
                PropertyEffect effect;
        } rows[] = {
                { "IOReadBandwidthMax", PROPERTY_IN_FORCE },
                { "IOWriteBandwidthMax", PROPERTY_WITHOUT_EFFECT },
                { "IOReadIOPSMax", PROPERTY_PARTLY },
                { "IOWriteIOPSMax", PROPERTY_PARTLY },
        };
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                TaskProperty property = limits_of(rows[i].name);
                assert_int_equal(property_effect(&property, io_max), rows[i].effect);
        }
}

static void what_is_not_limited_need_not_show(void **state) {
        TaskDeviceLimit infinite = { (char *) "/dev/vda", UINT64_MAX };
        TaskProperty property = {
                .name = "IOWriteIOPSMax",
                .kind = TASK_PROPERTY_DEVICE_LIMITS,
                .limits = &infinite,
                .n_limits = 1,
        };
        assert_int_equal(property_effect(&property, NULL), PROPERTY_IN_FORCE);
}

static void a_complaint_names_what_is_missing(void **state) {
        const CgroupSetup unified = { .is_unified = true, .has_v2 = true }, hybrid = { .has_v2 = true };
        const CgroupSetup users = { .is_unified = true, .has_v2 = true, .is_users = true }, legacy = {};
        const TaskProperty high = { .name = "MemoryHigh", .kind = TASK_PROPERTY_NUMBER, .number = 4096 };
        const TaskProperty weight = { .name = "IOWeight", .kind = TASK_PROPERTY_NUMBER, .number = 10 };
        const TaskProperty deny = { .name = "IPAddressDeny", .kind = TASK_PROPERTY_ADDRESSES };
        const TaskProperty limits = limits_of("IOReadBandwidthMax");
        const struct {
                const TaskProperty *property;
                const CgroupSetup *setup;
                const char *content, *complaint;
        } rows[] = {
                { &high, &unified, "4096\n", NULL },
                { &high, &unified, NULL, "no cgroup controller for it" },
                { &high, &hybrid, NULL, "takes cgroup v2" },
                { &weight, &hybrid, NULL, "no cgroup controller for it" },
                { &weight, &hybrid, "10\n", NULL },
                { &deny, &unified, NULL, NULL },
                { &deny, &hybrid, NULL, NULL },
                { &deny, &legacy, NULL, "takes cgroup v2" },
                { &deny, &users, NULL, "takes the system's service manager" },
                { &limits, &hybrid, "", "no such device" },
                { &limits, &hybrid, "8:0 1\n", "not every device is there" },
                { &limits, &hybrid, NULL, "no cgroup controller for it" },
        };
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                const char *complaint = property_complaint(rows[i].property, rows[i].setup, rows[i].content);
                if (rows[i].complaint)
                        assert_string_equal(complaint, rows[i].complaint);
                else
                        assert_null(complaint);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_property_but_addresses_has_a_place),
                cmocka_unit_test(cgroup_v1_has_no_soft_limits_and_no_sets),
                cmocka_unit_test(a_number_is_in_force_where_its_file_is),
                cmocka_unit_test(a_set_is_in_force_unless_the_kernel_has_an_empty_one),
                cmocka_unit_test(limits_of_devices_are_counted),
                cmocka_unit_test(one_line_of_cgroup_v2_holds_four_limits),
                cmocka_unit_test(what_is_not_limited_need_not_show),
                cmocka_unit_test(a_complaint_names_what_is_missing),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
