/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "queue/config-load.h"

#include "base/text.h"
#include "service/config-file.h"

int queue_config_load(const char *path, QueueConfig **ret) {
        _cleanup_(text_done) Text text = {};
        bool token_given;
        int r = config_file_read(PROGRAM_NAME, path, &text, &token_given);
        if (r < 0)
                return r;
        Problem problem = {};
        r = queue_config_parse(text.data ?: "", text.size, token_given, ret, &problem);
        if (r < 0)
                config_file_log_problem(path, &problem);
        return r;
}
