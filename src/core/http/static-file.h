/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Files that are part of the program, and what HTTP says of them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct StaticFile {
        const char *name; /* "style.css" */
        const char *tag;  /* the entity tag, quotes included: another one for other content */
        const void *bytes;
        size_t size;
} StaticFile;

/* The one called NAME in FILES, the last of which has no name; NULL when there is none. */
const StaticFile *static_file_find(const StaticFile *files, const char *name);

/* The media type by the ending of NAME. */
const char *static_file_type(const char *name);

/* Whether IF_NONE_MATCH, that header's value or NULL, has TAG in its list, weak or not, or is "*". What is
 * malformed in it matches nothing. */
bool static_file_is_known(const char *if_none_match, const char *tag);
