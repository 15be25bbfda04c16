/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "service/waiters.h"

#include <assert.h>
#include <stdlib.h>
#include <utlist.h>

#include "io/loop.h"

struct Waiter {
        Waiters *waiters; /* weak: they own it */
        Waiter *previous, *next;
        HttpRequest *request;
        int status;
        unsigned form;
        sd_event_source *timeout_source;
};

static void waiter_free(Waiter *waiter) {
        DL_DELETE2(waiter->waiters->first, waiter, previous, next);
        event_source_dropp(&waiter->timeout_source);
        free(waiter);
}

static void waiter_answer(Waiter *waiter) {
        const Waiters *waiters = waiter->waiters;
        HttpRequest *request = waiter->request;
        unsigned form = waiter->form;
        int status = waiter->status;
        if (waiters->answer) {
                waiter_free(waiter);
                http_request_on_hangup(request, NULL, NULL);
                waiters->answer(waiters->subject, request, status, form);
                return;
        }
        json_object *description = waiters->describe(waiters->subject, form);
        waiter_free(waiter);
        http_request_answer_json(request, status, description);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
        waiter_answer(userdata);
        return 0;
}

static void on_hangup(HttpRequest *request, void *userdata) {
        waiter_free(userdata);
}

void waiters_add(Waiters *waiters, HttpRequest *request, int status, unsigned form, usec_t timeout_usec) {
        assert(form < WAITERS_FORMS_MAX);
        Waiter *waiter = calloc(1, sizeof(*waiter));
        if (!waiter) {
                http_request_answer_json(request, status, NULL);
                return;
        }
        *waiter = (Waiter) {
                .waiters = waiters,
                .request = request,
                .status = status,
                .form = form,
        };
        DL_PREPEND2(waiters->first, waiter, previous, next);

        if (timeout_usec == 0 ||
            loop_set_timer(waiters->event,
                           &waiter->timeout_source,
                           usec_add(usec_now(CLOCK_BOOTTIME), timeout_usec),
                           on_timeout,
                           waiter,
                           "wait") < 0) {
                waiter_answer(waiter);
                return;
        }
        http_request_on_hangup(request, on_hangup, waiter);
}

static HttpAnswer *answer_in_form(const Waiters *waiters, unsigned form) {
        HttpAnswer *answer = NULL;
        (void) http_answer_new_json(waiters->server, waiters->describe(waiters->subject, form), &answer);
        return answer;
}

void waiters_answer_all(Waiters *waiters) {
        HttpAnswer *answers[WAITERS_FORMS_MAX] = {};
        while (waiters->answer && waiters->first)
                waiter_answer(waiters->first);
        while (waiters->first) {
                Waiter *waiter = waiters->first;
                HttpRequest *request = waiter->request;
                HttpAnswer **answer = &answers[waiter->form];
                int status = waiter->status;
                if (!*answer)
                        *answer = answer_in_form(waiters, waiter->form);
                waiter_free(waiter);
                if (*answer)
                        http_request_answer_shared(request, status, *answer);
                else
                        http_request_answer_json(request, status, NULL);
        }
        for (unsigned form = 0; form < WAITERS_FORMS_MAX; form++)
                http_answer_unref(answers[form]);
}

void waiters_drop(Waiters *waiters) {
        while (waiters->first)
                waiter_free(waiters->first);
}
