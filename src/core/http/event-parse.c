/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/event-parse.h"

#include <errno.h>
#include <stdlib.h>

#define BYTE_ORDER_MARK "\xef\xbb\xbf"

void event_parser_done(EventParser *parser) {
        text_done(&parser->line);
        text_done(&parser->type);
        text_done(&parser->data);
        text_done(&parser->id);
        *parser = (EventParser) {};
}

/* Keeps the memory for what comes next. */
static void text_empty(Text *text) {
        text->size = 0;
        if (text->data)
                text->data[0] = '\0';
}

static const char *text_or(const Text *text, const char *otherwise) {
        return text->size > 0 ? text->data : otherwise;
}

static int event_dispatch(EventParser *parser, ParsedEventHandler handler, void *userdata) {
        int r = 0;
        if (parser->data_seen) {
                const ParsedEvent event = {
                        .type = text_or(&parser->type, "message"),
                        .id = text_or(&parser->id, ""),
                        .data = text_or(&parser->data, ""),
                        .data_size = parser->data.size,
                };
                r = handler(&event, userdata);
        }
        text_empty(&parser->type);
        text_empty(&parser->data);
        parser->data_seen = false;
        return r;
}

static int event_add_data(EventParser *parser, const char *value, size_t size) {
        size_t separator = parser->data_seen ? 1 : 0;
        if (size + separator > parser->event_bytes_max ||
            parser->data.size > parser->event_bytes_max - size - separator)
                return -EMSGSIZE;
        if (separator && text_append_bytes(&parser->data, "\n", 1) < 0)
                return -ENOMEM;
        parser->data_seen = true;
        return text_append_bytes(&parser->data, value, size);
}

static int field_replace(Text *text, const char *value, size_t size) {
        text_empty(text);
        return text_append_bytes(text, value, size);
}

static int event_take_field(
                EventParser *parser,
                const char *name,
                size_t name_size,
                const char *value,
                size_t value_size) {
        if (name_size == 4 && memcmp(name, "data", 4) == 0)
                return event_add_data(parser, value, value_size);
        if (name_size == 5 && memcmp(name, "event", 5) == 0)
                return field_replace(&parser->type, value, value_size);
        if (name_size == 2 && memcmp(name, "id", 2) == 0 && !memchr(value, '\0', value_size))
                return field_replace(&parser->id, value, value_size);
        return 0;
}

/* What stands in parser->line is one whole line. */
static int event_take_line(EventParser *parser, ParsedEventHandler handler, void *userdata) {
        const char *line = text_or(&parser->line, "");
        size_t size = parser->line.size;
        if (!parser->past_start && size >= 3 && memcmp(line, BYTE_ORDER_MARK, 3) == 0) {
                line += 3;
                size -= 3;
        }
        parser->past_start = true;
        if (size == 0)
                return event_dispatch(parser, handler, userdata);

        const char *colon = memchr(line, ':', size);
        if (colon == line)
                return 0;
        if (!colon)
                return event_take_field(parser, line, size, "", 0);
        const char *value = colon + 1, *end = line + size;
        if (value < end && *value == ' ')
                value++;
        return event_take_field(parser, line, (size_t) (colon - line), value, (size_t) (end - value));
}

static const char *line_end(const char *s, const char *end) {
        while (s < end && *s != '\n' && *s != '\r')
                s++;
        return s;
}

int event_parser_feed(
                EventParser *parser,
                const void *bytes,
                size_t size,
                ParsedEventHandler handler,
                void *userdata) {
        if (size == 0)
                return 0;
        const char *s = bytes, *end = s + size;
        while (s < end) {
                if (parser->after_cr && *s == '\n')
                        s++;
                parser->after_cr = false;

                const char *stop = line_end(s, end);
                size_t piece = (size_t) (stop - s);
                if (piece > parser->line_bytes_max || parser->line.size > parser->line_bytes_max - piece)
                        return -EMSGSIZE;
                int r = text_append_bytes(&parser->line, s, piece);
                if (r < 0)
                        return r;
                if (stop == end)
                        return 0;

                parser->after_cr = *stop == '\r';
                r = event_take_line(parser, handler, userdata);
                if (r < 0)
                        return r;
                text_empty(&parser->line);
                s = stop + 1;
        }
        return 0;
}
