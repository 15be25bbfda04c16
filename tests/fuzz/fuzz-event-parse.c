/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Input: a byte that says how the rest, an event stream, is cut into pieces. However it is cut, the same
 * comes out, and no more of it than the limits allow. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/http/event-parse.h"
#include "fuzz.h"

#define LINE_MAX  64
#define EVENT_MAX 96

static int note_event(const ParsedEvent *event, void *userdata) {
        Text *seen = userdata;
        FUZZ_CHECK(event->data[event->data_size] == '\0');
        FUZZ_CHECK(event->data_size <= EVENT_MAX);
        FUZZ_CHECK(strlen(event->type) <= LINE_MAX && strlen(event->id) <= LINE_MAX);
        FUZZ_CHECK(!strpbrk(event->type, "\r\n") && !strpbrk(event->id, "\r\n"));
        FUZZ_CHECK(!memchr(event->data, '\r', event->data_size));
        FUZZ_CHECK(text_append_bytes(seen, event->data, event->data_size) == 0);
        FUZZ_CHECK(text_appendf(seen, "\r%s\r%s\r", event->type, event->id) == 0);
        return 0;
}

static int parse(const uint8_t *data, size_t size, size_t piece, Text *ret_seen) {
        EventParser parser = { .line_bytes_max = LINE_MAX, .event_bytes_max = EVENT_MAX };
        int r = 0;
        for (size_t i = 0; i < size && r >= 0; i += piece)
                r = event_parser_feed(
                                &parser, data + i, size - i < piece ? size - i : piece, note_event, ret_seen);
        event_parser_done(&parser);
        return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size == 0)
                return 0;
        Text whole = {}, pieces = {};
        int r = parse(data + 1, size - 1, size, &whole);
        FUZZ_CHECK(r == 0 || r == -EMSGSIZE);
        FUZZ_CHECK(parse(data + 1, size - 1, (size_t) data[0] + 1, &pieces) == r);
        FUZZ_CHECK(whole.size == pieces.size);
        FUZZ_CHECK(whole.size == 0 || memcmp(whole.data, pieces.data, whole.size) == 0);
        text_done(&whole);
        text_done(&pieces);
        return 0;
}
