/* SPDX-License-Identifier: LGPL-2.1-or-later */

#pragma once

#include "runner/task.h"

/* Notes in the attempt which of its properties are not in force, and why. Call when its scope is there. */
void task_note_effects(Task *task);
