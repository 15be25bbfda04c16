/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/upgrade/saved-values.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"

int saved_strings_from(char *const *list, const char ***ret) {
        *ret = NULL;
        if (!list)
                return 0;
        size_t n = text_list_count(list);
        const char **copy = calloc(n + 1, sizeof(*copy));
        if (!copy)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                copy[i] = list[i];
        *ret = copy;
        return 0;
}

int saved_resources_from(const Resources *resources, SavedResources *ret) {
        *ret = (SavedResources) { .cores_micro = resources->cores_micro, .memory_mb = resources->memory_mb };
        int r = record_list_new(&ret->named, resources->n_named, sizeof(SavedAmount));
        SavedAmount *named = ret->named.items;
        for (size_t i = 0; r >= 0 && i < resources->n_named; i++)
                named[i] = (SavedAmount) { resources->named[i].name, resources->named[i].amount };
        return r;
}

int saved_spec_from(const TaskSpec *spec, SavedSpec *ret) {
        *ret = (SavedSpec) {
                .task_id = spec->task_id,
                .working_directory = spec->working_directory,
                .user = spec->user,
                .standard_input = { spec->standard_input.data, spec->standard_input.size },
                .properties = spec->properties ?
                                json_object_to_json_string_ext(spec->properties, JSON_C_TO_STRING_PLAIN) :
                                NULL,
                .cores_by_default = spec->cores_by_default,
                .memory_by_default = spec->memory_by_default,
                .timeout_usec = spec->timeout_usec,
                .grace_usec = spec->grace_usec,
                .umask = spec->umask,
                .tasks_max = spec->tasks_max,
                .when_full = spec->when_full,
        };
        if (spec->properties && !ret->properties)
                return -ENOMEM;
        int r = saved_strings_from(spec->command, &ret->command);
        if (r >= 0)
                r = saved_strings_from(spec->environment, &ret->environment);
        if (r >= 0)
                r = saved_strings_from(spec->labels, &ret->labels);
        return r < 0 ? r : saved_resources_from(&spec->resources, &ret->resources);
}

SavedLease saved_lease_from(const Lease *lease) {
        return (SavedLease) {
                .id = lease->id,
                .queue = lease->queue,
                .version = lease->version,
                .epoch = lease->epoch,
                .ttl_usec = lease->ttl_usec,
                .expires_usec = lease->expires_usec,
        };
}

int saved_histogram_from(const Histogram *histogram, SavedHistogram *ret) {
        *ret = (SavedHistogram) { .sum_usec = histogram->sum_usec };
        int r = record_list_new(&ret->counts, HISTOGRAM_BUCKETS + 1, sizeof(SavedCount));
        SavedCount *counts = ret->counts.items;
        for (size_t i = 0; r >= 0 && i <= HISTOGRAM_BUCKETS; i++)
                counts[i].count = histogram->counts[i];
        return r;
}

void saved_resources_to(const SavedResources *saved, Resources *ret) {
        const SavedAmount *named = saved->named.items;
        *ret = (Resources) { .cores_micro = saved->cores_micro, .memory_mb = saved->memory_mb };
        for (size_t i = 0; i < saved->named.n; i++)
                (void) resources_named_set(ret, named[i].name, named[i].amount);
}

int saved_strings_to(const char *const *strings, char ***ret) {
        *ret = NULL;
        if (!strings)
                return 0;
        size_t n = 0;
        while (strings[n])
                n++;
        char **list = calloc(n + 1, sizeof(*list));
        for (size_t i = 0; list && i < n; i++) {
                list[i] = strdup(strings[i]);
                if (!list[i])
                        list = text_list_free(list);
        }
        *ret = list;
        return list ? 0 : -ENOMEM;
}

static int copy_string(const char *string, char **ret) {
        *ret = string ? strdup(string) : NULL;
        return string && !*ret ? -ENOMEM : 0;
}

static int copy_strings(const SavedSpec *saved, TaskSpec *spec) {
        int r = copy_string(saved->task_id, &spec->task_id);
        if (r >= 0)
                r = copy_string(saved->working_directory, &spec->working_directory);
        if (r >= 0)
                r = copy_string(saved->user, &spec->user);
        if (r >= 0)
                r = record_bytes_append(&saved->standard_input, &spec->standard_input);
        if (r >= 0)
                r = saved_strings_to(saved->command, &spec->command);
        if (r >= 0)
                r = saved_strings_to(saved->environment, &spec->environment);
        return r < 0 ? r : saved_strings_to(saved->labels, &spec->labels);
}

