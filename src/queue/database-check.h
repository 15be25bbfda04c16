/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* For --check: whether the database can be used by a queue. */
#pragma once

#include "core/config/config-queue.h"

/* Connects, looks, and changes nothing; waits for at most some seconds. A negative errno, logged. */
int database_check(const PostgresConfig *config);
