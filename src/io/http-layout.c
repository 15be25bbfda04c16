/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* libmicrohttpd before 0.9.77 takes line feeds without returns, lines that go on in the next, blanks where
 * none belong and everything behind a NUL, and tells nobody; others read such a header differently. Its
 * parser cuts the header into strings where it lies, and so shows what it stumbled over: in a proper header
 * each string begins just where the one before must have ended, and nothing is left over. Only addresses are
 * compared here, so nothing is read that was not received. */

#include <string.h>

#include "io/http-internal.h"

#define LENIENT_BEFORE "0.9.77"

bool http_library_is_lenient(void) {
        return strverscmp(MHD_get_version(), LENIENT_BEFORE) < 0;
}

typedef struct Layout {
        Framing framing;
        const char *at; /* where the next field has to begin */
        bool contiguous;
} Layout;

/* "name: value", cut at the colon and at the end. */
static bool field_is_whole(const char *name, size_t name_size, const char *value) {
        if ((uintptr_t) value <= (uintptr_t) (name + name_size))
                return false;
        for (const char *c = name + name_size + 1; c < value; c++)
                if (*c != ' ' && *c != '\t')
                        return false;
        return true;
}

static enum MHD_Result on_field(
                void *userdata,
                enum MHD_ValueKind kind,
                const char *name,
                size_t name_size,
                const char *value,
                size_t value_size) {
        Layout *layout = userdata;
        framing_add(&layout->framing, name, name_size, value ?: "", value ? value_size : 0);
        layout->contiguous &= name == layout->at && value;
        if (layout->contiguous)
                layout->contiguous = field_is_whole(name, name_size, value);
        if (layout->contiguous)
                layout->at = value + value_size + strlen("\r\n");
        return MHD_YES;
}

static bool header_ends_at(const HttpRequest *request, const char *begin, const char *end) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(
                        request->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
        return info && begin + info->header_size == end;
}

int http_check_layout(
                const HttpRequest *request,
                const char *url,
                const char *method,
                const char *version,
                Problem *reterr_problem) {
        Layout layout = {
                .at = version + strlen(version) + strlen("\r\n"),
                .contiguous = url == method + strlen(method) + strlen(" ") &&
                                version == url + request->target_size + strlen(" "),
        };
        (void) MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, on_field, &layout);
        int r = framing_check(&layout.framing, streq(version, MHD_HTTP_VERSION_1_0), reterr_problem);
        if (r < 0 || !http_library_is_lenient())
                return r;
        if (layout.contiguous && header_ends_at(request, method, layout.at + strlen("\r\n")))
                return 0;
        return problem_set(reterr_problem, 400, NULL, "the header's lines are malformed");
}
