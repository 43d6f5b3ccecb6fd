/* What control's codec promises of every answer, written again from control.h. */
#include "fakes/control_fake_internal.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>

ProtobufCMessage *fake_copy(const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *wire = xmalloc(len);
    ProtobufCMessage *copy;

    protobuf_c_message_pack(message, wire);
    copy = protobuf_c_message_unpack(message->descriptor, NULL, len, wire);
    free(wire);
    assert(copy != NULL);
    return copy;
}

void fake_set_context(ProtobufCMessage *request, Policy__Context *context)
{
    const ProtobufCFieldDescriptor *field = &request->descriptor->fields[0];
    Policy__Context **where = (Policy__Context **)((char *)request + field->offset);

    assert(field->id == 1 && field->descriptor == &policy__context__descriptor);
    assert(context == NULL || *where == NULL); /* filled in by control alone */
    *where = context;
}

static const void *at(const ProtobufCMessage *message, unsigned offset)
{
    return (const char *)message + offset;
}

static bool is_oneof(const ProtobufCFieldDescriptor *field)
{
    return (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

static bool oneof_is_set(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const ProtobufCMessageDescriptor *d = message->descriptor;
    unsigned members = 0;

    for (unsigned i = 0; i < d->n_fields; i++)
        members +=
            is_oneof(&d->fields[i]) && d->fields[i].quantifier_offset == field->quantifier_offset;
    return members < 2 || *(const int *)at(message, field->quantifier_offset) != 0;
}

static bool value_is_fine(const ProtobufCFieldDescriptor *field, const void *value)
{
    if (field->type == PROTOBUF_C_TYPE_ENUM)
        return protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int *)value) != NULL;
    if (field->type != PROTOBUF_C_TYPE_MESSAGE)
        return true;
    return *(ProtobufCMessage *const *)value == NULL ||
           fake_is_well_formed(*(ProtobufCMessage *const *)value);
}

static bool repeated_is_fine(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    size_t count = *(const size_t *)at(message, field->quantifier_offset);
    const char *values = *(const char *const *)at(message, field->offset);
    size_t step = field->type == PROTOBUF_C_TYPE_MESSAGE ? sizeof(void *) : sizeof(int);

    if (field->type != PROTOBUF_C_TYPE_MESSAGE && field->type != PROTOBUF_C_TYPE_ENUM)
        return true;
    for (size_t i = 0; i < count; i++)
        if (!value_is_fine(field, values + i * step))
            return false;
    return true;
}

static bool field_is_fine(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return repeated_is_fine(message, field);
    if (!is_oneof(field))
        return value_is_fine(field, at(message, field->offset));
    if (!oneof_is_set(message, field))
        return false;
    return *(const uint32_t *)at(message, field->quantifier_offset) != field->id ||
           value_is_fine(field, at(message, field->offset));
}

bool fake_is_well_formed(const ProtobufCMessage *message)
{
    if (message->descriptor == &policy__common__descriptor)
        return true;
    if (message->n_unknown_fields > 0)
        return false;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++)
        if (!field_is_fine(message, &message->descriptor->fields[i]))
            return false;
    return true;
}
