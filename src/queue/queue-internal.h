/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the sources of the queue share. queue.c: start, run, reload, stop; queue-member.c: how it comes to
 * lead where there are several members, and ends to; queue-lead.c: what it takes to lead; queue-store.c: what
 * is kept of it; queue-delivery.c: what the delivery tells; queue-listen.c: where it listens, and is known.
 */
#pragma once

#include "queue/queue.h"

/* queue-lead.c. With the store open: sets up what decides and carries out, and begins to read what is stored;
 * and, once that is there, asks for workers and serves clients. A negative errno, logged. */
int queue_take_up(Queue *queue);
int queue_begin_leading(Queue *queue);

/* queue-store.c: opens the store in a local file; begins to read, after which queue_loaded() is called; has
 * the store forget what is old from now on; and keeps whether the queue drains. Negative errno, for the first
 * logged. */
int queue_open_file(Queue *queue);
int queue_load(Queue *queue);
void queue_start_pruning(Queue *queue);
int queue_store_draining(Queue *queue, bool draining, StoreDone done, void *userdata);

/* queue-member.c: becomes one of several members; a negative errno, logged. Whether this process may act for
 * the queue now: if it may not any more, the program begins anew. What to do with a request. Hands over, and
 * ends. */
int queue_join_members(Queue *queue);
bool queue_may_lead(Queue *queue);
bool queue_divert(void *userdata, HttpRequest *request, const RequestContext *context);
bool queue_vouched(const char *secret, void *userdata);
void queue_hand_over(Queue *queue);

/* Ends the loop when all requests are answered, or when WITHIN_USEC are over. */
void queue_end(Queue *queue, usec_t within_usec);

/* Of a member: all that is stored is read (R: 1), or could not be. */
void queue_loaded(Queue *queue, int r);

/* queue-delivery.c; its userdata is the Queue. */
extern const DeliveryListener queue_delivery_listener;

/* queue-listen.c: listens, and finds the address out. A negative errno, logged. */
int queue_listen(Queue *queue);

/* Whether the worker at URL can tell this Queue, USERDATA, from others by its address. */
bool queue_address_suits(const char *url, const void *userdata);
