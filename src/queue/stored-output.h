/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reads an output from the store piece by piece, for an answer that is given piece by piece. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "delivery/store-port.h"
#include "io/http-server.h"

typedef struct StoredOutput StoredOutput;

/* STORE and REQUEST are weak; the latter is woken when there is something to be read. -ENOMEM. */
int stored_output_new(
                const StorePort *port,
                void *store,
                HttpRequest *request,
                uint64_t seq,
                uint64_t number,
                StoredStream stream,
                uint64_t offset,
                StoredOutput **ret);
StoredOutput *stored_output_free(StoredOutput *output);
DEFINE_POINTER_CLEANUP(StoredOutput, stored_output_free)

/* As HttpStreamReader. */
ssize_t stored_output_read(StoredOutput *output, char *buffer, size_t size);
