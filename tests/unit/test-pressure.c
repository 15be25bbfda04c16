/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "core/json/json.h"
#include "core/scheduling/pressure.h"
#include "fail-alloc.h"
#include "test.h"

static void the_average_of_ten_seconds_is_read(void **state) {
        static const struct {
                const char *text;
                int r;
                double percent;
        } rows[] = {
                { "some avg10=0.00 avg60=9.00 avg300=9.00 total=9\nfull avg10=9.00\n", 0, 0 },
                { "some avg10=12.34 avg60=0.00 avg300=0.00 total=0\n", 0, 12.34 },
                { "some avg10=100.00 avg60=0.00", 0, 100 },
                { "some avg10=100.01 avg60=0.00", -EBADMSG, 0 },
                { "some avg10=-1 avg60=0.00", -EBADMSG, 0 },
                { "some avg10= avg60=0.00", -EBADMSG, 0 },
                { "some avg10=1.00", -EBADMSG, 0 },
                { "some avg10=1.0x avg60", -EBADMSG, 0 },
                { "some avg10=0000000000000000001.00 avg60", -EBADMSG, 0 },
                { "full avg10=1.00 avg60=0.00", -EBADMSG, 0 },
                { "", -EBADMSG, 0 },
        };

        for (FOREACH_ROW(row, rows)) {
                double percent = 0;
                check_int(row->text, memory_pressure_parse(row->text, &percent), row->r);
                check_true(row->text, percent >= row->percent && percent <= row->percent);
        }
}

static void starts_wait_from_the_threshold_on_while_something_runs(void **state) {
        static const struct {
                const char *label;
                MemoryPressure pressure;
                size_t n_running;
                bool holds;
        } rows[] = {
                { "below", { .percent = 19.99, .max_percent = 20, .is_known = true }, 1, false },
                { "at it", { .percent = 20, .max_percent = 20, .is_known = true }, 1, true },
                { "above", { .percent = 100, .max_percent = 20, .is_known = true }, 9, true },
                { "nothing runs", { .percent = 100, .max_percent = 20, .is_known = true }, 0, false },
                { "off", { .percent = 100, .max_percent = 0, .is_known = true }, 1, false },
                { "not known", { .percent = 100, .max_percent = 20 }, 1, false },
                { "held before",
                  { .percent = 19, .max_percent = 20, .is_known = true, .is_holding = true },
                  1,
                  false },
        };

        for (FOREACH_ROW(row, rows))
                check_true(row->label, memory_pressure_holds(&row->pressure, row->n_running) == row->holds);
}

static void check_shown(const MemoryPressure *pressure, const char *expected) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();
        _cleanup_(freep) char *text = NULL;

        assert_int_equal(memory_pressure_add(object, pressure), 0);
        assert_int_equal(json_format(object, &text, NULL), 0);
        assert_string_equal(text, expected);
}

static void it_is_shown_where_it_is_known(void **state) {
        MemoryPressure pressure = { .percent = 12.5, .max_percent = 10, .is_holding = true };

        check_shown(&pressure, "{\"pressure\":null}");
        pressure.is_known = true;
        check_shown(&pressure,
                    "{\"pressure\":{\"memory_percent\":12.5,\"memory_max_percent\":10,\"holding\":true}}");
}

static int try_to_show(void *userdata) {
        _cleanup_(json_putp) json_object *object = json_object_new_object();

        return object ? memory_pressure_add(object, userdata) : -ENOMEM;
}

static void without_memory_it_is_not_shown(void **state) {
        MemoryPressure pressure = { .max_percent = 10, .is_known = true };

        fail_alloc_loop(try_to_show, &pressure);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_average_of_ten_seconds_is_read),
                cmocka_unit_test(starts_wait_from_the_threshold_on_while_something_runs),
                cmocka_unit_test(it_is_shown_where_it_is_known),
                cmocka_unit_test(without_memory_it_is_not_shown),
        };

        return cmocka_run_group_tests_name("pressure", tests, NULL, NULL);
}
