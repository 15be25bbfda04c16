/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The unit whose end ends all tasks: the service that systemd started daggyr as, or a scope that daggyr puts
 * itself into when it was started from a shell. */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"
#include "io/systemd1.h"

typedef struct OwnUnit OwnUnit;

typedef void (*OwnUnitHandler)(int error, const char *message, void *userdata);

/* Finds or makes the unit; HANDLER is called once, with 0 when own_unit_name() is known. For as long as
 * systemd does not answer it is asked again. */
int own_unit_find(sd_event *event, Systemd1 *systemd1, OwnUnitHandler handler, void *userdata, OwnUnit **ret);
/* The unit that an earlier program found or made, which this process has taken the place of. -ENOMEM. */
int own_unit_restore(sd_event *event, Systemd1 *systemd1, const char *name, bool is_service, OwnUnit **ret);

OwnUnit *own_unit_free(OwnUnit *own_unit);
DEFINE_POINTER_CLEANUP(OwnUnit, own_unit_free)

const char *own_unit_name(const OwnUnit *own_unit);

/* Whether the unit was there before daggyr, and so may hold scopes of an earlier run. */
bool own_unit_is_service(const OwnUnit *own_unit);

typedef struct OwnUnitQuestion OwnUnitQuestion;

typedef void (*OwnUnitStoppingHandler)(bool is_stopping, void *userdata);

/* Asks whether systemd is stopping the unit, or about to; -ENOTCONN when it cannot be asked, as for an
 * OWN_UNIT of NULL. HANDLER is called once, in a later turn of the loop, with false too when no answer came;
 * not after own_unit_question_free(), which the caller owes RET in every case. */
int own_unit_ask_stopping(
                OwnUnit *own_unit,
                OwnUnitStoppingHandler handler,
                void *userdata,
                OwnUnitQuestion **ret);

/* Whether the handler of QUESTION, which may be NULL, is still to be called. */
bool own_unit_question_is_open(const OwnUnitQuestion *question);

OwnUnitQuestion *own_unit_question_free(OwnUnitQuestion *question);
DEFINE_POINTER_CLEANUP(OwnUnitQuestion, own_unit_question_free)
