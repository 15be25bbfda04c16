/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the journal says of leases: who was granted one, and how it ended. Renewals are not told. */
#pragma once

typedef struct Runner Runner;

/* Tells what has changed since the last call. */
void lease_journal_update(Runner *runner);
