/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Requests to the broker as blocks of bytes, and back. A block is a head of fixed size and a body that
 * depends on its type; numbers are as in memory, since both ends are on one host. Strings end with a NUL. */
#include "core/wire/broker-protocol.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "core/text/unit-name.h"

#define REQUEST_MAGIC UINT64_C(0x3130524b42474744) /* "DGGBKR01" where the low byte comes first */

typedef struct RequestHead {
        uint64_t magic;
        uint64_t call_id;
        uint32_t type;
        uint32_t size; /* of the whole block */
} RequestHead;
static_assert(sizeof(RequestHead) == 24, "the head has no padding");

typedef struct StartBody {
        uint64_t cpu_quota_usec;
        uint64_t memory_max_bytes;
        uint64_t tasks_max;
        uint64_t stop_timeout_usec;
        uint32_t n_properties;
        uint32_t n_devices; /* 0: any may be opened; else 1, and 1 more for each path that follows */
} StartBody;
static_assert(sizeof(StartBody) == 40, "the body has no padding");

typedef struct PropertyHead {
        uint32_t index; /* of task_property_form() */
        uint32_t count; /* of what follows: bytes, addresses or devices; 1 for a number */
} PropertyHead;

typedef struct WireAddress {
        uint8_t bytes[16];
        uint32_t is_ipv6;
        uint32_t n_bits;
} WireAddress;
static_assert(sizeof(WireAddress) == 24, "an address has no padding");

static bool is_hex_digit(char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool is_id_char(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                        (c != 0 && strchr("._:-%", c));
}

static bool task_id_is_usable(const char *task_id) {
        size_t n = 0;

        while (is_id_char(task_id[n]))
                n++;
        return n > 0 && n <= SCOPE_TASK_ID_MAX && task_id[n] == 0;
}

bool broker_unit_valid(const char *unit) {
        assert(unit);

        size_t size = strlen(unit);
        const char *p = text_after(unit, TASK_UNIT_PREFIX);
        if (!p || size > UNIT_NAME_LENGTH_MAX || size <= strlen(TASK_UNIT_PREFIX TASK_UNIT_SUFFIX) ||
            !streq(unit + size - strlen(TASK_UNIT_SUFFIX), TASK_UNIT_SUFFIX))
                return false;

        for (; *p; p++) {
                if (*p == '\\') {
                        if (p[1] != 'x' || !is_hex_digit(p[2]) || !is_hex_digit(p[3]))
                                return false;
                        p += 3;
                } else if (*p == '%' || !is_id_char(*p))
                        return false;
        }

        return true;
}

static bool order_valid(const ScopeOrder *order) {
        if (!task_id_is_usable(order->task_id))
                return false;

        return order->cpu_quota_usec >= 1 && order->cpu_quota_usec <= SCOPE_CPU_QUOTA_MAX &&
                        order->memory_max_bytes >= 1 && order->memory_max_bytes <= SCOPE_MEMORY_MAX &&
                        order->tasks_max >= 1 && order->tasks_max <= SCOPE_TASKS_MAX &&
                        order->stop_timeout_usec <= SCOPE_STOP_TIMEOUT_MAX;
}

static int put_string(Text *block, const char *s) {
        return text_append_bytes(block, s, strlen(s) + 1);
}

static int put_addresses(Text *block, const TaskProperty *property) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < property->n_addresses; i++) {
                const TaskAddress *address = &property->addresses[i];
                WireAddress wire = { .is_ipv6 = address->family == AF_INET6, .n_bits = address->n_bits };

                memcpy(wire.bytes, address->bytes, address->size);
                r = text_append_bytes(block, &wire, sizeof(wire));
        }

        return r;
}

static int put_limits(Text *block, const TaskProperty *property) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < property->n_limits; i++) {
                r = text_append_bytes(block, &property->limits[i].limit, sizeof(uint64_t));
                if (r >= 0)
                        r = put_string(block, property->limits[i].path);
        }

        return r;
}

