/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/stored-output.h"

#include <string.h>

#define PIECE_BYTES (128 * 1024)

struct StoredOutput {
        const StorePort *port;
        void *store;          /* weak */
        HttpRequest *request; /* weak; NULL: nobody reads any more, and it is freed with the piece under way
                               */
        uint64_t seq, number, offset;
        StoredStream stream;
        char *bytes; /* the piece that was read last */
        size_t at, size;
        bool reading;
        int end; /* negative errno; -ENODATA: that was all */
};

int stored_output_new(
                const StorePort *port,
                void *store,
                HttpRequest *request,
                uint64_t seq,
                uint64_t number,
                StoredStream stream,
                uint64_t offset,
                StoredOutput **ret) {
        StoredOutput *output = calloc(1, sizeof(*output));
        if (!output)
                return -ENOMEM;
        *output = (StoredOutput) {
                .port = port,
                .store = store,
                .request = request,
                .seq = seq,
                .number = number,
                .offset = offset,
                .stream = stream,
        };
        *ret = output;
        return 0;
}

StoredOutput *stored_output_free(StoredOutput *output) {
        if (!output)
                return NULL;
        output->request = NULL;
        if (output->reading)
                return NULL;
        free(output->bytes);
        free(output);
        return NULL;
}

static void take_piece(StoredOutput *output, ssize_t r, const void *bytes) {
        output->at = output->size = 0;
        free(output->bytes);
        output->bytes = r > 0 ? malloc((size_t) r) : NULL;
        if (r <= 0 || !output->bytes) {
                output->end = r == 0 ? -ENODATA : r < 0 ? (int) r : -ENOMEM;
                return;
        }
        memcpy(output->bytes, bytes, (size_t) r);
        output->size = (size_t) r;
        output->offset += (size_t) r;
}

static void on_read(ssize_t r, const void *bytes, const Moment *now, void *userdata) {
        StoredOutput *output = userdata;
        output->reading = false;
        if (!output->request) {
                stored_output_free(output);
                return;
        }
        take_piece(output, r, bytes);
        http_request_stream_wake(output->request);
}

ssize_t stored_output_read(StoredOutput *output, char *buffer, size_t size) {
        size_t n = output->size - output->at;
        if (n > 0) {
                n = n < size ? n : size;
                memcpy(buffer, output->bytes + output->at, n);
                output->at += n;
                return (ssize_t) n;
        }
        if (output->end < 0)
                return output->end;
        if (output->reading)
                return 0;
        int r = output->port->read(
                        output->store,
                        output->seq,
                        output->number,
                        output->stream,
                        output->offset,
                        PIECE_BYTES,
                        on_read,
                        output);
        output->reading = r >= 0;
        return r;
}
