/* Bytes to messages and back, for what goes to and comes from the policy. Pure; no gRPC. */
#ifndef PARLEY_CONTROL_CODEC_H
#define PARLEY_CONTROL_CODEC_H

#include "control/arena.h"
#include "control/control.h"

/* What codec_decode() accepts, apart from size. False sets *why (owned by the caller). */
bool codec_check(const ProtobufCMessageDescriptor *type, struct bytes wire, char **why);
/* NULL sets *why. The message lives in `arena`, which this initialises and the caller clears, also
 * after NULL. */
ProtobufCMessage *codec_decode(const ProtobufCMessageDescriptor *type, struct bytes wire,
                               size_t max, struct arena *arena, char **why);

/* A ChannelAction of kind data, read where it lies. */
struct data_view {
    Policy__ChannelAction action;
    Policy__ChannelData data;
};
/* False: it is of another kind, or malformed. `wire` must have passed codec_check(). */
bool codec_view_data(struct bytes wire, struct data_view *view);

/* What precedes the payload in a packed ChannelEvent of kind data; out has room for
 * CODEC_DATA_HEAD_MAX. */
#define CODEC_DATA_HEAD_MAX 32
size_t codec_data_head(uint8_t *out, size_t payload_len, uint32_t extended_type);

/* Owned copy, NULL only for NULL; freed with protobuf_c_message_free_unpacked(copy, NULL). */
ProtobufCMessage *codec_copy(const ProtobufCMessage *message);

/* The field `name` of any message if it is a message of type `type`; NULL where there is none. */
void *codec_submessage(const ProtobufCMessage *message, const char *name,
                       const ProtobufCMessageDescriptor *type);
/* The request's Context, its first field. */
void codec_set_context(ProtobufCMessage *request, Policy__Context *context);
/* One word for the log: the member of its oneof that is set ("allow"), or the name of its first
 * enum's value. */
const char *codec_verdict(const ProtobufCMessage *answer);

#endif