static size_t property_count(const TaskProperty *property) {
        switch (property->kind) {
        case TASK_PROPERTY_NUMBER:
                return 1;
        case TASK_PROPERTY_MASK:
                return property->mask_size;
        case TASK_PROPERTY_ADDRESSES:
                return property->n_addresses;
        case TASK_PROPERTY_DEVICE_LIMITS:
                return property->n_limits;
        }
        return 0;
}

static int put_property(Text *block, const TaskProperty *property) {
        PropertyHead head = { .count = (uint32_t) property_count(property) };
        size_t index;

        assert(task_property_valid(property));
        (void) task_property_find(property->name, &index);
        head.index = (uint32_t) index;

        int r = text_append_bytes(block, &head, sizeof(head));
        if (r < 0)
                return r;

        switch (property->kind) {
        case TASK_PROPERTY_NUMBER:
                return text_append_bytes(block, &property->number, sizeof(uint64_t));
        case TASK_PROPERTY_MASK:
                return text_append_bytes(block, property->mask, property->mask_size);
        case TASK_PROPERTY_ADDRESSES:
                return put_addresses(block, property);
        case TASK_PROPERTY_DEVICE_LIMITS:
                return put_limits(block, property);
        }
        return 0;
}

static int put_order(Text *block, const ScopeOrder *order) {
        size_t n_paths = order->device_paths ? text_list_count(order->device_paths) : 0;
        if (n_paths > SCOPE_DEVICES_MAX)
                return -E2BIG;

        StartBody body = {
                .cpu_quota_usec = order->cpu_quota_usec,
                .memory_max_bytes = order->memory_max_bytes,
                .tasks_max = order->tasks_max,
                .stop_timeout_usec = order->stop_timeout_usec,
                .n_properties = order->properties ? (uint32_t) order->properties->n_items : 0,
                .n_devices = order->device_paths ? (uint32_t) n_paths + 1 : 0,
        };

        assert(order_valid(order));
        int r = text_append_bytes(block, &body, sizeof(body));
        if (r >= 0)
                r = put_string(block, order->task_id);
        for (size_t i = 0; r >= 0 && i < n_paths; i++)
                r = put_string(block, order->device_paths[i]);
        for (size_t i = 0; r >= 0 && i < body.n_properties; i++)
                r = put_property(block, &order->properties->items[i]);

        return r;
}

int broker_request_encode(const BrokerRequest *request, void **ret, size_t *ret_size) {
        _cleanup_(text_done) Text block = {};

        assert(request);
        assert(ret);
        assert(ret_size);

        RequestHead head = { .magic = REQUEST_MAGIC, .call_id = request->call_id, .type = request->type };
        int r = text_append_bytes(&block, &head, sizeof(head));
        if (r < 0)
                return r;

        if (request->type == BROKER_START)
                r = put_order(&block, &request->order);
        else {
                assert(broker_unit_valid(request->unit));
                r = put_string(&block, request->unit);
        }
        if (r < 0)
                return r;
        if (block.size > BROKER_REQUEST_SIZE_MAX)
                return -E2BIG;

        head.size = (uint32_t) block.size;
        memcpy(block.data, &head, sizeof(head));
        *ret_size = block.size;
        *ret = TAKE_PTR(block.data);
        return 0;
}

/* What has not been read of a block yet. */
typedef struct Reader {
        const char *p;
        size_t size;
} Reader;

static int take_bytes(Reader *reader, void *ret, size_t size) {
        if (size > reader->size)
                return -EBADMSG;

        memcpy(ret, reader->p, size);
        reader->p += size;
        reader->size -= size;
        return 0;
}

static int take_string(Reader *reader, char **ret) {
        const char *nul = reader->size > 0 ? memchr(reader->p, 0, reader->size) : NULL;
        if (!nul)
                return -EBADMSG;

        char *copy = strdup(reader->p);
        if (!copy)
                return -ENOMEM;

        reader->size -= (size_t) (nul + 1 - reader->p);
        reader->p = nul + 1;
        *ret = copy;
        return 0;
}

