/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The store in a local file (io/task-store.h) behind the store port. */
#pragma once

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "delivery/store-port.h"
#include "io/task-store.h"

typedef struct SqliteStore SqliteStore;

extern const StorePort sqlite_store_port;

/* As task_store_open(). */
int sqlite_store_open(sd_event *event, const char *directory, SqliteStore **ret, char **reterr_message);

/* Waits until all that was handed over is on disk, without calling back. */
SqliteStore *sqlite_store_free(SqliteStore *store);
DEFINE_POINTER_CLEANUP(SqliteStore, sqlite_store_free)

const char *sqlite_store_queue_id(const SqliteStore *store);
