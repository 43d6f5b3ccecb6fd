#include "base/lane.h"

#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct lane_message {
    STAILQ_ENTRY(lane_message) link;
    uint8_t type;
    size_t len;
    uint8_t data[];
};

void lane_init(struct lane *lane, lane_fn *run, lane_pressure_fn *pressure, void *owner,
               size_t max_messages, size_t max_bytes)
{
    *lane = (struct lane){
        .run = run,
        .pressure = pressure,
        .owner = owner,
        .max_messages = max_messages,
        .max_bytes = max_bytes,
    };
    STAILQ_INIT(&lane->waiting);
}

static void message_free(struct lane_message *message)
{
    explicit_bzero(message->data, message->len);
    free(message);
}

bool lane_is_full(const struct lane *lane)
{
    return lane->messages >= lane->max_messages || lane->bytes >= lane->max_bytes;
}

static void take_head(struct lane *lane, struct lane_message *head)
{
    bool was_full = lane_is_full(lane);

    STAILQ_REMOVE_HEAD(&lane->waiting, link);
    lane->messages--;
    lane->bytes -= head->len;
    if (was_full && !lane_is_full(lane))
        lane->pressure(lane->owner, false);
}

void lane_push(struct lane *lane, uint8_t type, struct bytes message)
{
    struct lane_message *copy;
    bool was_full;

    if (!lane->busy) {
        assert(STAILQ_EMPTY(&lane->waiting));
        lane->busy = true;
        if (lane->run(lane->owner, type, message) == LANE_DONE)
            lane_resume(lane); /* with what run() itself has pushed, if anything */
        return;
    }
    was_full = lane_is_full(lane);
    copy = xmalloc(sizeof(*copy) + message.len);
    copy->type = type;
    copy->len = message.len;
    if (message.len > 0)
        memcpy(copy->data, message.data, message.len);
    STAILQ_INSERT_TAIL(&lane->waiting, copy, link);
    lane->messages++;
    lane->bytes += message.len;
    if (!was_full && lane_is_full(lane))
        lane->pressure(lane->owner, true);
}

void lane_resume(struct lane *lane)
{
    struct lane_message *head;

    assert(lane->busy);
    while ((head = STAILQ_FIRST(&lane->waiting)) != NULL) {
        enum lane_step step;

        take_head(lane, head);
        step = lane->run(lane->owner, head->type, bytes_of(head->data, head->len));
        message_free(head);
        if (step == LANE_WAIT)
            return;
    }
    lane->busy = false;
}

bool lane_is_idle(const struct lane *lane)
{
    return !lane->busy;
}

void lane_clear(struct lane *lane)
{
    struct lane_message *head;

    while ((head = STAILQ_FIRST(&lane->waiting)) != NULL) {
        take_head(lane, head);
        message_free(head);
    }
}
