/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/scheduling/capacity.h"

#include <errno.h>

#include "core/json/json.h"

#define CORES_LEFT_FOR_HOST 2
#define MEMORY_MB_MIN       100

/* LEFT cores less, at least one, whole cores only. */
static uint64_t whole_cores(uint64_t cores_micro, uint64_t left) {
        uint64_t cores = cores_micro / CORES_MICRO_PER_CORE;

        return (cores > left ? cores - left : 1) * CORES_MICRO_PER_CORE;
}

static uint64_t three_quarters(uint64_t amount) {
        return amount / 4 * 3 + amount % 4 * 3 / 4;
}

void capacity_effective(const HostCapacity *host, const CapacityOverrides *overrides, Resources *ret) {
        Resources total = overrides->amounts; /* for the named ones */

        if (!overrides->cores_set)
                total.cores_micro = whole_cores(host->cores_micro, CORES_LEFT_FOR_HOST);
        else if (total.cores_micro == 0)
                total.cores_micro = whole_cores(host->cores_micro, 0);

        if (!overrides->memory_set) {
                total.memory_mb = three_quarters(host->memory_mb);
                if (total.memory_mb < MEMORY_MB_MIN)
                        total.memory_mb = MEMORY_MB_MIN;
        }

        *ret = total;
}

void capacity_pool_set_total(CapacityPool *pool, const Resources *total) {
        if (resources_equal(&pool->total, total))
                return;

        pool->total = *total;
        pool->revision++;
}

void capacity_pool_free_amounts(const CapacityPool *pool, Resources *ret) {
        resources_subtract(&pool->total, &pool->used, ret);
}

/* Only names of which something is used stay in pool->used: those that tasks merely mentioned would fill it
 * up over time. */
static void drop_unused_names(Resources *resources) {
        size_t n = 0;

        for (size_t i = 0; i < resources->n_named; i++)
                if (resources->named[i].amount > 0)
                        resources->named[n++] = resources->named[i];
        resources->n_named = n;
}

int capacity_charge_again(CapacityPool *pool, const Resources *amount, CapacityCharge *ret) {
        Resources needed = *amount, used;

        drop_unused_names(&needed);
        int r = resources_add(&pool->used, &needed, &used);
        if (r < 0)
                return r;

        pool->used = used;
        pool->revision++;
        *ret = (CapacityCharge) { .pool = pool, .amount = *amount };
        return 0;
}

int capacity_charge(CapacityPool *pool, const Resources *want, CapacityCharge *ret) {
        Resources free_amounts;

        capacity_pool_free_amounts(pool, &free_amounts);
        if (!resources_fit(want, &free_amounts))
                return -EDQUOT;

        /* Too many names: possible only while names that the total has lost are still in use. */
        return capacity_charge_again(pool, want, ret) < 0 ? -EDQUOT : 0;
}

void capacity_charge_release(CapacityCharge *charge) {
        CapacityPool *pool = charge->pool;

        if (!pool)
                return;

        resources_subtract(&pool->used, &charge->amount, &pool->used);
        drop_unused_names(&pool->used);
        pool->revision++;
        charge->pool = NULL;
}

static void limit_to(uint64_t *value, uint64_t limit) {
        if (*value > limit)
                *value = limit;
}

void host_capacity_limit(HostCapacity *host, const SliceLimits *slice) {
        if (slice->cpus > 0 && slice->cpus <= CORES_MAX)
                limit_to(&host->cores_micro, slice->cpus * CORES_MICRO_PER_CORE);
        limit_to(&host->cores_micro, slice->cpu_quota_usec); /* a second of CPU time a second is one core */
        if (slice->memory_max_bytes != UINT64_MAX)
                limit_to(&host->memory_mb, slice->memory_max_bytes / (UINT64_C(1024) * 1024));
}

static int add_amounts(json_object *object, const char *key, const Resources *amounts) {
        json_object *value;
        int r = resources_to_json(amounts, &value);
        return r < 0 ? r : json_add(object, key, value);
}

int capacity_view_add(json_object *object, const CapacityView *view) {
        int r = add_amounts(object, "total", &view->total);
        if (r >= 0)
                r = add_amounts(object, "free", &view->free_amounts);
        if (r < 0)
                return r;
        json_object *tasks = json_object_new_object(); /* weak, once it is added */
        r = json_add(object, "tasks", tasks);
        if (r >= 0)
                r = json_add_u64(tasks, "queued", view->n_queued);
        if (r >= 0)
                r = json_add_u64(tasks, "running", view->n_running);
        return r < 0 ? r : json_add_bool(object, "draining", view->draining);
}
