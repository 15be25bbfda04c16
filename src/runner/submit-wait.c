/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "runner/submit-wait.h"

#include "base/text.h"
#include "core/json/json.h"
#include "runner/runner.h"
#include "runner/task-order.h"

typedef struct SubmitWait {
        Runner *runner;
        HttpRequest *request;
        json_object *body;
        SubmitProceed proceed;
        AccountsWait *wait;
} SubmitWait;

static void submit_wait_free(SubmitWait *wait) {
        accounts_wait_free(wait->wait);
        json_object_put(wait->body);
        free(wait);
}

/* Whatever else may be wrong with the specification is found later. */
static const char *account_name_in(const Runner *runner, json_object *spec, const char *user_key) {
        json_object *user = NULL;
        if (user_key && json_object_is_type(spec, json_type_object))
                (void) json_object_object_get_ex(spec, user_key, &user);
        return task_account_name(
                        runner,
                        json_object_is_type(user, json_type_string) ? json_object_get_string(user) : NULL);
}

/* Without a name, or with one that is there already, nothing is added. */
static void names_add(const char **names, size_t *n, const char *name) {
        for (size_t i = 0; name && i < *n; i++)
                if (streq(names[i], name))
                        return;
        if (name)
                names[(*n)++] = name;
}

/* Each name once; they stay the configuration's. -ENOMEM. */
static int collect_names(
                const Runner *runner,
                json_object *body,
                const char *user_key,
                const char ***ret,
                size_t *ret_n) {
        const char **names = calloc(text_list_count(runner->config->allowed_users) + 1, sizeof(*names));
        if (!names)
                return -ENOMEM;
        size_t n = 0;
        if (json_object_is_type(body, json_type_array))
                for (size_t i = 0; i < json_object_array_length(body); i++)
                        names_add(names,
                                  &n,
                                  account_name_in(runner, json_object_array_get_idx(body, i), user_key));
        else
                names_add(names, &n, account_name_in(runner, body, user_key));
        *ret = names;
        *ret_n = n;
        return 0;
}

static void on_known(void *userdata) {
        SubmitWait *wait = userdata;
        wait->wait = NULL;
        http_request_on_hangup(wait->request, NULL, NULL);
        wait->proceed(wait->runner, wait->request, wait->body);
        submit_wait_free(wait);
}

static void on_shutdown(void *userdata) {
        SubmitWait *wait = userdata;
        wait->wait = NULL;
        submit_wait_free(wait);
}

static void on_hangup(HttpRequest *request, void *userdata) {
        submit_wait_free(userdata);
}

void submit_when_accounts_are_known(
                Runner *runner,
                HttpRequest *request,
                json_object *body,
                const char *user_key,
                SubmitProceed proceed) {
        _cleanup_(json_putp) json_object *owned = body;
        _cleanup_(freep) const char **names = NULL;
        size_t n = 0;
        SubmitWait *wait = calloc(1, sizeof(*wait));
        int r = wait ? collect_names(runner, body, user_key, &names, &n) : -ENOMEM;
        if (r >= 0) {
                *wait = (SubmitWait) { .runner = runner, .request = request, .proceed = proceed };
                r = task_accounts_wait(runner->accounts, names, n, on_known, on_shutdown, wait, &wait->wait);
        }
        if (r >= 0) {
                wait->body = TAKE_PTR(owned);
                http_request_on_hangup(request, on_hangup, wait);
                return;
        }
        free(wait);
        if (r == -EALREADY)
                proceed(runner, request, body);
        else
                http_request_answer_json(request, 503, NULL);
}
