/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The unit whose end ends all tasks: the service that systemd started daggyr as, or a scope that daggyr puts
 * itself into when it was started from a shell. */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"
#include "io/systemd1.h"

typedef struct OwnUnit OwnUnit;

typedef void (*OwnUnitHandler)(int error, const char *message, void *userdata);

/* Finds or makes the unit; HANDLER is called once, with 0 when own_unit_name() is known. */
int own_unit_find(Systemd1 *systemd1, OwnUnitHandler handler, void *userdata, OwnUnit **ret);
OwnUnit *own_unit_free(OwnUnit *own_unit);
DEFINE_POINTER_CLEANUP(OwnUnit, own_unit_free)

const char *own_unit_name(const OwnUnit *own_unit);

/* Whether the unit was there before daggyr, and so may hold scopes of an earlier run. */
bool own_unit_is_service(const OwnUnit *own_unit);