static int take_mask(Reader *reader, uint32_t count, TaskProperty *property) {
        if (count < 1 || count > TASK_PROPERTY_MASK_MAX)
                return -EBADMSG;

        property->mask = malloc(count);
        if (!property->mask)
                return -ENOMEM;

        property->mask_size = count;
        return take_bytes(reader, property->mask, count);
}

/* An address in the one form that it is encoded in: nothing is set beyond its prefix. */
static bool wire_address_valid(const WireAddress *wire) {
        uint32_t n_bits_max = wire->is_ipv6 ? 128 : 32;

        if (wire->is_ipv6 > 1 || wire->n_bits > n_bits_max)
                return false;
        for (uint32_t bit = wire->n_bits; bit < 128; bit++)
                if (wire->bytes[bit / 8] & (0x80U >> (bit % 8)))
                        return false;

        return true;
}

static int take_addresses(Reader *reader, uint32_t count, TaskProperty *property) {
        if (count < 1 || count > 2 * TASK_PROPERTY_ADDRESSES_MAX)
                return -EBADMSG;

        property->addresses = calloc(count, sizeof(TaskAddress));
        if (!property->addresses)
                return -ENOMEM;

        for (; property->n_addresses < count; property->n_addresses++) {
                TaskAddress *address = &property->addresses[property->n_addresses];
                WireAddress wire;

                int r = take_bytes(reader, &wire, sizeof(wire));
                if (r < 0)
                        return r;
                if (!wire_address_valid(&wire))
                        return -EBADMSG;

                address->family = wire.is_ipv6 ? AF_INET6 : AF_INET;
                address->size = wire.is_ipv6 ? 16 : 4;
                address->n_bits = wire.n_bits;
                memcpy(address->bytes, wire.bytes, address->size);
        }

        return 0;
}

static int take_limits(Reader *reader, uint32_t count, TaskProperty *property) {
        if (count < 1 || count > TASK_PROPERTY_DEVICE_LIMITS_MAX)
                return -EBADMSG;

        property->limits = calloc(count, sizeof(TaskDeviceLimit));
        if (!property->limits)
                return -ENOMEM;

        for (; property->n_limits < count; property->n_limits++) {
                TaskDeviceLimit *limit = &property->limits[property->n_limits];

                int r = take_bytes(reader, &limit->limit, sizeof(uint64_t));
                if (r >= 0)
                        r = take_string(reader, &limit->path);
                if (r < 0)
                        return r;
        }

        return 0;
}

static int take_value(Reader *reader, uint32_t count, TaskProperty *property) {
        switch (property->kind) {
        case TASK_PROPERTY_NUMBER:
                return count == 1 ? take_bytes(reader, &property->number, sizeof(uint64_t)) : -EBADMSG;
        case TASK_PROPERTY_MASK:
                return take_mask(reader, count, property);
        case TASK_PROPERTY_ADDRESSES:
                return take_addresses(reader, count, property);
        case TASK_PROPERTY_DEVICE_LIMITS:
                return take_limits(reader, count, property);
        }
        return -EBADMSG;
}

static int take_property(Reader *reader, TaskProperty *property) {
        PropertyHead head;

        int r = take_bytes(reader, &head, sizeof(head));
        if (r < 0)
                return r;

        const TaskPropertyForm *form = task_property_form(head.index);
        if (!form)
                return -EBADMSG;

        property->name = form->name;
        property->kind = form->kind;
        r = take_value(reader, head.count, property);
        if (r < 0)
                return r;

        return task_property_valid(property) ? 0 : -EBADMSG;
}

static bool has_property(const TaskProperties *properties, const char *name) {
        for (size_t i = 0; i < properties->n_items; i++)
                if (streq(properties->items[i].name, name))
                        return true;

        return false;
}

