/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/task/task-state.h"
#include "core/upgrade/runner-state.h"
#include "core/upgrade/saved-values.h"
#include "core/wire/leader-protocol.h"
#include "fail-alloc.h"
#include "test.h"

#define TYPES_MAX 64

/* ── all types there are, by the table of the first ── */

typedef struct Types {
        const RecordType *list[TYPES_MAX];
        size_t n;
} Types;

static void types_collect(Types *types, const RecordType *type) {
        for (size_t i = 0; i < types->n; i++)
                if (types->list[i] == type)
                        return;
        assert_true(types->n < TYPES_MAX);
        types->list[types->n++] = type;
        for (const RecordField *field = type->fields; field->name; field++)
                if (field->type)
                        types_collect(types, field->type);
}

static Types all_types(void) {
        Types types = {};
        types_collect(&types, &runner_state_type);
        assert_true(types.n > 15);
        return types;
}

static size_t size_of_member(const RecordField *field) {
        switch (field->kind) {
        case RECORD_FLAG:
                return sizeof(bool);
        case RECORD_NUMBER:
        case RECORD_INTEGER:
                return sizeof(uint64_t);
        case RECORD_STRING:
        case RECORD_STRINGS:
                return sizeof(void *);
        case RECORD_BYTES:
                return sizeof(RecordBytes);
        case RECORD_LIST:
                return sizeof(RecordList);
        case RECORD_STRUCT:
                return field->type->size;
        case _RECORD_KIND_MAX:
                break;
        }
        fail();
        return 0;
}

/* Every byte of a structure is some field's, but for what the compiler puts between a flag and what follows.
 */
static void no_member_is_forgotten(void **state) {
        Types types = all_types();
        for (size_t i = 0; i < types.n; i++) {
                const RecordType *type = types.list[i];
                _cleanup_(freep) char *taken = calloc(type->size, 1);
                for (const RecordField *field = type->fields; field->name; field++)
                        for (size_t k = 0; k < size_of_member(field); k++) {
                                assert_int_equal(taken[field->offset + k], 0);
                                taken[field->offset + k] = 1;
                        }
                for (size_t k = 0, gap = 0; k < type->size; k++) {
                        gap = taken[k] ? 0 : gap + 1;
                        assert_true(gap < sizeof(uint64_t));
                }
        }
}

/* ── values that differ from one another ── */

static const char text[] = "some text, of which every part is another string at its end";

static void fill(const RecordType *type, void *record, unsigned *seed) {
        for (const RecordField *field = type->fields; field->name; field++) {
                void *member = (char *) record + field->offset;
                unsigned n = ++*seed;
                switch (field->kind) {
                case RECORD_FLAG:
                        *(bool *) member = true;
                        break;
                case RECORD_NUMBER:
                        *(uint64_t *) member = UINT64_MAX - n;
                        break;
                case RECORD_INTEGER:
                        *(int64_t *) member = -(int64_t) n;
                        break;
                case RECORD_STRING:
                        *(const char **) member = text + n % (sizeof(text) - 1);
                        break;
                case RECORD_BYTES:
                        *(RecordBytes *) member = (RecordBytes) { "a\0b", 3 };
                        break;
                case RECORD_STRINGS: {
                        const char **list = calloc(3, sizeof(*list));
                        list[0] = text + n % (sizeof(text) - 1);
                        list[1] = "";
                        *(const char ***) member = list;
                        break;
                }
                case RECORD_LIST: {
                        RecordList *list = member;
                        assert_int_equal(record_list_new(list, 2, field->type->size), 0);
                        fill(field->type, list->items, seed);
                        fill(field->type, (char *) list->items + field->type->size, seed);
                        break;
                }
                case RECORD_STRUCT:
                        fill(field->type, member, seed);
                        break;
                case _RECORD_KIND_MAX:
                        fail();
                }
        }
}

