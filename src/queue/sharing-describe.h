/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sharing, as people are told of it. */
#pragma once

#include <json-c/json.h>

#include "core/sharing/sharing.h"

/* GET /api/v1/queues; NULL when out of memory. */
json_object *sharing_describe(const Sharing *sharing, const Moment *now);
