#include "control/scan.h"

#include "base/alloc.h"
#include "control/wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX                                                                                  \
    16 /* the contract has no recursive message; this only guards against one by mistake */
#define FIELDS_MAX 64 /* of one message: they are marked in a 64-bit mask */
#define WHY_MAX    512

/* Where we are, for the words of a complaint: a list from the field up to the message. */
struct place {
    const struct place *up;
    const char *name;
};

struct scan {
    enum scan_mode mode;
    char **why;
};

/* Fields that the contract gives a size of their own. */
static const struct {
    const char *message, *field;
    size_t max;
} sizes[] = {
    {"policy.Common", "state", 4096},
    {"policy.Banner", "text", 8192},
};

static size_t put_path(char *out, size_t room, const struct place *at)
{
    size_t used = at->up ? put_path(out, room, at->up) : 0;
    int len = snprintf(out + used, room - used, "%s%s", at->up ? "." : "", at->name);

    return used + (size_t)len < room ? used + (size_t)len : room - 1;
}

__attribute__((format(printf, 3, 4))) static bool fail(struct scan *scan, const struct place *at,
                                                       const char *format, ...)
{
    char text[WHY_MAX];
    size_t used = put_path(text, sizeof(text), at);
    va_list args;

    used += (size_t)snprintf(text + used, sizeof(text) - used, ": ");
    if (used < sizeof(text)) {
        va_start(args, format);
        vsnprintf(text + used, sizeof(text) - used, format, args);
        va_end(args);
    }
    *scan->why = xstrdup(text);
    return false;
}

static bool is_repeated(const ProtobufCFieldDescriptor *field)
{
    return field->label == PROTOBUF_C_LABEL_REPEATED;
}

static enum wire_type natural_type(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_BYTES;
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_64;
    default:
        return WIRE_VARINT;
    }
}

/* protobuf-c cuts what is too long; a cut number is another number. */
static bool number_fits(ProtobufCType type, uint64_t value)
{
    switch (type) {
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_SINT32:
        return value <= UINT32_MAX;
    case PROTOBUF_C_TYPE_INT32:
        return value <= INT32_MAX || value >= (uint64_t)(int64_t)INT32_MIN;
    case PROTOBUF_C_TYPE_BOOL:
        return value <= 1;
    default:
        return true;
    }
}

static bool scan_number(struct scan *scan, const ProtobufCFieldDescriptor *field, uint64_t value,
                        const struct place *at)
{
    if (field->type == PROTOBUF_C_TYPE_ENUM) {
        if (value > INT32_MAX ||
            protobuf_c_enum_descriptor_get_value(field->descriptor, (int)value) == NULL)
            return fail(scan, at, "unknown value %llu", (unsigned long long)value);
        return true;
    }
    if (!number_fits(field->type, value))
        return fail(scan, at, "number out of range");
    return true;
}

static bool scan_packed(struct scan *scan, const ProtobufCFieldDescriptor *field, struct bytes rest,
                        const struct place *at)
{
    enum wire_type type = natural_type(field->type);
    uint64_t value;

    if (type == WIRE_32 || type == WIRE_64)
        return rest.len % (type == WIRE_32 ? 4 : 8) == 0 || fail(scan, at, "malformed");
    while (rest.len > 0) {
        if (!wire_varint(&rest, &value))
            return fail(scan, at, "malformed");
        if (!scan_number(scan, field, value, at))
            return false;
    }
    return true;
}

static bool scan_size(struct scan *scan, const ProtobufCMessageDescriptor *type,
                      const ProtobufCFieldDescriptor *field, size_t len, const struct place *at)
{
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        if (len > sizes[i].max && strcmp(sizes[i].message, type->name) == 0 &&
            strcmp(sizes[i].field, field->name) == 0)
            return fail(scan, at, "longer than %zu bytes", sizes[i].max);
    return true;
}

static bool scan_fields(struct scan *scan, const ProtobufCMessageDescriptor *type,
                        struct bytes wire, const struct place *at, int depth);

