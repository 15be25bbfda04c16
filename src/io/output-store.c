/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/output-store.h"

#include <fcntl.h>

void output_store_init(OutputStore *store, const char *directory, uint64_t bytes_max) {
        *store = (OutputStore) { .directory = directory, .bytes_max = bytes_max, .file_fd = -EBADF };
}

void output_store_done(OutputStore *store) {
        text_done(&store->memory);
        store->memory = (Text) {};
        fd_close(&store->file_fd);
}

static int file_append(OutputStore *store, const char *bytes, size_t size) {
        while (size > 0) {
                ssize_t n = pwrite(store->file_fd, bytes, size, (off_t) store->bytes_kept);
                if (n < 0)
                        return -errno;
                store->bytes_kept += (uint64_t) n;
                bytes += n;
                size -= (size_t) n;
        }
        return 0;
}

static int move_to_file(OutputStore *store) {
        store->file_fd = open(store->directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (store->file_fd < 0)
                return -errno;
        size_t size = store->memory.size;
        store->bytes_kept = 0;
        int r = file_append(store, store->memory.data, size);
        if (r < 0) { /* stay with what is in memory */
                fd_close(&store->file_fd);
                store->bytes_kept = size;
                return r;
        }
        text_done(&store->memory);
        store->memory = (Text) {};
        return 0;
}

void output_store_append(OutputStore *store, const void *bytes, size_t size) {
        store->bytes_total += size;
        if (store->error > 0 || store->bytes_kept >= store->bytes_max)
                return;
        uint64_t room = store->bytes_max - store->bytes_kept;
        if (size > room)
                size = (size_t) room;

        int r = 0;
        if (store->file_fd < 0 && store->bytes_kept + size > OUTPUT_MEMORY_MAX)
                r = move_to_file(store);
        if (r >= 0 && store->file_fd >= 0)
                r = file_append(store, bytes, size);
        else if (r >= 0) {
                r = text_append_bytes(&store->memory, bytes, size);
                if (r >= 0)
                        store->bytes_kept += size;
        }
        if (r < 0)
                store->error = -r;
}

bool output_store_is_truncated(const OutputStore *store) {
        return store->bytes_kept < store->bytes_total;
}

ssize_t output_store_read(const OutputStore *store, uint64_t offset, void *buffer, size_t size) {
        if (offset >= store->bytes_kept)
                return 0;
        if (size > store->bytes_kept - offset)
                size = (size_t) (store->bytes_kept - offset);
        if (store->file_fd < 0) {
                memcpy(buffer, store->memory.data + offset, size);
                return (ssize_t) size;
        }
        ssize_t n = pread(store->file_fd, buffer, size, (off_t) offset);
        return n < 0 ? -errno : n;
}
