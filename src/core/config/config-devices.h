/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* "devices" of a runner's configuration:
 *
 *   {"gpu":{"paths":["/dev/nvidiactl"],"items":[{"id":"0","paths":["/dev/nvidia0"],"environment":{"A":"b"}}]}}
 */
#pragma once

#include "core/json/json.h"
#include "core/json/problem.h"

/* Of json_dispatch(); the target is a Devices (core/task/devices.h), empty at first. */
int config_field_devices(json_object *, const JsonField *, const char *, void *, Problem *);
