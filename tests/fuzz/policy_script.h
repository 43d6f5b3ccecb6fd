/* A policy whose answers the fuzzer's bytes choose. */
#ifndef PARLEY_TESTS_FUZZ_POLICY_SCRIPT_H
#define PARLEY_TESTS_FUZZ_POLICY_SCRIPT_H

#include "fakes/answers_fake.h"
#include "fakes/control_fake.h"
#include "fuzz/feed.h"

enum verdict {
    VERDICT_NO,   /* deny, refuse, absent, unavailable, expired, empty */
    VERDICT_YES,  /* allow, accept, not required */
    VERDICT_PART, /* partial success, or questions that decide nothing by themselves */
};

/* What answering the index-th pending question may mean is told before it is answered, so that the
 * caller can note it first. */
typedef void verdict_fn(void *arg, enum rpc rpc, const ProtobufCMessage *question,
                        enum verdict verdict);

/* Ends one pending question, if any. `may_allow` false: no answer allows, save to probes. */
void script_answer(struct control *control, struct bytes *feed, bool may_allow, verdict_fn *tell,
                   void *arg);
/* The policy is gone: every question and every stream fails. */
void script_death(struct control *control);
/* One event of one stream, if any. */
void script_stream(struct control *control, struct bytes *feed);

#endif
