/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Names for what nobody named. */
#pragma once

/* 32 random hex digits. Negative errno; the caller frees *ret. */
int random_id_new(char **ret);