static bool scan_value(struct scan *scan, const ProtobufCMessageDescriptor *type,
                       const ProtobufCFieldDescriptor *field, const struct wire_field *in,
                       const struct place *at, int depth)
{
    enum wire_type natural = natural_type(field->type);

    if (is_repeated(field) && natural != WIRE_BYTES && in->type == WIRE_BYTES)
        return scan_packed(scan, field, in->bytes, at);
    if (in->type != natural)
        return fail(scan, at, "wrong wire type %d", (int)in->type);
    if (natural == WIRE_VARINT)
        return scan_number(scan, field, in->value, at);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return scan_fields(scan, field->descriptor, in->bytes, at, depth + 1);
    if (field->type == PROTOBUF_C_TYPE_STRING && !text_is_clean(in->bytes))
        return fail(scan, at, "not UTF-8, or with a NUL");
    return scan->mode == SCAN_OUTBOUND || scan_size(scan, type, field, in->bytes.len, at);
}

/* True for a member of a oneof that has others; a single-member one is how proto3 `optional` is
 * spelt. */
static bool has_siblings(const ProtobufCMessageDescriptor *type, unsigned index)
{
    const ProtobufCFieldDescriptor *field = &type->fields[index];

    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0)
        return false;
    for (unsigned i = 0; i < type->n_fields; i++)
        if (i != index && (type->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
            type->fields[i].quantifier_offset == field->quantifier_offset)
            return true;
    return false;
}

static bool scan_oneof(struct scan *scan, const ProtobufCMessageDescriptor *type, unsigned first,
                       uint64_t seen, const struct place *at)
{
    char names[256] = "";
    unsigned count = 0;

    for (unsigned i = first; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];

        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0 ||
            field->quantifier_offset != type->fields[first].quantifier_offset)
            continue;
        count += (seen >> i) & 1;
        if (strlen(names) + strlen(field->name) + 2 < sizeof(names)) {
            strcat(names, names[0] ? "|" : "");
            strcat(names, field->name);
        }
    }
    if (count == 0)
        return fail(scan, at, "none of %s is set", names);
    if (count > 1)
        return fail(scan, at, "more than one of %s is set", names);
    return true;
}

static bool scan_oneofs(struct scan *scan, const ProtobufCMessageDescriptor *type, uint64_t seen,
                        const struct place *at)
{
    for (unsigned i = 0; i < type->n_fields; i++) {
        bool first = true;

        if (!has_siblings(type, i))
            continue;
        for (unsigned k = 0; k < i; k++)
            if (type->fields[k].quantifier_offset == type->fields[i].quantifier_offset &&
                (type->fields[k].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0)
                first = false;
        if (first && !scan_oneof(scan, type, i, seen, at))
            return false;
    }
    return true;
}

static int field_index(const ProtobufCMessageDescriptor *type, uint32_t number)
{
    for (unsigned i = 0; i < type->n_fields; i++)
        if (type->fields[i].id == number)
            return (int)i;
    return -1;
}

/* Later contracts may add to Common without asking old daemons; anywhere else an unknown field may
 * be a restriction. */
static bool tolerates_unknown(const ProtobufCMessageDescriptor *type)
{
    return strcmp(type->name, "policy.Common") == 0;
}

static bool scan_fields(struct scan *scan, const ProtobufCMessageDescriptor *type,
                        struct bytes wire, const struct place *at, int depth)
{
    uint64_t seen = 0;
    struct wire_field in;

    if (depth > DEPTH_MAX || type->n_fields > FIELDS_MAX)
        return fail(scan, at, "nested too deep");
    while (wire.len > 0) {
        int index;

        if (!wire_next(&wire, &in))
            return fail(scan, at, "malformed");
        index = field_index(type, in.number);
        if (index < 0) {
            if (tolerates_unknown(type))
                continue;
            return fail(scan, at, "unknown field %u", in.number);
        }
        if (!scan_value(scan, type, &type->fields[index], &in,
                        &(struct place){at, type->fields[index].name}, depth))
            return false;
        if (!is_repeated(&type->fields[index]) && (seen >> index & 1) != 0)
            return fail(scan, &(struct place){at, type->fields[index].name}, "comes twice");
        seen |= UINT64_C(1) << index;
    }
    return scan->mode == SCAN_OUTBOUND || scan_oneofs(scan, type, seen, at);
}

bool scan_message(const ProtobufCMessageDescriptor *type, struct bytes wire, enum scan_mode mode,
                  char **why)
{
    struct scan scan = {.mode = mode, .why = why};

    *why = NULL;
    return scan_fields(&scan, type, wire, &(struct place){NULL, type->short_name}, 0);
}