static void every_field_comes_back(void **state) {
        Types types = all_types();
        for (size_t i = 0; i < types.n; i++) {
                const RecordType *type = types.list[i];
                _cleanup_(freep) void *record = calloc(1, type->size), *again = calloc(1, type->size);
                _cleanup_(text_done) Text bytes = {}, bytes_again = {}, nothing = {};
                unsigned seed = 0;
                assert_int_equal(record_encode(type, record, &nothing), 0);
                fill(type, record, &seed);
                assert_int_equal(record_encode(type, record, &bytes), 0);
                assert_true(bytes.size != nothing.size || memcmp(bytes.data, nothing.data, bytes.size) != 0);
                assert_int_equal(record_decode(type, bytes.data, bytes.size, again, &(Problem) {}), 0);
                assert_int_equal(record_encode(type, again, &bytes_again), 0);
                assert_int_equal(bytes.size, bytes_again.size);
                assert_memory_equal(bytes.data, bytes_again.data, bytes.size);
                record_done(type, record);
                record_done(type, again);
        }
}

/* Nothing and an empty list are two things. */
static void what_is_absent_stays_absent(void **state) {
        SavedSpec spec = {}, again = {};
        Types types = all_types();
        const RecordType *type = NULL;
        for (size_t i = 0; i < types.n; i++)
                if (streq(types.list[i]->name, "specification"))
                        type = types.list[i];
        _cleanup_(text_done) Text bytes = {};
        spec.environment = calloc(1, sizeof(*spec.environment));
        assert_int_equal(record_encode(type, &spec, &bytes), 0);
        assert_int_equal(record_decode(type, bytes.data, bytes.size, &again, &(Problem) {}), 0);
        assert_null(again.command);
        assert_null(again.user);
        assert_non_null(again.environment);
        assert_null(again.environment[0]);
        record_done(type, &spec);
        record_done(type, &again);
}

/* TYPE without its field number LEFT_OUT, as another version may have it. */
static RecordField *fields_without(const RecordType *type, size_t left_out) {
        size_t n = 0;
        while (type->fields[n].name)
                n++;
        RecordField *fields = calloc(n + 1, sizeof(*fields));
        for (size_t i = 0, k = 0; i < n; i++)
                if (i != left_out)
                        fields[k++] = type->fields[i];
        return fields;
}

static void a_field_that_is_missing_or_too_many_is_named(void **state) {
        Types types = all_types();
        for (size_t i = 0; i < types.n; i++) {
                const RecordType *type = types.list[i];
                for (size_t k = 0; type->fields[k].name; k++) {
                        _cleanup_(freep) RecordField *fields = fields_without(type, k);
                        const RecordType other = { .name = type->name, .size = type->size, .fields = fields };
                        _cleanup_(freep) void *record = calloc(1, type->size);
                        _cleanup_(freep) char *lacks = NULL, *has = NULL;
                        _cleanup_(text_done) Text fewer = {}, more = {};
                        Problem problem = {};
                        const char *name = type->fields[k].name;
                        assert_int_equal(
                                        text_format(&lacks,
                                                    "the state of a %s lacks \"%s\"",
                                                    type->name,
                                                    name),
                                        0);
                        assert_int_equal(
                                        text_format(&has,
                                                    "the state of a %s has \"%s\", which is not known here",
                                                    type->name,
                                                    name),
                                        0);
                        assert_int_equal(record_encode(&other, record, &fewer), 0);
                        assert_true(record_decode(type, fewer.data, fewer.size, record, &problem) < 0);
                        assert_int_equal(problem.status, 409);
                        assert_string_equal(problem.detail, lacks);
                        assert_int_equal(record_encode(type, record, &more), 0);
                        assert_true(record_decode(&other, more.data, more.size, record, &problem) < 0);
                        assert_string_equal(problem.detail, has);
                }
        }
}

/* ── a state that a runner can go on from ── */

static const char *command[] = { "true", NULL }, *environment[] = { "A=1", NULL };

typedef struct Sound {
        RunnerState state;
        SavedTask tasks[2];
        SavedCapture captures[2];
        SavedLeader leader;
        SavedGrant grant;
} Sound;

