#include "control/codec.h"

#include "base/alloc.h"
#include "control/scan.h"
#include "control/wire.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Unpacked, an honest message is a few times its wire size; one of empty submessages would be 45
 * times. */
#define ARENA_FACTOR 8
#define ARENA_BASE   (64u * 1024)
#define ARENA_MAX    (9u * 1024 * 1024)

#define AT(message, offset, type) ((type *)(void *)((uint8_t *)(message) + (offset)))

bool codec_check(const ProtobufCMessageDescriptor *type, struct bytes wire, char **why)
{
    return scan_message(type, wire, SCAN_INBOUND, why);
}

ProtobufCMessage *codec_decode(const ProtobufCMessageDescriptor *type, struct bytes wire,
                               size_t max, struct arena *arena, char **why)
{
    size_t cap = wire.len * ARENA_FACTOR + ARENA_BASE;
    ProtobufCMessage *message;

    arena_init(arena, cap < ARENA_MAX ? cap : ARENA_MAX);
    if (wire.len > max) {
        *why = xasprintf("%s: %zu bytes, at most %zu are taken", type->short_name, wire.len, max);
        return NULL;
    }
    if (!codec_check(type, wire, why))
        return NULL;
    message = protobuf_c_message_unpack(type, &arena->allocator, wire.len, wire.data);
    if (message == NULL)
        *why = xasprintf("%s: does not unpack within its limit of memory", type->short_name);
    return message;
}

enum { ACTION_DATA = 1, DATA_PAYLOAD = 1, DATA_EXTENDED_TYPE = 2 };

bool codec_view_data(struct bytes wire, struct data_view *view)
{
    struct wire_field outer, inner;

    if (!wire_next(&wire, &outer) || wire.len != 0 || outer.number != ACTION_DATA)
        return false;
    policy__channel_action__init(&view->action);
    policy__channel_data__init(&view->data);
    while (outer.bytes.len > 0) {
        if (!wire_next(&outer.bytes, &inner))
            return false;
        if (inner.number == DATA_PAYLOAD) {
            view->data.payload.data = (uint8_t *)inner.bytes.data;
            view->data.payload.len = inner.bytes.len;
        } else if (inner.number == DATA_EXTENDED_TYPE) {
            view->data.extended_type = (uint32_t)inner.value;
        }
    }
    view->action.action_case = POLICY__CHANNEL_ACTION__ACTION_DATA;
    view->action.data = &view->data;
    return true;
}

static size_t put_varint(uint8_t *out, uint64_t value)
{
    size_t len = 0;

    while (value >= 0x80) {
        out[len++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    out[len++] = (uint8_t)value;
    return len;
}

size_t codec_data_head(uint8_t *out, size_t payload_len, uint32_t extended_type)
{
    enum {
        EVENT_DATA_TAG = 2 << 3 | WIRE_BYTES,
        PAYLOAD_TAG = 1 << 3 | WIRE_BYTES,
        TYPE_TAG = 2 << 3 | WIRE_VARINT
    };
    uint8_t inner[CODEC_DATA_HEAD_MAX];
    size_t inner_len = 0, len = 0;

    /* The payload comes last, so that everything before it is one small piece. */
    if (extended_type != 0) {
        inner[inner_len++] = TYPE_TAG;
        inner_len += put_varint(inner + inner_len, extended_type);
    }
    inner[inner_len++] = PAYLOAD_TAG;
    inner_len += put_varint(inner + inner_len, payload_len);
    out[len++] = EVENT_DATA_TAG;
    len += put_varint(out + len, inner_len + payload_len);
    memcpy(out + len, inner, inner_len);
    return len + inner_len;
}

ProtobufCMessage *codec_copy(const ProtobufCMessage *message)
{
    size_t len;
    uint8_t *packed;
    ProtobufCMessage *copy;

    if (message == NULL)
        return NULL;
    len = protobuf_c_message_get_packed_size(message);
    packed = xmalloc(len + 1);
    protobuf_c_message_pack(message, packed);
    copy = protobuf_c_message_unpack(message->descriptor, NULL, len, packed);
    free(packed);
    assert(copy != NULL);
    return copy;
}

void *codec_submessage(const ProtobufCMessage *message, const char *name,
                       const ProtobufCMessageDescriptor *type)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);

    if (field == NULL || field->type != PROTOBUF_C_TYPE_MESSAGE || field->descriptor != type ||
        field->label == PROTOBUF_C_LABEL_REPEATED ||
        (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0)
        return NULL;
    return *AT(message, field->offset, void *);
}

void codec_set_context(ProtobufCMessage *request, Policy__Context *context)
{
    const ProtobufCFieldDescriptor *first = &request->descriptor->fields[0];

    assert(request->descriptor->n_fields > 0 && first->descriptor == &policy__context__descriptor);
    *AT(request, first->offset, Policy__Context *) = context;
}

const char *codec_verdict(const ProtobufCMessage *answer)
{
    const ProtobufCMessageDescriptor *type = answer->descriptor;

    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];

        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
            *AT(answer, field->quantifier_offset, uint32_t) == field->id)
            return field->name;
        if (field->type == PROTOBUF_C_TYPE_ENUM && field->label != PROTOBUF_C_LABEL_REPEATED &&
            (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0) {
            const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
                field->descriptor, *AT(answer, field->offset, int));

            return value ? value->name : NULL;
        }
    }
    return NULL;
}
