/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* submit --each: a task for each line of a file. */
#pragma once

#include <json-c/json.h>

#include "ctl/session.h"

/* Submits BODY once for each line of the file that --each names, with "{}" in its command replaced by the
 * line, or the line added to it where there is none. Prints the ids in the order of the lines. Waits with a
 * daemon that is full. Returns the exit status to end with, said. */
int each_submit(Session *session, json_object *body);
