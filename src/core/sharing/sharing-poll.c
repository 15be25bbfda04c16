/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "core/sharing/sharing-poll.h"

/* Takes over SET. Returns whether it is another than before. */
static bool permit(SharingPoll *poll, WorkerSet *set) {
        bool changed = !worker_set_equal(poll->permitted, set);
        worker_set_unref(poll->permitted);
        poll->permitted = set;
        return changed;
}

int sharing_poll_init(
                SharingPoll *poll,
                WorkerSet *configured,
                bool enabled,
                usec_t interval_usec,
                usec_t now_usec) {
        poll->configured = worker_set_ref(configured);
        poll->interval_usec = interval_usec;
        poll->is_enabled = enabled;
        poll->is_told = !enabled;
        poll->next_usec = enabled ? now_usec : USEC_INFINITY;
        if (enabled)
                return worker_set_new(NULL, 0, &poll->permitted);
        poll->permitted = worker_set_ref(configured);
        return 0;
}

void sharing_poll_done(SharingPoll *poll) {
        worker_set_unref(poll->configured);
        worker_set_unref(poll->permitted);
        *poll = (SharingPoll) {};
}

unsigned sharing_poll_start(SharingPoll *poll, usec_t now_usec) {
        if (!poll->is_enabled || poll->question != 0 || now_usec < poll->next_usec)
                return 0;
        poll->next_usec = USEC_INFINITY;
        poll->asked_usec = now_usec;
        poll->question = ++poll->n_questions;
        if (poll->question == 0) /* 2^32 questions later */
                poll->question = ++poll->n_questions;
        return poll->question;
}

int sharing_poll_finish(SharingPoll *poll, unsigned question, const WorkerSet *share, usec_t now_usec) {
        if (question == 0 || question != poll->question)
                return 0;
        poll->question = 0;
        poll->next_usec = usec_add(poll->asked_usec, poll->interval_usec);
        if (poll->next_usec < now_usec || poll->is_outdated)
                poll->next_usec = now_usec;
        poll->is_outdated = false;

        WorkerSet *permitted;
        if (!share)
                return 0;
        int r = worker_set_intersect(poll->configured, share, &permitted);
        if (r < 0)
                return r;
        bool is_first = !poll->is_told;
        poll->is_told = true;
        return permit(poll, permitted) || is_first;
}

void sharing_poll_hurry(SharingPoll *poll, usec_t now_usec) {
        if (poll->is_enabled && poll->question == 0)
                poll->next_usec = now_usec;
}

/* Without memory for it, what it may use stays for now: the next answer sets it right. */
int sharing_poll_configure(SharingPoll *poll, WorkerSet *configured, usec_t now_usec) {
        WorkerSet *permitted = NULL;
        worker_set_unref(poll->configured);
        poll->configured = worker_set_ref(configured);
        poll->is_outdated = poll->question != 0;
        sharing_poll_hurry(poll, now_usec);
        if (!poll->is_enabled)
                permitted = worker_set_ref(configured);
        else if (worker_set_intersect(poll->permitted, configured, &permitted) < 0)
                return 0;
        return permit(poll, permitted);
}

int sharing_poll_toggle(SharingPoll *poll, bool enabled, usec_t now_usec) {
        if (enabled == poll->is_enabled)
                return 0;
        poll->is_enabled = enabled;
        poll->question = 0;
        poll->next_usec = enabled ? now_usec : USEC_INFINITY;
        if (enabled)
                return 0;
        poll->is_told = true;
        return permit(poll, worker_set_ref(poll->configured));
}
