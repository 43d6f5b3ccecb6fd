/* What unary calls and streams have in common: metadata out, messages in and out, status in. */
#include "control/internal.h"

#include "base/alloc.h"
#include "control/scan.h"
#include "control/tsan.h"

#include <assert.h>
#include <grpc/byte_buffer_reader.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON_MAX 256 /* of a policy's words in our log */

void call_end_init(struct call_end *end)
{
    *end = (struct call_end){.status = GRPC_STATUS_UNKNOWN, .details = grpc_empty_slice()};
    grpc_metadata_array_init(&end->initial);
    grpc_metadata_array_init(&end->trailing);
}

void call_end_clear(struct call_end *end)
{
    grpc_metadata_array_destroy(&end->initial);
    grpc_metadata_array_destroy(&end->trailing);
    grpc_slice_unref(end->details);
    gpr_free((void *)end->debug);
    call_end_init(end);
}

static const char *status_name(grpc_status_code status)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };

    return (size_t)status < sizeof(names) / sizeof(names[0]) ? names[status]
                                                             : "status out of range";
}

/* Printable ASCII only, and cut: the words come from the policy, or from whoever answers in its
 * place. */
static char *reason(const struct call_end *end)
{
    const uint8_t *at = GRPC_SLICE_START_PTR(end->details);
    size_t len = GRPC_SLICE_LENGTH(end->details);
    char words[REASON_MAX + 1];

    len = len < REASON_MAX ? len : REASON_MAX;
    for (size_t i = 0; i < len; i++)
        words[i] = at[i] >= ' ' && at[i] < 0x7f ? (char)at[i] : '?';
    words[len] = '\0';
    return xasprintf("%s%s%s", status_name(end->status), len ? ": " : "", words);
}

/* gRPC itself says UNIMPLEMENTED as well, for an HTTP 404 and for a compression that was not
 * offered, and makes it look like the peer's word in everything but the text. Only the policy's own
 * may bring in a handler's default: an answer that says no must not become an allow because
 * something on the way compressed or lost it. */
static bool grpc_said_it(const struct call_end *end)
{
    static const char *const texts[] = {
        "Received http2 header with status: ",
        "Compression algorithm ",
        "Invalid compression algorithm ",
    };
    size_t len = GRPC_SLICE_LENGTH(end->details);

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (len >= strlen(texts[i]) &&
            memcmp(GRPC_SLICE_START_PTR(end->details), texts[i], strlen(texts[i])) == 0)
            return true;
    return end->debug == NULL || strstr(end->debug, "Error received from peer") == NULL;
}

enum outcome call_end_outcome(const struct call_end *end, char **why)
{
    *why = NULL;
    if (end->status == GRPC_STATUS_OK)
        return ANSWERED;
    *why = reason(end);
    if (end->status == GRPC_STATUS_UNIMPLEMENTED && !grpc_said_it(end))
        return ABSENT;
    return end->status == GRPC_STATUS_DEADLINE_EXCEEDED ? EXPIRED : UNAVAILABLE;
}

static void add_metadata(struct call_metadata *metadata, const char *key, grpc_slice value)
{
    assert(metadata->count < CALL_METADATA_MAX);
    metadata->items[metadata->count++] =
        (grpc_metadata){.key = grpc_slice_from_static_string(key), .value = value};
}

void call_metadata_init(struct call_metadata *metadata, const struct control *control,
                        const char *trace_id, const char *span_id)
{
    /* W3C Trace Context: version-trace-span-flags, "sampled" */
    char traceparent[] = "00-00000000000000000000000000000000-0000000000000000-01";

    metadata->count = 0;
    memcpy(traceparent + 3, trace_id, 32);
    memcpy(traceparent + 36, span_id, 16);
    add_metadata(metadata, "traceparent",
                 grpc_slice_from_copied_buffer(traceparent, sizeof(traceparent) - 1));
    if (GRPC_SLICE_LENGTH(control->bearer) > 0)
        add_metadata(metadata, "authorization", grpc_slice_ref(control->bearer));
}

void call_metadata_clear(struct call_metadata *metadata)
{
    for (size_t i = 0; i < metadata->count; i++)
        grpc_slice_unref(metadata->items[i].value);
    metadata->count = 0;
}

static void wipe_and_free(void *data, size_t len)
{
    tsan_acquire(data);
    explicit_bzero(data, len);
    free(data);
}

bool call_pack(const ProtobufCMessage *message, grpc_slice *out, char **why)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = xmalloc(len + 1);

    protobuf_c_message_pack(message, packed);
    if (!scan_message(message->descriptor, bytes_of(packed, len), SCAN_OUTBOUND, why)) {
        wipe_and_free(packed, len);
        return false;
    }
    tsan_release(packed); /* whoever lets go last frees it, on whatever thread */
    *out = grpc_slice_new_with_len(packed, len, wipe_and_free);
    return true;
}

bool call_bytes(grpc_byte_buffer *buffer, struct bytes *out, uint8_t **owned)
{
    size_t len = grpc_byte_buffer_length(buffer), used = 0;
    grpc_byte_buffer_reader reader;
    grpc_slice *piece;

    *owned = NULL;
    *out = (struct bytes){0};
    if (buffer->type != GRPC_BB_RAW || buffer->data.raw.compression != GRPC_COMPRESS_NONE ||
        !grpc_byte_buffer_reader_init(&reader, buffer))
        return false;
    while (grpc_byte_buffer_reader_peek(&reader, &piece)) {
        if (used == 0 && GRPC_SLICE_LENGTH(*piece) == len) {
            *out = bytes_of(GRPC_SLICE_START_PTR(*piece), len); /* lives as long as the buffer */
            used = len;
            break;
        }
        if (*owned == NULL)
            *owned = xmalloc(len + 1);
        memcpy(*owned + used, GRPC_SLICE_START_PTR(*piece), GRPC_SLICE_LENGTH(*piece));
        used += GRPC_SLICE_LENGTH(*piece);
        *out = bytes_of(*owned, used);
    }
    grpc_byte_buffer_reader_destroy(&reader);
    assert(used == len);
    return true;
}

void call_wipe(grpc_byte_buffer *buffer)
{
    grpc_byte_buffer_reader reader;
    grpc_slice *piece;

    if (buffer == NULL)
        return;
    if (grpc_byte_buffer_reader_init(&reader, buffer)) {
        while (grpc_byte_buffer_reader_peek(&reader, &piece))
            explicit_bzero(GRPC_SLICE_START_PTR(*piece), GRPC_SLICE_LENGTH(*piece));
        grpc_byte_buffer_reader_destroy(&reader);
    }
    grpc_byte_buffer_destroy(buffer);
}
