/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How the capacity was over the last hour, for the page, which was not open all the time. */
#pragma once

#include <json-c/json.h>

#include "core/text/course.h"
#include "io/http-server.h"

/* Notes CAPACITY, as clients are shown it, and drops it; NULL (out of memory) leaves the point out. -ENOMEM.
 */
int capacity_history_note(Course *course, json_object *capacity);

/* Answers with the points of the last hour, each with its time. */
void capacity_history_answer(Course *course, HttpRequest *request);
