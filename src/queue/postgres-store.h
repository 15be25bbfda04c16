/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The store in a PostgreSQL database behind the store port, for the member that leads.
 *
 * Every transaction that writes checks that its member still leads under its epoch, and counts: the row that
 * says who leads says also which of its writes was the last. So a member that was stopped and wakes up writes
 * nothing, and after a connection that was lost at COMMIT it is known whether that took place. */
#pragma once

#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "core/config/config-queue.h"
#include "delivery/store-port.h"

typedef struct PostgresStore PostgresStore;

extern const StorePort postgres_store_port;

typedef struct PostgresStoreOptions {
        const PostgresConfig *config; /* weak */
        uint64_t epoch;               /* under which this member leads */

        /* The store can be used: facts are read, the epoch is ours. Once. */
        void (*ready)(void *userdata);
        /* Another member leads, so nothing can be written any more; or R says why it never will. Once; the
         * store answers everything with -ESTALE from then on. */
        void (*fenced)(int r, void *userdata);
        void *userdata;
} PostgresStoreOptions;

/* Connects, and connects again whenever it must; meanwhile what is handed over waits, up to a limit, and then
 * commit() says -ENOBUFS. */
int postgres_store_new(sd_event *event, const PostgresStoreOptions *options, PostgresStore **ret);

/* Without waiting for what was handed over. */
PostgresStore *postgres_store_free(PostgresStore *store);
DEFINE_POINTER_CLEANUP(PostgresStore, postgres_store_free)

/* All that was handed over is written, and another member may write: nothing more is from now on (-ESTALE),
 * while what is there can still be read. */
void postgres_store_retire(PostgresStore *store);

/* 32 hexadecimal digits, made with the database. After ready(). */
const char *postgres_store_queue_id(const PostgresStore *store);
