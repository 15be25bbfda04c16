/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a worker is called by all who speak of it. */
#pragma once

#define WORKER_ID_MAX 255 /* bytes of an id */
