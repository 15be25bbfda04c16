/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "io/random-id.h"

#include <errno.h>
#include <stdlib.h>
#include <systemd/sd-id128.h>

int random_id_new(char **ret) {
        sd_id128_t id;
        int r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        char *text = malloc(SD_ID128_STRING_MAX);
        if (!text)
                return -ENOMEM;
        *ret = sd_id128_to_string(id, text);
        return 0;
}
