/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Task ids in, unit names out: systemd's escaping, done here so that no string of a client reaches systemd in
 * a place where it would mean something. */
#include "core/text/unit-name.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/text.h"

/* What is left for the escaped id between prefix and suffix, whole and when its hash has to follow. */
#define ESCAPED_MAX     (UNIT_NAME_LENGTH_MAX - (sizeof(TASK_UNIT_PREFIX) - 1) - (sizeof(TASK_UNIT_SUFFIX) - 1))
#define HASH_LENGTH     (sizeof("-0123456789abcdef") - 1)
#define ESCAPED_CUT_MAX (ESCAPED_MAX - HASH_LENGTH)

static bool is_alphanumeric(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool task_id_valid(const char *task_id) {
        assert(task_id);

        if (task_id[0] == '.' || task_id[0] == '-')
                return false;

        size_t n = 0;
        for (; task_id[n]; n++) {
                char c = task_id[n];

                if (n >= TASK_ID_MAX)
                        return false;
                if (!is_alphanumeric(c) && c != '.' && c != '_' && c != ':' && c != '-')
                        return false;
        }

        return n > 0;
}

static int append_escaped_char(Text *text, char c, bool first) {
        if (c == '/')
                return text_append(text, "-");
        if (is_alphanumeric(c) || c == ':' || c == '_' || (c == '.' && !first))
                return text_append_bytes(text, &c, 1);

        return text_appendf(text, "\\x%02x", (unsigned) (unsigned char) c);
}

/* Appends S escaped; *RET_CUT_SIZE is how much of TEXT to keep when there is not room for all of it: the most
 * whole characters within ESCAPED_CUT_MAX. */
static int append_escaped(Text *text, const char *s, size_t *ret_escaped_size, size_t *ret_cut_size) {
        size_t start = text->size;
        size_t cut_size = start;

        for (const char *p = s; *p; p++) {
                int r = append_escaped_char(text, *p, p == s);
                if (r < 0)
                        return r;

                if (text->size - start <= ESCAPED_CUT_MAX)
                        cut_size = text->size;
        }

        *ret_escaped_size = text->size - start;
        *ret_cut_size = cut_size;
        return 0;
}

int unit_name_from_task_id(const char *task_id, char **ret) {
        _cleanup_(text_done) Text name = {};
        size_t escaped_size, cut_size;

        assert(task_id);
        assert(ret);

        int r = text_append(&name, TASK_UNIT_PREFIX);
        if (r < 0)
                return r;

        r = append_escaped(&name, task_id, &escaped_size, &cut_size);
        if (r < 0)
                return r;

        if (escaped_size > ESCAPED_MAX) {
                name.size = cut_size;
                r = text_appendf(&name, "-%016" PRIx64, text_hash(task_id));
                if (r < 0)
                        return r;
        }

        r = text_append(&name, TASK_UNIT_SUFFIX);
        if (r < 0)
                return r;

        assert(name.size <= UNIT_NAME_LENGTH_MAX);
        *ret = TAKE_PTR(name.data);
        return 0;
}
