/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The queue's configuration file. */
#pragma once

#include "core/config/config-queue.h"

#define PROGRAM_NAME "daggyd" /* by which its files are found */

/* Reads and checks the file at PATH (NULL: defaults). A negative errno, logged. */
int queue_config_load(const char *path, QueueConfig **ret);