static int take_properties(Reader *reader, uint32_t count, TaskProperties **ret) {
        _cleanup_(task_properties_freep) TaskProperties *properties = calloc(1, sizeof(TaskProperties));
        if (!properties)
                return -ENOMEM;

        properties->items = calloc(count, sizeof(TaskProperty));
        if (!properties->items)
                return -ENOMEM;

        for (uint32_t i = 0; i < count; i++) {
                _cleanup_(task_property_done) TaskProperty property = {};

                int r = take_property(reader, &property);
                if (r < 0)
                        return r;
                if (has_property(properties, property.name))
                        return -EBADMSG;

                properties->items[properties->n_items++] = property;
                property = (TaskProperty) {};
        }

        *ret = TAKE_PTR(properties);
        return 0;
}

static int take_devices(Reader *reader, uint32_t count, char ***ret) {
        _cleanup_(text_list_freep) char **paths = calloc((size_t) count + 1, sizeof(char *));
        if (!paths)
                return -ENOMEM;

        for (uint32_t i = 0; i < count; i++) {
                int r = take_string(reader, &paths[i]);
                if (r < 0)
                        return r;
                if (!task_device_path_valid(paths[i]))
                        return -EBADMSG;
        }

        *ret = TAKE_PTR(paths);
        return 0;
}

static int take_order(Reader *reader, ScopeOrder *order) {
        _cleanup_(task_properties_freep) TaskProperties *properties = NULL;
        StartBody body;

        int r = take_bytes(reader, &body, sizeof(body));
        if (r < 0)
                return r;
        if (body.n_devices > SCOPE_DEVICES_MAX + 1 || body.n_properties > TASK_PROPERTIES_MAX)
                return -EBADMSG;

        r = take_string(reader, &order->task_id);
        if (r >= 0 && body.n_devices > 0)
                r = take_devices(reader, body.n_devices - 1, &order->device_paths);
        if (r >= 0 && body.n_properties > 0)
                r = take_properties(reader, body.n_properties, &properties);
        if (r < 0)
                return r;

        order->cpu_quota_usec = body.cpu_quota_usec;
        order->memory_max_bytes = body.memory_max_bytes;
        order->tasks_max = body.tasks_max;
        order->stop_timeout_usec = body.stop_timeout_usec;
        order->properties = TAKE_PTR(properties);
        return order_valid(order) ? 0 : -EBADMSG;
}

static int take_unit(Reader *reader, char **ret) {
        int r = take_string(reader, ret);
        if (r < 0)
                return r;

        return broker_unit_valid(*ret) ? 0 : -EBADMSG;
}

static int take_request(Reader *reader, BrokerRequest *request) {
        RequestHead head;
        size_t size = reader->size;

        int r = take_bytes(reader, &head, sizeof(head));
        if (r < 0)
                return r;
        if (head.magic != REQUEST_MAGIC)
                return -EPROTO;
        if (head.size != size || size > BROKER_REQUEST_SIZE_MAX || head.type >= _BROKER_REQUEST_TYPE_MAX)
                return -EBADMSG;

        request->type = (BrokerRequestType) head.type;
        request->call_id = head.call_id;
        r = request->type == BROKER_START ? take_order(reader, &request->order) :
                                            take_unit(reader, &request->unit);
        if (r < 0)
                return r;

        return reader->size > 0 ? -EBADMSG : 0;
}

int broker_request_decode(const void *block, size_t size, BrokerRequest *ret) {
        Reader reader = { .p = block, .size = size };
        BrokerRequest request = {};

        assert(block || size == 0);
        assert(ret);

        int r = take_request(&reader, &request);
        if (r < 0) {
                broker_request_done(&request);
                return r;
        }

        *ret = request;
        return 0;
}

void broker_request_done(BrokerRequest *request) {
        assert(request);

        free(request->order.task_id);
        text_list_free(request->order.device_paths);
        task_properties_free(request->order.properties);
        free(request->unit);
        *request = (BrokerRequest) {};
}

uint64_t broker_request_peek_id(const void *block, size_t size) {
        RequestHead head;

        if (size < sizeof(head))
                return 0;

        memcpy(&head, block, sizeof(head));
        return head.call_id;
}

bool broker_reply_valid(const BrokerReply *reply, size_t size) {
        return size == sizeof(*reply) && memchr(reply->message, 0, sizeof(reply->message)) != NULL;
}
