/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The page for people, /ui/: its files, and how a browser that has no token gets to read. What the page shows
 * it asks for by the same requests as any client. */
#pragma once

#include "service/router.h"

/* Their userdata is the Access. */
extern const Endpoint page_endpoints[];
