/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The hands of the scheduler: carries out its actions. What changes a task is on disk before anybody else
 * hears of it. */
#pragma once

#include "core/scheduling/scheduler.h"

typedef struct Queue Queue;

void dispatch_action(Queue *queue, const SchedulerAction *action);
