/* Shared by the files of the fake control. */
#ifndef PARLEY_TESTS_FAKES_CONTROL_FAKE_INTERNAL_H
#define PARLEY_TESTS_FAKES_CONTROL_FAKE_INTERNAL_H

#include "fakes/control_fake.h"

#include <sys/queue.h>

struct decision {
    TAILQ_ENTRY(decision) link;
    struct asker *asker;
    enum rpc rpc;
    ProtobufCMessage *question;
    int flags;
    answer_fn *done;
    void *owner;
    bool silent; /* ended in a disconnect, without the callback; its owner still holds it */
};

struct fake_target {
    SLIST_ENTRY(fake_target) link;
    char *name;
};

struct packed {
    STAILQ_ENTRY(packed) link;
    ProtobufCMessage *message;
    size_t payload;
};
STAILQ_HEAD(packed_list, packed);

struct stream {
    TAILQ_ENTRY(stream) link;
    struct asker *asker;
    char *target;
    const struct stream_events *events;
    void *owner;
    struct packed_list sent, inbox;
    ProtobufCMessage *looked_at; /* by the test */
    ProtobufCMessage *current;   /* by the daemon */
    size_t unread, room, queued, queued_messages, taken;
    bool armed; /* readable() may be called */
    bool finished, ending, told_end, wants_writable;
    enum outcome outcome;
    char *why;
};

struct control {
    TAILQ_HEAD(, decision) pending;
    TAILQ_HEAD(, stream) streams;
    SLIST_HEAD(, fake_target) targets;
    size_t asked[RPC_COUNT + 1], reports[RPC_COUNT], cancelled, ended, askers, streams_closed;
    ProtobufCMessage *last_report[RPC_COUNT];
    struct packed_list closed_sent;
    ProtobufCMessage *closed_looked_at;
};

struct asker {
    struct control *control;
    struct loop *loop;
    const struct asker_events *events;
    void *owner;
    char id[ID_TEXT_LEN + 1];
    Policy__Context *context; /* as it is sent, but for the question id */
    struct buf state_before_user;
    bool has_user;
    uint64_t questions;
};

/* Wire and back. */
ProtobufCMessage *fake_copy(const ProtobufCMessage *message);
/* Would control let it through? Every oneof of several members set, every enum known, no unknown
 * field outside Common. */
bool fake_is_well_formed(const ProtobufCMessage *message);
/* Sets the Context that every request starts with; NULL takes it out. */
void fake_set_context(ProtobufCMessage *request, Policy__Context *context);
extern bool fake_in_callback;

#endif
