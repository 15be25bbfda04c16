/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What one stream of a task wrote, up to a limit: small outputs in memory, larger ones in an unlinked file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/text.h"

/* Beyond this the store moves to a file. */
#define OUTPUT_MEMORY_MAX (64 * 1024)

typedef struct OutputStore {
        const char *directory; /* for the file; borrowed */
        uint64_t bytes_max;    /* kept at most */
        uint64_t bytes_kept;
        uint64_t bytes_total; /* written by the task, kept or not */
        Text memory;          /* while FILE_FD is -EBADF */
        int file_fd;
        int error; /* > 0: errno of the disk; nothing is kept any more from there on */
} OutputStore;

void output_store_init(OutputStore *store, const char *directory, uint64_t bytes_max);
void output_store_done(OutputStore *store);

/* Takes note of SIZE more bytes and keeps what the limit and the disk allow. Never fails: see ERROR. */
void output_store_append(OutputStore *store, const void *bytes, size_t size);

/* Whether something the task wrote was not kept. */
bool output_store_is_truncated(const OutputStore *store);

/* Copies up to SIZE bytes from OFFSET on to BUFFER; returns how many, 0 at the end of what is kept, or a
 * negative errno of the disk. */
ssize_t output_store_read(const OutputStore *store, uint64_t offset, void *buffer, size_t size);
