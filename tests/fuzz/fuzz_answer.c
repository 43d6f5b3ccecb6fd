/*
 * The decoder of answers and stream messages: whatever it lets through has the shape that control.h
 * promises, and says the same when packed and decoded again.
 *
 * Input: a byte for the handler, then the wire.
 */
#include "base/alloc.h"
#include "control/codec.h"
#include "control/rpc.h"
#include "fakes/control_fake_internal.h"
#include "fuzz/feed.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void check_view(struct bytes wire, const ProtobufCMessage *decoded)
{
    const Policy__ChannelAction *action = (const Policy__ChannelAction *)decoded;
    struct data_view view;

    if (!codec_view_data(wire, &view))
        return;
    assert(action->action_case == POLICY__CHANNEL_ACTION__ACTION_DATA);
    assert(view.data.extended_type == action->data->extended_type);
    assert(bytes_equal(bytes_of(view.data.payload.data, view.data.payload.len),
                       bytes_of(action->data->payload.data, action->data->payload.len)));
}

/* Its shape only: packed again it may be shorter, and the memory for it is measured by its length.
 */
static void check_again(const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *wire = xmalloc(len + 1);
    char *why = NULL;

    protobuf_c_message_pack(message, wire);
    if (!codec_check(message->descriptor, bytes_of(wire, len), &why))
        assert(!"a message that was let through is refused when packed again");
    free(wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes feed = bytes_of(data, len);
    enum rpc rpc = feed_u8(&feed) % RPC_COUNT;
    const ProtobufCMessageDescriptor *type = rpc_output(rpc);
    struct arena arena = {0};
    ProtobufCMessage *message;
    char *why = NULL;

    if (type == NULL)
        return 0;
    message = codec_decode(type, feed, rpc_row(rpc)->max_answer, &arena, &why);
    if (message == NULL) {
        assert(why != NULL && text_is_clean(bytes_of_string(why)));
        free(why);
    } else {
        assert(why == NULL && message->descriptor == type && fake_is_well_formed(message));
        codec_verdict(message);
        if (type == &policy__channel_action__descriptor)
            check_view(feed, message);
        check_again(message);
    }
    arena_clear(&arena);
    return 0;
}
