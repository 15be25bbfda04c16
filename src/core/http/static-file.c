/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/http/static-file.h"

#include <assert.h>
#include <string.h>

#include "base/text.h"

const StaticFile *static_file_find(const StaticFile *files, const char *name) {
        assert(files);
        assert(name);
        for (; files->name; files++)
                if (streq(files->name, name))
                        return files;
        return NULL;
}

const char *static_file_type(const char *name) {
        static const struct {
                const char *ending, *type;
        } rows[] = {
                { ".html", "text/html; charset=utf-8" },
                { ".css", "text/css; charset=utf-8" },
                { ".js", "text/javascript; charset=utf-8" },
                { ".svg", "image/svg+xml" },
        };
        assert(name);
        const char *ending = strrchr(name, '.');
        for (size_t i = 0; ending && i < sizeof(rows) / sizeof(*rows); i++)
                if (streq(ending, rows[i].ending))
                        return rows[i].type;
        return "application/octet-stream";
}

/* An entity tag at S, with the quotes: its size, 0 when there is none. */
static size_t tag_size(const char *s) {
        if (*s != '"')
                return 0;
        size_t size = 1 + strcspn(s + 1, "\"");
        return s[size] == '"' ? size + 1 : 0;
}

bool static_file_is_known(const char *if_none_match, const char *tag) {
        assert(tag);
        if (!if_none_match)
                return false;
        const char *s = if_none_match + strspn(if_none_match, " \t");
        if (*s == '*')
                return s[1 + strspn(s + 1, " \t")] == 0;
        for (;;) {
                s += strspn(s, " \t,");
                const char *strong = text_after(s, "W/");
                s = strong ? strong : s;
                size_t size = tag_size(s);
                if (size == 0)
                        return false;
                if (size == strlen(tag) && memcmp(s, tag, size) == 0)
                        return true;
                s += size;
        }
}