static int refuse_properties(const SavedSpec *saved, Problem *problem) {
        char shown[RECORD_QUOTE_SIZE];
        record_quote(saved->task_id, strlen(saved->task_id), shown);
        return problem_set(problem, 409, NULL, "task %s has properties that are not known here", shown);
}

static int read_properties(const SavedSpec *saved, TaskSpec *spec, Problem *problem) {
        if (!saved->properties)
                return 0;
        int r = json_parse(saved->properties, strlen(saved->properties), &spec->properties, problem);
        if (r >= 0)
                r = task_properties_parse(spec->properties, "/properties", &spec->parsed_properties, problem);
        if (r < 0 && problem->status == 400)
                r = refuse_properties(saved, problem);
        return r;
}

int saved_spec_to(const SavedSpec *saved, TaskSpec **ret, Problem *reterr_problem) {
        _cleanup_(task_spec_freep) TaskSpec *spec = calloc(1, sizeof(*spec));
        if (!spec)
                return problem_from_errno(reterr_problem, -ENOMEM);
        *spec = (TaskSpec) {
                .cores_by_default = saved->cores_by_default,
                .memory_by_default = saved->memory_by_default,
                .timeout_usec = saved->timeout_usec,
                .grace_usec = saved->grace_usec,
                .umask = (mode_t) saved->umask,
                .tasks_max = saved->tasks_max,
                .when_full = (WhenFull) saved->when_full,
        };
        saved_resources_to(&saved->resources, &spec->resources);
        int r = copy_strings(saved, spec);
        if (r < 0)
                return problem_from_errno(reterr_problem, r);
        r = read_properties(saved, spec, reterr_problem);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(spec);
        return 0;
}

void saved_lease_to(const SavedLease *saved, Lease *ret) {
        *ret = (Lease) {
                .epoch = saved->epoch,
                .ttl_usec = saved->ttl_usec,
                .expires_usec = saved->expires_usec,
        };
        memcpy(ret->id, saved->id, strlen(saved->id) + 1);
        memcpy(ret->queue, saved->queue, strlen(saved->queue) + 1);
        memcpy(ret->version, saved->version, strlen(saved->version) + 1);
}

void saved_histogram_to(const SavedHistogram *saved, Histogram *ret) {
        const SavedCount *counts = saved->counts.items;
        *ret = (Histogram) { .sum_usec = saved->sum_usec };
        for (size_t i = 0; i <= HISTOGRAM_BUCKETS && i < saved->counts.n; i++)
                ret->counts[i] = counts[i].count;
}

int saved_grant_from(const DeviceGrant *grant, SavedGrant *ret) {
        *ret = (SavedGrant) { .held = grant->grants != NULL };
        int r = saved_strings_from(grant->paths, &ret->paths);
        if (r >= 0)
                r = saved_strings_from(grant->environment, &ret->environment);
        if (r >= 0)
                r = record_list_new(&ret->kinds, grant->n_kinds, sizeof(SavedGrantKind));
        SavedGrantKind *kinds = ret->kinds.items;
        for (size_t i = 0; r >= 0 && i < grant->n_kinds; i++) {
                kinds[i].name = grant->kinds[i].name;
                r = saved_strings_from(grant->kinds[i].ids, &kinds[i].ids);
        }
        return r;
}

static int copy_kinds(const SavedGrant *saved, DeviceGrant *grant) {
        const SavedGrantKind *kinds = saved->kinds.items;
        int r = 0;
        grant->kinds = calloc(saved->kinds.n + 1, sizeof(*grant->kinds));
        if (!grant->kinds)
                return -ENOMEM;
        for (; r >= 0 && grant->n_kinds < saved->kinds.n; grant->n_kinds++) {
                const SavedGrantKind *kind = &kinds[grant->n_kinds];
                r = copy_string(kind->name, &grant->kinds[grant->n_kinds].name);
                if (r >= 0)
                        r = saved_strings_to(kind->ids, &grant->kinds[grant->n_kinds].ids);
        }
        return r;
}

int saved_grant_to(const SavedGrant *saved, DeviceGrants *grants, DeviceGrant **ret) {
        _cleanup_(device_grant_freep) DeviceGrant *grant = calloc(1, sizeof(*grant));
        if (!grant)
                return -ENOMEM;
        int r = copy_kinds(saved, grant);
        if (r >= 0)
                r = saved_strings_to(saved->paths, &grant->paths);
        if (r >= 0)
                r = saved_strings_to(saved->environment, &grant->environment);
        if (r < 0)
                return r;
        if (saved->held)
                device_grants_hold(grants, grant);
        *ret = TAKE_PTR(grant);
        return 0;
}
