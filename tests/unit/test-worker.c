/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/scheduling/worker.h"
#include "test.h"

#define NOW 1000

/* One that may be used, to be spoilt by each row. */
static Worker good_worker(void) {
        Worker worker = {
                .permitted = true,
                .share_known = true,
                .identity = WORKER_KNOWN,
                .lease_certain_usec = NOW + 1,
                .report = { .total = { .cores_micro = 4000000, .memory_mb = 1000 } },
        };
        strcpy(worker.lease_id, "0123456789abcdef0123456789abcdef");
        worker.reported_free = worker.report.free_amounts = worker.report.total;
        return worker;
}

typedef enum Spoil {
        DISABLE = 1 << 0,
        FORBID = 1 << 1,
        SILENCE = 1 << 2,
        UNHEARD = 1 << 3,
        DRAIN = 1 << 4,
        TAKE_LEASE = 1 << 5, /* another queue has it */
        NO_LEASE = 1 << 6,
        DOUBT = 1 << 7,
        OLD_LEASE = 1 << 8,
        PAUSE = 1 << 9,
        BUSY = 1 << 10, /* with an attempt */
        RELEASE = 1 << 11,
        PROBE_FIRST = 1 << 12,
        UNTOLD = 1 << 13, /* the share is not known yet */
} Spoil;

static Worker spoilt_worker(unsigned what) {
        Worker worker = good_worker();
        worker.disabled = what & DISABLE;
        worker.permitted = !(what & (FORBID | UNTOLD));
        worker.share_known = !(what & UNTOLD);
        worker.silent = what & SILENCE;
        worker.report.draining = what & DRAIN;
        worker.identity = what & UNHEARD ? WORKER_UNKNOWN : what & DOUBT ? WORKER_DOUBTED : WORKER_KNOWN;
        worker.probe_before_renewal = what & PROBE_FIRST;
        worker.n_attempts = what & BUSY ? 1 : 0;
        worker.paused_usec = what & PAUSE ? NOW + 1 : NOW;
        worker.call_phase = what & RELEASE ? WORKER_CALL_UNDER_WAY : WORKER_CALL_IDLE;
        worker.call = what & RELEASE ? WORKER_CALL_RELEASE : WORKER_CALL_PROBE;
        if (what & TAKE_LEASE)
                strcpy(worker.lease_holder, "other:1");
        if (what & (NO_LEASE | TAKE_LEASE))
                *worker.lease_id = '\0';
        if (what & OLD_LEASE)
                worker.lease_certain_usec = NOW;
        return worker;
}

