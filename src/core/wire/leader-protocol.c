/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The order of execution as one block of bytes, and back. Sending it is for others. The block is a head of
 * fixed size, then the strings one after another, each with its NUL: unit, directory, command, environment,
 * devices. */
#include "core/wire/leader-protocol.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

#define ORDER_MAGIC       UINT64_C(0x3130525947474144) /* "DAGGYR01" where the low byte comes first */
#define ORDER_COUNT_MAX   65536
#define ORDER_UMASK_VALID 0777U

/* No padding: what is written is what was set. */
typedef struct OrderHead {
        uint64_t magic;
        uint64_t size; /* of the whole block */
        uint64_t grace_usec;
        uint32_t uid, gid;
        uint32_t umask;
        uint32_t no_new_privileges;
        uint32_t directory_optional;
        uint32_t n_command;
        uint32_t n_environment;
        uint32_t n_devices;
} OrderHead;
static_assert(sizeof(OrderHead) == 56, "the head has no padding");

static const char *const step_texts[] = {
        [LEADER_STEP_SCOPE] = "join the scope",
        [LEADER_STEP_DEVICE] = "find a device",
        [LEADER_STEP_FORK] = "create the process",
        [LEADER_STEP_GROUPS] = "set the groups",
        [LEADER_STEP_USER] = "change to the account",
        [LEADER_STEP_PRIVILEGES] = "drop privileges",
        [LEADER_STEP_DIRECTORY] = "change to the working directory",
        [LEADER_STEP_STDIO] = "set up standard input and output",
        [LEADER_STEP_EXEC] = "execute the command",
};
static_assert(sizeof(step_texts) / sizeof(step_texts[0]) == _LEADER_STEP_MAX, "every step has a text");

/* Adds the room that LIST takes to *SIZE. */
static int measure_list(char *const *list, size_t *size, uint32_t *ret_count) {
        size_t n = 0;

        for (; list && list[n]; n++) {
                *size += strlen(list[n]) + 1;
                if (*size > LEADER_ORDER_SIZE_MAX || n >= ORDER_COUNT_MAX)
                        return -E2BIG;
        }

        *ret_count = (uint32_t) n;
        return 0;
}

static int measure(const LeaderOrder *order, OrderHead *head) {
        size_t size = sizeof(OrderHead) + strlen(order->unit) + 1 + strlen(order->directory) + 1;

        if (size > LEADER_ORDER_SIZE_MAX)
                return -E2BIG;

        int r = measure_list(order->command, &size, &head->n_command);
        if (r < 0)
                return r;
        if (head->n_command == 0)
                return -EINVAL;

        r = measure_list(order->environment, &size, &head->n_environment);
        if (r >= 0)
                r = measure_list(order->devices, &size, &head->n_devices);
        if (r < 0)
                return r;

        head->size = size;
        return 0;
}

static char *put_string(char *p, const char *s) {
        return stpcpy(p, s) + 1;
}

static char *put_list(char *p, char *const *list, uint32_t count) {
        for (uint32_t i = 0; i < count; i++)
                p = put_string(p, list[i]);

        return p;
}

int leader_order_encode(const LeaderOrder *order, void **ret, size_t *ret_size) {
        assert(order);
        assert(order->unit);
        assert(order->directory);
        assert(order->umask <= ORDER_UMASK_VALID);
        assert(order->no_new_privileges <= 1);
        assert(order->directory_optional <= 1);
        assert(ret);
        assert(ret_size);

        OrderHead head = {
                .magic = ORDER_MAGIC,
                .grace_usec = order->grace_usec,
                .uid = order->uid,
                .gid = order->gid,
                .umask = order->umask,
                .no_new_privileges = order->no_new_privileges,
                .directory_optional = order->directory_optional,
        };

        int r = measure(order, &head);
        if (r < 0)
                return r;

        char *block = calloc(1, head.size);
        if (!block)
                return -ENOMEM;

        memcpy(block, &head, sizeof(head));
        char *p = put_string(block + sizeof(head), order->unit);
        p = put_string(p, order->directory);
        p = put_list(p, order->command, head.n_command);
        p = put_list(p, order->environment, head.n_environment);
        p = put_list(p, order->devices, head.n_devices);
        assert((size_t) (p - block) == head.size);

        *ret = block;
        *ret_size = head.size;
        return 0;
}

static bool head_valid(const OrderHead *head, size_t size) {
        if (head->magic != ORDER_MAGIC || head->size != size || size > LEADER_ORDER_SIZE_MAX)
                return false;
        if (head->umask > ORDER_UMASK_VALID || head->no_new_privileges > 1 || head->directory_optional > 1)
                return false;

        return head->n_command > 0 && head->n_command <= ORDER_COUNT_MAX &&
                        head->n_environment <= ORDER_COUNT_MAX && head->n_devices <= ORDER_COUNT_MAX;
}

/* Whether the SIZE bytes at P are exactly COUNT strings, each with its NUL. */
static bool strings_valid(const char *p, size_t size, uint64_t count) {
        const char *end = p + size;

        for (; count > 0; count--) {
                const char *nul = memchr(p, 0, (size_t) (end - p));
                if (!nul)
                        return false;
                p = nul + 1;
        }

        return p == end;
}

/* The string at *P, which was found to be there; moves *P behind it. */
static char *take_string(char **p) {
        char *s = *p;

        *p += strlen(s) + 1;
        return s;
}

static int take_list(char **p, uint32_t count, char ***ret) {
        char **list = calloc((size_t) count + 1, sizeof(char *));
        if (!list)
                return -ENOMEM;

        for (uint32_t i = 0; i < count; i++)
                list[i] = take_string(p);

        *ret = list;
        return 0;
}

int leader_order_decode(void *block, size_t size, LeaderOrder *ret) {
        _cleanup_(freep) char **command = NULL, **environment = NULL, **devices = NULL;
        OrderHead head;

        assert(block || size == 0);
        assert(ret);

        if (size < sizeof(head))
                return -EBADMSG;

        memcpy(&head, block, sizeof(head));
        if (!head_valid(&head, size))
                return -EBADMSG;

        char *p = (char *) block + sizeof(head);
        uint64_t n_strings = 2 + (uint64_t) head.n_command + head.n_environment + head.n_devices;
        if (!strings_valid(p, size - sizeof(head), n_strings))
                return -EBADMSG;

        char *unit = take_string(&p);
        char *directory = take_string(&p);

        int r = take_list(&p, head.n_command, &command);
        if (r < 0)
                return r;

        r = take_list(&p, head.n_environment, &environment);
        if (r >= 0)
                r = take_list(&p, head.n_devices, &devices);
        if (r < 0)
                return r;

        *ret = (LeaderOrder) {
                .uid = head.uid,
                .gid = head.gid,
                .umask = head.umask,
                .no_new_privileges = head.no_new_privileges,
                .directory_optional = head.directory_optional,
                .grace_usec = head.grace_usec,
                .unit = unit,
                .directory = directory,
                .command = TAKE_PTR(command),
                .environment = TAKE_PTR(environment),
                .devices = TAKE_PTR(devices),
        };
        return 0;
}

void leader_order_done(LeaderOrder *order) {
        assert(order);

        free(order->command);
        free(order->environment);
        free(order->devices);
        *order = (LeaderOrder) {};
}

const char *leader_step_to_string(LeaderStep step) {
        if (step >= _LEADER_STEP_MAX)
                return "start the command";

        return step_texts[step];
}
