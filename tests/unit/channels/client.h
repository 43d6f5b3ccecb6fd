/* Channels of one logged-in client above the fakes: the test is the client and the policy. */
#ifndef PARLEY_TESTS_UNIT_CHANNELS_CLIENT_H
#define PARLEY_TESTS_UNIT_CHANNELS_CLIENT_H

#include "unit/cmocka_unit.h"

#include "channels/channels.h"
#include "channels/env.h"
#include "fakes/answers_fake.h"
#include "fakes/control_fake.h"
#include "fakes/transport_fake.h"
#include "fakes/wire.h"

enum {
    GLOBAL_REQUEST = 80,
    REQUEST_SUCCESS,
    REQUEST_FAILURE,
    OPEN = 90,
    CONFIRMATION,
    OPEN_FAILURE,
    ADJUST,
    DATA,
    EXTENDED,
    CH_EOF,
    CH_CLOSE,
    REQUEST,
    SUCCESS,
    FAILURE
};

#define WINDOW      10000u /* what the daemon offers */
#define PACKET      1000u
#define PEER        7u /* the client's number of its first channel; the next ones count up */
#define PEER_ROOM   5000u
#define PEER_PACKET 50u

struct client {
    struct loop *loop;
    struct control *control;
    struct transport *transport;
    struct asker *asker;
    struct channels *channels;
    struct channels_rules rules; /* before client_start() */
    struct channels_settings settings;
    struct env_list environment;
    int faults, global_replies;
    int opened, closed; /* notes for Supervise */
    uint32_t noted;     /* the channel of the last one */
    int listeners;      /* told as opened, and not as closed */
    uint64_t done_id;   /* what became of an open by the policy */
    uint32_t done_channel;
    char done_error[128];
    char fault_reason[256];
};

int client_setup(void **state);
int client_setup_later(void **state); /* without client_start() */
void client_start(struct client *c);
int client_teardown(void **state);

#define client_test(f)       cmocka_unit_test_setup_teardown(f, client_setup, client_teardown)
#define client_later_test(f) cmocka_unit_test_setup_teardown(f, client_setup_later, client_teardown)

void client_turn(struct client *c);    /* the loop runs what is due */
void client_restart(struct client *c); /* another connection: the channels are made anew */

/* ---- steps that most tests share; each asserts its replies */

void open_asked(struct client *c, uint32_t peer); /* SessionRequested is pending */
/* An open session channel with our number `id`. */
void open_session(struct client *c, uint32_t peer, uint32_t id);
/* ... and a program whose stream is returned, its `opened` taken. */
struct stream *open_exec(struct client *c, uint32_t peer, uint32_t id);
void send_channel_request(struct client *c, uint32_t id, const char *name, bool want_reply,
                          const char *format, ...);
void send_exec(struct client *c, uint32_t id, const char *command);

/* ---- what must be */

#define expect_sent(c, ...) assert_true(fake_sent_is((c)->transport, __VA_ARGS__))
void expect_nothing(struct client *c); /* sent, and no fault */
void expect_fault(struct client *c);
void expect_asked(struct client *c, enum rpc rpc);
/* The stream's next event: data with exactly these bytes. */
void expect_event_data(struct stream *stream, const char *text);
void expect_event(struct stream *stream, Policy__ChannelEvent__EventCase kind);
void expect_no_event(struct stream *stream);

#endif
