/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/wire/leader-protocol.h"
#include "fail-alloc.h"
#include "test.h"

#define HEAD_SIZE 56

static const LeaderOrder example = {
        .uid = 1000,
        .gid = 100,
        .umask = 0027,
        .no_new_privileges = 1,
        .directory_optional = 1,
        .grace_usec = 10000000,
        .unit = (char *) "daggyr-task-7.scope",
        .directory = (char *) "/var/tmp",
        .command = (char *[]) { (char *) "sh", (char *) "-c", (char *) "", (char *) "echo hi", NULL },
        .environment = (char *[]) { (char *) "A=1", (char *) "B=", NULL },
        .devices = (char *[]) { (char *) "/dev/nvidiactl", (char *) "/dev/nvidia0", NULL },
};

static void check_list(const char *label, char *const *got, char *const *want) {
        size_t n = text_list_count(want);

        check_u64(label, text_list_count(got), n);
        for (size_t i = 0; i < n; i++)
                check_text(label, got[i], want[i]);
}

static void check_order(const char *label, const LeaderOrder *got, const LeaderOrder *want) {
        check_u64(label, got->uid, want->uid);
        check_u64(label, got->gid, want->gid);
        check_u64(label, got->umask, want->umask);
        check_u64(label, got->no_new_privileges, want->no_new_privileges);
        check_u64(label, got->grace_usec, want->grace_usec);
        check_u64(label, got->directory_optional, want->directory_optional);
        check_text(label, got->unit, want->unit);
        check_text(label, got->directory, want->directory);
        check_list(label, got->command, want->command);
        check_list(label, got->environment, want->environment);
        check_list(label, got->devices, want->devices);
}

static void check_round_trip(const char *label, const LeaderOrder *order) {
        _cleanup_(leader_order_done) LeaderOrder decoded = {};
        _cleanup_(freep) void *block = NULL;
        size_t size = 0;

        check_int(label, leader_order_encode(order, &block, &size), 0);
        check_int(label, leader_order_decode(block, size, &decoded), 0);
        check_order(label, &decoded, order);
}

static void an_order_reads_back_as_it_was_written(void **state) {
        char *only_program[] = { (char *) "/bin/true", NULL };
        char *empty_program[] = { (char *) "", NULL };
        char *nothing[] = { NULL };
        LeaderOrder order = example;

        check_round_trip("example", &order);

        order.uid = order.gid = UINT32_MAX;
        order.umask = 0777;
        order.no_new_privileges = 0;
        order.directory_optional = 0;
        order.unit = (char *) "";
        order.grace_usec = UINT64_MAX;
        order.directory = (char *) "";
        order.command = only_program;
        order.environment = nothing;
        order.devices = nothing;
        check_round_trip("extremes", &order);

        order.command = empty_program;
        check_round_trip("empty program", &order);
}

static void no_environment_is_an_empty_one(void **state) {
        _cleanup_(leader_order_done) LeaderOrder decoded = {};
        _cleanup_(freep) void *block = NULL;
        LeaderOrder order = example;
        size_t size;

        order.environment = NULL;
        check_int("encode", leader_order_encode(&order, &block, &size), 0);
        check_int("decode", leader_order_decode(block, size, &decoded), 0);
        assert_non_null(decoded.environment);
        assert_null(decoded.environment[0]);
}

static void an_order_without_a_command_is_refused(void **state) {
        char *nothing[] = { NULL };
        LeaderOrder order = example;
        void *block = NULL;
        size_t size = 1;

        order.command = nothing;
        check_int("empty", leader_order_encode(&order, &block, &size), -EINVAL);
        order.command = NULL;
        check_int("none", leader_order_encode(&order, &block, &size), -EINVAL);
        assert_null(block);
        check_u64("size", size, 1);
}

/* An order whose block has SIZE bytes. The caller frees *RET_STRING. */
static LeaderOrder order_of_size(size_t size, char *command[static 2], char **ret_string) {
        size_t length = size - HEAD_SIZE - 3; /* the NULs of unit, directory and string */
        char *string = malloc(length + 1);

        assert_non_null(string);
        memset(string, 'x', length);
        string[length] = 0;
        command[0] = string;
        command[1] = NULL;
        *ret_string = string;
        return (LeaderOrder) { .unit = (char *) "", .directory = (char *) "", .command = command };
}

static void an_order_has_up_to_16_mib(void **state) {
        for (size_t beyond = 0; beyond < 2; beyond++) {
                _cleanup_(freep) char *string = NULL;
                _cleanup_(freep) void *block = NULL;
                char *command[2];
                LeaderOrder order = order_of_size(LEADER_ORDER_SIZE_MAX + beyond, command, &string);
                size_t size = 0;

                if (beyond > 0) {
                        check_int("one too many", leader_order_encode(&order, &block, &size), -E2BIG);
                        continue;
                }

                check_int("fits", leader_order_encode(&order, &block, &size), 0);
                check_u64("size", size, LEADER_ORDER_SIZE_MAX);
                check_round_trip("fits", &order);
        }
}