static void make_sound(Sound *sound) {
        static const SavedLease none = { .id = "", .queue = "", .version = "" };
        sound->captures[0] = (SavedCapture) { .pipe_fd = 20, .file_fd = -EBADF, .reading = true };
        sound->captures[1] = (SavedCapture) {
                .pipe_fd = 21, .file_fd = 22, .bytes_kept = 5, .bytes_total = 6
        };
        sound->leader = (SavedLeader) { .pid = 7, .pid_fd = 23, .control_fd = 24, .feed_fd = 25 };
        sound->grant = (SavedGrant) { .environment = environment, .held = true };
        sound->tasks[0] = (SavedTask) {
                .spec = { .task_id = "a", .command = command, .standard_input = { "a\0b", 3 } },
                .sequence = 3,
                .state = TASK_RUNNING,
                .scope = TASK_SCOPE_POSSIBLE,
                .leader = { &sound->leader, 1 },
                .output = { &sound->captures[0], 1 },
                .error = { &sound->captures[1], 1 },
                .devices = { &sound->grant, 1 },
        };
        sound->tasks[1] = (SavedTask) {
                .spec = { .task_id = "b", .command = command },
                .sequence = 4,
                .state = TASK_FINISHED,
                .result = TASK_RESULT_SUCCESS,
                .finish_order = 1,
        };
        sound->state = (RunnerState) {
                .program_version = "1",
                .leader_protocol = LEADER_PROTOCOL,
                .instance_id = "0123456789abcdef0123456789abcdef",
                .own_unit = "daggyr.service",
                .lease = none,
                .lease_told = none,
                .events = { .first_id = 1, .next_id = 1 },
                .spawner = { .fd = -EBADF, .protocol = SPAWN_REQUEST },
                .broker = { .fd = -EBADF, .protocol = "" },
                .next_sequence = 5,
                .tasks = { sound->tasks, 2 },
        };
}

static int decode_again(const RunnerState *state, Problem *problem) {
        _cleanup_(text_done) Text bytes = {};
        RunnerState again;
        int r = runner_state_encode(state, &bytes);
        if (r >= 0)
                r = runner_state_decode(bytes.data, bytes.size, &again, problem);
        if (r >= 0)
                runner_state_done(&again);
        return r;
}

static void a_sound_state_is_taken(void **state) {
        Sound sound;
        Problem problem = {};
        make_sound(&sound);
        assert_int_equal(decode_again(&sound.state, &problem), 0);
}

static void check_refused(const Sound *sound, const char *word) {
        Problem problem = {};
        assert_true(decode_again(&sound->state, &problem) < 0);
        assert_int_equal(problem.status, 409);
        assert_non_null(strstr(problem.detail, word));
}

static void what_cannot_be_is_refused(void **state) {
        Sound sound;
#define REFUSED(word, change)                \
        do {                                 \
                make_sound(&sound);          \
                change;                      \
                check_refused(&sound, word); \
        } while (0)
        REFUSED("task a", sound.tasks[0].state = TASK_SPAWNING);
        REFUSED("task a", sound.tasks[0].state = _TASK_STATE_MAX);
        REFUSED("task a", sound.tasks[0].state = TASK_QUEUED);
        REFUSED("task a", sound.tasks[0].leader.n = 0);
        REFUSED("task a", sound.tasks[0].output.n = 0);
        REFUSED("task a", sound.tasks[0].scope = TASK_SCOPE_NONE);
        REFUSED("task a", sound.tasks[0].scope = _TASK_SCOPE_MAX);
        REFUSED("task a", sound.tasks[0].scope_asked = true);
        REFUSED("task a", sound.tasks[0].end.stop = STOP_SHUTDOWN + 1);
        REFUSED("task a", sound.tasks[0].finish_order = 1);
        REFUSED("task a", sound.tasks[0].spec.command = NULL);
        REFUSED("task a", sound.tasks[0].spec.umask = 01000);
        REFUSED("task a", sound.tasks[0].spec.when_full = _WHEN_FULL_MAX);
        REFUSED("task a", sound.tasks[0].sequence = 5);
        REFUSED("task a", sound.leader.feed_fd = -EBADF);
        REFUSED("task a", sound.leader.sent = 1);
        REFUSED("task a", sound.captures[0].bytes_kept = 1);
        REFUSED("task a", sound.captures[0].pipe_fd = -EBADF);
        REFUSED("task a", sound.grant.held = false);
        REFUSED("task a", sound.grant.environment = NULL);
        REFUSED("task a", sound.tasks[0].devices.n = 0);
        REFUSED("task b", sound.tasks[1].result = TASK_RESULT_NONE);
        REFUSED("task b", sound.tasks[1].sequence = 3);
        REFUSED("the runner", sound.state.instance_id = "");
        REFUSED("the runner", sound.state.lease.id = NULL);
        REFUSED("the runner", sound.state.lease.id = "0123456789abcdef0123456789abcdef0");
        REFUSED("the runner", sound.state.events.next_id = 2);
        REFUSED("the runner", sound.state.own_unit = NULL);
        REFUSED("spawner of another version", sound.tasks[0].state = TASK_PARKED;
                sound.state.spawner.protocol = "daggyr-leader 0");
        REFUSED("speak in version", sound.state.leader_protocol = LEADER_PROTOCOL + 1);
#undef REFUSED
}

