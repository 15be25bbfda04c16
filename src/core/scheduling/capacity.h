/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a runner has and what of it is taken. Admission is taking a charge; whoever embeds the
 * charge owns it. The total may shrink below what is taken: then nothing is free until charges return. */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/task/resources.h"

typedef struct CapacityPool {
        Resources total;
        Resources used;
        uint64_t revision; /* grows with every change */
} CapacityPool;

typedef struct CapacityCharge {
        CapacityPool *pool; /* NULL while nothing is charged */
        Resources amount;
} CapacityCharge;

/* What systemd or the kernel say about the host, before overrides; see contract in docs/openapi.yaml. */
typedef struct HostCapacity {
        uint64_t cores_micro; /* CPUs, or a CPUQuota below them */
        uint64_t memory_mb;
} HostCapacity;

/* "capacity_overrides" of the configuration. */
typedef struct CapacityOverrides {
        bool cores_set, memory_set;
        Resources amounts; /* cores_micro 0 with cores_set: all cores of the host */
} CapacityOverrides;

/* cores = max(1, CPUs - 2) and memory_mb = max(100, 3/4 of RAM), both rounded down to whole units (Daggy's
 * rule, which leaves room for the system), then the overrides. */
void capacity_effective(const HostCapacity *host, const CapacityOverrides *overrides, Resources *ret);

void capacity_pool_set_total(CapacityPool *pool, const Resources *total);
void capacity_pool_free_amounts(const CapacityPool *pool, Resources *ret);

/* Takes WANT from the pool. -EDQUOT when it does not fit now: pool and *ret are untouched. */
int capacity_charge(CapacityPool *pool, const Resources *want, CapacityCharge *ret);

/* Takes AMOUNT, which was charged by an earlier process, whether it would fit now or not. -ENOSPC when there
 * are too many names. */
int capacity_charge_again(CapacityPool *pool, const Resources *amount, CapacityCharge *ret);

/* Gives the amount back; does nothing the second time. */
void capacity_charge_release(CapacityCharge *charge);

/* What systemd grants the tasks' slice. */
typedef struct SliceLimits {
        uint64_t cpus;             /* EffectiveCPUs; 0: no cpuset in force */
        uint64_t cpu_quota_usec;   /* CPUQuotaPerSecUSec */
        uint64_t memory_max_bytes; /* EffectiveMemoryMax, or MemoryMax before systemd 254 */
} SliceLimits;

/* The smaller of both, kind by kind. */
void host_capacity_limit(HostCapacity *host, const SliceLimits *slice);

/* What a runner shows of itself, and a queue of all its workers together. */
typedef struct CapacityView {
        Resources total, free_amounts;
        uint64_t n_queued, n_running; /* tasks */
        bool draining;
} CapacityView;

/* Adds "total", "free", "tasks" {"queued","running"} and "draining". -ENOMEM. */
int capacity_view_add(json_object *object, const CapacityView *view);
