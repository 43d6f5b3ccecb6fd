#include "policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD_DATA    0x12 /* ChannelEvent.data: field 2, length-delimited */
#define ACTION_DATA   0x0a /* ChannelAction.data, ChannelData.payload: field 1, length-delimited */
#define FIELD_PAYLOAD 0x0a
#define HEAD_MAX      16

void policy_batch(grpc_call *call, const grpc_op *ops, size_t count, struct tag *tag)
{
    grpc_call_error error = grpc_call_start_batch(call, ops, count, tag, NULL);

    if (error == GRPC_CALL_OK)
        return;
    fprintf(stderr, "bench policy: batch refused: %s\n", grpc_call_error_to_string(error));
    abort();
}

grpc_byte_buffer *wire_pack(const ProtobufCMessage *message)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
    grpc_byte_buffer *buffer;

    protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

grpc_slice wire_read(grpc_byte_buffer *buffer)
{
    grpc_byte_buffer_reader reader;
    grpc_slice all;

    if (!grpc_byte_buffer_reader_init(&reader, buffer))
        return grpc_empty_slice();
    all = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    return all;
}

/* 0: cut off, or too large to be a length of ours. */
static size_t read_varint(const uint8_t *bytes, size_t len, size_t *value)
{
    size_t result = 0;

    for (size_t i = 0; i < len && i < 4; i++) {
        result |= (size_t)(bytes[i] & 0x7f) << (7 * i);
        if ((bytes[i] & 0x80) == 0) {
            *value = result;
            return i + 1;
        }
    }
    return 0;
}

static size_t write_varint(uint8_t *out, size_t value)
{
    size_t used = 0;

    for (; value >= 0x80; value >>= 7)
        out[used++] = (uint8_t)(value | 0x80);
    out[used++] = (uint8_t)value;
    return used;
}

static size_t varint_size(size_t value)
{
    uint8_t scratch[10];

    return write_varint(scratch, value);
}

static bool parse_head(const uint8_t *bytes, size_t have, size_t *offset, size_t *len)
{
    size_t used = 1, step, inner;

    if (have < 2 || bytes[0] != FIELD_DATA)
        return false;
    step = read_varint(bytes + used, have - used, &inner);
    used += step;
    if (step == 0 || used >= have || bytes[used++] != FIELD_PAYLOAD)
        return false;
    step = read_varint(bytes + used, have - used, len);
    *offset = used + step;
    return step != 0 && *len <= inner;
}

bool wire_is_data(grpc_byte_buffer *buffer, size_t *offset, size_t *len)
{
    grpc_byte_buffer_reader reader;
    uint8_t head[HEAD_MAX];
    size_t have = 0;
    grpc_slice *piece;

    if (!grpc_byte_buffer_reader_init(&reader, buffer))
        return false;
    while (have < sizeof(head) && grpc_byte_buffer_reader_peek(&reader, &piece)) {
        size_t part = GRPC_SLICE_LENGTH(*piece);

        if (part > sizeof(head) - have)
            part = sizeof(head) - have;
        memcpy(head + have, GRPC_SLICE_START_PTR(*piece), part);
        have += part;
    }
    grpc_byte_buffer_reader_destroy(&reader);
    return parse_head(head, have, offset, len);
}

grpc_byte_buffer *wire_data(const uint8_t *data, size_t len)
{
    size_t inner = 1 + varint_size(len) + len;
    grpc_slice slice = grpc_slice_malloc(1 + varint_size(inner) + inner);
    uint8_t *out = GRPC_SLICE_START_PTR(slice);
    grpc_byte_buffer *buffer;

    *out++ = ACTION_DATA;
    out += write_varint(out, inner);
    *out++ = FIELD_PAYLOAD;
    out += write_varint(out, len);
    memcpy(out, data, len);
    buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}