static void a_state_of_another_version_is_told_from_none(void **state) {
        RunnerState again;
        Problem problem = {};
        const char future[] = "daggyr runner state 99\nand more";
        assert_true(runner_state_decode(future, sizeof(future), &again, &problem) < 0);
        assert_non_null(strstr(problem.detail, "version 99"));
        assert_true(runner_state_decode("", 0, &again, &problem) < 0);
        assert_string_equal(problem.detail, "this is no state of a runner");
}

static int try_state(void *userdata) {
        return decode_again(userdata, &(Problem) {});
}

static void without_memory_there_is_no_state(void **state) {
        Sound sound;
        make_sound(&sound);
        fail_alloc_loop(try_state, &sound.state);
}

/* ── values ── */

static TaskSpec *parse_spec(void) {
        static const char body[] =
                        "{\"command\":[\"a\",\"b\"],\"environment\":{\"A\":\"1\"},\"resources\":{\"cores\":2,\"gpu\":3},"
                        "\"timeout\":5,\"grace\":6,\"working_directory\":\"/w\",\"user\":\"u\",\"umask\":\"0077\","
                        "\"stdin\":\"in\",\"tasks_max\":9,\"properties\":{\"CPUWeight\":7},\"labels\":{\"l\":\"1\"},"
                        "\"when_full\":\"reject\"}";
        _cleanup_(json_putp) json_object *object = NULL;
        TaskDefaults defaults = { .resources = { .cores_micro = 1, .memory_mb = 2 } };
        TaskSpec *spec = NULL;
        assert_int_equal(json_parse(body, strlen(body), &object, &(Problem) {}), 0);
        assert_int_equal(task_spec_parse(object, "id", &defaults, &spec, &(Problem) {}), 0);
        return spec;
}

static int spec_there_and_back(const TaskSpec *spec, TaskSpec **ret) {
        SavedSpec saved;
        int r = saved_spec_from(spec, &saved);
        if (r >= 0)
                r = saved_spec_to(&saved, ret, &(Problem) {});
        free(saved.command);
        free(saved.environment);
        free(saved.labels);
        free(saved.resources.named.items);
        return r;
}

static void a_specification_comes_back(void **state) {
        _cleanup_(task_spec_freep) TaskSpec *spec = parse_spec(), *again = NULL;
        assert_int_equal(spec_there_and_back(spec, &again), 0);
        assert_true(task_spec_equal(spec, again));
        assert_string_equal(spec->task_id, again->task_id);
        assert_int_equal(spec->when_full, again->when_full);
        assert_true(resources_equal(&spec->resources, &again->resources));
        assert_int_equal(spec->cores_by_default, again->cores_by_default);
        assert_int_equal(spec->memory_by_default, again->memory_by_default);
        assert_int_equal(again->parsed_properties->n_items, 1);
}

static int try_spec(void *userdata) {
        _cleanup_(task_spec_freep) TaskSpec *again = NULL;
        return spec_there_and_back(userdata, &again);
}

static void without_memory_there_is_no_specification(void **state) {
        _cleanup_(task_spec_freep) TaskSpec *spec = parse_spec();
        json_object_put(spec->properties); /* json-c keeps the text of what it has written */
        spec->properties = NULL;
        fail_alloc_loop(try_spec, spec);
}

static int grant_there_and_back(const DeviceGrant *grant, DeviceGrants *grants, DeviceGrant **ret) {
        SavedGrant saved;
        int r = saved_grant_from(grant, &saved);
        if (r >= 0)
                r = saved_grant_to(&saved, grants, ret);
        for (size_t i = 0; i < saved.kinds.n; i++)
                free(((SavedGrantKind *) saved.kinds.items)[i].ids);
        free(saved.kinds.items);
        free(saved.paths);
        free(saved.environment);
        return r;
}

