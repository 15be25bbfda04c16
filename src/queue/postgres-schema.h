/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The tables in the database that the members of a queue share, and how they came to be, step by step. */
#pragma once

#include <stddef.h>

/* SQL that makes the tables, or brings them up to date, one member at a time; for PostgresOptions.setup of a
 * session, as statements can only be prepared with the tables there. The connection is refused with -ENOTSUP
 * when they are more than one step ahead of this version: members of two versions that follow one another
 * work side by side, so that each can be replaced while the others serve. The caller frees *RET. -ENOMEM. */
int postgres_schema_setup(char **ret);

/* The same without changing anything: whether the tables are there, or could be made. */
int postgres_schema_check(char **ret);

/* For tests: postgres_schema_setup() with only the first N_STEPS steps. */
int postgres_schema_setup_steps(size_t n_steps, char **ret);
