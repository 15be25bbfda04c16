/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* logind's word that the host is about to go down, and the short delay it grants to those who ask for one. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"

typedef struct Login1 Login1;

/* GOING_DOWN is false when a shutdown was called off. */
typedef void (*Login1Handler)(bool going_down, void *userdata);

/* Watches, for as long as there is a system bus and a logind; neither is required. */
int login1_new(sd_event *event, Login1Handler handler, void *userdata, Login1 **ret);
Login1 *login1_free(Login1 *login1);
DEFINE_POINTER_CLEANUP(Login1, login1_free)

/* Lets the shutdown go on: nothing is left that wants the delay. */
void login1_release_delay(Login1 *login1);
