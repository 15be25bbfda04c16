/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the sources of the queue share. queue.c: start, run, reload, stop; queue-store.c: what is kept of it;
 * queue-delivery.c: what the delivery tells; queue-listen.c: where it listens, and is known. */
#pragma once

#include "queue/queue.h"

/* queue-store.c: opens the store; takes up what an earlier run left, for which it runs the loop; has the
 * store forget what is old from now on; and keeps whether the queue drains. Negative errno, for the first two
 * logged.
 */
int queue_open_store(Queue *queue);
int queue_restore(Queue *queue);
void queue_start_pruning(Queue *queue);
int queue_store_draining(Queue *queue, bool draining, StoreDone done, void *userdata);

/* queue-delivery.c; its userdata is the Queue. */
extern const DeliveryListener queue_delivery_listener;

/* queue-listen.c: listens, and finds the address out. A negative errno, logged. */
int queue_listen(Queue *queue);

/* Whether the worker at URL can tell this Queue, USERDATA, from others by its address. */
bool queue_address_suits(const char *url, const void *userdata);
