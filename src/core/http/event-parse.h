/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reads text/event-stream (WHATWG HTML, section 9.2.6), given in pieces of any size. Lines end by LF, CR LF
 * or CR; comments and unknown fields are skipped, "retry" among them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"

/* What one event says. Valid during the callback only. */
typedef struct ParsedEvent {
        const char *type; /* "message" when none was given */
        const char *id;   /* the last one given, by this or an earlier event; "" when there was none */
        const char *data; /* its lines joined by LF, NUL-terminated */
        size_t data_size;
} ParsedEvent;

/* A negative errno ends the parsing with it. */
typedef int (*ParsedEventHandler)(const ParsedEvent *event, void *userdata);

/* Zero-initialise it with limits set; event_parser_done() it. */
typedef struct EventParser {
        size_t line_bytes_max;  /* of one line, comments included */
        size_t event_bytes_max; /* of all data lines of one event together */

        Text line, type, data, id; /* of the event that is being read; ID stays */
        bool data_seen;
        bool after_cr;   /* an LF that comes next belongs to the line before it */
        bool past_start; /* of the stream: no byte order mark can come any more */
} EventParser;

void event_parser_done(EventParser *parser);

/* Reads SIZE more bytes and calls HANDLER for each event that they complete; events without data are none. An
 * event that the stream's end cuts short is not one. -EMSGSIZE (a limit), -ENOMEM, or what HANDLER returned:
 * then the parser is only good for event_parser_done(). */
int event_parser_feed(
                EventParser *parser,
                const void *bytes,
                size_t size,
                ParsedEventHandler handler,
                void *userdata);
