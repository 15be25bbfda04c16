/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/task/journal-entry.h"

#include "base/cleanup.h"

int journal_entry_add(Text *entry, const char *field, const void *value, size_t size) {
        int r = text_append(entry, field);
        if (r < 0)
                return r;
        if (size > 0 && memchr(value, '\n', size)) {
                uint8_t length[8];
                for (unsigned i = 0; i < sizeof(length); i++)
                        length[i] = (uint8_t) ((uint64_t) size >> (8 * i));
                r = text_append(entry, "\n");
                if (r >= 0)
                        r = text_append_bytes(entry, length, sizeof(length));
        } else
                r = text_append(entry, "=");
        if (r >= 0)
                r = text_append_bytes(entry, value, size);
        return r < 0 ? r : text_append(entry, "\n");
}

int journal_entry_add_string(Text *entry, const char *field, const char *value) {
        return journal_entry_add(entry, field, value, strlen(value));
}

bool journal_rate_take(JournalRate *rate, size_t size, usec_t now_usec) {
        if (rate->n_lines == 0 || now_usec >= usec_add(rate->interval_start_usec, JOURNAL_INTERVAL_USEC)) {
                rate->interval_start_usec = now_usec;
                rate->n_lines = 0;
                rate->n_bytes = 0;
        }
        if (rate->n_lines >= JOURNAL_BURST_LINES || rate->n_bytes >= JOURNAL_BURST_BYTES) {
                rate->n_dropped++;
                return false;
        }
        rate->n_lines++;
        rate->n_bytes += size;
        return true;
}

void line_splitter_done(LineSplitter *splitter) {
        text_done(&splitter->partial);
        splitter->partial = (Text) {};
}

void line_splitter_flush(LineSplitter *splitter, LineHandler handler, void *userdata) {
        if (splitter->partial.size > 0)
                handler(splitter->partial.data, splitter->partial.size, userdata);
        line_splitter_done(splitter);
}

/* Hands PARTIAL + PIECE on as one line; without a partial one it is not even copied. */
static void complete_line(
                LineSplitter *splitter,
                const char *piece,
                size_t size,
                LineHandler handler,
                void *userdata) {
        if (splitter->partial.size == 0) {
                handler(piece, size, userdata);
                return;
        }
        (void) text_append_bytes(&splitter->partial, piece, size);
        handler(splitter->partial.data, splitter->partial.size, userdata);
        line_splitter_done(splitter);
}

/* Hands on as much of PARTIAL + PIECE as are whole characters, and keeps the rest for the next line. */
static void cut_line(
                LineSplitter *splitter,
                const char *piece,
                size_t size,
                LineHandler handler,
                void *userdata) {
        _cleanup_(text_done) Text line = splitter->partial;
        splitter->partial = (Text) {};
        if (text_append_bytes(&line, piece, size) < 0 && line.size == 0)
                return;
        size_t whole = text_cut_off_end(line.data, line.size);
        handler(line.data, whole, userdata);
        (void) text_append_bytes(&splitter->partial, line.data + whole, line.size - whole);
}

void line_splitter_feed(
                LineSplitter *splitter,
                const char *bytes,
                size_t size,
                LineHandler handler,
                void *userdata) {
        while (size > 0) {
                /* One byte more than fits may still be the line's end. */
                size_t room = JOURNAL_LINE_MAX - splitter->partial.size;
                const char *end = memchr(bytes, '\n', size <= room ? size : room + 1);
                size_t length = end ? (size_t) (end - bytes) : size <= room ? size : room;
                if (end)
                        complete_line(splitter, bytes, length, handler, userdata);
                else if (size > room)
                        cut_line(splitter, bytes, length, handler, userdata);
                else
                        (void) text_append_bytes(&splitter->partial, bytes, length);
                length += end != NULL;
                bytes += length;
                size -= length;
        }
}
