/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The files of the page in this folder, compiled in (embed.sh). */
#pragma once

#include "core/http/static-file.h"

/* The last one has no name. */
extern const StaticFile ui_files[];
