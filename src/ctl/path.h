/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Paths and queries of the API, out of what people typed. */
#pragma once

/* "/api/v1/task/ID" and what FORMAT makes, ID percent-encoded. -ENOMEM. The caller frees *ret. */
int path_format(char **ret, const char *task_id, const char *format, ...)
                __attribute__((format(printf, 3, 4)));

/* Appends "?KEY=VALUE", or "&…" when there is a query already, VALUE percent-encoded. -ENOMEM. */
int path_add_query(char **path, const char *key, const char *value);