static void what_it_is_decides_its_state_its_use_and_its_next_call(void **state) {
        static const struct {
                const char *label;
                unsigned what;
                WorkerState state;
                bool usable;
                WorkerCall call;
        } rows[] = {
                { "all is well", 0, WORKER_ALIVE, true, WORKER_CALL_RENEW },
                { "well, and to be probed first", PROBE_FIRST, WORKER_ALIVE, true, WORKER_CALL_PROBE },
                { "never heard of", UNHEARD | NO_LEASE, WORKER_SILENT, false, WORKER_CALL_PROBE },
                { "silent", SILENCE, WORKER_SILENT, false, WORKER_CALL_PROBE },
                { "silent with attempts", SILENCE | BUSY, WORKER_SILENT, false, WORKER_CALL_PROBE },
                { "not sure who it is", DOUBT, WORKER_ALIVE, false, WORKER_CALL_PROBE },
                { "without a lease", NO_LEASE, WORKER_ALIVE, false, WORKER_CALL_ACQUIRE },
                { "leased to another", TAKE_LEASE, WORKER_LEASED, false, WORKER_CALL_ACQUIRE },
                { "the lease may be over", OLD_LEASE, WORKER_ALIVE, false, WORKER_CALL_RENEW },
                { "draining", DRAIN, WORKER_DRAINING, false, WORKER_CALL_RENEW },
                { "draining without a lease", DRAIN | NO_LEASE, WORKER_DRAINING, false, WORKER_CALL_PROBE },
                { "asked for time", PAUSE, WORKER_ALIVE, false, WORKER_CALL_RENEW },
                { "being given back", RELEASE, WORKER_ALIVE, false, WORKER_CALL_RENEW },
                { "not permitted", FORBID, WORKER_ALIVE, false, WORKER_CALL_RELEASE },
                { "not permitted, busy", FORBID | BUSY, WORKER_ALIVE, false, WORKER_CALL_RENEW },
                { "not permitted, busy, probe",
                  FORBID | BUSY | PROBE_FIRST,
                  WORKER_ALIVE,
                  false,
                  WORKER_CALL_RENEW },
                { "not permitted, no lease", FORBID | NO_LEASE, WORKER_ALIVE, false, WORKER_CALL_PROBE },
                { "not permitted, no lease, busy",
                  FORBID | NO_LEASE | BUSY,
                  WORKER_ALIVE,
                  false,
                  WORKER_CALL_ACQUIRE },
                { "not permitted yet, no lease, busy",
                  UNTOLD | NO_LEASE | BUSY,
                  WORKER_ALIVE,
                  false,
                  WORKER_CALL_PROBE },
                { "not permitted, leased, busy",
                  FORBID | TAKE_LEASE | BUSY,
                  WORKER_LEASED,
                  false,
                  WORKER_CALL_ACQUIRE },
                { "disabled", DISABLE, WORKER_DISABLED, false, WORKER_CALL_RELEASE },
                { "disabled, busy", DISABLE | BUSY, WORKER_DISABLED, false, WORKER_CALL_RENEW },
                { "disabled, no lease, busy",
                  DISABLE | NO_LEASE | BUSY,
                  WORKER_DISABLED,
                  false,
                  WORKER_CALL_ACQUIRE },
                { "disabled and silent", DISABLE | SILENCE, WORKER_DISABLED, false, WORKER_CALL_PROBE },
                { "silent, leased", SILENCE | TAKE_LEASE, WORKER_SILENT, false, WORKER_CALL_PROBE },
                { "draining without a lease, busy",
                  DRAIN | NO_LEASE | BUSY,
                  WORKER_DRAINING,
                  false,
                  WORKER_CALL_PROBE },
                { "draining, leased", DRAIN | TAKE_LEASE, WORKER_DRAINING, false, WORKER_CALL_PROBE },
        };
        for (FOREACH_ROW(row, rows)) {
                Worker worker = spoilt_worker(row->what);
                check_int(row->label, worker_state(&worker), row->state);
                check_int(row->label, worker_is_usable(&worker, NOW), row->usable);
                check_int(row->label, worker_due_call(&worker), row->call);
        }
}

/* Of the diagram in the header: what each event makes of each identity; NEVER: it cannot happen then. */
#define NEVER (-EPROTO)

static void every_event_leads_each_identity_where_the_diagram_says(void **state) {
        static const int next[_WORKER_IDENTITY_MAX][_WORKER_IDENTITY_EVENT_MAX] = {
                /* doubt, lease granted, settled, too early */
                [WORKER_UNKNOWN] = { WORKER_UNKNOWN, NEVER, WORKER_KNOWN, WORKER_DOUBTED },
                [WORKER_KNOWN] = { WORKER_DOUBTED, WORKER_NEW_LEASE, WORKER_KNOWN, NEVER },
                [WORKER_DOUBTED] = { WORKER_DOUBTED, WORKER_NEW_LEASE, WORKER_KNOWN, WORKER_DOUBTED },
                [WORKER_NEW_LEASE] = { WORKER_NEW_LEASE, WORKER_NEW_LEASE, WORKER_KNOWN, WORKER_NEW_LEASE },
        };
        for (int identity = 0; identity < _WORKER_IDENTITY_MAX; identity++)
                for (int event = 0; event < _WORKER_IDENTITY_EVENT_MAX; event++) {
                        char label[32];
                        (void) snprintf(label, sizeof(label), "identity %d, event %d", identity, event);
                        check_int(label,
                                  worker_identity_next(
                                                  (WorkerIdentity) identity, (WorkerIdentityEvent) event),
                                  next[identity][event]);
                }
}

