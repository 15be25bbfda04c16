/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One stream of a task: the pipe it writes to, read as fast as it comes, a bounded piece a turn. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "core/upgrade/runner-state.h"
#include "io/output-store.h"

typedef struct Capture Capture;

/* Told of every piece after it was stored, and with SIZE 0 of the end. */
typedef void (*CaptureHandler)(Capture *capture, const char *bytes, size_t size, void *userdata);

/* Makes the pipe; *RET_WRITE_FD is the task's end and the caller's to close. */
int capture_new(sd_event *event,
                const char *directory,
                uint64_t bytes_max,
                CaptureHandler handler,
                void *userdata,
                Capture **ret,
                int *ret_write_fd);
/* Starts to read; until then the pipe fills. */
int capture_start(Capture *capture);

/* What is to be known of it for capture_restore() in another process; the bytes stay CAPTURE's. */
SavedCapture capture_save(const Capture *capture);

/* The stream that was saved as SAVED: with its descriptors, which are taken over in case of success, and read
 * if it was read then. -ENOMEM, or what sd-event says. */
int capture_restore(
                sd_event *event,
                const char *directory,
                const SavedCapture *saved,
                CaptureHandler handler,
                void *userdata,
                Capture **ret);

Capture *capture_free(Capture *capture);
DEFINE_POINTER_CLEANUP(Capture, capture_free)

/* Reads what is in the pipe now and closes it, whoever may still hold its other end: no process of the task
 * is left to write. The handler is called as always. */
void capture_finish(Capture *capture);

const OutputStore *capture_store(const Capture *capture);
