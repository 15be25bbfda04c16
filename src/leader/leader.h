/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a process does that the spawner has forked: lead one task. */
#pragma once

/* Runs with the descriptors of core/wire/leader-protocol.h in place. Does not return. */
_Noreturn void leader_main(void);
