/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/task-accounts.h"

#include <string.h>
#include <utlist.h>

#include "base/text.h"
#include "base/usec.h"
#include "io/account-lookup.h"

/* Less than a queue waits for the answer to a submission (10 s). */
#define LOOKUP_USEC (8 * USEC_PER_SEC)

/* How long an answer is good. One that there is no such account is soon asked for again: somebody may be
 * about to make it. So is a name service that did not answer. */
#define KNOWN_USEC   (5 * USEC_PER_SEC)
#define UNKNOWN_USEC (500 * USEC_PER_MSEC)

typedef struct Entry {
        TaskAccounts *accounts; /* weak */
        struct Entry *next;
        char *name;
        int error; /* of the last lookup: 0, or a negative errno */
        Account account;
        usec_t known_usec; /* when that was; CLOCK_BOOTTIME */
        AccountLookup *lookup;
} Entry;

struct TaskAccounts {
        sd_event *event;
        const char *executable;
        AccountsHandler on_news;
        void *userdata;
        Entry *entries;
        AccountsWait *waits;
};

struct AccountsWait {
        TaskAccounts *accounts; /* weak */
        AccountsWait *previous, *next;
        AccountsHandler handler, release;
        void *userdata;
        size_t n;
        Entry *entries[]; /* weak */
};

int task_accounts_new(
                sd_event *event,
                const char *executable,
                AccountsHandler on_news,
                void *userdata,
                TaskAccounts **ret) {
        TaskAccounts *accounts = calloc(1, sizeof(*accounts));
        if (!accounts)
                return -ENOMEM;
        *accounts = (TaskAccounts) {
                .event = sd_event_ref(event),
                .executable = executable,
                .on_news = on_news,
                .userdata = userdata,
        };
        *ret = accounts;
        return 0;
}

static Entry *entry_free(Entry *entry) {
        account_lookup_free(entry->lookup);
        account_done(&entry->account);
        free(entry->name);
        free(entry);
        return NULL;
}

TaskAccounts *task_accounts_free(TaskAccounts *accounts) {
        if (!accounts)
                return NULL;
        while (accounts->waits) {
                AccountsHandler release = accounts->waits->release;
                void *userdata = accounts->waits->userdata;
                accounts_wait_free(accounts->waits);
                if (release)
                        release(userdata);
        }
        while (accounts->entries) {
                Entry *entry = accounts->entries;
                accounts->entries = entry->next;
                entry_free(entry);
        }
        sd_event_unref(accounts->event);
        free(accounts);
        return NULL;
}

static Entry *find_entry(const TaskAccounts *accounts, const char *name) {
        Entry *entry = accounts->entries;
        while (entry && !streq(entry->name, name))
                entry = entry->next;
        return entry;
}

/* NULL when out of memory. */
static Entry *make_entry(TaskAccounts *accounts, const char *name) {
        Entry *entry = find_entry(accounts, name);
        if (entry)
                return entry;
        entry = calloc(1, sizeof(*entry));
        if (!entry)
                return NULL;
        *entry = (Entry) { .accounts = accounts, .next = accounts->entries, .error = -EINPROGRESS };
        entry->name = strdup(name);
        if (!entry->name) {
                free(entry);
                return NULL;
        }
        accounts->entries = entry;
        return entry;
}

static bool entry_is_fresh(const Entry *entry) {
        usec_t good_usec = entry->error == 0 ? KNOWN_USEC : UNKNOWN_USEC;
        return entry->error != -EINPROGRESS &&
                        usec_now(CLOCK_BOOTTIME) < usec_add(entry->known_usec, good_usec);
}

static bool wait_is_over(const AccountsWait *wait) {
        for (size_t i = 0; i < wait->n; i++)
                if (wait->entries[i]->lookup)
                        return false;
        return true;
}

/* A handler may end other waits, or begin some: so the search starts anew after each. */
static void end_waits(TaskAccounts *accounts) {
        for (AccountsWait *wait = accounts->waits; wait;) {
                if (!wait_is_over(wait)) {
                        wait = wait->next;
                        continue;
                }
                AccountsHandler handler = wait->handler;
                void *userdata = wait->userdata;
                accounts_wait_free(wait);
                handler(userdata);
                wait = accounts->waits;
        }
}

static void entry_set(Entry *entry, int error, Account *account) {
        account_done(&entry->account);
        entry->error = error;
        if (error == 0) {
                entry->account = *account;
                *account = (Account) {};
        }
        entry->known_usec = usec_now(CLOCK_BOOTTIME);
}

static void on_looked_up(int error, Account *account, void *userdata) {
        Entry *entry = userdata;
        TaskAccounts *accounts = entry->accounts;
        entry->lookup = NULL;
        entry_set(entry, error, account);
        end_waits(accounts);
        accounts->on_news(accounts->userdata);
}

static void entry_look_up(Entry *entry) {
        int r = account_lookup_start(
                        entry->accounts->event,
                        entry->accounts->executable,
                        entry->name,
                        LOOKUP_USEC,
                        on_looked_up,
                        entry,
                        &entry->lookup);
        if (r < 0)
                entry_set(entry, r, NULL);
}

static bool entry_refresh(Entry *entry) {
        if (entry_is_fresh(entry))
                return true;
        if (!entry->lookup)
                entry_look_up(entry);
        return false;
}

bool task_accounts_is_fresh(TaskAccounts *accounts, const char *name) {
        Entry *entry = make_entry(accounts, name);
        return entry && entry_refresh(entry);
}

int task_accounts_get(const TaskAccounts *accounts, const char *name, Account *ret) {
        const Entry *entry = find_entry(accounts, name);
        if (!entry)
                return -EINPROGRESS;
        return entry->error < 0 ? entry->error : account_copy(&entry->account, ret);
}

int task_accounts_wait(
                TaskAccounts *accounts,
                const char *const *names,
                size_t n,
                AccountsHandler handler,
                AccountsHandler release,
                void *userdata,
                AccountsWait **ret) {
        AccountsWait *wait = calloc(1, sizeof(*wait) + n * sizeof(Entry *));
        if (!wait)
                return -ENOMEM;
        *wait = (AccountsWait) {
                .accounts = accounts,
                .handler = handler,
                .release = release,
                .userdata = userdata,
        };
        for (; wait->n < n; wait->n++) {
                wait->entries[wait->n] = make_entry(accounts, names[wait->n]);
                if (!wait->entries[wait->n]) {
                        free(wait);
                        return -ENOMEM;
                }
                (void) entry_refresh(wait->entries[wait->n]);
        }
        if (wait_is_over(wait)) { /* known, or not even to be asked for now */
                free(wait);
                return -EALREADY;
        }
        DL_PREPEND2(accounts->waits, wait, previous, next);
        *ret = wait;
        return 0;
}

AccountsWait *accounts_wait_free(AccountsWait *wait) {
        if (!wait)
                return NULL;
        DL_DELETE2(wait->accounts->waits, wait, previous, next);
        free(wait);
        return NULL;
}

void task_accounts_stop(TaskAccounts *accounts) {
        for (Entry *entry = accounts->entries; entry; entry = entry->next)
                entry->lookup = account_lookup_free(entry->lookup);
}
