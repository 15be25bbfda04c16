/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Input: a body, or where that is not JSON, an address and the value of an identity header. Each parser gets
 * it; what one accepts is written again, and read back as the same. */
#include <string.h>

#include "base/text.h"
#include "core/sharing/emcee.h"
#include "fuzz.h"

static const int statuses[] = { 400, 0 };

static void fuzz_texts(const char *text) {
        char id[SHARING_QUEUE_ID_SIZE], id_again[SHARING_QUEUE_ID_SIZE];
        _cleanup_(freep) char *address = NULL, *again = NULL, *value = NULL, *name = NULL, *name_again = NULL;
        int64_t port, port_again;

        if (emcee_address_parse(text, &address, &port) >= 0) {
                FUZZ_CHECK(emcee_address_parse(address, &again, &port_again) == 0);
                FUZZ_CHECK(streq(address, again) && port == port_again);
        }
        if (emcee_identity_parse(text, id, &name) >= 0) {
                FUZZ_CHECK(strlen(id) == SHARING_QUEUE_ID_SIZE - 1);
                FUZZ_CHECK(emcee_identity_format(id, name, &value) == 0);
                FUZZ_CHECK(emcee_identity_parse(value, id_again, &name_again) == 0);
                FUZZ_CHECK(streq(id, id_again) && streq(name, name_again));
        }
}

static void fuzz_version(json_object *body) {
        _cleanup_(freep) char *version = NULL, *again = NULL;
        _cleanup_(json_putp) json_object *written = NULL;
        Problem problem = {};
        int r = emcee_queue_version_parse(body, &version, &problem);
        fuzz_check_problem(r, &problem, statuses);
        if (r < 0)
                return;
        FUZZ_CHECK(emcee_queue_version_format(version, &written) == 0);
        FUZZ_CHECK(emcee_queue_version_parse(written, &again, &problem) == 0 && streq(version, again));
}

typedef int (*SetParse)(json_object *, WorkerSet **, Problem *);
typedef int (*SetFormat)(const WorkerSet *, json_object **);

static void fuzz_set(json_object *body, SetParse parse, SetFormat format) {
        _cleanup_(worker_set_unrefp) WorkerSet *set = NULL, *again = NULL;
        _cleanup_(json_putp) json_object *written = NULL;
        Problem problem = {};
        int r = parse(body, &set, &problem);
        fuzz_check_problem(r, &problem, statuses);
        if (r < 0)
                return;
        for (size_t i = 1; i < set->n_ids; i++)
                FUZZ_CHECK(strcmp(set->ids[i - 1], set->ids[i]) < 0);
        FUZZ_CHECK(format(set, &written) == 0);
        fuzz_check_round_trip(written);
        FUZZ_CHECK(parse(written, &again, &problem) == 0 && worker_set_equal(set, again));
}

static void fuzz_asker(json_object *body) {
        _cleanup_(sharing_queue_done) SharingQueue asker = {}, again = {};
        _cleanup_(json_putp) json_object *written = NULL;
        Problem problem = {};
        int r = emcee_workers_to_utilize_parse(body, &asker, &problem);
        fuzz_check_problem(r, &problem, statuses);
        if (r < 0)
                return;
        FUZZ_CHECK(emcee_workers_to_utilize_format(&asker, &written) == 0);
        fuzz_check_round_trip(written);
        FUZZ_CHECK(emcee_workers_to_utilize_parse(written, &again, &problem) == 0);
        FUZZ_CHECK(sharing_queue_compare(&asker, &again) == 0);
        FUZZ_CHECK(worker_set_equal(asker.workers, again.workers));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(freep) char *text = fuzz_string(data, size), *error = NULL;
        _cleanup_(json_putp) json_object *body = NULL;
        Problem problem = {};
        bool enabled;

        if (json_parse((const char *) data, size, &body, &problem) < 0) {
                fuzz_texts(text);
                FUZZ_CHECK(emcee_error_format("/workerIds", &problem, &error) == 0);
                return 0;
        }
        fuzz_version(body);
        fuzz_set(body, emcee_worker_ids_parse, emcee_worker_ids_format);
        fuzz_set(body, emcee_share_parse, emcee_share_format);
        fuzz_asker(body);
        int r = emcee_toggle_parse(body, &enabled, &problem);
        fuzz_check_problem(r, &problem, statuses);
        return 0;
}