static void every_event_leads_each_phase_of_a_call_where_it_should(void **state) {
        static const int next[_WORKER_CALL_PHASE_MAX][_WORKER_CALL_EVENT_MAX] = {
                /* made, probe answered, ended, reported */
                [WORKER_CALL_IDLE] = { WORKER_CALL_UNDER_WAY, NEVER, NEVER, WORKER_CALL_IDLE },
                [WORKER_CALL_UNDER_WAY] = { NEVER,
                                            WORKER_CALL_REPORT_DUE,
                                            WORKER_CALL_IDLE,
                                            WORKER_CALL_UNDER_WAY },
                [WORKER_CALL_REPORT_DUE] = { WORKER_CALL_UNDER_WAY, NEVER, NEVER, WORKER_CALL_IDLE },
        };
        for (int phase = 0; phase < _WORKER_CALL_PHASE_MAX; phase++)
                for (int event = 0; event < _WORKER_CALL_EVENT_MAX; event++) {
                        char label[32];
                        (void) snprintf(label, sizeof(label), "phase %d, event %d", phase, event);
                        check_int(label,
                                  worker_call_phase_next((WorkerCallPhase) phase, (WorkerCallEvent) event),
                                  next[phase][event]);
                }
}

static void states_have_the_names_of_the_interface(void **state) {
        static const char *const names[] = { "alive", "silent", "draining", "leased", "disabled" };
        for (size_t i = 0; i < N_ELEMENTS(names); i++)
                assert_string_equal(worker_state_to_string((WorkerState) i), names[i]);
}

static void it_is_lost_when_silent_for_long_and_no_lease_can_be_live(void **state) {
        static const struct {
                const char *label;
                usec_t last_answer_usec, lease_maybe_usec, lost_usec;
        } rows[] = {
                { "no lease", 100, 0, 130 },
                { "a lease that ends before", 100, 129, 130 },
                { "a lease that ends after", 100, 131, 131 },
                { "for ever", USEC_INFINITY, 0, USEC_INFINITY },
        };
        for (FOREACH_ROW(row, rows)) {
                Worker worker = good_worker();
                worker.last_answer_usec = row->last_answer_usec;
                worker.lease_maybe_usec = row->lease_maybe_usec;
                check_u64(row->label, worker_lost_usec(&worker, 30), row->lost_usec);
        }
}

static void what_is_sent_and_what_ends_is_counted(void **state) {
        Worker worker = good_worker();
        Resources want = { .cores_micro = 3000000, .memory_mb = 1 };
        const Resources *free_amounts = &worker.report.free_amounts;
        assert_true(worker_take(&worker, &want));
        assert_int_equal(free_amounts->cores_micro, 1000000);
        assert_int_equal(free_amounts->memory_mb, 999);
        /* More than there is, and back: nothing is made up on the way. */
        assert_true(worker_take(&worker, &want));
        assert_int_equal(free_amounts->cores_micro, 0);
        worker_untake(&worker, &want);
        assert_int_equal(free_amounts->cores_micro, 1000000);
        worker_untake(&worker, &want);
        assert_int_equal(free_amounts->cores_micro, 4000000);
        /* It had said so already. */
        worker_give_back(&worker, &want);
        assert_int_equal(free_amounts->cores_micro, 4000000);
        assert_int_equal(free_amounts->memory_mb, 1000);
}

static void named_amounts_are_counted_as_well(void **state) {
        Worker worker = good_worker();
        Resources want = {};
        assert_int_equal(resources_named_set(&worker.report.total, "gpu", 2), 0);
        assert_int_equal(resources_named_set(&worker.reported_free, "gpu", 1), 0);
        assert_int_equal(resources_named_set(&want, "gpu", 1), 0);
        assert_true(worker_take(&worker, &want));
        assert_int_equal(resources_named_get(&worker.report.free_amounts, "gpu"), 0);
        worker_untake(&worker, &want);
        worker_give_back(&worker, &want);
        worker_give_back(&worker, &want);
        assert_int_equal(resources_named_get(&worker.report.free_amounts, "gpu"), 2);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_it_is_decides_its_state_its_use_and_its_next_call),
                cmocka_unit_test(every_event_leads_each_identity_where_the_diagram_says),
                cmocka_unit_test(every_event_leads_each_phase_of_a_call_where_it_should),
                cmocka_unit_test(states_have_the_names_of_the_interface),
                cmocka_unit_test(it_is_lost_when_silent_for_long_and_no_lease_can_be_live),
                cmocka_unit_test(what_is_sent_and_what_ends_is_counted),
                cmocka_unit_test(named_amounts_are_counted_as_well),
        };
        return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
