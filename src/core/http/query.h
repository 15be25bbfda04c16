/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The query of a request: names and values, decoded. */
#pragma once

#include <stddef.h>

#include "core/json/problem.h"

/* One "name=value" of a query string; both percent-decoded ("+" is a space). */
typedef struct QueryItem {
        char *name;
        char *value;
} QueryItem;

typedef struct Query {
        QueryItem *items;
        size_t n_items;
} Query;

#define QUERY_ITEMS_MAX 32

void query_done(Query *query);

/* Parses TEXT, what follows "?" or "". An item without a value ("a=1&b=&c") counts as
 * absent, so every value has at least one byte. 400 for malformed escapes or too many items. Which names are
 * known, and whether one may stand twice, is for the reader of each route: */
int query_parse(const char *text, Query *ret, Problem *reterr_problem);

/* The value of the first item called NAME, or NULL. */
const char *query_get(const Query *query, const char *name);

/* 400 unless every item is one of NAMES (a NULL-terminated list) and none but those of REPEATABLE (may be
 * NULL) stands twice. */
int query_check(const Query *query,
                const char *const *names,
                const char *const *repeatable,
                Problem *reterr_problem);
