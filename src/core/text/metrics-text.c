/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/text/metrics-text.h"

int metrics_text_head(Text *text, const char *name, const char *type, const char *help) {
        return text_appendf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

int metrics_text_single(Text *text, const char *name, const char *type, const char *help, double value) {
        int r = metrics_text_head(text, name, type, help);
        return r < 0 ? r : text_appendf(text, "%s %.17g\n", name, value);
}
