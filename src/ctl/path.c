/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ctl/path.h"

#include <errno.h>
#include <stdarg.h>

#include "base/cleanup.h"
#include "base/text.h"

#define UNRESERVED "-._~"

int path_format(char **ret, const char *task_id, const char *format, ...) {
        _cleanup_(freep) char *id = NULL, *rest = NULL;
        va_list arguments;
        int r = text_percent_encode(task_id, UNRESERVED, &id);
        if (r < 0)
                return r;
        va_start(arguments, format);
        r = text_vformat(&rest, format, arguments);
        va_end(arguments);
        if (r < 0)
                return r;
        char *path;
        if (text_format(&path, "/api/v1/task/%s%s", id, rest) < 0)
                return -ENOMEM;
        *ret = path;
        return 0;
}

int path_add_query(char **path, const char *key, const char *value) {
        _cleanup_(freep) char *encoded = NULL;
        char *longer;
        int r = text_percent_encode(value, UNRESERVED, &encoded);
        if (r < 0)
                return r;
        if (text_format(&longer, "%s%c%s=%s", *path, strchr(*path, '?') ? '&' : '?', key, encoded) < 0)
                return -ENOMEM;
        free(*path);
        *path = longer;
        return 0;
}
