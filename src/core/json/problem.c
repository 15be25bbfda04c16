/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/json/problem.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/json/json.h"

static const struct {
        int status;
        int error;
        const char *title;
} statuses[] = {
        { 400, EINVAL, "Bad Request" },
        { 401, EACCES, "Unauthorized" },
        { 403, EACCES, "Forbidden" },
        { 404, ENOENT, "Not Found" },
        { 405, EOPNOTSUPP, "Method Not Allowed" },
        { 406, EIO, "Not Acceptable" },
        { 408, EIO, "Request Timeout" },
        { 409, EEXIST, "Conflict" },
        { 410, EIO, "Gone" },
        { 411, EIO, "Length Required" },
        { 412, EIO, "Precondition Failed" },
        { 413, EFBIG, "Content Too Large" },
        { 414, EIO, "URI Too Long" },
        { 415, EPROTONOSUPPORT, "Unsupported Media Type" },
        { 417, EIO, "Expectation Failed" },
        { 421, EREMOTE, "Misdirected Request" },
        { 422, ERANGE, "Unprocessable Content" },
        { 423, EBUSY, "Locked" },
        { 429, EDQUOT, "Too Many Requests" },
        { 431, EIO, "Request Header Fields Too Large" },
        { 500, EIO, "Internal Server Error" },
        { 501, EIO, "Not Implemented" },
        { 502, EIO, "Bad Gateway" },
        { 503, EAGAIN, "Service Unavailable" },
        { 504, EIO, "Gateway Timeout" },
};

static int status_to_errno(int status) {
        for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
                if (statuses[i].status == status)
                        return -statuses[i].error;
        return -EIO;
}

const char *problem_title(int status) {
        for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
                if (statuses[i].status == status)
                        return statuses[i].title;
        return "Error";
}

int problem_set(Problem *problem, int status, const char *field, const char *format, ...) {
        /* Room for one byte more than is kept shows where the cut would be. */
        char detail[PROBLEM_DETAIL_SIZE + 1] = "";
        Problem filled = { .status = status };
        va_list arguments;

        assert(problem);

        /* The arguments may point into *problem: it is written to only after they were read. */
        va_start(arguments, format);
        (void) vsnprintf(detail, sizeof(detail), format, arguments);
        va_end(arguments);
        memcpy(filled.detail, detail, text_cut(detail, PROBLEM_DETAIL_SIZE - 1));
        if (field)
                memcpy(filled.field, field, text_cut(field, PROBLEM_FIELD_SIZE - 1));

        *problem = filled;
        return status_to_errno(status);
}

int problem_set_for_now(Problem *problem, int status, unsigned retry_after_sec, const char *detail) {
        int r = problem_set(problem, status, NULL, "%s", detail);
        problem->retry_after_sec = retry_after_sec;
        return r;
}

int problem_from_errno(Problem *problem, int error) {
        error = abs(error);

        if (error == ENOMEM)
                (void) problem_set(problem, 503, NULL, "out of memory, try again");
        else
                (void) problem_set(
                                problem,
                                503,
                                NULL,
                                "failed (%s), try again",
                                strerrordesc_np(error) ?: "unknown error");
        problem->retry_after_sec = 1;

        return -error;
}

static int add_members(json_object *object, json_object *extra) {
        if (!extra)
                return 0;
        json_object_object_foreach(extra, key, value) {
                int r = value ? json_add(object, key, json_object_get(value)) : json_add_null(object, key);
                if (r < 0)
                        return r;
        }
        return 0;
}

int problem_to_json(const Problem *problem, json_object *extra, json_object **ret) {
        _cleanup_(json_putp) json_object *owned = extra;
        _cleanup_(json_putp) json_object *object = NULL;

        object = json_object_new_object();
        if (!object)
                return -ENOMEM;

        int r = json_add_string(object, "type", "about:blank");
        if (r < 0)
                return r;
        r = json_add_string(object, "title", problem_title(problem->status));
        if (r < 0)
                return r;
        r = json_add_i64(object, "status", problem->status);
        if (r < 0)
                return r;
        r = json_add_string(object, "detail", problem->detail);
        if (r < 0)
                return r;
        if (problem->field[0]) {
                r = json_add_string(object, "field", problem->field);
                if (r < 0)
                        return r;
        }
        r = add_members(object, owned);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(object);
        return 0;
}