static Devices two_gpus(DeviceKind *kind, DeviceItem items[static 2]) {
        static char gpu[] = "gpu", zero[] = "0", one[] = "1", path[] = "/dev/a", variable[] = "X=1";
        static char *paths[] = { path, NULL }, *variables[] = { variable, NULL };
        items[0] = (DeviceItem) { .id = zero, .paths = paths, .environment = variables };
        items[1] = (DeviceItem) { .id = one };
        *kind = (DeviceKind) { .name = gpu, .items = items, .n_items = 2 };
        return (Devices) { .kinds = kind, .n_kinds = 1 };
}

static void devices_stay_with_their_task(void **state) {
        DeviceKind kind;
        DeviceItem items[2];
        Devices devices = two_gpus(&kind, items);
        DeviceGrants before = {}, after = {};
        Resources want = {};
        _cleanup_(device_grant_freep) DeviceGrant *grant = NULL, *again = NULL, *other = NULL,
                                                  *released = NULL;
        assert_int_equal(resources_named_set(&want, "gpu", 1), 0);
        assert_int_equal(device_grants_take(&before, &devices, &want, &grant), 0);
        assert_int_equal(grant_there_and_back(grant, &after, &again), 0);
        assert_string_equal(again->kinds[0].name, "gpu");
        assert_string_equal(again->kinds[0].ids[0], "0");
        assert_string_equal(again->paths[0], "/dev/a");
        assert_int_equal(text_list_count(again->environment), text_list_count(grant->environment));
        assert_int_equal(device_grants_take(&after, &devices, &want, &other), 0);
        assert_string_equal(other->kinds[0].ids[0], "1");
        device_grant_release(grant);
        assert_int_equal(grant_there_and_back(grant, &after, &released), 0);
        assert_null(released->grants);
        assert_string_equal(released->kinds[0].ids[0], "0");
}

static int try_grant(void *userdata) {
        DeviceGrants grants = {};
        _cleanup_(device_grant_freep) DeviceGrant *again = NULL;
        return grant_there_and_back(userdata, &grants, &again);
}

static void without_memory_there_are_no_devices(void **state) {
        DeviceKind kind;
        DeviceItem items[2];
        Devices devices = two_gpus(&kind, items);
        DeviceGrants grants = {};
        Resources want = {};
        _cleanup_(device_grant_freep) DeviceGrant *grant = NULL;
        assert_int_equal(resources_named_set(&want, "gpu", 2), 0);
        assert_int_equal(device_grants_take(&grants, &devices, &want, &grant), 0);
        fail_alloc_loop(try_grant, grant);
}

static void a_lease_and_a_histogram_come_back(void **state) {
        Lease lease = {
                .id = "i", .queue = "q", .version = "v", .epoch = 1, .ttl_usec = 2, .expires_usec = 3
        };
        Lease lease_again;
        Histogram histogram = {}, histogram_again;
        SavedHistogram saved;
        SavedLease saved_lease = saved_lease_from(&lease);
        saved_lease_to(&saved_lease, &lease_again);
        assert_memory_equal(&lease, &lease_again, sizeof(lease));
        histogram_observe(&histogram, 5);
        histogram_observe(&histogram, UINT64_C(1) << 40);
        assert_int_equal(saved_histogram_from(&histogram, &saved), 0);
        saved_histogram_to(&saved, &histogram_again);
        assert_memory_equal(&histogram, &histogram_again, sizeof(histogram));
        free(saved.counts.items);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(no_member_is_forgotten),
                cmocka_unit_test(every_field_comes_back),
                cmocka_unit_test(what_is_absent_stays_absent),
                cmocka_unit_test(a_field_that_is_missing_or_too_many_is_named),
                cmocka_unit_test(a_sound_state_is_taken),
                cmocka_unit_test(what_cannot_be_is_refused),
                cmocka_unit_test(a_state_of_another_version_is_told_from_none),
                cmocka_unit_test(without_memory_there_is_no_state),
                cmocka_unit_test(a_specification_comes_back),
                cmocka_unit_test(without_memory_there_is_no_specification),
                cmocka_unit_test(devices_stay_with_their_task),
                cmocka_unit_test(without_memory_there_are_no_devices),
                cmocka_unit_test(a_lease_and_a_histogram_come_back),
        };
        return cmocka_run_group_tests_name("runner-state", tests, NULL, NULL);
}
