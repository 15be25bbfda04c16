/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Entries in journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), and the way from a task's
 * output to them: cut into lines, at a rate that journald takes without dropping. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "base/usec.h"

/* Longer lines are cut into several entries, as journald does with streams (LineMax=). */
#define JOURNAL_LINE_MAX (32 * 1024)

/* Under journald's default of 10000 in 30 s, which it charges to the task's unit: so what is dropped is
 * dropped, and counted, here. */
#define JOURNAL_BURST_LINES 8000
/* What is written without line breaks, or at great length, is seldom meant for a reader: 8000 lines of 32 KiB
 * take journald the better part of a second, and others' entries their place. */
#define JOURNAL_BURST_BYTES   (16 * 1024 * 1024)
#define JOURNAL_INTERVAL_USEC (30 * USEC_PER_SEC)

/* Appends "FIELD=value", in the binary form where VALUE has line breaks. -ENOMEM. */
int journal_entry_add(Text *entry, const char *field, const void *value, size_t size);
int journal_entry_add_string(Text *entry, const char *field, const char *value);

typedef struct JournalRate {
        usec_t interval_start_usec;
        unsigned n_lines;
        uint64_t n_bytes;
        uint64_t n_dropped; /* of the task's whole life */
} JournalRate;

/* Whether one more line, of SIZE bytes, may pass at NOW_USEC; counts it as passed or dropped. */
bool journal_rate_take(JournalRate *rate, size_t size, usec_t now_usec);

/* A stream's bytes on their way to becoming lines. */
typedef struct LineSplitter {
        Text partial; /* the beginning of a line whose end has not come */
} LineSplitter;

typedef void (*LineHandler)(const char *line, size_t size, void *userdata);

void line_splitter_done(LineSplitter *splitter);

/* Calls HANDLER for every line that BYTES complete, without line break. Out of memory cuts a line short. */
void line_splitter_feed(
                LineSplitter *splitter,
                const char *bytes,
                size_t size,
                LineHandler handler,
                void *userdata);

/* The last line, if it has no line break. */
void line_splitter_flush(LineSplitter *splitter, LineHandler handler, void *userdata);
