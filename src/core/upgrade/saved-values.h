/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A task's specification, and amounts, in their saved form and back. */
#pragma once

#include "core/scheduling/lease.h"
#include "core/task/devices.h"
#include "core/task/task-spec.h"
#include "core/text/histogram.h"
#include "core/upgrade/runner-state.h"

/* Strings and lists of RET are those of what it was made of, but for lists that record_done() frees; so it is
 * to be freed in every case. -ENOMEM. */
int saved_resources_from(const Resources *resources, SavedResources *ret);
int saved_spec_from(const TaskSpec *spec, SavedSpec *ret);
int saved_histogram_from(const Histogram *histogram, SavedHistogram *ret);

int saved_grant_from(const DeviceGrant *grant, SavedGrant *ret);

/* The strings of LEASE, which must stay. */
SavedLease saved_lease_from(const Lease *lease);

/* A copy of LIST, whose strings stay those of LIST; NULL for NULL. -ENOMEM. */
int saved_strings_from(char *const *list, const char ***ret);

/* Copies all; RET is the caller's to free. -ENOMEM; for a specification also 409 with a sentence when it has
 * what is not known here. SAVED is of a state that was checked. */
void saved_resources_to(const SavedResources *saved, Resources *ret);
int saved_spec_to(const SavedSpec *saved, TaskSpec **ret, Problem *reterr_problem);
int saved_grant_to(const SavedGrant *saved, DeviceGrants *grants, DeviceGrant **ret);
int saved_strings_to(const char *const *strings, char ***ret);
void saved_lease_to(const SavedLease *saved, Lease *ret);
void saved_histogram_to(const SavedHistogram *saved, Histogram *ret);
