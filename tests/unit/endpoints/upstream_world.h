/* One upstream connection above the fake transport: the test is the upstream, and the client's
 * channels. */
#ifndef PARLEY_TESTS_UNIT_ENDPOINTS_UPSTREAM_WORLD_H
#define PARLEY_TESTS_UNIT_ENDPOINTS_UPSTREAM_WORLD_H

#include "unit/cmocka_unit.h"

#include "endpoints/upstream/mux.h"
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

#define FIRST_WINDOW (2u * 1024 * 1024) /* of the first channel */
#define PACKET       (32u * 1024)
#define THEIRS       100u /* the upstream's number of a channel: ours and so much */
#define THEIR_WINDOW 5000u
#define THEIR_PACKET 50u

struct upstream_world {
    struct loop *loop;
    struct transport *transport;
    struct mux *mux;
    struct mux_windows windows;
    int faults, alive;
    char fault_reason[128];
};

/* A channel of the client: what its endpoint told it. */
struct user {
    struct upstream_world *world;
    struct mux_open *opening;
    struct endpoint *endpoint; /* NULL: not yet, or stopped */
    size_t room;               /* bytes that data() takes before it has enough */
    struct buf out, err;
    size_t taken;
    int opened, refused, closed, writables, eofs, deaf, ended, breaks, statuses, flow;
    bool keep; /* does not stop the endpoint inside ended() */
    bool in_order, break_handled;
    uint32_t code, status, break_id;
    char reason[256], signal[64], why[128];
};

extern const struct endpoint_events user_events;
extern const struct mux_opened_events user_opened_events;

int world_setup(void **state);
int world_teardown(void **state); /* frees the mux if the test has not */
#define world_test(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

void world_turn(struct upstream_world *w);
void world_wait(struct upstream_world *w, unsigned ms); /* the loop runs for so long */
void user_init(struct user *user, struct upstream_world *w);
void user_stop(struct user *user);
void user_clear(struct user *user); /* nothing may hold it any more */
size_t user_write(struct user *user, struct bytes data);
void user_resume(struct user *user, size_t room);
void expect_text(const struct buf *seen, const char *text);

/* To where the test does not look; asked for, not answered. */
void ask_direct(struct user *user, uint32_t id);
/* ... and confirmed. */
void open_direct(struct user *user, uint32_t id);
/* An exec that has begun, its requests sent: SUCCESS is still owed. */
void open_exec(struct user *user, uint32_t id);

#define deliver(w, ...)     fake_deliver((w)->transport, __VA_ARGS__)
#define expect_sent(w, ...) assert_true(fake_sent_is((w)->transport, __VA_ARGS__))
void expect_quiet(struct upstream_world *w); /* nothing was sent, and no fault */
void expect_fault(struct upstream_world *w);

#endif