static void an_order_has_up_to_65536_arguments(void **state) {
        size_t n = 65536;
        _cleanup_(freep) char **command = calloc(n + 2, sizeof(char *));
        _cleanup_(freep) void *block = NULL;
        LeaderOrder order = example;
        size_t size;

        assert_non_null(command);
        for (size_t i = 0; i < n; i++)
                command[i] = (char *) "";
        order.command = command;
        check_round_trip("fits", &order);

        command[n] = (char *) "";
        check_int("one too many", leader_order_encode(&order, &block, &size), -E2BIG);
}

static void a_block_cut_short_anywhere_is_refused(void **state) {
        _cleanup_(freep) void *block = NULL;
        size_t size;

        check_int("encode", leader_order_encode(&example, &block, &size), 0);

        for (size_t cut = 0; cut < size; cut++) {
                /* A copy of its own size shows reads beyond it. */
                _cleanup_(freep) void *copy = malloc(cut + (cut == 0));
                LeaderOrder decoded = {};

                assert_non_null(copy);
                memcpy(copy, block, cut);
                check_int("cut", leader_order_decode(copy, cut, &decoded), -EBADMSG);
                assert_null(decoded.command);
        }
}

static void a_block_with_more_behind_it_is_refused(void **state) {
        _cleanup_(freep) void *block = NULL;
        LeaderOrder decoded = {};
        size_t size;

        check_int("encode", leader_order_encode(&example, &block, &size), 0);

        _cleanup_(freep) char *longer = calloc(1, size + 1);
        assert_non_null(longer);
        memcpy(longer, block, size);
        check_int("longer", leader_order_decode(longer, size + 1, &decoded), -EBADMSG);
}

/* Whatever decodes must be what encoding its outcome makes. */
static void check_block(const void *block, size_t size) {
        _cleanup_(freep) void *copy = malloc(size), *again = NULL;
        _cleanup_(leader_order_done) LeaderOrder decoded = {};
        size_t again_size;

        assert_non_null(copy);
        memcpy(copy, block, size);

        int r = leader_order_decode(copy, size, &decoded);
        if (r < 0) {
                check_int("refused", r, -EBADMSG);
                return;
        }

        check_int("encode", leader_order_encode(&decoded, &again, &again_size), 0);
        check_u64("size", again_size, size);
        assert_memory_equal(again, block, size);
}

static void a_block_with_any_bit_flipped_is_refused_or_another_order(void **state) {
        _cleanup_(freep) void *block = NULL;
        size_t size;

        check_int("encode", leader_order_encode(&example, &block, &size), 0);

        uint8_t *bytes = block;
        for (size_t i = 0; i < size; i++)
                for (int bit = 0; bit < 8; bit++) {
                        bytes[i] ^= (uint8_t) (1U << bit);
                        check_block(block, size);
                        bytes[i] ^= (uint8_t) (1U << bit);
                }
}

static void a_block_with_any_byte_overwritten_is_refused_or_another_order(void **state) {
        static const uint8_t values[] = { 0, 1, 0x7f, 0x80, 0xff };
        _cleanup_(freep) void *block = NULL;
        size_t size;

        check_int("encode", leader_order_encode(&example, &block, &size), 0);

        uint8_t *bytes = block;
        for (size_t i = 0; i < size; i++)
                for (FOREACH_ROW(value, values)) {
                        uint8_t before = bytes[i];

                        bytes[i] = *value;
                        check_block(block, size);
                        bytes[i] = before;
                }
}

static int try_round_trip(void *userdata) {
        _cleanup_(leader_order_done) LeaderOrder decoded = {};
        _cleanup_(freep) void *block = NULL;
        size_t size;
        int r;

        r = leader_order_encode(userdata, &block, &size);
        if (r < 0)
                return r;

        return leader_order_decode(block, size, &decoded);
}

static void without_memory_there_is_no_order(void **state) {
        LeaderOrder order = example;

        fail_alloc_loop(try_round_trip, &order);
}

static void every_step_has_words(void **state) {
        for (int step = 0; step < _LEADER_STEP_MAX; step++)
                assert_non_null(leader_step_to_string((LeaderStep) step));

        check_text("directory",
                   leader_step_to_string(LEADER_STEP_DIRECTORY),
                   "change to the working directory");
        check_text("out of range", leader_step_to_string(_LEADER_STEP_MAX), "start the command");
        check_text("negative", leader_step_to_string((LeaderStep) -1), "start the command");
}

static void a_message_fits_the_socket_buffer(void **state) {
        assert_true(sizeof(LeaderMessage) < LEADER_ENTRY_MAX);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_order_reads_back_as_it_was_written),
                cmocka_unit_test(no_environment_is_an_empty_one),
                cmocka_unit_test(an_order_without_a_command_is_refused),
                cmocka_unit_test(an_order_has_up_to_16_mib),
                cmocka_unit_test(an_order_has_up_to_65536_arguments),
                cmocka_unit_test(a_block_cut_short_anywhere_is_refused),
                cmocka_unit_test(a_block_with_more_behind_it_is_refused),
                cmocka_unit_test(a_block_with_any_bit_flipped_is_refused_or_another_order),
                cmocka_unit_test(a_block_with_any_byte_overwritten_is_refused_or_another_order),
                cmocka_unit_test(without_memory_there_is_no_order),
                cmocka_unit_test(every_step_has_words),
                cmocka_unit_test(a_message_fits_the_socket_buffer),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
